"""`average_kl`: the average KL of the posteriors to the prior, in closed form."""

import math

import torch

from dgm_utils import elbo_surgery
from dgm_utils.exercises.elbo_surgery._shared import SINGLE, posteriors
from nbjudge.asking.page import Page

page = Page(
    elbo_surgery.average_kl,
    "1/N Σ_n KL(q(z|x_n) ‖ N(0, I)) in closed form, a 0-d tensor",
    points=1,
    minutes=5,
    difficulty=1,
    axes="N L, N L -> ()",
    wrt="mean log_var",
    hints=(
        "The KL of a Gaussian with a diagonal covariance to N(0, I) is a sum over the latents. No "
        "sample is needed.",
        "Each latent gives ½ (μ² + σ² − 1 − log σ²), where σ² is exp(log_var). Sum over the "
        "latents, average over the data.",
        "`0.5 * (mean**2 + log_var.exp() - 1 - log_var)`, then `.sum(…)` over the latents and "
        "`.mean()` over the data.",
    ),
)

page.terms(
    {
        "the mean of Σ μ²": lambda mean: mean.square().sum(1).mean(),
        "the mean of Σ σ²": lambda log_var: log_var.double().exp().sum(1).mean(),
        "the mean of Σ log σ²": lambda log_var: log_var.sum(1).mean(),
        "L": lambda mean: mean.new_tensor(float(mean.shape[1])),
    }
)


@page.cases
def _(draw):
    args = (draw.tensor([[0.0]]), draw.tensor([[4.0]]).log())
    yield page.case("N(0, 2²)", *args, kl=1.5 - math.log(2))
    args = (draw.tensor([[1.0, 2.0], [0.0, 3.0]]), draw.tensor([[0.0, 0.0], [0.0, 0.0]]))
    yield page.case("means (1, 2) and (0, 3), variances 1", *args, kl=3.5)
    n, latents = draw.integer(5, 7), draw.integer(2, 3)
    args = (draw.tensor(torch.zeros(n, latents)), draw.tensor(torch.zeros(n, latents)))
    yield page.case("every posterior is the prior", *args, kl=0.0)
    yield page.case("more data points than latents", *posteriors(draw, n, latents))
    yield page.case("one data point", *posteriors(draw, 1, n))
    yield page.case("as many data points as latents", *posteriors(draw, n, n))
    log_var = draw.tensor([[-40.0, 2.0], [0.0, -20.0], [5.0, -3.0]])
    yield page.case("log-variances from −40 to 5", draw.normal(3, 2), log_var, extreme=True)
    yield page.case("300 latents", *posteriors(draw, 3, 300), extreme=True)
    args = (draw.normal(latents, n).T, draw.normal(latents, n).T)
    yield page.case("arguments that are not contiguous in memory", *args)

    # ∫ q log q/p dz on a grid.
    mean = torch.rand(n, 1, generator=draw.generator, dtype=torch.float64) - 0.5
    std = 0.6 + 0.6 * torch.rand(n, 1, generator=draw.generator, dtype=torch.float64)
    grid = torch.linspace(-14, 14, 281, dtype=torch.float64)
    log_q = -0.5 * ((grid - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)
    log_p = -0.5 * grid**2 - 0.5 * math.log(2 * math.pi)
    exact = (log_q.exp() * (log_q - log_p)).sum(1).mean() * 0.1
    args = (draw.tensor(mean), draw.tensor(2 * std.log()))
    yield page.case("one latent, by quadrature", *args, kl=exact)


@page.must
def not_be_negative(kl):
    """A KL divergence is not negative, and neither is an average of some. Yours is."""
    return bool(kl >= -1e-6)


page.must_equal(
    "kl",
    "KL(N(0, 2²) ‖ N(0, 1)) is 3/2 − log 2. For means (1, 2) and (0, 3) and variances 1 the "
    "divergences are 5/2 and 9/2, and average to 7/2. Where q is the prior it is 0. Yours is not.",
    single=SINGLE,
)


@page.formula
def _(mean, log_var):
    return 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1).mean()


@page.right
def _(mean, log_var):
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1).mean()


@page.wrong("½ missing")
def _(mean, log_var):
    """You leave the factor ½ out: {got}; ½ Σ (μ² + σ² − 1 − log σ²), averaged over the data, is
    {expected}.
    """
    return (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1).mean()


@page.wrong("average over the latents")
def _(mean, log_var):
    """You average over the latents too: {got}; the KL of a vector is the sum over its
    dimensions, and only the data are averaged over, {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).mean()


@page.wrong("sum over the data")
def _(mean, log_var):
    """You sum over the data points: {got}; their average is {expected}."""
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum()


@page.wrong("one number for each data point")
def _(mean, log_var):
    """You return the KL of each data point; their average is asked for, a tensor of shape ()."""
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)


@page.wrong("variance taken for the standard deviation")
def _(mean, log_var):
    """You use exp(log_var) as the standard deviation: {got}; it is the variance, {expected}."""
    std = torch.exp(log_var)
    return (0.5 * (mean**2 + std**2 - 1) - torch.log(std)).sum(-1).mean()


page.but(
    "sign",
    "You return the negative KL, as it stands in the ELBO: {got}; the divergence itself is not "
    "negative, {expected}.",
    torch.neg,
)


@page.wrong("the other direction")
def _(mean, log_var):
    """You compute KL(p ‖ q): {got}; the expectation is under q, and KL(q ‖ p) is {expected}."""
    return 0.5 * ((1 + mean**2) * torch.exp(-log_var) - 1 + log_var).sum(-1).mean()


@page.wrong("−1 forgotten")
def _(mean, log_var):
    """You forget the −1 of each dimension: {got}; the KL of the prior to itself is 0, and here it
    is {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) - log_var).sum(-1).mean()


@page.wrong("KL of an average Gaussian")
def _(mean, log_var):
    """You average the means and log-variances first, then take one KL: {got}; the KL is not
    linear in them, and the average of the N divergences is {expected}.
    """
    mean, log_var = mean.mean(0), log_var.mean(0)
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum()
