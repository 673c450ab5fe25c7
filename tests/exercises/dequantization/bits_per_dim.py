"""Right answers for `bits_per_dim`, each in another style."""

import math

import torch


def bits_in_a_loop(log_prob, num_dims):
    return torch.stack([-value / math.log(2) / num_dims for value in log_prob])


RIGHT = (
    lambda log_prob, num_dims: -log_prob / math.log(2) / num_dims,
    lambda log_prob, num_dims: log_prob * (-math.log2(math.e) / num_dims),
    bits_in_a_loop,
)
