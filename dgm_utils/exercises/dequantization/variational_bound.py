"""`variational_bound`: the average of log p(x + u) − log q(u|x), a bound on log P(x)."""

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
    posterior_noise,
    two_nodes,
)
from nbjudge.asking.page import Page
from nbjudge.asking.statements import at_most

page = Page(
    dequantization.variational_bound,
    "the average over S draws of log p(x + u) − log q(u|x), shape (B,)",
    points=2,
    minutes=8,
    difficulty=2,
    axes="_, B D, S B D, S B -> B",
    wrt="log_prob u log_q",
    may_use=(_densities,),
    hints=(
        "This is an ELBO with u in the place of the latent variable: E_q of the log of a weight, "
        "estimated by the average over S draws.",
        "log w = log p(x + u) − log q(u|x), of shape (S, B).",
        "`log_prob(x + u) - log_q`, then the mean over the axis of the draws.",
    ),
)

page.terms(
    {
        "the mean of log p(x + u)": lambda log_prob, x, u: log_prob(x + u).mean(0),
        "the mean of log q": lambda log_q: log_q.mean(0),
    }
)


@page.cases
def _(draw):
    # A Gaussian with mean 1 and variance 1 at x = 0; q is uniform on [0, ½), so log q = log 2.
    density = on_the_line(draw, 1.0)
    x = torch.zeros(1, 1, dtype=torch.int64, device=draw.device)
    args = (density, x, 0.5 * two_nodes(draw, 1), draw.tensor([[2.0], [2.0]]).log())
    exact = [-0.5 * LOG_2PI - 7 / 24 - math.log(2)]
    yield page.case("a Gaussian at one level, q uniform on half the cell", *args, bound=exact)
    s, b, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    args = (mixture(draw, 3, d), levels(draw, 6, b, d), noise(draw, s, b, d), draw.normal(s, b))
    yield page.case("all axes of different length", *args)
    x = levels(draw, 6, b, d, dtype=torch.uint8)
    args = (mixture(draw, 2, d), x, noise(draw, 1, b, d), 1 + draw.normal(1, b))
    yield page.case("one draw, levels held as bytes", *args)
    x = draw.tensor(levels(draw, 6, 1, 1))
    args = (mixture(draw, 2, 1), x, noise(draw, 5, 1, 1), draw.normal(5, 1))
    yield page.case("one data point, one dimension, levels held as floats", *args)

    density = mixture(draw, 3, d, centre=1.5)
    x = levels(draw, 3, b, d, dtype=torch.int32)
    u, log_q, log_pmf = posterior_noise(draw, density, x, s)
    name = "q is the density within the cell"
    yield page.case(name, density, x, u, log_q, log_pmf=log_pmf)

    # q uniform on [low, low + width): E_q log p of a Gaussian is a quadratic's average again.
    density, mean, std = gaussian(draw, d)
    x = levels(draw, 6, b, d)
    low, width = 0.5 * draw.uniform(b, d), 0.2 + 0.3 * draw.uniform(b, d)
    l64, w64 = low.cpu().double(), width.cpu().double()
    squares = ((x.cpu() + l64 + w64 / 2 - mean) / std) ** 2 + (w64 / std) ** 2 / 12
    exact = (-0.5 * (squares + LOG_2PI) - std.log() + w64.log()).sum(-1)
    args = (density, x, low + width * two_nodes(draw, d), -width.log().sum(-1).repeat(2, 1))
    highest = log_mass(density, x)
    yield page.case("q uniform on a part of the cell", *args, bound=exact, highest=highest)

    scale = draw.tensor([0.0, -1e4, 1e4])
    args = (mixture(draw, 3, d), levels(draw, 6, 3, d), noise(draw, s, 3, d))
    args = (*args, draw.normal(s, 3) + scale)
    yield page.case("data points 10⁴ nats apart", *args, extreme=True)
    args = (mixture(draw, 2, 300), levels(draw, 6, 2, 300), noise(draw, s, 2, 300))
    yield page.case("300 dimensions", *args, 50 * draw.normal(s, 2), extreme=True)
    args = (mixture(draw, 2, b), levels(draw, 6, b, d).T, noise(draw, b, d, s).permute(2, 1, 0))
    args = (*args, draw.normal(d, s).T)
    yield page.case("arguments that are not contiguous in memory", *args)


page.must_equal(
    "log_pmf",
    "Where q(u|x) = p(x + u)/P(x), log p(x + u) − log q(u|x) is log P(x) for every draw. "
    "Yours is not.",
)
page.must_equal(
    "bound",
    "For a Gaussian and noise uniform on a part of the cell, two draws at the nodes of a "
    "quadratic give E_q log p(x + u) + log of the part's volume exactly. Yours do not.",
)


@page.must
def lie_below(bound, highest):
    """The bound, integrated exactly, is at most log P(x). Yours is above it."""
    return at_most(bound.cpu(), highest.to(bound.dtype))


@page.formula
def _(log_prob, x, u, log_q):
    return (log_prob(x + u) - log_q).mean(0)


@page.right
def _(log_prob, x, u, log_q):
    return (log_prob(x + u) - log_q).mean(0)


@page.wrong("log q added")
def _(log_prob, x, u, log_q):
    """You add log q: {got}; the weight is p(x + u) divided by q(u|x), so its log is subtracted,
    {expected}.
    """
    return (log_prob(x + u) + log_q).mean(0)


@page.wrong("log q left out")
def _(log_prob, x, u, log_q):
    """You leave log q out, which is right for uniform noise only: {got}; what is gained by
    placing the noise well has to be paid for, {expected}.
    """
    return log_prob(x + u).mean(0) + 0 * log_q.sum()


@page.wrong("log of mean for mean of logs")
def _(log_prob, x, u, log_q):
    """You average the weights and take the log, which is the importance weighted bound: {got};
    this bound averages the log-weights, {expected}.
    """
    return torch.logsumexp(log_prob(x + u) - log_q, 0) - math.log(u.shape[0])


@page.wrong("sum over the draws")
def _(log_prob, x, u, log_q):
    """You sum over the draws: {got}; an expectation is estimated by their average, {expected}."""
    return (log_prob(x + u) - log_q).sum(0)


page.but(
    "average over everything",
    "You average over draws and data points together; each data point has its own bound, shape "
    "(B,).",
    torch.mean,
)


@page.wrong("average of the noise")
def _(log_prob, x, u, log_q):
    """You average the noise and evaluate the density once: {got}; the average comes after log p,
    {expected}.
    """
    return log_prob(x + u.mean(0)) - log_q.mean(0)


@page.wrong("noise added to rescaled levels")
def _(log_prob, x, u, log_q):
    """You divide the levels by 256 before the noise: {got}; `log_prob` is the density of x + u on
    the scale of the levels, {expected}.
    """
    return (log_prob(x / 256 + u) - log_q).mean(0)


@page.wrong("noise detached")
def _(log_prob, x, u, log_q):
    """Your numbers are right, but you detach u, so the noise cannot learn where the density is
    high; only log q would train it.
    """
    return (log_prob(x + u.detach()) - log_q).mean(0)


@page.wrong("log q detached")
def _(log_prob, x, u, log_q):
    """Your numbers are right, but you detach log q; the entropy of the noise is part of the
    bound and of its gradient.
    """
    return (log_prob(x + u) - log_q.detach()).mean(0)
