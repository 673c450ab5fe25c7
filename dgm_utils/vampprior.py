"""The VampPrior: a mixture of the encoder's own posteriors at learnt pseudo-inputs.

    p(z) = 1/C Σ_c q(z|u_c)

Between a standard normal, which pulls every posterior to one place, and the aggregated posterior of
all N data, the optimum, which overfits and takes N encodings. Everything is in nats.

Sources: Tomczak, Welling, "VAE with a VampPrior" (2018); lectures CS236-2018 and MIPT-2019.
"""

import math

import torch

from dgm_utils.models.densities import full_precision, log_sum_gaussians, sample_gaussian
from dgm_utils.validate import takes, within


@takes(z="... L", means="C L", log_vars="C L")
@full_precision
def mixture_log_prob(z, means, log_vars):
    """`log 1/C Σ_c N(z; means_c, diag exp(log_vars_c))`, `(..., L), (C, L) ×2 → (...)`.

    The sum over dimensions comes before that over components. The other order scores a product of
    L one-dimensional mixtures, which has C^L modes.
    """
    return (log_sum_gaussians(z, means, log_vars) - math.log(len(means))).to(z.dtype)


@takes(log_q="S B", log_p="S B")
def monte_carlo_kl(log_q, log_p):
    """KL(q ‖ p) from S samples of q, the mean of `log q − log p`, `(S, B) ×2 → (B,)`.

    Unbiased for any p, with one sample too; a single estimate may be negative.
    """
    return (log_q - log_p).mean(0)


@takes(raw="C D")
def pseudo_inputs(raw):
    """Images in [0, 1] from unconstrained numbers, `(C, D) → (C, D)`: a sigmoid.

    Cutting off at 0 and 1 would do for the range, but pixels beyond get no gradient to come back.
    """
    return torch.sigmoid(raw)


@takes(z="B L", pseudo="C D")
def vampprior_log_prob(z, pseudo, encoder):
    """`log 1/C Σ_c q(z|u_c)`, `(B, L), (C, D) → (B,)`, with `encoder(u) → (mean, log_var)`.

    Gradients reach the pseudo-inputs and the encoder: the prior is tied to the posterior.
    """
    return mixture_log_prob(z, *encoder(pseudo))


@takes(pseudo="C D", component="int S", noise="S L")
def sample_vampprior(pseudo, encoder, component, noise):
    """`z_s ~ q(z|u_c)` with c = component_s, `(C, D), (S,), (S, L) → (S, L)`.

    Args:
        pseudo: `(C, D)` pseudo-inputs.
        encoder: `u → (mean, log_var)`.
        component: `(S,)` integers from 0 to C − 1.
        noise: `(S, L)` standard normal.

    """
    within("component", component, 0, len(pseudo) - 1)
    mean, log_var = encoder(pseudo[component])
    return sample_gaussian(mean, log_var, noise)


@takes(log_px="... B", log_pz1="... B", log_pz2="... B", log_qz1="... B", log_qz2="... B")
def hierarchical_elbo(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """ELBO of two layers of latents from one sample of each, `(..., B) ×5 → (..., B)`.

    `log p(x|z1,z2) + log p(z1|z2) + log p(z2) − log q(z1|x,z2) − log q(z2|x)`.
    """
    return log_px + log_pz1 + log_pz2 - log_qz1 - log_qz2
