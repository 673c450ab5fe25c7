"""`gaussian_kl`: the KL divergence of a diagonal Gaussian from the prior."""

import math

import torch

from dgm_utils import latent_variable_models
from nbjudge.asking.page import Page
from nbjudge.asking.statements import at_most

page = Page(
    latent_variable_models.gaussian_kl,
    "KL(N(mean, diag exp(log_var)) ‖ N(0, I)), shape (B,)",
    points=2,
    minutes=10,
    difficulty=1,
    axes="B L, B L -> B",
    wrt="mean log_var",
    hints=(
        "KL(q‖p) = E_q [log q(z) − log p(z)]. Both densities factorize, so the KL is a sum over "
        "the latents.",
        "For one latent E_q log q = −½ (log 2πσ² + 1) and E_q log p = −½ (log 2π + μ² + σ²), with "
        "σ² = exp(log_var).",
        "½ (μ² + σ² − 1 − log σ²), summed over the last axis: "
        "`0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(…)`.",
    ),
)

page.terms(
    {
        "Σ μ²": lambda mean: mean.square().sum(-1),
        "Σ σ²": lambda log_var: log_var.double().exp().sum(-1),
        "Σ log σ²": lambda log_var: log_var.sum(-1),
        "L": lambda mean: mean.new_tensor(float(mean.shape[1])),
    }
)


@page.cases
def _(draw):
    log_var = draw.tensor([[0.0, math.log(4)]])
    exact = [0.5 + 0.5 * (3 - math.log(4))]
    yield page.case("N(1, 1) and N(0, 4)", draw.tensor([[1.0, 0.0]]), log_var, kl=exact)
    b, latents = draw.integer(5, 7), draw.integer(3, 4)
    zero = draw.tensor(torch.zeros(b, latents))
    yield page.case("q is the prior", zero, zero, kl=[0.0] * b)
    args = (draw.normal(b, latents), draw.normal(b, latents))
    yield page.case("more data points than latents", *args)
    # ∫ q log(q/p) dz on a grid of 12 standard deviations to both sides.
    mean = torch.randn(b, 1, generator=draw.generator, dtype=torch.float64)
    log_var = torch.randn(b, 1, generator=draw.generator, dtype=torch.float64)
    noise = torch.linspace(-12, 12, 241, dtype=torch.float64)
    z = mean + torch.exp(0.5 * log_var) * noise
    log_ratio = -0.5 * noise**2 - 0.5 * log_var + 0.5 * z**2
    kl = (torch.exp(-0.5 * noise**2) / math.sqrt(2 * math.pi) * log_ratio).sum(1) * 0.1
    yield page.case("one latent", draw.tensor(mean), draw.tensor(log_var), kl=kl)
    yield page.case("one data point", draw.normal(1, latents), draw.normal(1, latents))
    args = (draw.normal(2, 2), draw.tensor([[-60.0, 1.0], [10.0, -30.0]]))
    yield page.case("variances from e⁻⁶⁰ to e¹⁰", *args, extreme=True)
    yield page.case("means near 1000", draw.normal(b, 2) + 1e3, draw.normal(b, 2), extreme=True)
    yield page.case("300 latents", draw.normal(2, 300), draw.normal(2, 300) - 1, extreme=True)
    args = (draw.normal(2, b).T, draw.normal(2, b).T)
    yield page.case("arguments that are not contiguous in memory", *args)


@page.must
def not_be_negative(value):
    """A KL divergence is not negative. Yours is."""
    return at_most(torch.zeros_like(value), value)


page.must_equal(
    "kl",
    "From the prior to itself the KL is 0, and in one dimension ∫ q log(q/p) dz can be added up on "
    "a grid. Yours is different.",
)


@page.formula
def _(mean, log_var):
    return 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)


@page.right
def _(mean, log_var):
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)


page.but(
    "½ missing",
    "You leave out the factor ½: {got}; ½ Σ (μ² + σ² − 1 − log σ²) is {expected}.",
    lambda kl: 2 * kl,
)


@page.wrong("variance taken for the standard deviation")
def _(mean, log_var):
    """You square exp(log_var), which already is σ²: {got}; without the square it is
    {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) ** 2 - 1 - 2 * log_var).sum(-1)


@page.wrong("log σ² for log σ")
def _(mean, log_var):
    """You subtract log σ² where log σ belongs: {got}; ½ log σ² gives {expected}."""
    return (0.5 * (mean**2 + torch.exp(log_var) - 1) - log_var).sum(-1)


@page.wrong("arguments exchanged")
def _(mean, log_var):
    """You compute KL(N(0, I)‖q), from the prior to q: {got}; asked is KL(q‖N(0, I)),
    {expected}.
    """
    return 0.5 * (torch.exp(-log_var) * (1 + mean**2) - 1 + log_var).sum(-1)


page.but(
    "negative KL",
    "You return −KL, as it stands in the ELBO: {got}; a KL divergence is not negative, {expected}.",
    torch.neg,
)


@page.wrong("the 1 forgotten")
def _(mean, log_var):
    """You leave out the −1 for each latent: {got}; with it the KL of the prior to itself is 0,
    and here {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) - log_var).sum(-1)


@page.wrong("prior left out")
def _(mean, log_var):
    """You return the negative entropy, −½ Σ (1 + log 2πσ²), without log p(z): {got}; with the
    prior it is {expected}.
    """
    return -0.5 * (1 + math.log(2 * math.pi) + log_var + 0 * mean).sum(-1)


@page.wrong("entropy left out")
def _(mean, log_var):
    """You leave log σ² out, the entropy of q, so nothing keeps σ from 0: {got}; with it the
    result is {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) - 1).sum(-1)


@page.wrong("mean over the latents")
def _(mean, log_var):
    """You average over the latents: {got}; they are independent under both densities, so their
    KL divergences add up, {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).mean(-1)


page.but(
    "sum over the batch",
    "You sum over the data points as well; each has its own KL, shape (B,).",
    torch.sum,
)


@page.wrong("epsilon inside the log")
def _(mean, log_var):
    """You take the log of a variance plus a small number: {got}; log σ² is the argument itself,
    {expected}.
    """
    var = torch.exp(log_var)
    return 0.5 * (mean**2 + var - 1 - torch.log(var + 1e-8)).sum(-1)


page.but(
    "detached",
    "Your numbers are right, but you detach them, so the encoder cannot be trained.",
    torch.detach,
)
