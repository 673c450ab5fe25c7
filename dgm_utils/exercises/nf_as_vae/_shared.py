"""Tolerances and numbers that several exercises share."""

import math

import torch

# A density of N(f(x), σ²JJᵀ) by Cholesky or of a residual divided by σ is a right answer, and each
# loses a few digits of float32.
COARSE = {torch.float64: 1e-8, torch.float32: 1e-3}
LOG_2PI = math.log(2 * math.pi)


def random_sigma(draw, low, high):
    """A standard deviation between two numbers, as a Python number of three digits."""
    return round(low + (high - low) * float(draw.uniform()), 3)
