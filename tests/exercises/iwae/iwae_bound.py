"""Right answers for `iwae_bound`, each in another style."""

import functools
import math

import torch
from torch import nn


def bound_with_a_maximum(log_w):
    largest = log_w.max(dim=0, keepdim=True).values
    return torch.log(torch.mean(torch.exp(log_w - largest), dim=0)) + largest.squeeze(0)


def bound_with_a_detached_maximum(log_w):
    # the derivative with respect to the constant is 0, so cutting it off changes nothing
    largest = log_w.detach().amax(0)
    return (log_w - largest).exp().sum(0).div(len(log_w)).log() + largest


def bound_in_a_loop(log_w):
    total = functools.reduce(torch.logaddexp, log_w.unbind(0))
    return total - torch.tensor(len(log_w), dtype=log_w.dtype, device=log_w.device).log()


class Bound(nn.Module):
    def forward(self, log_w):
        return -torch.log_softmax(log_w, dim=0)[0] + log_w[0] - math.log(log_w.size(0))


RIGHT = (
    bound_with_a_maximum,
    bound_with_a_detached_maximum,
    bound_in_a_loop,
    Bound(),
)
