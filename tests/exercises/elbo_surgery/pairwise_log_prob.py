"""Right answers for `pairwise_log_prob`, each in another style."""

import torch
import torch.nn.functional as F
from exercises.elbo_surgery._shared import (
    log_gaussian,
    pairs_from_covariances,
    pairs_from_distributions,
    pairs_with_expanded_square,
)


def pairs_in_loops(z, mean, log_var):
    rows = []
    for sample in z:
        pairs = zip(mean, log_var, strict=True)
        rows.append(torch.stack([log_gaussian(sample, m, v) for m, v in pairs]))
    return torch.stack(rows)


def pairs_from_a_loss(z, mean, log_var):
    m, n = len(z), len(mean)
    z = z.repeat_interleave(n, 0)
    var = torch.exp(log_var).repeat(m, 1)
    loss = F.gaussian_nll_loss(mean.repeat(m, 1), z, var, full=True, eps=0, reduction="none")
    return -loss.sum(1).reshape(m, n)


RIGHT = (
    pairs_in_loops,
    pairs_from_distributions,
    pairs_with_expanded_square,
    pairs_from_covariances,
    pairs_from_a_loss,
)
