"""`pairwise_log_prob`: log-densities of every sample under every posterior."""

import math

import torch

from dgm_utils import elbo_surgery
from dgm_utils.exercises.elbo_surgery._shared import (
    COARSE,
    SINGLE,
    on_a_line,
    posteriors,
    sample,
    tiny,
)
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    elbo_surgery.pairwise_log_prob,
    "log q(z_m|x_n) of every sample under every posterior, shape (M, N)",
    points=2,
    minutes=15,
    difficulty=2,
    axes="M L, N L, N L -> M N",
    wrt="z mean log_var",
    rtol=COARSE,
    hints=(
        "The log-density of a Gaussian with a diagonal covariance is a sum over the latents of "
        "−½ ((z − μ)²/σ² + log σ² + log 2π).",
        "`z[:, None]` has shape (M, 1, L); combined with `mean`, (N, L), it gives one entry for "
        "each sample, posterior and latent.",
        "`-0.5 * ((z[:, None] - mean)**2 / log_var.exp() + log_var + math.log(2 * math.pi))`, "
        "summed over the last axis.",
    ),
)

page.terms(
    {
        "Σ (z − μ)²/σ²": lambda z, mean, log_var: (
            (z[:, None].double() - mean) ** 2 / log_var.double().exp()
        ).sum(-1),
        "Σ log σ²": lambda log_var: log_var.double().sum(-1),
        "L log 2π": lambda z: z.new_tensor(z.shape[1] * math.log(2 * math.pi)),
    }
)


@page.cases
def _(draw):
    # (1 − 0)/2 = ½ and (1 − 3)/2 = −1 standard deviations.
    args = (draw.tensor([[1.0]]), draw.tensor([[0.0], [3.0]]), draw.tensor([[4.0], [4.0]]).log())
    constant = -0.5 * math.log(2 * math.pi) - math.log(2)
    exact = [[constant - 0.125, constant - 0.5]]
    yield page.case("z = 1 under N(0, 2²) and N(3, 2²)", *args, log_prob=exact)
    m, n, latents = draw.integer(4, 5), draw.integer(6, 8), draw.integer(2, 3)
    args = (1.5 * draw.normal(m, latents), *posteriors(draw, n, latents))
    yield page.case("all axes of different length", *args)
    args = (draw.normal(n, latents), *posteriors(draw, 1, latents))
    yield page.case("one posterior", *args)
    args = (draw.normal(m, m), *posteriors(draw, m, m))
    yield page.case("as many samples as posteriors and latents", *args)
    mean, log_var = draw.normal(n, latents), -5 + 0.5 * draw.normal(n, latents)
    yield page.case("narrow posteriors", sample(draw, mean, log_var)[:m], mean, log_var)
    mean, log_var = tiny(draw, n, 2)
    z = sample(draw, mean, log_var)[:m]
    yield page.case("standard deviations near 0.001", z, mean, log_var, extreme=True)
    z = 45 * (2 * draw.bernoulli(m, 1) - 1) + draw.normal(m, 1)
    yield page.case("samples far from every posterior", z, *posteriors(draw, n, 1), extreme=True)
    args = (draw.normal(m, 300), *posteriors(draw, 3, 300))
    yield page.case("300 latents", *args, extreme=True)
    args = (draw.normal(2, m).T, draw.normal(2, n).T, draw.normal(2, n).T - 1)
    yield page.case("arguments that are not contiguous in memory", *args)
    yield page.case("samples on a grid, one latent", **on_a_line(draw))


@page.must
def add_to_one(value, cell):
    """Each posterior is a density: summed over a fine grid of z, exp(log q(z|x_n)) times the size
    of a cell must give 1 for every n. Yours does not.
    """
    mass = value.double().exp().sum(0) * cell
    return is_exact(mass.to(value.dtype), torch.ones(mass.shape), single=SINGLE)


page.must_equal(
    "log_prob",
    "z = 1 is ½ standard deviation from the mean of N(0, 2²), so its log-density there is "
    "−½ log 2π − log 2 − 1/8. Yours is not.",
    single=SINGLE,
)


