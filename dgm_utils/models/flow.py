"""Normalizing flows put together: a stack of invertible layers, its density and its samples.

A flow maps data x to base z and back. `forward` goes data → base, `inverse` base → data, and both
return `(value, log_det)`: the log|det| of the Jacobian of the map that was applied, `(B,)`, nats.

    log p(x) = log p(z) + log|det ∂f/∂x|,   z = f(x).

A layer is a module with these two methods; one that has no closed form for a direction raises
NotImplementedError there. What a direction costs differs: see `autoregressive`, `coupling`,
`planar`.

Sources: Rezende, Mohamed, "Variational Inference with Normalizing Flows" (2015) for flows in latent
space; lectures L5-2024 and L6-2021.
"""

import torch
from torch import nn

from dgm_utils.models.densities import sample_gaussian, standard_normal_log_prob
from dgm_utils.nf_as_vae import flow_log_likelihood, flow_posterior_log_prob
from dgm_utils.validate import takes, whole_number


class StandardNormal(nn.Module):
    """The base density N(0, I) over D dimensions; knows the device and dtype to draw in."""

    def __init__(self, num_dims):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_dims), persistent=False)

    def log_prob(self, z):
        """Log-density in nats, `(..., D) → (...)`."""
        return standard_normal_log_prob(z)

    def sample(self, num, generator=None):
        """Draw `(num, D)`."""
        whole_number("num", num, 1)
        noise = torch.empty(num, len(self.mean), dtype=self.mean.dtype, device=self.mean.device)
        return noise.normal_(generator=generator)


class Flow(nn.Module):
    """A stack of layers over a base density: the model of x.

    Args:
        layers: modules with `forward` and `inverse`, in the order in which data meets them.
        base: module with `log_prob(z)` and `sample(num, generator)`.

    """

    def __init__(self, layers, base):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.base = base

    def forward(self, x):
        """Data → base, `(B, D) → (B, D), (B,)`."""
        return _compose([layer.forward for layer in self.layers], x)

    def inverse(self, z):
        """Base → data, `(B, D) → (B, D), (B,)`."""
        return _compose([layer.inverse for layer in reversed(self.layers)], z)

    def log_prob(self, x):
        """Log-density of data in nats, `(B, D) → (B,)`."""
        return flow_log_likelihood(x, self.forward, self.base.log_prob)

    def rsample_with_log_prob(self, noise):
        """Samples and their log-density from draws of the base, `(B, D) → (B, D), (B,)`.

        One pass base → data gives both, and gradients flow through it: what reverse KL needs.
        """
        x, log_det = self.inverse(noise)
        return x, self.base.log_prob(noise) - log_det

    @torch.no_grad()
    def sample(self, num, generator=None):
        """Draw `(num, D)` without gradients."""
        return self.inverse(self.base.sample(num, generator))[0]


class FlowPosterior(nn.Module):
    """A flow in latent space: q(z_K|x), a Gaussian q(z_0|x) pushed through layers base → data.

    Only `inverse` of the layers is called. The ELBO asks for the density of the posterior's own
    samples, and on the way from z_0 to z_K that is known: no layer has to be inverted.

    Args:
        layers: modules with `inverse(z) → (z', log_det)`; the first is applied first.

    """

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    @takes(mean="B L", log_var="B L", noise="... B L")
    def forward(self, mean, log_var, noise):
        """Reparametrized samples of q(z_K|x) and their log-density.

        Args:
            mean: `(B, L)` mean of q(z_0|x), the encoder's output.
            log_var: `(B, L)` logarithm of its variance.
            noise: `(..., B, L)` draws of N(0, I).

        Returns:
            z_K `(..., B, L)` and log q(z_K|x) `(..., B)` in nats.

        """
        z = sample_gaussian(mean, log_var, noise)
        log_q0 = standard_normal_log_prob(noise) - 0.5 * log_var.sum(-1)
        shape, z = z.shape, z.flatten(0, -2)
        log_dets = []
        for layer in self.layers:
            z, log_det = layer.inverse(z)
            log_dets.append(log_det.reshape(shape[:-1]))
        return z.reshape(shape), flow_posterior_log_prob(log_q0, log_dets)


def _compose(maps, value):
    log_det = 0.0
    for step in maps:
        value, term = step(value)
        log_det = log_det + term
    return value, log_det
