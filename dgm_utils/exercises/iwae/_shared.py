"""Tolerances that several exercises share."""

import torch

# What an exact answer may be off by in float32: eighty eps.
SINGLE = 1e-5
# Log-weights of 10⁴ are a thousandth apart in float32, and a right answer may round a few times.
COARSE = {torch.float64: 1e-8, torch.float32: 5e-3}