@page.formula
def _(z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 / log_var.exp()
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(2)


@page.right
def _(z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)


@page.piece
def squares(z, mean, log_var):
    """Squared distances in standard deviations, `(M, N, L)`."""
    return (z[:, None] - mean) ** 2 * torch.exp(-log_var)


@page.wrong("½ missing")
def _(z, mean, log_var):
    """Your Gaussian log-density lacks the factor ½: {got}; with −½ ((z − μ)²/σ² + log σ² +
    log 2π) it is {expected}.
    """
    return -(squares(z, mean, log_var) + log_var + math.log(2 * math.pi)).sum(-1)


@page.wrong("variance taken for the standard deviation")
def _(z, mean, log_var):
    """You use exp(log_var) as the standard deviation: {got}; it is the variance, and the
    standard deviation is exp(log_var / 2), which gives {expected}.
    """
    std = torch.exp(log_var)
    squares = ((z[:, None] - mean) / std) ** 2
    return (-0.5 * squares - log_var - 0.5 * math.log(2 * math.pi)).sum(-1)


@page.wrong("log σ² forgotten")
def _(z, mean, log_var):
    """You leave the normalizer −½ log σ² out: {got}; a narrow Gaussian is higher, and with it
    the log-density is {expected}.
    """
    return -0.5 * (squares(z, mean, log_var) + math.log(2 * math.pi)).sum(-1)


@page.wrong("log 2π forgotten")
def _(z, mean, log_var):
    """You leave ½ log 2π out of each dimension: {got}; a log-density has it, {expected}."""
    return -0.5 * (squares(z, mean, log_var) + log_var).sum(-1)


@page.wrong("log 2π once for all dimensions")
def _(z, mean, log_var):
    """You subtract ½ log 2π once: {got}; each of the L dimensions has its own, {expected}."""
    return -0.5 * (squares(z, mean, log_var) + log_var).sum(-1) - 0.5 * math.log(2 * math.pi)


@page.wrong("multiplied by the variance")
def _(z, mean, log_var):
    """You multiply the squares by the variance: {got}; they are divided by it, {expected}."""
    return -0.5 * (squares(z, mean, -log_var) + log_var + math.log(2 * math.pi)).sum(-1)


@page.wrong("small number added to the variance")
def _(z, mean, log_var):
    """You add a small number to the variance: {got}; a variance may be as small as it, exp never
    gives 0 here, and without it the log-density is {expected}.
    """
    var = torch.exp(log_var) + 1e-6
    squares = (z[:, None] - mean) ** 2 / var
    return -0.5 * (squares + torch.log(var) + math.log(2 * math.pi)).sum(-1)


@page.wrong("mean over the latents")
def _(z, mean, log_var):
    """You average over the latent dimensions: {got}; they are independent under q, so their
    log-densities add up, {expected}.
    """
    return -0.5 * (squares(z, mean, log_var) + log_var + math.log(2 * math.pi)).mean(-1)


@page.wrong("one number for each dimension")
def _(z, mean, log_var):
    """You keep the axis of the latents; the log-density of a vector is the sum over its
    dimensions, and the result has one number for each pair, shape (M, N).
    """
    return -0.5 * (squares(z, mean, log_var) + log_var + math.log(2 * math.pi))


@page.wrong("samples in columns")
def _(z, mean, log_var):
    """Your result has one row for each posterior; it should have one for each sample: entry
    (m, n) is log q(z_m|x_n), shape (M, N).
    """
    squares = (z - mean[:, None]) ** 2 * torch.exp(-log_var)[:, None]
    return -0.5 * (squares + log_var[:, None] + math.log(2 * math.pi)).sum(-1)


@page.wrong("each sample under one posterior")
def _(z, mean, log_var):
    """You subtract `mean` from `z` row by row, which pairs z_m with x_m only, if it runs at all;
    every sample meets every posterior, which takes one axis for each, shape (M, N).
    """
    squares = (z - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)


page.but(
    "density for log-density", "You return the density: {got}; its log is {expected}.", torch.exp
)
