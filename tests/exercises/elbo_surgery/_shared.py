"""What several right answers of this topic use."""

import math

import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)


def log_gaussian(z, mean, log_var):
    """One sample under one posterior."""
    standardized = (z - mean) / torch.exp(0.5 * log_var)
    total = -0.5 * torch.dot(standardized, standardized) - 0.5 * log_var.sum()
    return total - 0.5 * len(z) * math.log(2 * math.pi)


def pairs_from_distributions(z, mean, log_var):
    q = Independent(Normal(mean, torch.exp(log_var / 2)), 1)
    return q.log_prob(z.unsqueeze(1))


def pairs_with_expanded_square(z, mean, log_var):
    precision = torch.exp(-log_var)
    squares = (
        torch.einsum("ml,nl->mn", z**2, precision)
        - 2 * torch.einsum("ml,nl->mn", z, mean * precision)
        + torch.einsum("nl,nl->n", mean**2, precision)
    )
    return -0.5 * (squares + log_var.sum(1) + z.shape[1] * math.log(2 * math.pi))


def pairs_from_covariances(z, mean, log_var):
    q = MultivariateNormal(mean, scale_tril=torch.diag_embed(torch.exp(0.5 * log_var)))
    return q.log_prob(z[:, None])


def aggregate_with_expanded_square(z, mean, log_var):
    return torch.logsumexp(pairs_with_expanded_square(z, mean, log_var), 1) - math.log(len(mean))


def aggregate_from_mixtures_in_blocks(z, mean, log_var):
    components = Independent(Normal(mean, torch.exp(0.5 * log_var)), 1)
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros_like(mean[:, 0])), components)
    return torch.cat([mixture.log_prob(block) for block in z.split(100)])


def information_in_loops(z, mean, log_var):
    terms = []
    for i in range(len(z)):
        log_each = [log_gaussian(z[i], mean[n], log_var[n]) for n in range(len(z))]
        terms.append(log_each[i] - torch.stack(log_each).logsumexp(0) + math.log(len(z)))
    return sum(terms) / len(terms)


def marginal_in_loops(z, mean, log_var):
    total = 0
    for sample in z:
        log_each = [log_gaussian(sample, mean[n], log_var[n]) for n in range(len(z))]
        log_q = torch.stack(log_each).logsumexp(0) - math.log(len(z))
        origin = torch.zeros_like(sample)
        total = total + log_q - log_gaussian(sample, origin, origin)
    return total / len(z)
