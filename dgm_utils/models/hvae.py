"""The two-layer hierarchical VAE of the VampPrior paper.

    generative model   p(z2) p(z1|z2) p(x|z1, z2)
    posterior          q(z2|x) q(z1|x, z2)

Every factor over z is a diagonal Gaussian, but p(z2), which may be any prior. Both latents reach
the decoder, so z2 is not left with what p(z1|z2) passes on; without that, the upper layer of such
models tends to carry nothing.

Source: Tomczak, Welling, "VAE with a VampPrior" (2018), section 4; lecture MIPT-2019.
"""

import torch
from torch import nn

from dgm_utils.models.densities import bounded, gaussian_log_prob, sample_gaussian
from dgm_utils.models.priors import StandardNormalPrior
from dgm_utils.models.vae import (
    LOG_VAR_LIMIT,
    GaussianEncoder,
    LatentVariableModel,
    choose_decoder,
    mlp,
)
from dgm_utils.validate import takes
from dgm_utils.vampprior import hierarchical_elbo


class JointEncoder(nn.Module):
    """`q(z1|x, z2)`: a Gaussian whose network sees the image and the upper latent.

    What the image says is computed once, and the K samples of z2 are added to it. A network on the
    two concatenated would do the same work K times.

    Args:
        image_net: `(B, D) → (B, H)`.
        latent_net: `(..., L2) → (..., H)`.
        net: `(..., H) → (..., 2·L1)`.

    """

    def __init__(self, image_net, latent_net, net):
        super().__init__()
        self.image_net, self.latent_net, self.net = image_net, latent_net, net

    def forward(self, features, z2):
        """`image_net(x)` `(B, H)` and z2 `(K, B, L2)` → mean and log-variance `(K, B, L1)`."""
        mean, raw = self.net(torch.relu(features + self.latent_net(z2))).chunk(2, -1)
        return mean, bounded(raw, LOG_VAR_LIMIT)


class HVAE(LatentVariableModel):
    """A VAE with two layers of latents; noise is `(K, B, L2 + L1)`, upper layer first.

    Args:
        encoder2: `x → (mean, log_var)` of q(z2|x); the VampPrior's components are made of it.
        encoder1: a `JointEncoder`, q(z1|x, z2).
        prior1: `z2 → (mean, log_var)` of p(z1|z2), a `GaussianEncoder` on z2.
        decoder: p(x|z) of the two latents side by side, z = (z1, z2).
        num_dims: D.
        num_latents: (L1, L2).
        prior: p(z2), from `models/priors.py`; the standard normal by default.

    """

    def __init__(self, encoder2, encoder1, prior1, decoder, num_dims, num_latents, prior=None):
        super().__init__()
        self.encoder2, self.encoder1 = encoder2, encoder1
        self.prior1, self.decoder = prior1, decoder
        self.prior = StandardNormalPrior(num_latents[1]) if prior is None else prior
        self.num_dims, self.num_latents, self.num_noise = num_dims, num_latents, sum(num_latents)
        if self.prior.num_latents != num_latents[1]:
            raise ValueError(
                f"prior must have num_latents = {num_latents[1]}, not {self.prior.num_latents}"
            )

    @takes(x="B .num_dims")
    def encode(self, x):
        """Mean and log-variance of q(z2|x) `(B, L2)`, and what q(z1|x, z2) keeps of x `(B, H)`."""
        return *self.encoder2(x), self.encoder1.image_net(x)

    @takes(x="B .num_dims", noise="K B .num_noise")
    def elbo(self, x, noise):
        """ELBO averaged over K samples of both latents, `(B, D), (K, B, L2 + L1) → (B,)`."""
        return self.log_w(x, noise, self.encode(x), self.log_prior()).mean(0)

    def log_prior(self):
        """`z2 → log p(z2)`, the prior's components computed."""
        return self.prior.density(self.encoder2)

    def log_w(self, x, noise, code, log_prior):
        """Log-weights: the hierarchical ELBO of each sample, `(K, B)`."""
        mean2, log_var2, features = code
        noise2, noise1 = noise.split([self.num_latents[1], self.num_latents[0]], -1)
        z2 = sample_gaussian(mean2, log_var2, noise2)
        mean1, log_var1 = self.encoder1(features, z2)
        z1 = sample_gaussian(mean1, log_var1, noise1)
        return hierarchical_elbo(
            self.decoder.log_prob(x, torch.cat([z1, z2], -1)),
            gaussian_log_prob(z1, *self.prior1(z2)),
            log_prior(z2),
            gaussian_log_prob(z1, mean1, log_var1),
            gaussian_log_prob(z2, mean2, log_var2),
        )

    @takes(x="B .num_dims")
    def latent_means(self, x):
        """Means of q(z1|x, z2) and q(z2|x), `(B, L1 + L2)`: what active units are counted from.

        The lower layer is given the upper one's mean.
        """
        mean2, _, features = self.encode(x)
        return torch.cat([self.encoder1(features, mean2)[0], mean2], -1)

    @torch.no_grad()
    def generate(self, noise, generator=None):
        """`E[x|z1, z2]` at latents drawn from the model, normal noise `(S, L2 + L1) → (S, D)`."""
        noise2, noise1 = noise.split([self.num_latents[1], self.num_latents[0]], -1)
        z2 = self.prior.sample(noise2.contiguous(), self.encoder2, generator)
        z1 = sample_gaussian(*self.prior1(z2), noise1)
        return self.decoder.mean(torch.cat([z1, z2], -1))


def mlp_hvae(num_dims, num_latents, hidden=300, likelihood="bernoulli", prior=None):
    """The paper's network: two gated layers of `hidden` units in every part.

    Args:
        num_dims: D.
        num_latents: (L1, L2).
        hidden: units of a layer.
        likelihood: as in `mlp_vae`.
        prior: of z2, from `models/priors.py`.

    """
    latents1, latents2 = num_latents
    make_decoder, num_outputs = choose_decoder(likelihood)
    sizes = (hidden, hidden)
    return HVAE(
        encoder2=GaussianEncoder(mlp(num_dims, sizes, 2 * latents2, gated=True)),
        encoder1=JointEncoder(
            image_net=mlp(num_dims, (hidden,), hidden, gated=True),
            latent_net=nn.Linear(latents2, hidden),
            net=mlp(hidden, (hidden,), 2 * latents1, gated=True),
        ),
        prior1=GaussianEncoder(mlp(latents2, sizes, 2 * latents1, gated=True)),
        decoder=make_decoder(mlp(latents1 + latents2, sizes, num_outputs * num_dims, gated=True)),
        num_dims=num_dims,
        num_latents=num_latents,
        prior=prior,
    )
