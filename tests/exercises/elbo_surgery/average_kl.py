"""Right answers for `average_kl`, each in another style."""

import torch
from torch.distributions import (
    Normal,
    kl_divergence,
)


def kl_from_distributions(mean, log_var):
    q = Normal(mean, torch.exp(0.5 * log_var))
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return kl_divergence(q, prior).sum(1).mean()


def kl_in_loops(mean, log_var):
    total = 0
    for mean_n, log_var_n in zip(mean, log_var, strict=True):
        for m, v in zip(mean_n, log_var_n, strict=True):
            total = total + (m * m + torch.exp(v) - 1 - v) / 2
    return total / len(mean)


def kl_from_covariances(mean, log_var):
    latents = mean.shape[1]
    covariance = torch.diag_embed(torch.exp(log_var))
    trace = torch.einsum("nll->n", covariance)
    return 0.5 * (trace + (mean**2).sum(1) - latents - log_var.sum(1)).mean(0)


RIGHT = (
    kl_from_distributions,
    kl_in_loops,
    kl_from_covariances,
    lambda mean, log_var: -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum() / len(mean),
)
