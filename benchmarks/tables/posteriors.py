"""Posterior families of a VAE on MNIST: diagonal Gaussian, planar, Sylvester and IAF.

The encoder's Gaussian is pushed through a flow in latent space whose parameters are the same for
all images. (In the papers a planar or Sylvester flow gets its parameters from the encoder, and an
IAF a context; both make the family larger than ours.) ELBO, and NLL by L_1000, on the test set.

Sources: Rezende, Mohamed (2015); Kingma et al., "Improved Variational Inference with Inverse
Autoregressive Flow" (2016); van den Berg et al., "Sylvester Normalizing Flows" (2018).
"""

import torch

from benchmarks.tables.iwae import measure, start_at_the_mean
from dgm_utils.models.autoregressive import IAF
from dgm_utils.models.flow import FlowPosterior
from dgm_utils.models.planar import PlanarLayer, SylvesterLayer
from dgm_utils.models.vae import VAE, BernoulliDecoder, GaussianEncoder, mlp

_COMMON = {
    "data": "mnist",
    "latents": 40,
    "hidden": [300, 300],
    "epochs": 2000,
    "optimizer": "Muon",
    "batch_size": 250,
    "learning_rate": 4e-3,
    "last_rate": 0.01,
    "max_norm": 100.0,
    "nll_samples": 1000,
    "compile": True,
}
ROWS = {
    "diagonal Gaussian": {**_COMMON, "family": "diagonal", "layers": 0},
    "planar": {**_COMMON, "family": "planar", "layers": 16},
    "Sylvester": {**_COMMON, "family": "Sylvester", "layers": 8, "units": 16},
    "IAF": {**_COMMON, "family": "IAF", "layers": 4, "made_hidden": [320]},
}


class FlowVAE(VAE):
    """A VAE whose posterior is the encoder's Gaussian pushed through a flow.

    Args:
        layers: of the `FlowPosterior`.
        **options: of `VAE`.

    """

    def __init__(self, layers, **options):
        super().__init__(**options)
        self.posterior = FlowPosterior(layers)

    def elbo(self, x, noise):
        """ELBO averaged over K samples, `(B, D), (K, B, L) → (B,)`."""
        return self.log_w(x, noise, self.encode(x), self.log_prior()).mean(0)

    def log_w(self, x, noise, code, log_prior):
        """Log-weights `log p(x|z) + log p(z) − log q(z|x)`, `(K, B)`."""
        z, log_q = self.posterior(*code, noise)
        return self.decoder.log_prob(x, z) + log_prior(z) - log_q


def run(config, work):
    """Train one model, and measure it on the test set."""
    images = work.grey(config["data"], "train")
    dims, latents, hidden = images.shape[1], config["latents"], config["hidden"]
    model = FlowVAE(
        make_layers(config),
        encoder=GaussianEncoder(mlp(dims, hidden, 2 * latents)),
        decoder=BernoulliDecoder(mlp(latents, hidden[::-1], dims)),
        num_dims=dims,
        num_latents=latents,
    )
    start_at_the_mean(model, images)

    def loss(batch):
        x = torch.bernoulli(batch)
        noise = torch.randn(1, len(x), latents, device=x.device)
        return -model.log_w(x, noise, model.encode(x), model.log_prior()).mean()

    work.fit(model, loss, images, config)
    return measure(model, work, config)


def make_layers(config):
    """The flow of a row, near the identity at the start."""
    latents, count = config["latents"], config["layers"]
    if config["family"] == "planar":
        layers = [PlanarLayer(latents) for _ in range(count)]
    elif config["family"] == "Sylvester":
        layers = [SylvesterLayer(latents, config["units"]) for _ in range(count)]
    elif config["family"] == "IAF":
        layers = list(IAF(latents, count, hidden_sizes=config["made_hidden"]).layers)
    else:
        layers = []
    for layer in layers:
        for parameter in layer.parameters():
            # Frames are orthonormalized, and their size does not matter.
            parameter.data *= 0.1
    return layers
