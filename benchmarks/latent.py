"""Latent-variable models against the peers: likelihoods of mixtures, VampPrior, IWAE, NLL.

    python -m benchmarks.latent

Everybody gets the same sizes, the same arguments and float32. Peers that broadcast are run in
chunks of the size that suits them best, where their interface allows it.
"""

import functools
import math

import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
)

from benchmarks.harness import Task, main
from dgm_utils.models.densities import BLOCK
from dgm_utils.models.priors import GaussianMixture, VampPrior
from dgm_utils.models.vae import mlp_vae
from dgm_utils.vampprior import mixture_log_prob

POINTS, LATENTS = 10_000, 20
PIXELS, HIDDEN, CODE = 784, 512, 40


def seeded(make):
    """Build with the same seed for everybody."""

    @functools.wraps(make)
    def build(*args):
        torch.manual_seed(0)
        return make(*args)

    return build


def normal(seed, *shape):
    """Seeded standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def binary(seed, *shape):
    """Seeded pixels, 30 % of them 1."""
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


# The log of the mean over N Gaussians at M points: the aggregated posterior


def posteriors(std):
    """Means and log-variances of N posteriors, and a sample of each."""
    mean = normal(1, POINTS, LATENTS)
    log_var = torch.full_like(mean, 2 * math.log(std))
    return mean + std * normal(2, POINTS, LATENTS), mean, log_var


def aggregate_ours(std):
    """The blocked product in float64."""
    z, mean, log_var = posteriors(std)
    return lambda: mixture_log_prob(z, mean, log_var), None


def mixture(mean, log_var):
    """The equal mixture as torch.distributions writes it."""
    components = Independent(Normal(mean, torch.exp(0.5 * log_var)), 1)
    return MixtureSameFamily(Categorical(logits=torch.zeros(len(mean))), components)


def aggregate_torch(std, rows):
    """MixtureSameFamily on `rows` points at a time."""
    z, mean, log_var = posteriors(std)

    def run():
        distribution = mixture(mean, log_var)
        return torch.cat([distribution.log_prob(block) for block in z.split(rows)])

    return run, None


def aggregate_limit(std):
    """The (M, 2L) by (2L, N) product in float64, in our blocks, and nothing else."""
    left, right = normal(3, POINTS, 2 * LATENTS).double(), normal(4, 2 * LATENTS, POINTS).double()

    def run():
        for block in left.split(BLOCK // POINTS):
            block @ right

    return run, None


# Mixture prior


def prior_parameters():
    """Points, means and log-variances."""
    return normal(1, 1000, 50), normal(2, 500, 50), 0.1 * normal(3, 500, 50)


@seeded
def mixture_ours():
    """Our prior."""
    z, means, log_vars = prior_parameters()
    prior = GaussianMixture(500, 50)
    prior.means.data, prior.log_vars.data = means, log_vars
    return with_gradients(lambda: prior.log_prob(z), prior)


def mixture_torch():
    """MixtureSameFamily."""
    z, *parameters = (nn.Parameter(p) for p in prior_parameters())
    module = nn.ParameterList(parameters)
    return with_gradients(lambda: mixture(*module).log_prob(z), module)


def mixture_pyro():
    """pyro's MixtureOfDiagNormals."""
    from pyro.distributions import MixtureOfDiagNormals

    z, *parameters = (nn.Parameter(p) for p in prior_parameters())
    module = nn.ParameterList(parameters)

    def log_prob():
        means, log_vars = module
        logits = torch.zeros(500)
        return MixtureOfDiagNormals(means, torch.exp(0.5 * log_vars), logits).log_prob(z)

    return with_gradients(log_prob, module)


def mixture_normflows():
    """normflows' GaussianMixture, whose weights are learnt too."""
    from normflows.distributions import GaussianMixture as Peer

    z, means, log_vars = prior_parameters()
    peer = Peer(500, 50, loc=means.numpy(), scale=torch.exp(0.5 * log_vars).numpy())
    peer = peer.float()
    return with_gradients(lambda: peer.log_prob(z), peer)


def with_gradients(log_prob, module):
    """Forward and backward; returns the log-densities."""

    def run():
        module.zero_grad(set_to_none=True)
        value = log_prob()
        value.sum().backward()
        return value.detach()

    return run, module


