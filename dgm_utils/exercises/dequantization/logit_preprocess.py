"""`logit_preprocess`: levels taken to the whole real line, and the log-determinant of that."""

import math

import torch

from dgm_utils import dequantization
from dgm_utils.exercises.dequantization._shared import LOG_2PI, noise
from dgm_utils.oracles import unit_cell
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    dequantization.logit_preprocess,
    "logit(α + (1 − 2α) y/levels), shape (B, D), and log|det| of the map, shape (B,)",
    points=3,
    minutes=15,
    difficulty=2,
    axes="B D, _, _ -> B D, B",
    wrt="y",
    hints=(
        "Three maps, one after the other: y ↦ y/num_levels, s ↦ α + (1 − 2α)s, p ↦ logit p = "
        "log p − log(1 − p). Their slopes multiply, their log-slopes add.",
        "The slopes are 1/num_levels, 1 − 2α and 1/(p(1 − p)). The map acts on each dimension by "
        "itself, so log|det| is the sum over D of the log-slopes.",
        "log_det sums `math.log((1 - 2 * alpha) / num_levels) - torch.log(p) - torch.log(1 - p)` "
        "over the last axis.",
    ),
)


@page.cases
def _(draw):
    d = draw.integer(2, 3)
    y = draw.tensor(torch.full((1, d), 2.0))
    exact = [d * math.log(4 * 0.8 / 4)]
    yield page.case("half of four levels, α = 0.1", y, 4, 0.1, value=0.0, log_det=exact)
    b, d, levels = draw.integer(3, 4), draw.integer(5, 7), draw.integer(6, 20)
    yield page.case("a batch", levels * noise(draw, b, d), levels, 0.05)
    yield page.case("one pixel, two levels", 2 * noise(draw, 1, 1), 2, 0.05)
    y = 250 * draw.uniform(b, d)
    y[:, 0] = 0
    yield page.case("y = 0, 256 levels, α = 10⁻⁶", y, 256, 1e-6, extreme=True)
    y = draw.tensor([[0.0, 16.999], [0.001, 16.5], [8.5, 17 - 1 / 64]])
    yield page.case("the first and the last cell, α = 0.05", y, 17, 0.05)
    yield page.case("α = 0", 0.5 + 7 * draw.uniform(b, d), 8, 0.0)
    yield page.case("α = 0.3", 8 * noise(draw, d, b), 8, 0.3)

    # The density N(logit(…)) · exp(log_det) of y in [0, 16) has the Gaussian's mass between the
    # ends: on the nodes of a quadrature.
    nodes, log_weights = unit_cell(60)
    ends = torch.logit(torch.tensor([0.05, 0.95], dtype=torch.float64))
    low, high = torch.special.ndtr(ends).tolist()
    args, log_weights = (draw.tensor(16 * nodes), 16, 0.05), log_weights + math.log(16)
    yield page.case("one pixel, y on a grid", *args, log_weights=log_weights, mass=high - low)
    yield page.case("300 dimensions", 256 * noise(draw, 2, 300), 256, 0.05, extreme=True)
    y = 16 * noise(draw, d, b).T
    yield page.case("an argument that is not contiguous in memory", y, 16, 0.05)


@page.must
def be_exact(result, value, log_det):
    """At half the levels the logit is 0 and each dimension has the slope 4 (1 − 2α)/num_levels.
    Yours says otherwise.
    """
    return is_exact(result[0], value) and is_exact(result[1], log_det)


@page.must
def keep_the_mass(result, log_weights, mass):
    """A Gaussian density of the logits, times exp(log_det), is a density of y: integrated over [0,
    num_levels) it has the Gaussian's mass between the two ends. Yours has not.
    """
    z, log_det = (part.double().cpu() for part in result)
    log_density = -0.5 * (z[:, 0] ** 2 + LOG_2PI) + log_det
    total = (log_density + log_weights).exp().sum()
    return is_exact(total.to(result[1].dtype), mass, double=1e-7)


@page.formula
def _(y, num_levels, alpha):
    p = alpha + (1 - 2 * alpha) * y / num_levels
    log_slope = math.log(1 - 2 * alpha) - math.log(num_levels) - torch.log(p) - torch.log(1 - p)
    return torch.log(p) - torch.log(1 - p), log_slope.sum(1)


@page.piece
def squeezed(y, num_levels, alpha):
    """Levels taken to [α, 1 − α)."""
    return alpha + (1 - 2 * alpha) * (y / num_levels)


