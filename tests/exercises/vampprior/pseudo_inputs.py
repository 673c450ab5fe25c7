"""Right answers for `pseudo_inputs`, each in another style."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def normal_cdf(raw):
    return 0.5 * torch.erfc(-raw / math.sqrt(2))


def softsign(raw):
    return 0.5 + 0.5 * raw / (1 + raw.abs())


def straight_line(raw):
    return F.hardsigmoid(raw * 0.9)


RIGHT = (
    lambda raw: (1 + torch.tanh(raw / 2)) / 2,
    normal_cdf,
    softsign,
    straight_line,
    lambda raw: 0.5 + torch.atan(raw) / math.pi,
    lambda raw: torch.exp(-F.softplus(-raw)),
    nn.Sigmoid(),
)
