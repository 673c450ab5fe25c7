"""Claim 5.6: likelihood and active units of VAE and IWAE on MNIST, for K = 1, 5, 50.

The paper's model with one stochastic layer: 50 latents, two hidden layers of 200 units, each image
binarized anew whenever it is met. Ours has ReLU for tanh, Muon with batches of 250 for Adam with
batches of 20, and a shorter training; `--epochs` gives all rows as much of it. NLL by L_5000 on the
test set, binarized once.

Source: Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders" (2015), section 5 and
table 1.
"""

import torch

from dgm_utils.iwae import active_units, iwae_bound, multi_sample_elbo
from dgm_utils.models.vae import mlp_vae

_COMMON = {
    "data": "mnist",
    "latents": 50,
    "hidden": [200, 200],
    "epochs": 3280,
    "optimizer": "Muon",
    "batch_size": 250,
    "learning_rate": 4e-3,
    "last_rate": 0.01,
    "nll_samples": 5000,
    "compile": True,
}
ROWS = {
    # With one sample the two are the same.
    "VAE, K = 1": {**_COMMON, "objective": "VAE", "samples": 1},
    **{
        f"{objective}, K = {k}": {**_COMMON, "objective": objective, "samples": k}
        for k in (5, 50)
        for objective in ("VAE", "IWAE")
    },
}


def run(config, work):
    """Train one model, and measure it on the test set."""
    images = work.grey(config["data"], "train")
    model = mlp_vae(images.shape[1], config["latents"], tuple(config["hidden"]))
    start_at_the_mean(model, images)
    combine = iwae_bound if config["objective"] == "IWAE" else multi_sample_elbo

    def loss(batch):
        x = torch.bernoulli(batch)
        noise = torch.randn(config["samples"], len(x), config["latents"], device=x.device)
        return -combine(model.log_w(x, noise, model.encode(x), model.log_prior())).mean()

    work.fit(model, loss, images, config)
    return measure(model, work, config)


def start_at_the_mean(model, images):
    """Let the decoder begin with the average image, which all would learn first."""
    with torch.no_grad():
        model.decoder.net[-1].bias.copy_(torch.logit(images.mean(0), eps=1e-3))


@torch.no_grad()
def measure(model, work, config):
    """NLL, ELBO and active units on the test set, binarized once."""
    test, numbers = likelihood(model, work, config)
    return numbers | {"active_units": int(active_units(model.encode(test)[0]).sum())}


def likelihood(model, work, config):
    """The test set, binarized once, and its NLL, the NLL's standard error and its ELBO."""
    test = torch.bernoulli(work.grey(config["data"], "test"), generator=work.generator(1))
    shape = (1, len(test), model.num_noise)
    noise = torch.randn(shape, generator=work.generator(3), device=test.device)
    elbo = model.elbo(test, noise).mean().item()
    if config["compile"]:
        # The same numbers to 1e-4 nats, in two thirds of the time.
        model.log_w = torch.compile(model.log_w)
    decodings = 1000 if work.device.type == "cpu" else 100_000
    nll = model.nll(test, config["nll_samples"], work.generator(2), decodings)
    return test, {
        "nll": nll.mean().item(),
        "nll_standard_error": (nll.std() / len(nll) ** 0.5).item(),
        "elbo": elbo,
    }
