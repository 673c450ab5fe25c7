"""Densities and distribution functions that cases hand over as `log_prob` and `cdf`."""

import math

import torch
from torch import nn


class GaussianMixture(nn.Module):
    """A mixture of C Gaussians with diagonal covariances, its log-density `(..., D) → (...)`."""

    def __init__(self, means, log_stds, logits):
        super().__init__()
        self.means = nn.Parameter(means)
        self.log_stds = nn.Parameter(log_stds)
        self.logits = nn.Parameter(logits)

    def forward(self, y):
        """Log-density of real vectors."""
        standardized = (y[..., None, :] - self.means) * torch.exp(-self.log_stds)
        log_prob = -0.5 * (standardized**2 + math.log(2 * math.pi)).sum(-1) - self.log_stds.sum(-1)
        return torch.logsumexp(log_prob + torch.log_softmax(self.logits, 0), -1)


class FlatOnCells(nn.Module):
    """A density that is constant on each unit cell, `(..., D) → (...)`; heights `(D, levels)`."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, y):
        """Log-density of real vectors in [0, levels)."""
        pixels = torch.arange(y.shape[-1], device=y.device)
        heights = torch.log_softmax(self.logits, -1)
        return heights[pixels, torch.floor(y).long()].sum(-1)


class LogisticMixtureCdf(nn.Module):
    """The distribution function of a mixture of C logistics on the line, elementwise."""

    def __init__(self, means, log_scales, logits):
        super().__init__()
        self.means = nn.Parameter(means)
        self.log_scales = nn.Parameter(log_scales)
        self.logits = nn.Parameter(logits)

    def forward(self, y):
        """Probability of what lies below y."""
        below = torch.sigmoid((y[..., None] - self.means) * torch.exp(-self.log_scales))
        return (below * torch.softmax(self.logits, 0)).sum(-1)


class PiecewiseLinearCdf(nn.Module):
    """The distribution function of a density that is constant on each unit cell, elementwise."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, y):
        """Probability of what lies below y."""
        levels = torch.arange(len(self.logits), device=y.device)
        return ((y[..., None] - levels).clamp(0, 1) * torch.softmax(self.logits, 0)).sum(-1)
