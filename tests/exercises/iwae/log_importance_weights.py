"""Right answers for `log_importance_weights`, each in another style."""

import math

import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal


def weights_from_distributions(x, logits, z, mean, log_var):
    decoder = Independent(Bernoulli(logits=logits), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    q = Independent(Normal(mean, torch.exp(log_var / 2)), 1)
    return decoder.log_prob(x) + prior.log_prob(z) - q.log_prob(z)


def weights_in_loops(x, logits, z, mean, log_var):
    rows = []
    for k in range(len(z)):
        row = []
        for b in range(len(x)):
            log_w = (x[b] * F.logsigmoid(logits[k, b])).sum()
            log_w = log_w + ((1 - x[b]) * F.logsigmoid(-logits[k, b])).sum()
            log_w = log_w - 0.5 * torch.dot(z[k, b], z[k, b])
            standardized = (z[k, b] - mean[b]) / torch.exp(0.5 * log_var[b])
            log_w = log_w + 0.5 * torch.dot(standardized, standardized) + log_var[b].sum() / 2
            row.append(log_w)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def weights_with_expanded_square(x, logits, z, mean, log_var):
    cross_entropy = F.binary_cross_entropy_with_logits(
        logits, x.expand_as(logits), reduction="none"
    ).sum(2)
    precision = torch.exp(-log_var)
    squares = (
        torch.einsum("kbl,bl->kb", z**2, precision)
        - 2 * torch.einsum("kbl,bl->kb", z, mean * precision)
        + torch.einsum("bl,bl->b", mean**2, precision)
    )
    log_ratio = 0.5 * (squares + log_var.sum(1)) - 0.5 * torch.einsum("kbl,kbl->kb", z, z)
    return log_ratio - cross_entropy


def weights_from_covariances(x, logits, z, mean, log_var):
    latents = mean.shape[-1]
    log_2pi = latents * math.log(2 * math.pi)
    log_pz = -0.5 * (log_2pi + z.square().sum(-1))
    q = MultivariateNormal(mean, scale_tril=torch.diag_embed(torch.exp(0.5 * log_var)))
    # sign · logit is the logit of the pixel that was seen
    sign = 2 * x - 1
    return F.logsigmoid(sign * logits).sum(-1) + log_pz - q.log_prob(z)


RIGHT = (
    weights_from_distributions,
    weights_in_loops,
    weights_with_expanded_square,
    weights_from_covariances,
)