# VampPrior


@seeded
def vamp_ours():
    """Our VampPrior and encoder."""
    model = mlp_vae(PIXELS, CODE, (HIDDEN,), prior=VampPrior(500, PIXELS, CODE))
    z = normal(1, 1000, CODE)
    run, _ = with_gradients(lambda: model.prior.log_prob(z, model.encoder), model)
    return run, nn.ModuleList([model.prior, model.encoder])


@seeded
def vamp_torch(rows):
    """The same networks, MixtureSameFamily on `rows` points at a time."""
    model = mlp_vae(PIXELS, CODE, (HIDDEN,), prior=VampPrior(500, PIXELS, CODE))
    z = normal(1, 1000, CODE)

    def log_prob():
        distribution = mixture(*model.encoder(model.prior.pseudo_inputs()))
        return torch.cat([distribution.log_prob(block) for block in z.split(rows)])

    run, _ = with_gradients(log_prob, model)
    return run, nn.ModuleList([model.prior, model.encoder])


def pythae_vae(name, **options):
    """One of pythae's models with its own networks, which have the layers that ours have."""
    from pythae import models

    config = getattr(models, f"{name}Config")(
        input_dim=(PIXELS,), latent_dim=CODE, reconstruction_loss="bce", **options
    )
    return getattr(models, name)(config)


@seeded
def vamp_pythae():
    """pythae's VAMP: its `_log_p_z`, pseudo-inputs as a linear layer on an identity."""
    model = pythae_vae("VAMP", number_components=500)
    z = normal(1, 1000, CODE)
    run, _ = with_gradients(lambda: model._log_p_z(z), model)
    return run, nn.ModuleList([model.pseudo_inputs, model.encoder])


# IWAE


@seeded
def iwae_ours():
    """Our bound, noise drawn inside the measured work as for the others."""
    model, x = mlp_vae(PIXELS, CODE, (HIDDEN,)), binary(1, 100, PIXELS)
    return with_gradients(lambda: model.iwae(x, torch.randn(50, 100, CODE)), model)


@seeded
def iwae_torch():
    """The same networks, densities of torch.distributions."""
    model, x = mlp_vae(PIXELS, CODE, (HIDDEN,)), binary(1, 100, PIXELS)
    return with_gradients(lambda: log_mean_exp(log_w_torch(model, x, 50)), model)


def log_w_torch(model, x, num_samples, posterior=None):
    """Log-weights the way torch.distributions invites to write them."""
    q = posterior or posterior_torch(model, x)
    z = q.rsample((num_samples,))
    log_prior = Independent(Normal(torch.zeros(CODE), torch.ones(CODE)), 1).log_prob(z)
    logits = model.decoder.net(z)
    log_px = Independent(Bernoulli(logits=logits, validate_args=False), 1).log_prob(x)
    return log_px + log_prior - q.log_prob(z)


def posterior_torch(model, x):
    """q(z|x) as a distribution."""
    mean, log_var = model.encoder(x)
    return Independent(Normal(mean, torch.exp(0.5 * log_var)), 1)


def log_mean_exp(log_w):
    """Over the first axis."""
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


@seeded
def iwae_pythae():
    """pythae's IWAE; its loss is Σ w̃ log w, with the same gradient."""
    model, x = pythae_vae("IWAE", number_samples=50), {"data": binary(1, 100, PIXELS)}
    return with_gradients(lambda: -model(x).loss, model)


def matmul_limit(num_rows, backward):
    """The decoder's matrix products alone, at the same sizes."""
    code, hidden, pixels = (normal(i, num_rows, n) for i, n in enumerate((CODE, HIDDEN, PIXELS)))
    first, second = normal(3, CODE, HIDDEN), normal(4, HIDDEN, PIXELS)

    def run():
        code @ first, hidden @ second
        if backward:
            pixels @ second.T, hidden.T @ pixels, hidden @ first.T, code.T @ hidden

    return run, None


# NLL


NUM_IMAGES, NUM_SAMPLES = 10, 5000


@seeded
def nll_ours():
    """Our streamed NLL."""
    model, x = mlp_vae(PIXELS, CODE, (HIDDEN,)), binary(1, NUM_IMAGES, PIXELS)
    return lambda: model.nll(x, NUM_SAMPLES), model


