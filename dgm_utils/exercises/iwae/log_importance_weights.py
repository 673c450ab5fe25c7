"""`log_importance_weights`: the log-weights of a VAE, log p(x|z) + log p(z) − log q(z|x)."""

import itertools
import math

import torch
import torch.nn.functional as F

from dgm_utils import iwae
from dgm_utils.exercises.iwae._shared import SINGLE
from dgm_utils.models.densities import gaussian_log_prob, standard_normal_log_prob
from nbjudge.asking.page import Page

page = Page(
    iwae.log_importance_weights,
    "the log-weights log p(x|z) + log p(z) − log q(z|x), shape (K, B)",
    points=3,
    minutes=20,
    difficulty=2,
    axes="B D, K B D, K B L, B L, B L -> K B",
    wrt="logits z mean log_var",
    # The expanded square z² − 2zμ + μ² is a right answer and cancels in float32.
    rtol={torch.float64: 1e-8, torch.float32: 1e-3},
    hints=(
        "Three log-densities of the same sample: log p(x|z) + log p(z) − log q(z|x). The first is "
        "summed over pixels, the others over latents.",
        "A Bernoulli with logits a has log p(x) = x·a − log(1 + eᵃ), and log(1 + eᵃ) is "
        "`F.softplus(a)`. The constants ½ log 2π of p(z) and q(z|x) cancel.",
        "`(x * logits - F.softplus(logits)).sum(-1)`, plus `-0.5 * (z**2).sum(-1)`, minus "
        "`-0.5 * ((z - mean)**2 / log_var.exp() + log_var).sum(-1)`.",
    ),
)

page.terms(
    {
        "log p(x|z)": lambda x, logits: (x * logits - F.softplus(logits)).sum(-1),
        "log p(z)": standard_normal_log_prob,
        "log q(z|x)": lambda z, mean, log_var: gaussian_log_prob(z, mean, log_var),
    }
)
page.terms(
    {
        "log p(x|z)": lambda x, logits: (x * logits - F.softplus(logits)).sum(-1),
        "Σ z²": lambda z: z.square().sum(-1),
        "Σ (z − μ)²/σ²": lambda z, mean, log_var: ((z - mean) ** 2 / log_var.exp()).sum(-1),
        "Σ log σ²": lambda log_var: log_var.sum(-1),
        "L log 2π": lambda z: z.new_tensor(z.shape[-1] * math.log(2 * math.pi)),
    }
)


@page.cases
def _(draw):
    def encoded(k, b, latents):
        """Samples of an encoder: z, mean and log_var."""
        mean, log_var = draw.normal(b, latents), draw.normal(b, latents) - 0.5
        z = mean + torch.exp(0.5 * log_var) * draw.normal(k, b, latents)
        return {"z": z, "mean": mean, "log_var": log_var}

    def random(name, k, b, d, latents, **about):
        x, logits = draw.bernoulli(b, d), 2 * draw.normal(k, b, d)
        return page.case(name, x, logits, **encoded(k, b, latents), **about)

    yield random("one sample of one data point, two pixels, one latent", 1, 1, 2, 1)
    k, b, d = draw.integer(2, 4), draw.integer(5, 6), draw.integer(7, 9)
    yield random("all axes of different length", k, b, d, 3)

    samples = encoded(k, b, 2)
    logits = 100 * (2 * draw.bernoulli(k, b, 5) - 1)
    yield page.case("logits of ±100", draw.bernoulli(b, 5), logits, **samples, extreme=True)

    # When q is the posterior every weight is p(x): here z says nothing about x.
    p = 0.1 + 0.8 * torch.rand(b, 4, generator=draw.generator, dtype=torch.float64)
    x = torch.randint(2, (b, 4), generator=draw.generator).double()
    log_px = torch.where(x == 1, p, 1 - p).log().sum(-1).expand(k, b)
    logits = draw.tensor(torch.log(p / (1 - p)).repeat(k, 1, 1))
    zero = draw.tensor(torch.zeros(b, 2))
    args = (draw.tensor(x), logits, draw.normal(k, b, 2))
    yield page.case("q is the posterior", *args, mean=zero, log_var=zero, log_px=log_px)

    # All images of two pixels on a grid of latents: ∫ w q dz = p(x), and the p(x) sum to one.
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=torch.float64)
    mean = torch.rand(4, 1, generator=draw.generator, dtype=torch.float64) - 0.5
    std = 1 + 0.3 * torch.rand(4, 1, generator=draw.generator, dtype=torch.float64)
    noise_grid = torch.linspace(-7, 7, 57, dtype=torch.float64)
    z = mean + std * noise_grid[:, None, None]
    slope = torch.randn(2, generator=draw.generator, dtype=torch.float64)
    # q(z|x) dz does not depend on x when z = mean + std · noise.
    log_cell = -0.5 * noise_grid**2 - 0.5 * math.log(2 * math.pi) + math.log(14 / 56)
    args = (draw.tensor(arg) for arg in (x, slope * z + 0.3, z, mean, 2 * std.log()))
    yield page.case("all images of two pixels", *args, log_cell=log_cell[:, None])

    mean, log_var = draw.normal(b, 2), -5 + 0.5 * draw.normal(b, 2)
    z = mean + torch.exp(0.5 * log_var) * draw.normal(k, b, 2)
    args = (draw.bernoulli(b, 5), draw.normal(k, b, 5), z, mean, log_var)
    yield page.case("a narrow q", *args)
    yield random("300 pixels and 300 latents", 3, 2, 300, 300, extreme=True)
    samples = encoded(k, b, 4)
    args = (draw.bernoulli(d, b).T, draw.normal(d, b, k).permute(2, 1, 0))
    yield page.case("arguments that are not contiguous in memory", *args, **samples)


