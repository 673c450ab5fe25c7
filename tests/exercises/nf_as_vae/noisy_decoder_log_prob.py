"""Right answers for `noisy_decoder_log_prob`, each in another style."""

import math

import torch
from torch.distributions import Normal


def decoder_in_loops(x, z, inverse, sigma):
    values = []
    for row, point in zip(x, z, strict=True):
        mean = inverse(point[None])[0]
        value = 0
        for a, m in zip(row, mean, strict=True):
            value = value - (a - m) ** 2 / (2 * sigma**2) - math.log(sigma * math.sqrt(2 * math.pi))
        values.append(value)
    return torch.stack(values)


def decoder_by_einsum(x, z, inverse, sigma):
    error = x - inverse(z)
    squares = torch.einsum("bd,bd->b", error, error)
    return -0.5 * squares / sigma**2 - 0.5 * x.shape[-1] * math.log(2 * math.pi * sigma**2)


RIGHT = (
    lambda x, z, inverse, sigma: Normal(inverse(z), sigma).log_prob(x).sum(dim=-1),
    decoder_in_loops,
    decoder_by_einsum,
)
