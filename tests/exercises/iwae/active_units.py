"""Right answers for `active_units`, each in another style."""

import math

import torch


def active_in_a_loop(means, threshold=0.01):
    n = len(means)
    active = []
    for column in means.T:
        mean = column.sum() / n
        active.append(((column - mean) ** 2).sum() / (n - 1) > threshold)
    return torch.stack(active)


def active_from_moments(means, threshold=0.01):
    return (means**2).mean(0) - means.mean(0) ** 2 > threshold


RIGHT = (
    active_in_a_loop,
    active_from_moments,
    lambda means, threshold=0.01: torch.var(means, dim=0, correction=0).gt(threshold),
    lambda means, threshold=0.01: means.std(0) > math.sqrt(threshold),
)