page.must_add_to_one(
    "log_cell",
    "The weights times q, integrated over z and summed over every image of two pixels, must give "
    "1, because they are p(x, z). Yours do not.",
    double=1e-6,
)
page.must_equal(
    "log_px",
    "Where q(z|x) is the posterior, log p(x, z) − log q(z|x) is log p(x) for every z. "
    "Yours is not.",
    single=SINGLE,
)


@page.formula
def _(x, logits, z, mean, log_var):
    log_px = (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).sum(2)
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(2)
    squares = (z - mean) ** 2 / log_var.exp()
    log_qz = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(2)
    return log_px + log_pz - log_qz


@page.formula
def _(x, logits, z, mean, log_var):
    p = torch.sigmoid(logits)
    log_px = (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(2)
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(2)
    squares = (z - mean) ** 2 / log_var.exp()
    log_qz = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(2)
    return log_px + log_pz - log_qz


@page.piece
def reconstruction(x, logits):
    """log p(x|z) of a Bernoulli."""
    return (x * logits - F.softplus(logits)).sum(-1)


@page.piece
def prior(z):
    """log p(z), without the constant that cancels."""
    return -0.5 * (z**2).sum(-1)


@page.piece
def posterior(z, mean, log_var):
    """log q(z|x), without the constant that cancels."""
    return -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)


@page.wrong("analytic KL")
def _(x, logits, z, mean, log_var):
    """You subtract the closed-form KL to the prior, which is an average over z: {got}; a weight
    is of one sample, log p(z_k) − log q(z_k|x), which gives {expected}.
    """
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    return reconstruction(x, logits) - kl


@page.wrong("½ missing")
def _(x, logits, z, mean, log_var):
    """Your Gaussian log-densities lack the factor ½: {got}; with −½ z² and −½ ((z − μ)²/σ² +
    log σ²) it is {expected}.
    """
    log_pz = -(z**2).sum(-1)
    log_qz = -((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return reconstruction(x, logits) + log_pz - log_qz


@page.wrong("prior left out")
def _(x, logits, z, mean, log_var):
    """You leave log p(z) out: {got}; the joint p(x, z) = p(x|z) p(z) has both factors,
    {expected}.
    """
    squares = (z - mean) ** 2 * torch.exp(-log_var)
    log_qz = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return reconstruction(x, logits) - log_qz


@page.wrong("q left out")
def _(x, logits, z, mean, log_var):
    """You return log p(x, z) = {got}; a weight is also divided by q(z|x), {expected}."""
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    return reconstruction(x, logits) + log_pz


@page.wrong("log q added")
def _(x, logits, z, mean, log_var):
    """You add log q(z|x): {got}; the weight divides by q, so its log is subtracted, {expected}."""
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    squares = (z - mean) ** 2 * torch.exp(-log_var)
    log_qz = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return reconstruction(x, logits) + log_pz + log_qz


@page.wrong("variance taken for the standard deviation")
def _(x, logits, z, mean, log_var):
    """You use exp(log_var) as the standard deviation of q: {got}; it is the variance, and the
    standard deviation is exp(log_var / 2), which gives {expected}.
    """
    std = torch.exp(log_var)
    log_qz = (-0.5 * ((z - mean) / std) ** 2 - torch.log(std)).sum(-1)
    return reconstruction(x, logits) + prior(z) - log_qz


@page.wrong("½ log 2π on one side")
def _(x, logits, z, mean, log_var):
    """You keep ½ log 2π in the prior and drop it in q: {got}; it stands in both and cancels,
    {expected}.
    """
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    return reconstruction(x, logits) + log_pz - posterior(z, mean, log_var)


@page.wrong("logits taken for probabilities")
def _(x, logits, z, mean, log_var):
    """You take the logits for probabilities: {got}; p(x = 1|z) is their sigmoid, {expected}."""
    p = logits.clamp(1e-6, 1 - 1e-6)
    log_px_given_z = (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(-1)
    return log_px_given_z + prior(z) - posterior(z, mean, log_var)


@page.wrong("log of a sigmoid plus epsilon")
def _(x, logits, z, mean, log_var):
    """You add a small number to a probability before its log: {got}; e⁻¹⁰⁰ is below any such
    number, and written with the logits themselves the result is {expected}.
    """
    p = torch.sigmoid(logits)
    log_px_given_z = (x * torch.log(p + 1e-8) + (1 - x) * torch.log(1 - p + 1e-8)).sum(-1)
    return log_px_given_z + prior(z) - posterior(z, mean, log_var)


@page.wrong("log of a rounded sigmoid")
def _(x, logits, z, mean, log_var):
    """You take the cross-entropy of sigmoid(logits), which rounds to 0 or 1 at large logits and
    loses the gradient: {got}; the cross-entropy with logits keeps it, {expected}.
    """
    p = torch.sigmoid(logits)
    log_px_given_z = -F.binary_cross_entropy(p, x.expand_as(p), reduction="none").sum(-1)
    return log_px_given_z + prior(z) - posterior(z, mean, log_var)


@page.wrong("mean over pixels")
def _(x, logits, z, mean, log_var):
    """You average log p(x|z) over the pixels: {got}; the pixels are independent given z, so
    their logs add up, {expected}.
    """
    log_px_given_z = (x * logits - F.softplus(logits)).mean(-1)
    return log_px_given_z + prior(z) - posterior(z, mean, log_var)


@page.wrong("q detached")
def _(x, logits, z, mean, log_var):
    """Your numbers are right, but you detach mean and log_var in log q, so the gradient lacks
    what q itself contributes; differentiate all of log w.
    """
    log_qz = posterior(z, mean.detach(), log_var.detach())
    return reconstruction(x, logits) + prior(z) - log_qz
