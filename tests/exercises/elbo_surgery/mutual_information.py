"""Right answers for `mutual_information`, each in another style."""

import math

import torch
import torch.nn.functional as F
from exercises.elbo_surgery._shared import (
    information_in_loops,
    pairs_from_distributions,
    pairs_with_expanded_square,
)
from torch.distributions import (
    Independent,
    Normal,
)


def information_from_distributions(z, mean, log_var):
    own = Independent(Normal(mean, torch.exp(0.5 * log_var)), 1).log_prob(z)
    log_each = pairs_from_distributions(z, mean, log_var)
    return torch.mean(own - torch.logsumexp(log_each, dim=1)) + math.log(len(z))


def information_from_softmax(z, mean, log_var):
    # the probability of the right index, against a blind guess
    log_index = torch.log_softmax(pairs_with_expanded_square(z, mean, log_var), dim=1)
    return math.log(len(z)) + torch.einsum("ii->", log_index) / len(z)


def information_as_cross_entropy(z, mean, log_var):
    target = torch.arange(len(z), device=z.device)
    return math.log(len(z)) - F.cross_entropy(pairs_from_distributions(z, mean, log_var), target)


RIGHT = (
    information_from_distributions,
    information_in_loops,
    information_from_softmax,
    information_as_cross_entropy,
)
