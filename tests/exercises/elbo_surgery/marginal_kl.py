"""Right answers for `marginal_kl`, each in another style."""

import math

import torch
from exercises.elbo_surgery._shared import (
    aggregate_with_expanded_square,
    marginal_in_loops,
)
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
)


def marginal_from_distributions(z, mean, log_var):
    components = Independent(Normal(mean, torch.exp(0.5 * log_var)), 1)
    q = MixtureSameFamily(Categorical(logits=torch.zeros_like(mean[:, 0])), components)
    prior = Independent(Normal(torch.zeros_like(z[0]), torch.ones_like(z[0])), 1)
    return (q.log_prob(z) - prior.log_prob(z)).mean()


def marginal_with_expanded_square(z, mean, log_var):
    log_q = aggregate_with_expanded_square(z, mean, log_var)
    constant = 0.5 * z.shape[1] * math.log(2 * math.pi)
    return log_q.mean() + 0.5 * torch.einsum("nl,nl->", z, z) / len(z) + constant


RIGHT = (
    marginal_from_distributions,
    marginal_in_loops,
    marginal_with_expanded_square,
)
