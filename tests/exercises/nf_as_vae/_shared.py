"""What several right answers of this topic use."""

import math


def standard_normal(noise):
    return -0.5 * (noise**2).sum(-1) - 0.5 * noise.shape[-1] * math.log(2 * math.pi)
