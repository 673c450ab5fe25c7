"""A normalizing flow as a VAE whose encoder and decoder are deterministic.

With a decoder N(g(z), σ²I) and an encoder N(f(x), σ² J_f J_fᵀ) everything is a VAE with one set of
parameters. As σ → 0 the ELBO becomes the flow's log-likelihood; its error is O(σ²).
`forward` f goes data → base, `inverse` g base → data; everything is in nats.

`flow_log_likelihood`, `flow_posterior_log_prob` and `planar_transform` are the ones that the models
use, in `models/flow.py` and `models/planar.py`.

Sources: Rezende, Mohamed, "Variational Inference with Normalizing Flows" (2015); Nielsen et al.,
"SurVAE Flows" (2020); lectures L5-2024 and L6-2021.
"""

import math

import torch

from dgm_utils.models.densities import standard_normal_log_prob
from dgm_utils.models.flow import flow_log_likelihood, flow_posterior_log_prob
from dgm_utils.models.planar import planar_transform
from dgm_utils.validate import number, takes

__all__ = [
    "flow_elbo",
    "flow_log_likelihood",
    "flow_posterior_log_prob",
    "noisy_decoder_log_prob",
    "noisy_encoder",
    "planar_transform",
    "relaxed_elbo",
]


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
