"""Importance weighted autoencoders: the bound, its gradient and the posterior it implies.

Log-weights `log_w` are `log p(x, z_k) − log q(z_k|x)` with `z_k ~ q(z|x)`, shape `(K, B)`: `K`
importance samples of each of `B` data points. Everything is in nats.

Sources: Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders" (2015); Cremer, Morris,
Duvenaud, "Reinterpreting Importance-Weighted Autoencoders" (2017); Rainforth et al., "Tighter
Variational Bounds are Not Necessarily Better" (2018); lectures L7-2021 and MIPT-2019.
"""

import math

import torch

from dgm_utils.latent_variable_models import bernoulli_log_likelihood
from dgm_utils.models.densities import (
    full_precision,
    gaussian_log_prob,
    standard_normal_log_prob,
)
from dgm_utils.validate import takes, whole_number


@takes(x="B D", logits="K B D", z="K B L", mean="B L", log_var="B L")
def log_importance_weights(x, logits, z, mean, log_var):
    """Log-weights of a VAE with a Bernoulli decoder and a standard normal prior.

    `log w_k = log p(x|z_k) + log p(z_k) − log q(z_k|x)` with `q = N(mean, diag exp(log_var))`.

    Args:
        x: `(B, D)` data, 0 or 1.
        logits: `(K, B, D)` decoder outputs, `p(x_d = 1 | z_k) = sigmoid(logits)`.
        z: `(K, B, L)` samples of `q(z|x)`.
        mean: `(B, L)` mean of `q(z|x)`.
        log_var: `(B, L)` logarithm of its variance.

    Returns:
        `(K, B)` log-weights in nats.

    """
    log_joint = bernoulli_log_likelihood(x, logits) + standard_normal_log_prob(z)
    return log_joint - gaussian_log_prob(z, mean, log_var)


@takes(log_w="K B")
def multi_sample_elbo(log_w):
    """ELBO estimated with K samples: the average of the logs, `(K, B) → (B,)`, in nats."""
    return log_w.mean(0)


@takes(log_w="K B")
@full_precision
def iwae_bound(log_w):
    """Importance weighted bound L_K: the log of the average weight, `(K, B) → (B,)`, in nats.

    Log-sum-exp subtracts each column's maximum, so weights such as exp(−10⁴) do not underflow.
    """
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


@takes(log_w="K B")
def subset_bound(log_w, m):
    """Average of the m-sample bound over all subsets of size m, `(K, B) → (B,)`, in nats.

    Its expectation is L_m, whatever K is: the identity behind L_K ≥ L_m (Burda et al., theorem 1).
    """
    whole_number("m", m, 1, len(log_w))
    subsets = torch.combinations(torch.arange(log_w.shape[0], device=log_w.device), m)
    bounds = torch.logsumexp(log_w[subsets], 1) - math.log(m)
    return bounds.mean(0)


@takes(log_w="K B")
def iwae_gradient_weights(log_w):
    """Normalized weights `w_k / Σ_j w_j`, `(K, B) → (K, B)`.

    `∇ L_K = Σ_k w̃_k ∇ log w_k`: the gradient of the bound is a weighted average.
    """
    return torch.softmax(log_w, 0)


@takes(log_w_first="B", log_q_first="B")
def q_iw_log_prob(log_w_first, log_w_rest, log_q_first):
    """Log-density of q_IW at the first sample, given the other K − 1 (Cremer et al. 2017).

    `q_IW(z | x, z_2…z_K) = w(z) q(z|x) / (1/K · (w(z) + Σ_{k≥2} w(z_k)))`.

    Args:
        log_w_first: `(B,)` log-weight of z.
        log_w_rest: `(K−1, B)` log-weights of `z_2 … z_K`; no rows when K = 1.
        log_q_first: `(B,)` log q(z|x).

    Returns:
        `(B,)` log-density in nats; `log_q_first` when K = 1.

    """
    if log_w_rest.ndim != 2 or log_w_rest.shape[1:] != log_w_first.shape:
        expected, shape = f"(K − 1, {len(log_w_first)})", tuple(log_w_rest.shape)
        raise ValueError(f"log_w_rest must have the shape {expected}, not {shape}")
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first + log_q_first - iwae_bound(log_w)


@takes(gradients="S P")
def gradient_snr(gradients):
    """Signal-to-noise ratio |mean| / standard deviation of S gradient estimates, `(S, P) → (P,)`.

    The standard deviation divides by S − 1 (Rainforth et al. 2018).
    """
    whole_number("the number of gradients", len(gradients), 2)
    return gradients.mean(0).abs() / gradients.std(0)


@takes(means="N L")
def active_units(means, threshold=0.01):
    """Latent units that carry information, `(N, L) → (L,)` bool.

    A unit is active when the variance over the data of its posterior mean exceeds `threshold`
    (Burda et al. 2015, section 5.2).
    """
    whole_number("the number of means", len(means), 2)
    return means.var(0) > threshold
