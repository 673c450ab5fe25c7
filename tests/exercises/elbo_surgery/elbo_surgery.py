"""Right answers for `elbo_surgery`, each in another style."""

import math

import torch
from exercises.elbo_surgery._shared import (
    aggregate_from_mixtures_in_blocks,
    information_in_loops,
    marginal_in_loops,
    pairs_with_expanded_square,
)
from torch.distributions import (
    Independent,
    Normal,
)


def surgery_from_distributions(reconstruction, z, mean, log_var):
    own = Independent(Normal(mean, torch.exp(0.5 * log_var)), 1).log_prob(z)
    prior = Independent(Normal(torch.zeros_like(z), torch.ones_like(z)), 1).log_prob(z)
    aggregate = aggregate_from_mixtures_in_blocks(z, mean, log_var)
    return {
        "elbo": (reconstruction + prior - own).mean(),
        "marginal_kl": (aggregate - prior).mean(),
        "mutual_information": (own - aggregate).mean(),
        "reconstruction": reconstruction.mean(),
    }


def surgery_in_loops(reconstruction, z, mean, log_var):
    reconstructed = sum(reconstruction) / len(reconstruction)
    information = information_in_loops(z, mean, log_var)
    marginal = marginal_in_loops(z, mean, log_var)
    return dict(
        reconstruction=reconstructed,
        mutual_information=information,
        marginal_kl=marginal,
        elbo=reconstructed - (information + marginal),
    )


def surgery_with_expanded_square(reconstruction, z, mean, log_var):
    log_each = pairs_with_expanded_square(z, mean, log_var)
    log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
    log_aggregate = torch.logsumexp(log_each, 1) - math.log(len(z))
    parts = {}
    parts["reconstruction"] = reconstruction.mean()
    parts["marginal_kl"] = (log_aggregate - log_prior).mean()
    parts["mutual_information"] = torch.diag(log_each - log_aggregate[:, None]).mean()
    parts["elbo"] = torch.mean(reconstruction + log_prior - torch.diag(log_each))
    return parts


RIGHT = (
    surgery_from_distributions,
    surgery_in_loops,
    surgery_with_expanded_square,
)
