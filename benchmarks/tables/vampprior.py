"""Claim 7.4: four priors of one two-layer hierarchical VAE on static MNIST.

The paper's network: 40 + 40 latents, gated layers of 300 units, 500 components, 500 pseudo-inputs.
Ours trains by Muon without the paper's 100 epochs of warm-up, and takes the last weights where the
paper takes the best on the validation split. Test log-likelihood by L_1000, a fifth of the paper's
samples, which cannot be above L_5000 on average.

Source: Tomczak, Welling, "VAE with a VampPrior" (2018), section 6 and table 1.
"""

import torch

from benchmarks.tables.iwae import likelihood, start_at_the_mean
from dgm_utils.iwae import active_units
from dgm_utils.models.hvae import mlp_hvae
from dgm_utils.models.priors import GaussianMixture, StandardNormalPrior, VampPrior

_COMMON = {
    "data": "binarized_mnist",
    "latents": [40, 40],
    "hidden": 300,
    "components": 500,
    "epochs": 2000,
    "optimizer": "Muon",
    "batch_size": 500,
    "learning_rate": 4e-3,
    "last_rate": 0.01,
    "max_norm": 100.0,
    "nll_samples": 1000,
    "compile": True,
}
ROWS = {
    name: {**_COMMON, "prior": name}
    for name in ("standard Gaussian", "mixture of Gaussians", "VampPrior data", "VampPrior")
}


def run(config, work):
    """Train one model, and measure it on the test set."""
    images = work.grey(config["data"], "train")
    prior = make_prior(config, images.cpu())
    model = mlp_hvae(images.shape[1], config["latents"], config["hidden"], prior=prior)
    start_at_the_mean(model, images)

    def loss(batch):
        # A binary image is its own draw.
        x = torch.bernoulli(batch)
        noise = torch.randn(1, len(x), model.num_noise, device=x.device)
        return -model.log_w(x, noise, model.encode(x), model.log_prior()).mean()

    work.fit(model, loss, images, config)
    return measure(model, work, config)


def make_prior(config, images):
    """The prior of z2 that a row is about."""
    components, latents = config["components"], config["latents"][1]
    if config["prior"] == "standard Gaussian":
        return StandardNormalPrior(latents)
    if config["prior"] == "mixture of Gaussians":
        return GaussianMixture(components, latents)
    if config["prior"] == "VampPrior":
        return VampPrior(components, images.shape[1], latents)
    data = images[torch.randperm(len(images))[:components]]
    prior = VampPrior(components, images.shape[1], latents, data)
    prior.raw.requires_grad_(False)
    return prior


@torch.no_grad()
def measure(model, work, config):
    """Log-likelihood, ELBO and active units on the test set."""
    test, numbers = likelihood(model, work, config)
    lower, upper = active_units(model.latent_means(test)).split(config["latents"])
    return {
        "log_likelihood": -numbers["nll"],
        "standard_error": numbers["nll_standard_error"],
        "elbo": numbers["elbo"],
        "active_units": [int(lower.sum()), int(upper.sum())],
    }
