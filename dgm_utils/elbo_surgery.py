"""ELBO surgery: the average KL split into mutual information and marginal KL.

    1/N Σ_n KL(q(z|x_n) ‖ p(z)) = I_q[x, z] + KL(q(z) ‖ p(z))

with the aggregated posterior `q(z) = 1/N Σ_n q(z|x_n)` and p(z) = N(0, I). The encoder's
`q(z|x_n) = N(mean_n, diag exp(log_var_n))` is given by `mean` and `log_var`, `(N, L)` each. Where z
stands beside them it is one sample of each, `z_i ~ q(z|x_i)`. Everything is in nats.

Sources: Hoffman, Johnson, "ELBO surgery: yet another way to carve up the variational evidence lower
bound" (2016); lectures L7-2021 and MIPT-2019.
"""

import math

import torch

from dgm_utils.latent_variable_models import gaussian_kl
from dgm_utils.models.densities import (
    full_precision,
    gaussian_log_prob,
    in_blocks,
    log_sum_gaussians,
    multiplied_out,
    standard_normal_log_prob,
)
from dgm_utils.validate import takes


@takes(z="M L", mean="N L", log_var="N L")
@full_precision
def pairwise_log_prob(z, mean, log_var):
    """`log q(z_m|x_n)` for all pairs, `(M, L), (N, L) ×2 → (M, N)`.

    One matrix product in float64: `models/densities.py` says why.
    """
    points, weights, offsets = multiplied_out(z, mean, log_var)
    return torch.addmm(offsets, points, weights.T).to(z.dtype)


@takes(z="M L", mean="N L", log_var="N L")
@full_precision
def log_aggregated_posterior(z, mean, log_var):
    """`log q(z_m) = log 1/N Σ_n q(z_m|x_n)`, `(M, L), (N, L) ×2 → (M,)`.

    The M·N log-densities of `pairwise_log_prob`, a block at a time, and their log-sum-exp over n.
    """
    return (log_sum_gaussians(z, mean, log_var) - math.log(len(mean))).to(z.dtype)


@takes(mean="N L", log_var="N L")
def average_kl(mean, log_var):
    """`1/N Σ_n KL(q(z|x_n) ‖ p(z))` in closed form, `(N, L) ×2 → ()`."""
    return gaussian_kl(mean, log_var).mean()


@takes(z="N L", mean="N L", log_var="N L")
def mutual_information(z, mean, log_var):
    """`I_q[x, z]` as the average KL to the aggregated posterior, `(N, L) ×3 → ()`.

    `1/N Σ_i [log q(z_i|x_i) − log q(z_i)]`, at most log N, since q(z_i) ≥ q(z_i|x_i)/N.
    """
    return (_log_own(z, mean, log_var) - log_aggregated_posterior(z, mean, log_var)).mean()


@takes(z="N L", mean="N L", log_var="N L")
def mutual_information_from_index(z, mean, log_var):
    """`I_q[x, z]` as what z tells about the index: `log N − 1/N Σ_i H[q(i|z_i)]`, `(N, L) ×3 → ()`.

    `q(i|z) = q(z|x_i) / Σ_n q(z|x_n)`. The expectation is that of `mutual_information`; on the same
    samples the two differ, and this one never leaves [0, log N].
    """

    def entropy(z):
        log_q = pairwise_log_prob(z, mean.double(), log_var.double()).log_softmax(1)
        # Where q(i|z) underflows its logarithm is finite still, and the product is 0.
        return -(log_q.exp() * log_q).sum(1)

    entropies = in_blocks(entropy, z.double(), num_columns=len(mean))
    return (math.log(len(mean)) - entropies.mean()).to(z.dtype)


@takes(z="N L", mean="N L", log_var="N L")
def marginal_kl(z, mean, log_var):
    """`KL(q(z) ‖ p(z))` from samples, `1/N Σ_i [log q(z_i) − log p(z_i)]`, `(N, L) ×3 → ()`."""
    log_aggregated = log_aggregated_posterior(z, mean, log_var)
    return (log_aggregated - standard_normal_log_prob(z)).mean()


@takes(reconstruction="N", z="N L", mean="N L", log_var="N L")
def elbo_surgery(reconstruction, z, mean, log_var):
    """The ELBO and its three parts, averaged over the data.

    Args:
        reconstruction: `(N,)` log p(x_i|z_i).
        z: `(N, L)` with z_i ~ q(z|x_i).
        mean: `(N, L)`.
        log_var: `(N, L)`.

    Returns:
        dict of 0-d tensors: `elbo = reconstruction − mutual_information − marginal_kl`.

    """
    # The costly term enters both parts, and cancels in their sum.
    log_aggregated = log_aggregated_posterior(z, mean, log_var)
    parts = {
        "reconstruction": reconstruction.mean(),
        "mutual_information": (_log_own(z, mean, log_var) - log_aggregated).mean(),
        "marginal_kl": (log_aggregated - standard_normal_log_prob(z)).mean(),
    }
    regularizer = parts["mutual_information"] + parts["marginal_kl"]
    return parts | {"elbo": parts["reconstruction"] - regularizer}


def _log_own(z, mean, log_var):
    """`log q(z_i|x_i)`, each sample under its own posterior, `(N,)`."""
    return gaussian_log_prob(z, mean, log_var)