@page.piece
def logit(p):
    """The logit of numbers between 0 and 1."""
    return torch.log(p) - torch.log(1 - p)


@page.wrong("the levels' log left out")
def _(y, num_levels, alpha):
    """Your log-determinant leaves out the division by the number of levels: {got}; it costs
    log num_levels in each dimension, {expected}.
    """
    p = squeezed(y, num_levels, alpha)
    log_slope = math.log(1 - 2 * alpha) - torch.log(p) - torch.log(1 - p)
    return logit(p), log_slope.sum(-1)


@page.wrong("log (1 − 2α) left out")
def _(y, num_levels, alpha):
    """Your log-determinant leaves out the factor 1 − 2α of the squeeze: {got}; with its log in
    each dimension it is {expected}.
    """
    p = squeezed(y, num_levels, alpha)
    log_slope = -math.log(num_levels) - torch.log(p) - torch.log(1 - p)
    return logit(p), log_slope.sum(-1)


@page.wrong("constants left out")
def _(y, num_levels, alpha):
    """Your log-determinant has the logit's slope only: {got}; the linear map before it has the
    slope (1 − 2α)/num_levels in each dimension, {expected}.
    """
    p = squeezed(y, num_levels, alpha)
    log_slope = -torch.log(p) - torch.log(1 - p)
    return logit(p), log_slope.sum(-1)


@page.wrong("log-determinant with the wrong sign")
def _(y, num_levels, alpha):
    """Your log-determinant is that of the way back, from the logits to y: {got}; from y to the
    logits it is {expected}.
    """
    p = squeezed(y, num_levels, alpha)
    log_slope = math.log((1 - 2 * alpha) / num_levels) - torch.log(p) - torch.log(1 - p)
    return logit(p), -log_slope.sum(-1)


@page.wrong("slope of the sigmoid")
def _(y, num_levels, alpha):
    """You use the slope p(1 − p) of the sigmoid: {got}; the logit is its inverse and has the
    slope 1/(p(1 − p)), {expected}.
    """
    p = squeezed(y, num_levels, alpha)
    log_slope = math.log((1 - 2 * alpha) / num_levels) + torch.log(p) + torch.log(1 - p)
    return logit(p), log_slope.sum(-1)


@page.wrong("mean over the dimensions")
def _(y, num_levels, alpha):
    """You average the log-slopes over the dimensions: {got}; the determinant of a diagonal
    Jacobian is the product of its entries, so their logs are summed, {expected}.
    """
    p = squeezed(y, num_levels, alpha)
    log_slope = math.log((1 - 2 * alpha) / num_levels) - torch.log(p) - torch.log(1 - p)
    return logit(p), log_slope.mean(-1)


@page.wrong("constants counted once")
def _(y, num_levels, alpha):
    """You add log((1 − 2α)/num_levels) once: {got}; every dimension is squeezed, so it counts D
    times, {expected}.
    """
    p = squeezed(y, num_levels, alpha)
    log_slope = -(torch.log(p) + torch.log(1 - p)).sum(-1)
    return logit(p), log_slope + math.log((1 - 2 * alpha) / num_levels)


@page.wrong("1 − α for 1 − 2α")
def _(y, num_levels, alpha):
    """You squeeze with α + (1 − α)·y/num_levels, which reaches 1 at the upper end: {got}; with
    1 − 2α both ends are kept away, {expected}.
    """
    p = alpha + (1 - alpha) * (y / num_levels)
    log_slope = math.log((1 - alpha) / num_levels) - torch.log(p) - torch.log(1 - p)
    return logit(p), log_slope.sum(-1)


@page.wrong("levels − 1")
def _(y, num_levels, alpha):
    """You divide by num_levels − 1: {got}; with the noise y reaches up to num_levels,
    {expected}.
    """
    p = alpha + (1 - 2 * alpha) * (y / max(num_levels - 1, 1))
    log_slope = math.log((1 - 2 * alpha) / max(num_levels - 1, 1)) - torch.log(p * (1 - p))
    return logit(p), log_slope.sum(-1)


@page.wrong("clamped for squeezed")
def _(y, num_levels, alpha):
    """You cut y/num_levels off at α and 1 − α: {got}; that is not invertible, the squeeze
    α + (1 − 2α)·y/num_levels is, {expected}.
    """
    p = (y / num_levels).clamp(alpha, 1 - alpha)
    log_slope = -math.log(num_levels) - torch.log(p) - torch.log(1 - p)
    return logit(p), log_slope.sum(-1)
