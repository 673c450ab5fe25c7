"""Right answers for `naive_log_likelihood`, each in another style."""

import functools
import math

import torch
from torch import nn


def naive_with_a_maximum(log_px_given_z):
    largest = log_px_given_z.max(dim=0, keepdim=True).values
    return torch.log(torch.mean(torch.exp(log_px_given_z - largest), dim=0)) + largest.squeeze(0)


def naive_in_a_loop(log_px_given_z):
    total = functools.reduce(torch.logaddexp, log_px_given_z.unbind(0))
    return total - torch.tensor(float(len(log_px_given_z)), dtype=total.dtype).log().item()


class Naive(nn.Module):
    def forward(self, log_px_given_z):
        first = log_px_given_z[0]
        share = torch.log_softmax(log_px_given_z, dim=0)[0]
        return first - share - math.log(log_px_given_z.size(0))


RIGHT = (naive_with_a_maximum, naive_in_a_loop, Naive())
