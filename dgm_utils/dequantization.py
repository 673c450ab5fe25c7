"""Dequantization: bounds on the likelihood of discrete data under a continuous density.

`log_prob` is a density of real vectors, `(..., D) → (...)`. It gives the level x the probability
`P(x) = ∫ p(x + u) du` over the unit cell. All in nats, but for `bits_per_dim`.

Sources: Theis, van den Oord, Bethge, "A note on the evaluation of generative models" (2016); Dinh,
Sohl-Dickstein, Bengio, "Density estimation using Real NVP" (2017) for the logit; Ho et al.,
"Flow++" (2019); lectures L6-2021 and L7-2021.
"""

import math

import torch
import torch.nn.functional as F

from dgm_utils.iwae import iwae_bound
from dgm_utils.models.densities import full_precision, standard_normal_log_prob
from dgm_utils.validate import levels, number, takes, whole_number, within


@takes(x="any ...", noise="...")
def uniform_dequantize(x, noise):
    """`x + u` with u of U[0, 1): levels `(...)` and noise `(...)` → `(...)` in the noise's dtype.

    The noise is as wide as one level, so it goes onto the levels themselves, before any rescaling.
    """
    levels("x", x)
    within("noise", noise, 0, 1)
    return x.to(noise.dtype) + noise


@takes(x="any ...")
def exact_log_pmf(cdf, x):
    """`log P(x) = log(cdf(x + 1) − cdf(x))`, elementwise, where the distribution function is known.

    A difference of numbers near one: far in the tails nothing is left of it.
    """
    if not x.is_floating_point():
        x = x.long()  # one above 255 is 0 in uint8
    return torch.log(cdf(x + 1) - cdf(x))


@takes(x="any B D", noise="S B D")
def uniform_bound(log_prob, x, noise):
    """`E_u log p(x + u) ≤ log P(x)`, averaged over S draws, `(B, D), (S, B, D) → (B,)`.

    The gap is `KL(U ‖ p(u|x))`, zero only for a density that is flat on the cell.
    """
    return log_prob(uniform_dequantize(x, noise)).mean(0)


@takes(eps="B D", shift="B D", log_scale="B D")
@full_precision
def sigmoid_noise(eps, shift, log_scale):
    """`u = sigmoid(eps · exp(log_scale) + shift)` and log q(u), `(B, D) ×3 → (B, D), (B,)`.

    The last step of Flow++'s noise. With a the sigmoid's argument and eps ~ N(0, I),

        log q(u) = Σ_d log N(eps_d; 0, 1) − log_scale_d − log|∂ sigmoid(a_d)/∂a_d|,

    computed from a, since u is rounded to 1 for a > 17 in float32, where log(1 − u) would be −∞.
    """
    a = eps * torch.exp(log_scale) + shift
    log_q = standard_normal_log_prob(eps) - log_scale.sum(-1) - log_sigmoid_slope(a)
    return torch.sigmoid(a), log_q


@full_precision
def log_sigmoid_slope(a):
    """`log |∂ sigmoid(a)/∂a| = log σ(a) + log σ(−a)`, summed over the last axis."""
    return (F.logsigmoid(a) + F.logsigmoid(-a)).sum(-1)


@takes(x="any B D", u="S B D", log_q="S B")
def variational_bound(log_prob, x, u, log_q):
    """`E_q [log p(x + u) − log q(u|x)] ≤ log P(x)`, `(B, D), (S, B, D), (S, B) → (B,)`.

    The gap is `KL(q(u|x) ‖ p(u|x))`. With q = U, log q = 0, it is the uniform bound.
    """
    return _log_w(log_prob, x, u, log_q).mean(0)


@takes(x="any B D", u="S B D", log_q="S B")
def importance_weighted_dequantization(log_prob, x, u, log_q):
    """`log 1/S Σ_s p(x + u_s)/q(u_s|x)`, below log P(x) on average and tighter with every sample.

    `(B, D), (S, B, D), (S, B) → (B,)`.
    """
    return iwae_bound(_log_w(log_prob, x, u, log_q))


@takes(y="B D")
def logit_preprocess(y, num_levels, alpha):
    """`logit(α + (1 − 2α) y/num_levels)` and its log-determinant, `(B, D) → (B, D), (B,)`.

    It takes [0, num_levels) to the whole real line, where densities have an easier time; α keeps
    it off the ends. The density of y is that of the result times exp(log_det).

    Args:
        y: dequantized levels in [0, num_levels).
        num_levels: whole number, 256 for bytes.
        alpha: in [0, 1/2); at 0 the logit of y = 0 is −∞.

    """
    whole_number("num_levels", num_levels, 1)
    number("alpha", alpha, 0, 0.5)
    # In float32 255 + u is rounded to 256 for the last few u.
    within("y", y, 0, num_levels)
    p = alpha + (1 - 2 * alpha) * (y / num_levels)
    # Near the upper end 1 − p would lose digits that num_levels − y still has.
    rest = alpha + (1 - 2 * alpha) * ((num_levels - y) / num_levels)
    log_p, log_rest = torch.log(p), torch.log(rest)
    log_slope = math.log((1 - 2 * alpha) / num_levels) - log_p - log_rest
    return log_p - log_rest, log_slope.sum(-1)


@takes(log_prob="B")
def bits_per_dim(log_prob, num_dims):
    """Bits that a dimension costs, `−log P(x)/(num_dims · log 2)`, `(B,)` in nats → `(B,)`.

    log_prob is that of the discrete model. A density of y/num_levels owes `num_dims · log
    num_levels` nats first: the log-determinant of the rescaling.
    """
    whole_number("num_dims", num_dims, 1)
    return -log_prob / (num_dims * math.log(2))


def _log_w(log_prob, x, u, log_q):
    """`(S, B)` log-weights `log p(x + u) − log q(u|x)`."""
    levels("x", x)
    return log_prob(x.to(u.dtype) + u) - log_q
