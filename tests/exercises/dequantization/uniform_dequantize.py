"""Right answers for `uniform_dequantize`, each in another style."""

import torch


def dequantized_in_loops(x, noise):
    entries = [noise.new_tensor(level) for level in x.flatten().tolist()]
    rows = [level + u for level, u in zip(entries, noise.flatten(), strict=True)]
    return torch.stack(rows).reshape(noise.shape)


def dequantized_between_levels(x, noise):
    x = x.type_as(noise)
    return x * (1 - noise) + (x + 1) * noise


RIGHT = (
    lambda x, noise: x + noise,
    dequantized_in_loops,
    dequantized_between_levels,
    lambda x, noise: torch.add(noise, x),
)
