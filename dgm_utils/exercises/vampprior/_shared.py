"""A tolerance and a grid that several exercises share."""

import math

import torch

# The expanded square z² − 2zμ + μ² is a right answer and cancels in float32.
EXPANDED = {torch.float64: 1e-8, torch.float32: 1e-3}


def plane(draw):
    """Points `(M, 2)` over ±8.4 and the log of the area that each stands for.

    The sum over them is an integral to 1e-6 where means lie within ±2 and standard deviations
    between 0.6 and 1.25: a spacing of 0.6 costs 1e-8, and the border is five of them away.
    """
    axis = torch.linspace(-8.4, 8.4, 29, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    return draw.tensor(points), 2 * math.log(0.6)
