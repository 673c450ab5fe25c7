"""Priors of a variational autoencoder: standard normal, mixture of Gaussians, VampPrior.

A prior is asked `prior.log_prob(z, encoder)`, with `encoder(x) → (mean, log_var)` that of q(z|x).
Only the VampPrior looks at it: its components are q's own, at inputs it learns. Handing the encoder
over, instead of keeping it, leaves each parameter with one owner.

z is `(..., L)`; log-densities are `(...)`, in nats. Sources: Kingma, Welling, "Auto-Encoding
Variational Bayes" (2014); Tomczak, Welling, "VAE with a VampPrior" (2018); lectures CS236-2018
(mixture of Gaussians) and MIPT-2019.
"""

import torch
from torch import nn

from dgm_utils.latent_variable_models import gaussian_kl
from dgm_utils.models.densities import (
    gaussian_log_prob,
    sample_gaussian,
    standard_normal_log_prob,
)
from dgm_utils.validate import takes, whole_number
from dgm_utils.vampprior import mixture_log_prob, pseudo_inputs


class Prior(nn.Module):
    """What all priors share: the KL to them, estimated from samples.

    Attributes:
        num_latents: L.

    """

    def __init__(self, num_latents):
        super().__init__()
        whole_number("num_latents", num_latents, 1)
        self.num_latents = num_latents

    def density(self, encoder=None):
        """`z → log p(z)`, a function that has done what does not depend on z, encodings above all.

        For many calls with the same weights; `log_prob` is one such call.
        """
        raise NotImplementedError

    @takes(z="... .num_latents")
    def log_prob(self, z, encoder=None):
        """`log p(z)`, `(..., L) → (...)`; the VampPrior needs the encoder."""
        return self.density(encoder)(z)

    def kl(self, mean, log_var, z, encoder):
        """`log q(z|x) − log p(z)`, whose mean over z ~ q is KL(q‖p).

        `(B, L) ×2, (K, B, L) → (K, B)`. To a mixture there is no closed form, and one sample of z
        is enough for an unbiased estimate.
        """
        return gaussian_log_prob(z, mean, log_var) - self.log_prob(z, encoder)


class StandardNormalPrior(Prior):
    """`p(z) = N(0, I)`."""

    def density(self, encoder=None):
        """`(..., L) → (...)`."""
        return standard_normal_log_prob

    def kl(self, mean, log_var, z=None, encoder=None):
        """The KL in closed form, `(B, L) ×2 → (B,)`: no noise of z in it."""
        return gaussian_kl(mean, log_var)

    @takes(noise="S .num_latents")
    def sample(self, noise, encoder=None, generator=None):
        """`(S, L)` standard normal numbers are samples already."""
        return noise


class GaussianMixture(Prior):
    """`p(z) = 1/C Σ_c N(z; means_c, diag exp(log_vars_c))` with learnt means and variances.

    Args:
        num_components: C.
        num_latents: L.
        spread: standard deviation of the first means around 0; the first variances are 1.

    """

    def __init__(self, num_components, num_latents, spread=1.0):
        super().__init__(num_latents)
        whole_number("num_components", num_components, 1)
        self.means = nn.Parameter(spread * torch.randn(num_components, num_latents))
        self.log_vars = nn.Parameter(torch.zeros(num_components, num_latents))

    def density(self, encoder=None):
        """`(..., L) → (...)`."""
        return lambda z: mixture_log_prob(z, self.means, self.log_vars)

    @takes(noise="S .num_latents")
    def sample(self, noise, encoder=None, generator=None):
        """Turn `(S, L)` standard normal noise into samples; `generator` draws the components."""
        component = _draw_components(len(self.means), noise, generator)
        return sample_gaussian(self.means[component], self.log_vars[component], noise)


class VampPrior(Prior):
    """`p(z) = 1/C Σ_c q(z|u_c)`: the aggregated posterior of C learnt pseudo-inputs.

    C encodings a step, where the aggregated posterior of the data would take N and overfit.
    The pseudo-inputs are one parameter. (Published code has them as the weight of a linear layer
    applied to an identity matrix: the same numbers, after a product of (C, C) and (C, D).)

    Args:
        num_components: C.
        num_dims: D, the length of a data point.
        num_latents: L.
        data: `(C, D)` in [0, 1] to start from; by default uniform in [0.3, 0.7].

    Raises:
        ValueError: when data have another shape, or leave [0, 1].

    """

    def __init__(self, num_components, num_dims, num_latents, data=None):
        super().__init__(num_latents)
        whole_number("num_components", num_components, 1)
        whole_number("num_dims", num_dims, 1)
        if data is None:
            data = 0.3 + 0.4 * torch.rand(num_components, num_dims)
        elif data.shape != (num_components, num_dims) or data.min() < 0 or data.max() > 1:
            expected = f"({num_components}, {num_dims}) with entries in [0, 1]"
            raise ValueError(f"data must be {expected}, not {tuple(data.shape)}")
        # Pixels of exactly 0 or 1 have no finite raw value, and no gradient.
        self.raw = nn.Parameter(torch.logit(data, eps=0.01))

    def pseudo_inputs(self):
        """The C images in [0, 1] that the encoder is given, `(C, D)`."""
        return pseudo_inputs(self.raw)

    def density(self, encoder):
        """`(..., L) → (...)`, C encodings; gradients reach the pseudo-inputs and the encoder."""
        mean, log_var = encoder(self.pseudo_inputs())
        return lambda z: mixture_log_prob(z, mean, log_var)

    @takes(noise="S .num_latents")
    def sample(self, noise, encoder, generator=None):
        """Turn `(S, L)` standard normal noise into samples; `generator` draws the components."""
        component = _draw_components(len(self.raw), noise, generator)
        mean, log_var = encoder(self.pseudo_inputs()[component])
        return sample_gaussian(mean, log_var, noise)


def _draw_components(num_components, noise, generator):
    return torch.randint(num_components, noise.shape[:1], generator=generator, device=noise.device)
