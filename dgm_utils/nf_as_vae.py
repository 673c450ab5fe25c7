"""A normalizing flow as a VAE whose encoder and decoder are deterministic.

With a decoder N(g(z), σ²I) and an encoder N(f(x), σ² J_f J_fᵀ) everything is a VAE with one set of
parameters. As σ → 0 the ELBO becomes the flow's log-likelihood; its error is O(σ²).
`forward` f goes data → base, `inverse` g base → data; everything is in nats.

Sources: Rezende, Mohamed, "Variational Inference with Normalizing Flows" (2015); Nielsen et al.,
"SurVAE Flows" (2020); lectures L5-2024 and L6-2021.
"""

import math

import torch
import torch.nn.functional as F

from dgm_utils.models.densities import full_precision, standard_normal_log_prob
from dgm_utils.validate import number, takes


@takes(x="B D")
def flow_log_likelihood(x, forward, base_log_prob):
    """Change of variables, `log p(f(x)) + log|det ∂f/∂x|`, in nats.

    Args:
        x: `(B, D)` data.
        forward: data → base, `forward(x) → (z, log_det)`.
        base_log_prob: log-density of the base, `(B, D) → (B,)`.

    Returns:
        `(B,)` log-likelihood.

    """
    z, log_det = forward(x)
    return base_log_prob(z) + log_det


@takes(z="B L", u="L", w="L", b="")
@full_precision
def planar_transform(z, u, w, b):
    """Planar map `z' = z + û tanh(w·z + b)`.

    Along w it is `a → a + w·û tanh(a + b)`, which rises everywhere, and so can be inverted, when
    `w·û > −1`. The part of u along w is changed to make it so: `w·û = softplus(w·u) − 1`.

    Args:
        z: `(B, L)`.
        u: `(L,)` direction; û = u + (softplus(w·u) − 1 − w·u) w / ‖w‖² takes its place.
        w: `(L,)`, not zero.
        b: `()`.

    Returns:
        z' `(B, L)` and log|det ∂z'/∂z| `(B,)` in nats, `log(1 + (1 − tanh²) w·û)`.

    """
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    a = z @ w + b
    return z + torch.tanh(a)[:, None] * u_hat, _log_slope(a, along)


def _log_slope(a, along):
    """`log(1 + (1 − h²)(softplus(along) − 1)) = log(h² + (1 − h²) softplus(along))`, h = tanh(a).

    The second form has no difference of near-equal numbers. Where h is small and `along` far below
    0, both of its terms underflow, so the larger one is taken out as a factor e^c first.
    """
    h = torch.tanh(a)
    tanh_slope = 4 * torch.sigmoid(2 * a) * torch.sigmoid(-2 * a)  # 1 − h², with all its digits
    # Far below 0 softplus is exp: its logarithm, right to rounding, without the way through 0.
    log_softplus = torch.where(along < -40, along, F.softplus(along.clamp(min=-40)).log())
    # The result does not depend on c, so no derivative has to go through it.
    c = torch.maximum(2 * h.abs().log(), log_softplus).detach()
    # A clamped exponent belongs to h = 0, and the product is to be 0 there, not 0 · inf.
    scaled = h * torch.exp((-0.5 * c).clamp(max=-math.log(torch.finfo(h.dtype).tiny)))
    return c + torch.log(scaled**2 + tanh_slope * torch.exp(log_softplus - c))


@takes(log_q0="... B")
def flow_posterior_log_prob(log_q0, log_dets):
    """Log-density of z_K = g_K(…g_1(z_0)), in nats: `log q(z_0) − Σ_k log|det ∂g_k/∂z_{k−1}|`.

    Args:
        log_q0: `(B,)` log-density of z_0.
        log_dets: list of K tensors `(B,)`, one for each layer.

    Returns:
        `(B,)` log q_K(z_K).

    """
    return log_q0 - sum(log_dets)


@takes(log_joint="B", log_q0="B")
def flow_elbo(log_joint, log_q0, log_dets):
    """One-sample ELBO with a flow posterior, `log p(x, z_K) − log q_K(z_K|x)`, in nats.

    Args:
        log_joint: `(B,)` log p(x, z_K).
        log_q0: `(B,)` log q(z_0|x).
        log_dets: list of `(B,)`, log|det ∂z_k/∂z_{k−1}| of each layer, base → data.

    Returns:
        `(B,)` bound. No inverse is needed: z_0 is where the sample came from.

    """
    return log_joint - flow_posterior_log_prob(log_q0, log_dets)


@takes(x="B D", z="B D")
def noisy_decoder_log_prob(x, z, inverse, sigma):
    """Log-density of the relaxed decoder, `log N(x; g(z), σ²I)`, in nats.

    Args:
        x: `(B, D)` data.
        z: `(B, D)`.
        inverse: base → data, `inverse(z) → x`.
        sigma: σ > 0, a standard deviation.

    Returns:
        `(B,)`.

    Raises:
        ValueError: when sigma is not positive.

    """
    _check_sigma(sigma)
    scaled = (x - inverse(z)) / sigma
    return standard_normal_log_prob(scaled) - x.shape[1] * math.log(sigma)


@takes(x="B D", noise="B D")
def noisy_encoder(x, forward, sigma, noise):
    """Sample of the relaxed encoder and its log-density, `q(z|x) = N(f(x), σ² J_f J_fᵀ)`.

    `z = f(x) + σ J_f ε`, so `log q(z|x) = log N(ε; 0, I) − D log σ − log|det J_f|`: the density of
    ε, changed by a linear map. No Jacobian is built; J_f ε is one directional derivative.

    Args:
        x: `(B, D)` data.
        forward: data → base, `forward(x) → (z, log_det)`, each row by itself.
        sigma: σ > 0.
        noise: `(B, D)` draws ε of N(0, I).

    Returns:
        z `(B, D)` and log q(z|x) `(B,)` in nats, differentiable in x and the flow's parameters.

    Raises:
        ValueError: when sigma is not positive.

    """
    _check_sigma(sigma)
    # Rows do not meet inside f, so one directional derivative of the batch is that of every row.
    (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
        forward, x, noise, create_graph=True
    )
    log_q = standard_normal_log_prob(noise) - x.shape[1] * math.log(sigma) - log_det
    return mean + sigma * direction, log_q


@takes(x="B D", noise="S B D")
def relaxed_elbo(x, forward, inverse, base_log_prob, sigma, noise):
    """ELBO of the relaxed model: `log p(x|z) + log p(z) − log q(z|x)`, averaged over S samples.

    Args:
        x: `(B, D)` data.
        forward: data → base, `forward(x) → (z, log_det)`.
        inverse: base → data, `inverse(z) → x`.
        base_log_prob: log p(z), `(B, D) → (B,)`.
        sigma: σ > 0.
        noise: `(S, B, D)` draws of N(0, I).

    Returns:
        `(B,)` in nats; tends to `flow_log_likelihood` as σ → 0.

    Raises:
        ValueError: when sigma is not positive.

    """
    repeated = x.repeat(len(noise), 1)
    z, log_q = noisy_encoder(repeated, forward, sigma, noise.flatten(0, 1))
    log_px_given_z = noisy_decoder_log_prob(repeated, z, inverse, sigma)
    elbo = log_px_given_z + base_log_prob(z) - log_q
    return elbo.reshape(len(noise), len(x)).mean(0)


def _check_sigma(sigma):
    number("sigma", sigma, 0, math.inf)
    if sigma == 0:
        raise ValueError("sigma must be greater than 0, not 0")