@seeded
def nll_torch(decodings):
    """One image at a time, encoded once, its samples in chunks."""
    model, x = mlp_vae(PIXELS, CODE, (HIDDEN,)), binary(1, NUM_IMAGES, PIXELS)

    @torch.no_grad()
    def run():
        nll = []
        for image in x.split(1):
            q, steps = posterior_torch(model, image), NUM_SAMPLES // decodings
            log_w = torch.cat([log_w_torch(model, image, decodings, q) for _ in range(steps)])
            nll.append(-log_mean_exp(log_w))
        return torch.cat(nll)

    return run, model


@seeded
def nll_pythae(batch_size):
    """pythae's `get_nll`, which encodes the image again for each sample."""
    model, x = pythae_vae("VAE"), binary(1, NUM_IMAGES, PIXELS)

    @torch.no_grad()
    def run():
        return model.get_nll(x, n_samples=NUM_SAMPLES, batch_size=batch_size)

    return run, model


def nll_limit():
    """The decoder's products for all samples, a thousand at a time."""
    run, _ = matmul_limit(1000, backward=False)
    return lambda: [run() for _ in range(NUM_IMAGES * NUM_SAMPLES // 1000)], None


def part(function, *args):
    """A maker with its arguments filled in."""
    return functools.partial(function, *args)


TASKS = [
    Task(
        f"Aggregated posterior, std {std:g}",
        "Log of the mean over 10⁴ Gaussians at 10⁴ points, 20 latents, forward. The peer is "
        "MixtureSameFamily on 8 or 25 points at a time (more is slower); the limit is the "
        "float64 product.",
        {
            "ours": part(aggregate_ours, std),
            "torch.distributions, 8 points": part(aggregate_torch, std, 8),
            "torch.distributions, 25 points": part(aggregate_torch, std, 25),
            "limit: matrix product": part(aggregate_limit, std),
        },
        target=10,
    )
    for std in (1.0, 0.001)
] + [
    Task(
        "VampPrior",
        "500 pseudo-inputs, batch 1000, 40 latents, encoder 784-512-80: log p(z) of given z, "
        "forward and backward to pseudo-inputs and encoder.",
        {
            "ours": vamp_ours,
            "pythae": vamp_pythae,
            "torch.distributions": part(vamp_torch, 1000),
        },
        target=20,
    ),
    Task(
        "VampPrior in chunks",
        "The same work; the peer takes 20 or 50 points at a time, which suits it best.",
        {
            "ours": vamp_ours,
            "torch.distributions, 20 points": part(vamp_torch, 20),
            "torch.distributions, 50 points": part(vamp_torch, 50),
        },
        target=1 / 1.1,
    ),
    Task(
        "Mixture prior",
        "500 components, batch 1000, 50 latents, forward and backward.",
        {
            "ours": mixture_ours,
            "torch.distributions": mixture_torch,
            "pyro": mixture_pyro,
            "normflows": mixture_normflows,
        },
        target=1 / 1.1,
    ),
    Task(
        "NLL against pythae",
        f"K = 5000, {NUM_IMAGES} images of 784 pixels, one hidden layer of 512, 40 latents.",
        {
            "ours": nll_ours,
            "pythae, batches of 100 (its default)": part(nll_pythae, 100),
            "pythae, batches of 1000": part(nll_pythae, 1000),
            "limit: matrix products": nll_limit,
        },
        target=3,
    ),
    Task(
        "NLL in chunks",
        "The same work, written by hand with torch.distributions: each image encoded once, 1,000 "
        "or 5,000 decodings at a time.",
        {
            "ours": nll_ours,
            "torch.distributions, 1000": part(nll_torch, 1000),
            "torch.distributions, 5000": part(nll_torch, 5000),
        },
        target=1 / 1.1,
    ),
    Task(
        "IWAE",
        "K = 50, batch 100, one hidden layer of 512, 40 latents, forward and backward.",
        {
            "ours": iwae_ours,
            "torch.distributions": iwae_torch,
            "pythae": iwae_pythae,
            "limit: matrix products": part(matmul_limit, 5000, True),
        },
        target=1 / 1.1,
    ),
]

if __name__ == "__main__":
    main(TASKS, "benchmarks/latent.md", packages=["pythae", "pyro-ppl", "normflows"])
