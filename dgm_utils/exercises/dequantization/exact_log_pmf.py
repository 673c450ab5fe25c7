"""`exact_log_pmf`: the log-probability of a level, from the distribution function."""

import math

import torch

from dgm_utils import dequantization
from dgm_utils.exercises.dequantization import _densities
from dgm_utils.exercises.dequantization._shared import levels
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    dequantization.exact_log_pmf,
    "log P(x), the log of the mass between x and x + 1, elementwise",
    points=1,
    minutes=5,
    difficulty=1,
    axes="_, ... -> ...",
    wrt="cdf",
    may_use=(_densities,),
    hints=(
        "P(x) is the integral of the density over the cell [x, x + 1), and an integral of a "
        "density over an interval is a difference of its distribution function.",
        "The mass between a and b is `cdf(b) - cdf(a)`. `cdf` works on whole tensors.",
        "`torch.log(…)` of the difference of `cdf` at `x + 1` and at `x`.",
    ),
)


@page.cases
def _(draw):
    # Weights 1, 2, 1 of the three cells; the distribution function is 0, ¼, ¾, 1 at their ends.
    cdf = _densities.PiecewiseLinearCdf(draw.tensor([1.0, 2.0, 1.0]).log())
    x = torch.arange(3, device=draw.device)
    exact = [math.log(0.25), math.log(0.5), math.log(0.25)]
    yield page.case("three levels with P = ¼, ½, ¼", cdf, x, log_pmf=exact)

    def logistics(components):
        means, log_scales = 3 + draw.normal(components), 0.3 * draw.normal(components)
        return _densities.LogisticMixtureCdf(means, log_scales, draw.normal(components))

    b, d = draw.integer(3, 4), draw.integer(5, 6)
    args = (logistics(draw.integer(2, 4)), levels(draw, 6, b, d))
    yield page.case("a mixture of logistics", *args)
    args = (logistics(1), levels(draw, 6, 1, d, dtype=torch.uint8))
    yield page.case("levels held as bytes, one data point", *args)
    args = (logistics(3), draw.tensor(levels(draw, 6, b, 1)))
    yield page.case("levels held as floats, one dimension", *args)
    num_levels = draw.integer(6, 9)
    cdf = _densities.PiecewiseLinearCdf(draw.normal(num_levels))
    x = torch.arange(num_levels, device=draw.device)
    exact = torch.log_softmax(cdf.logits.detach().cpu().double(), 0)
    yield page.case("all levels of a density", cdf, x, log_pmf=exact, every_level=True)
    args = (logistics(2), levels(draw, 6, d, 2, b, dtype=torch.int32).permute(2, 1, 0))
    yield page.case("three axes that are not contiguous in memory", *args)


@page.must
def add_to_one(log_pmf, every_level):
    """Every point belongs to one cell, so the probabilities of all levels must add to 1. Yours do
    not.
    """
    return is_exact(log_pmf.exp().sum(), 1.0)


page.must_equal(
    "log_pmf",
    "Where the density is constant on each cell its height is the probability of the level. "
    "Yours is not.",
)


@page.right
def _(cdf, x):
    return torch.log(cdf(x + 1) - cdf(x))


@page.wrong("difference of logs")
def _(cdf, x):
    """You subtract the logs: {got}; the probability of the cell is the difference of the
    distribution function itself, and the log comes after it, {expected}.
    """
    return torch.log(cdf(x + 1)) - torch.log(cdf(x))


@page.wrong("the cell below")
def _(cdf, x):
    """You use the cell [x − 1, x): {got}; the noise is added, so the cell of x is [x, x + 1),
    {expected}.
    """
    return torch.log(cdf(x) - cdf(x - 1))


@page.wrong("a cell around the level")
def _(cdf, x):
    """You use the cell from x − ½ to x + ½: {got}; noise of U[0, 1) goes from x to x + 1,
    {expected}.
    """
    return torch.log(cdf(x + 0.5) - cdf(x - 0.5))


@page.wrong("log forgotten")
def _(cdf, x):
    """You return the probability: {got}; its log is {expected}."""
    return cdf(x + 1) - cdf(x)


page.but(
    "bits for nats",
    "You take the logarithm to base 2: {got}; everything here is in nats, {expected}.",
    lambda log_pmf: log_pmf / math.log(2),
)


@page.wrong("everything below the cell's upper end")
def _(cdf, x):
    """You take the probability of all that lies below x + 1: {got}; what lies below x belongs
    to other levels, {expected}.
    """
    return torch.log(cdf(x + 1))


@page.wrong("the wrong way round")
def _(cdf, x):
    """You subtract the upper end from the lower one, and the log of a negative number is
    {got}; the distribution function grows, so cdf(x + 1) comes first, {expected}.
    """
    return torch.log(cdf(x) - cdf(x + 1))


page.but(
    "summed over the dimensions",
    "You sum over the last axis; here each entry of x keeps its own log-probability, in the shape "
    "of x.",
    lambda log_pmf: log_pmf.sum(-1),
)
page.but(
    "detached",
    "Your numbers are right, but you detach the probability, so the density cannot be trained "
    "with them.",
    torch.detach,
)
