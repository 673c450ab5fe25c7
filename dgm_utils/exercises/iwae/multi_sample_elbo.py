"""`multi_sample_elbo`: the ELBO estimated with K samples, the average of log w."""

import math

import torch

from dgm_utils import iwae
from dgm_utils.exercises.iwae._shared import SINGLE
from nbjudge.asking.page import Page
from nbjudge.asking.statements import at_most

page = Page(
    iwae.multi_sample_elbo,
    "the ELBO estimated with K samples, shape (B,)",
    points=1,
    minutes=3,
    difficulty=1,
    axes="K B -> B",
    wrt="log_w",
    hints=(
        "The ELBO is an expectation of log w under q, and you have K samples of q.",
        "An expectation is estimated by the average over the samples, which are on axis 0.",
        "One line: `log_w.mean(…)` over the axis of the samples.",
    ),
)


@page.cases
def _(draw):
    log_w = draw.tensor([[-1.0, 2.0], [-2.0, 0.0], [-6.0, 7.0]])
    yield page.case("three samples of two data points", log_w, elbo=[-3.0, 3.0])
    yield page.case("one sample", draw.normal(1, draw.integer(4, 6)))
    k, b = draw.integer(4, 5), draw.integer(6, 8)
    yield page.case("more data points than samples", 2 * draw.normal(k, b) - 90)
    yield page.case("one data point", draw.normal(k, 1))
    yield page.case("log-weights near −10⁴", 3 * draw.normal(k, b) - 1e4, extreme=True)
    scale = draw.tensor([0.0, -1e4, 1e4])
    yield page.case("data points 10⁴ apart", draw.normal(k, 3) + scale, extreme=True)
    log_w = (draw.normal(b, k) + 5).T
    yield page.case("an argument that is not contiguous in memory", log_w)


page.must_equal(
    "elbo",
    "For the log-weights −1, −2, −6 the estimate is −3, and for 2, 0, 7 it is 3. Yours is not.",
    single=SINGLE,
)


@page.must
def lie_below_the_bound(elbo, log_w):
    """By Jensen's inequality the average of the logs is at most the log of the average.
    Yours is above it.
    """
    return at_most(elbo, iwae.iwae_bound(log_w))


@page.wrong("log of mean for mean of logs")
def _(log_w):
    """You take the log of the average weight, which is the importance weighted bound: {got};
    the ELBO averages the logs, {expected}.
    """
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])


@page.wrong("sum over the samples")
def _(log_w):
    """You sum over the samples: {got}; an expectation is estimated by their average,
    {expected}.
    """
    return log_w.sum(0)


@page.wrong("average over the batch")
def _(log_w):
    """You average over the batch, axis 1; the samples are on axis 0 and the result has one
    number for each data point, shape (B,).
    """
    return log_w.mean(1)


@page.wrong("average over everything")
def _(log_w):
    """You average over samples and data points together; each data point has its own ELBO,
    shape (B,).
    """
    return log_w.mean()


@page.wrong("first sample only")
def _(log_w):
    """You use the first sample and drop the others: {got}; the average of all K is {expected}."""
    return log_w[0]


@page.wrong("best sample")
def _(log_w):
    """You take the largest log-weight: {got}; the ELBO is the average over the samples,
    {expected}.
    """
    return log_w.max(0).values


@page.wrong("weighted average")
def _(log_w):
    """You weight each log-weight with its own weight: {got}; samples of q count equally in the
    ELBO, {expected}.
    """
    return (torch.softmax(log_w, 0) * log_w).sum(0)


page.but(
    "detached",
    "Your numbers are right, but you detach the log-weights, so nothing can be trained with them.",
    torch.detach,
)
