"""The importance weighted bound and the posterior it implies, for any K, without sampling.

Sources: Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders" (2015) for L_K; Cremer,
Morris, Duvenaud, "Reinterpreting Importance-Weighted Autoencoders" (2017) for q_EW.
"""

import math

import torch
from torch.utils.checkpoint import checkpoint

from dgm_utils.models.densities import is_transformed


def exact_iwae_bound(log_w, log_mass, num_samples):
    """Importance weighted bound `L_K = E log(1/K Σ_k w(z_k))`, `z_k ~ q`, without sampling.

    Frullani's integral `log a = ∫_0^∞ (e^{−t} − e^{−ta}) dt/t` turns the logarithm of a sum into
    the exponential of one, and the expectation of that factorizes over the K samples:
    with `φ(t) = E_q exp(−t w(z))`,

        L_K = ∫_0^∞ [e^{−Kt} − φ(t)^K] dt/t.

    The error is that of the nodes, plus some K · 1e-14 of rounding: the integral over log t adds
    less than 1e-13 (see `SPACING` and `_log_times`). The cost is n times the range of log w; a
    thousand nodes take milliseconds, 40,000 in two dimensions seconds.

    Args:
        log_w: `(n,)` log-weights `log p(x, z_i) − log q(z_i|x)` at the nodes, finite.
        log_mass: `(n,)` mass of q at the nodes, `log q(z_i|x)` plus the log-weight of the
            quadrature; its exponentials sum to one.
        num_samples: K.

    Returns:
        `()` the bound in nats.

    Raises:
        ValueError: when the nodes miss more than 1e-6 of q's mass, a log-weight is not finite,
            or K < 1.

    """
    log_w, log_mass, log_evidence = _normalize(log_w, log_mass, num_samples)
    # φ only falls, so what is cut off is at most φ^K times the rest of the range.
    log_t = _log_times(log_w, log_mass, power=num_samples, log_tolerance=math.log(1e-16))
    log_phi = _log_phi(log_t, log_w, log_mass)
    integrand = torch.exp(-num_samples * log_t.exp()) - torch.exp(num_samples * log_phi)
    return log_evidence + SPACING * integrand.sum()


def exact_q_ew_log_ratio(log_w, log_mass, num_samples):
    """`log q_EW(z|x) − log q(z|x)` at the nodes; add `log_q` to have the log-density of q_EW.

    `q_EW = E_{z_2…z_K} q_IW` is what importance resampling of K samples of q draws from (Cremer et
    al. 2017). With `1/(a + S) = ∫_0^∞ e^{−t(a+S)} dt` the expectation factorizes:

        q_EW(z) = q(z) · K w(z) ∫_0^∞ e^{−t w(z)} φ(t)^{K−1} dt,   φ(t) = E_q exp(−t w(z)).

    It integrates to one, since that integrand, averaged over q, is −d(φ^K)/dt. K = 1 gives q
    back and K → ∞ the posterior, where the ratio is `log_w − log p(x)`.
    Beyond the error of the nodes, that of the log-ratio is some K · 1e-14; a ratio below 1e-40 may
    come out too small. The log of far tails asks for more and wider nodes than the bound does:
    they live on what q finds further out still.

    Args:
        log_w: `(n,)` log-weights, as in `exact_iwae_bound`.
        log_mass: `(n,)` log-mass of q, as in `exact_iwae_bound`. `exp(ratio + log_mass)` is the
            mass of q_EW: the ELBO of q_EW is `(ratio + log_mass).exp() @ (log_w − ratio)`.
        num_samples: K.

    Returns:
        `(n,)` log-ratios in nats.

    Raises:
        ValueError: as `exact_iwae_bound`.

    """
    log_w, log_mass, _ = _normalize(log_w, log_mass, num_samples)
    # ∫ w e^{−tw} dt = 1, so what is cut off is at most K φ^{K−1}.
    log_tolerance = -100 - math.log(num_samples)
    log_t = _log_times(log_w, log_mass, power=num_samples - 1, log_tolerance=log_tolerance)
    log_rest = (num_samples - 1) * _log_phi(log_t, log_w, log_mass)

    def log_sum(log_w):
        exponent = log_w[:, None] + log_t
        return torch.logsumexp(exponent - _exp(exponent) + log_rest, 1)

    return math.log(num_samples * SPACING) + _in_chunks(log_sum, log_w, len(log_t))


def _normalize(log_w, log_mass, num_samples):
    """Checks; weights divided by `p(x)`, masses by their sum; and log p(x)."""
    log_w, log_mass = log_w.double(), log_mass.double()
    log_total = torch.logsumexp(log_mass, 0)
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, not {num_samples}")
    if not torch.isfinite(log_w).all():
        raise ValueError("log_w has entries that are infinite or NaN")
    if not log_total.abs() < 1e-6:
        total = log_total.exp().item()
        raise ValueError(f"log_mass must hold the whole mass of q: it sums to {total:.9f}, not 1")
    log_mass = log_mass - log_total
    # A constant factor: both integrals are the same for any, and this one sets the scale of t.
    log_evidence = torch.logsumexp(log_mass + log_w, 0).detach()
    return log_w - log_evidence, log_mass, log_evidence


# Spacing of log t. The trapezoid rule integrates exp(−exp(log t)·a) over log t with the error
# 2·Σ_m |Γ(2πim/h)|, whatever a is; averages over a, which is all we integrate, inherit it.
# |Γ(2πi/h)| is 4e-18 at h = 1/4, and 2e-9 at h = 1/2.
SPACING = 0.25


def _log_times(log_w, log_mass, power, log_tolerance):
    """Values of log t that cover the integrals, for weights of mean one.

    Below the first, t·K and t·w for every w are under 1e-17: both integrands have vanished. Above
    the last, t·w > 40 for every w, or already φ(t)^power < tolerance.
    """
    with torch.no_grad():
        low = math.log(1e-17) - math.log(power + 1) - log_w.max().clamp(min=0).item()
        high = math.log(40) - log_w.min().clamp(max=0).item()
        last = high
        first = low
        while last - first > 1:
            middle = (first + last) / 2
            log_phi = torch.logsumexp(log_mass - _exp(middle + log_w), 0)
            if power * log_phi < log_tolerance:
                last = middle
            else:
                first = middle
        steps = math.ceil((last - low) / SPACING)
        return low + SPACING * torch.arange(steps + 1, dtype=log_w.dtype, device=log_w.device)


def _log_phi(log_t, log_w, log_mass):
    """`log φ(t) = log E_q exp(−t w)`, `(T,)`."""

    def log_mean(log_t):
        return torch.logsumexp(log_mass - _exp(log_t[:, None] + log_w), 1)

    return _in_chunks(log_mean, log_t, len(log_w))


def _exp(exponent):
    # exp(300) is infinite for our purpose, and its gradient is not NaN.
    return exponent.clamp(max=300).exp()


def _in_chunks(function, rows, columns):
    """`function(rows)` in pieces of 64 MB, computed again in backward instead of being kept.

    Blocks above 32 MB go back to the system at once; smaller ones would fragment the heap.
    """
    if is_transformed(rows):
        return function(rows)
    pieces = rows.split(max(1, 2**23 // columns))
    return torch.cat([checkpoint(function, piece, use_reentrant=False) for piece in pieces])
