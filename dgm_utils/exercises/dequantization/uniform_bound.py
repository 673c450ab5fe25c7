"""`uniform_bound`: the average of log p(x + u) over uniform noise, a bound on log P(x)."""

import math

import torch

from dgm_utils import dequantization
from dgm_utils.exercises.dequantization import _densities
from dgm_utils.exercises.dequantization._shared import (
    LOG_2PI,
    gaussian,
    levels,
    log_mass,
    mixture,
    noise,
    on_the_line,
    two_nodes,
)
from nbjudge.asking.page import Page
from nbjudge.asking.statements import at_most

page = Page(
    dequantization.uniform_bound,
    "the average over S draws of log p(x + u), shape (B,)",
    points=2,
    minutes=8,
    difficulty=1,
    axes="_, B D, S B D -> B",
    wrt="log_prob noise",
    may_use=(_densities,),
    hints=(
        "E_u log p(x + u): dequantize with each of the S draws, evaluate log p, average.",
        "`x + noise` broadcasts to (S, B, D), and `log_prob` of it has shape (S, B).",
        "`log_prob(x + noise)`, then the mean over the axis of the draws.",
    ),
)


@page.cases
def _(draw):
    # A Gaussian with mean 1 and variance 1 at x = 0: E log p = −½ log 2π − ½ ∫ (u − 1)² du.
    density = on_the_line(draw, 1.0)
    args = (density, torch.zeros(1, 1, dtype=torch.int64, device=draw.device), two_nodes(draw, 1))
    exact = [-0.5 * LOG_2PI - 1 / 6]
    yield page.case("a Gaussian at one level", *args, bound=exact)
    s, b, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    args = (mixture(draw, 3, d), levels(draw, 6, b, d), noise(draw, s, b, d))
    yield page.case("all axes of different length", *args)
    args = (mixture(draw, 2, d), levels(draw, 6, b, d, dtype=torch.uint8), noise(draw, 1, b, d))
    yield page.case("one draw, levels held as bytes", *args)
    args = (mixture(draw, 2, 1), draw.tensor(levels(draw, 6, 1, 1)), noise(draw, 5, 1, 1))
    yield page.case("one data point, one dimension, levels held as floats", *args)

    num_levels = draw.integer(4, 6)
    flat = _densities.FlatOnCells(draw.normal(d, num_levels))
    x = levels(draw, num_levels - 1, b, d, dtype=torch.int32)
    heights = torch.log_softmax(flat.logits.detach().cpu().double(), -1)
    exact = heights[torch.arange(d), x.cpu().long()].sum(-1)
    args = (flat, x, noise(draw, s, b, d))
    yield page.case("a density that is flat on each cell", *args, wrt="log_prob", log_pmf=exact)

    density, mean, std = gaussian(draw, d)
    x = levels(draw, 6, b, d)
    squares = ((x.cpu() + 0.5 - mean) / std) ** 2 + 1 / 12 / std**2
    exact = -0.5 * (squares + LOG_2PI).sum(-1) - std.log().sum()
    args = (density, x, two_nodes(draw, d).repeat(1, b, 1))
    yield page.case(
        "noise that averages a quadratic exactly", *args, bound=exact, highest=log_mass(density, x)
    )

    far = torch.tensor([[0], [120]], device=draw.device)
    args = (mixture(draw, 3, 2), levels(draw, 6, 2, 2) + far, noise(draw, s, 2, 2))
    yield page.case("data points 10⁴ nats apart", *args, extreme=True)
    args = (mixture(draw, 2, 300), levels(draw, 6, 2, 300), noise(draw, s, 2, 300))
    yield page.case("300 dimensions", *args, extreme=True)
    args = (mixture(draw, 2, b), levels(draw, 6, b, d).T, noise(draw, b, d, s).permute(2, 1, 0))
    yield page.case("arguments that are not contiguous in memory", *args)


page.must_equal(
    "log_pmf",
    "Where the density is constant on each cell, log p(x + u) is log P(x) whatever the noise. "
    "Yours is not.",
)
page.must_equal(
    "bound",
    "With the two noises ½ ± 1/√12 the average of a quadratic in u is its integral over the cell, "
    "and log p of a Gaussian is a quadratic. Yours is not that integral.",
)


@page.must
def lie_below(bound, highest):
    """The bound, integrated exactly, is at most log P(x). Yours is above it."""
    return at_most(bound.cpu(), highest.to(bound.dtype))


@page.formula
def _(log_prob, x, noise):
    return log_prob(x + noise).mean(0)


@page.right
def _(log_prob, x, noise):
    return log_prob(x + noise).mean(0)


@page.wrong("log of mean for mean of logs")
def _(log_prob, x, noise):
    """You average the densities and take the log, which is the importance weighted bound:
    {got}; this bound averages the logs, {expected}.
    """
    return torch.logsumexp(log_prob(x + noise), 0) - math.log(noise.shape[0])


@page.wrong("sum over the draws")
def _(log_prob, x, noise):
    """You sum over the draws: {got}; an expectation is estimated by their average, {expected}."""
    return log_prob(x + noise).sum(0)


page.but(
    "average over everything",
    "You average over draws and data points together; each data point has its own bound, shape "
    "(B,).",
    torch.mean,
)


@page.wrong("average of the noise")
def _(log_prob, x, noise):
    """You average the noise and evaluate the density once: {got}; the average comes after log p,
    {expected}.
    """
    return log_prob(x + noise.mean(0))


@page.wrong("first draw only")
def _(log_prob, x, noise):
    """You use the first draw and drop the others: {got}; the average of all S is {expected}."""
    return log_prob(x + noise[0])


@page.wrong("no noise")
def _(log_prob, x, noise):
    """You evaluate the density at the levels themselves: {got}; without noise the likelihood has
    no bound at all, with it you get {expected}.
    """
    return log_prob(x.to(noise.dtype))


@page.wrong("noise added to rescaled levels")
def _(log_prob, x, noise):
    """You divide the levels by 256 before the noise: {got}; `log_prob` is the density of x + u on
    the scale of the levels, {expected}.
    """
    return log_prob(x / 256 + noise).mean(0)


@page.wrong("noise around zero")
def _(log_prob, x, noise):
    """You centre the noise on the level: {got}; the cell of x is [x, x + 1), {expected}."""
    return log_prob(x + noise - 0.5).mean(0)


page.but(
    "detached",
    "Your numbers are right, but you detach log p, so the density cannot be trained with them.",
    torch.detach,
)
