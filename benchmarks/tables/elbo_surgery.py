"""Claim 6.4: the ELBO of VAEs on MNIST taken apart, with 2, 10 and 20 latents.

All four numbers belong to the 60,000 training images and one code of each; the aggregated posterior
is the mixture of all 60,000 posteriors, none left out. Mutual information and marginal KL are those
of the same codes, so with the average KL of these codes they add up; the closed form of the average
KL stands beside.

Source: Hoffman, Johnson, "ELBO surgery" (2016), table 1; the slides give no architecture.
"""

import torch

from benchmarks.tables.iwae import start_at_the_mean
from dgm_utils.elbo_surgery import average_kl, elbo_surgery
from dgm_utils.models.densities import gaussian_log_prob, sample_gaussian, standard_normal_log_prob
from dgm_utils.models.vae import mlp_vae

_COMMON = {
    "data": "mnist",
    "hidden": [400, 400],
    "epochs": 300,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "compile": True,
}
ROWS = {f"{latents} latents": {**_COMMON, "latents": latents} for latents in (2, 10, 20)}


def run(config, work):
    """Train one VAE and take its ELBO apart."""
    images = work.grey(config["data"], "train")
    model = mlp_vae(images.shape[1], config["latents"], tuple(config["hidden"]))
    start_at_the_mean(model, images)

    def loss(batch):
        x = torch.bernoulli(batch)
        noise = torch.randn(1, len(x), config["latents"], device=x.device)
        return -model.elbo(x, noise).mean()

    work.fit(model, loss, images, config)
    return measure(model, work, images, config)


@torch.no_grad()
def measure(model, work, images, config):
    """The parts of the ELBO, over all training images, binarized once."""
    x = torch.bernoulli(images, generator=work.generator(1))
    noise = torch.randn(len(x), config["latents"], generator=work.generator(2), device=x.device)
    mean, log_var = model.encode(x)
    z = sample_gaussian(mean, log_var, noise)
    reconstruction = torch.cat(
        [model.decoder.log_prob(*block) for block in zip(x.split(5000), z.split(5000), strict=True)]
    )
    wide = [tensor.double() for tensor in (reconstruction, z, mean, log_var)]
    parts = {name: part.item() for name, part in elbo_surgery(*wide).items()}
    _, z, mean, log_var = wide
    sampled = gaussian_log_prob(z, mean, log_var) - standard_normal_log_prob(z)
    return parts | {
        "average_kl": average_kl(mean, log_var).item(),
        "average_kl_of_the_codes": sampled.mean().item(),
    }
