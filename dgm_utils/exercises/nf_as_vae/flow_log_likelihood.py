"""`flow_log_likelihood`: log p(x) of a flow, by the change of variables."""

import math

import torch

from dgm_utils import nf_as_vae
from dgm_utils.exercises.nf_as_vae import _networks
from dgm_utils.exercises.nf_as_vae._networks import (
    Curved,
    Gaussian,
    gaussian,
    logistic,
    random_affine,
    scaling,
)
from dgm_utils.exercises.nf_as_vae._shared import LOG_2PI
from nbjudge.asking.page import Page

page = Page(
    nf_as_vae.flow_log_likelihood,
    "log p(x) of a flow by the change of variables, shape (B,)",
    points=1,
    minutes=5,
    difficulty=1,
    axes="B D, _, _ -> B",
    wrt="x forward base_log_prob",
    may_use=(_networks,),
    hints=(
        "`forward(x)` gives the point z = f(x) in the base and how much f stretches volumes "
        "there, log|det ∂f/∂x|.",
        "p(x) dx = p(z) dz, so p(x) = p(f(x)) · |det ∂f/∂x|. Take logs.",
        "`z, log_det = forward(x)`, then `base_log_prob(z)` and `log_det` in one sum.",
    ),
)

page.terms(
    {
        "log p(z)": lambda x, forward, base_log_prob: base_log_prob(forward(x)[0]),
        "log |det|": lambda x, forward: forward(x)[1],
    }
)


@page.cases
def _(draw):
    # z = 2x with z ~ N(1, 1): x ~ N(½, ¼).
    exact = [math.log(2) - 0.5 * LOG_2PI, math.log(2) - 0.5 * LOG_2PI - 2]
    base = Gaussian(draw.tensor([1.0]), draw.tensor([0.0]))
    x = draw.tensor([[0.5], [1.5]])
    yield page.case("the flow z = 2x", x, scaling(draw, 1, 2.0), base, log_px=exact)

    def random(name, b, d, base, **about):
        return page.case(name, 0.8 * draw.normal(b, d), Curved(draw, d), base(draw, d), **about)

    b, d = draw.integer(5, 6), draw.integer(3, 4)
    yield random("a curved flow, a Gaussian base with parameters", b, d, gaussian)
    yield random("a logistic base", b, d, logistic)
    args = (draw.normal(b, d), scaling(draw, d, 0.5), gaussian(draw, d))
    yield page.case("a flow that shrinks", *args)
    x = draw.tensor(torch.linspace(-14, 14, 201, dtype=torch.float64))[:, None]
    args = (x, Curved(draw, 1), gaussian(draw, 1))
    yield page.case("a line of data, one dimension", *args, log_cell=math.log(28 / 200))
    yield random("one data point, one dimension", 1, 1, logistic)
    yield random("as many data points as dimensions", b, b, gaussian)
    yield random("300 dimensions", 2, 300, gaussian, extreme=True)
    args = (draw.normal(b, d) * 100, random_affine(draw, d), gaussian(draw, d))
    yield page.case("data far from the centre", *args, extreme=True)
    args = (draw.normal(d, b).T, Curved(draw, d), logistic(draw, d))
    yield page.case("data that are not contiguous in memory", *args)


page.must_equal(
    "log_px",
    "If z = 2x has the mean 1 and the standard deviation 1, x has ½ and ½, and log p(½) = "
    "log 2 − ½ log 2π. Yours is not.",
)
page.must_add_to_one(
    "log_cell",
    "Over a line of data the density must integrate to one. Yours does not.",
    double=1e-6,
    single=1e-3,
)


@page.wrong("log-det subtracted")
def _(x, forward, base_log_prob):
    """You subtract log|det|: {got}; where f stretches, the data are denser than the base, so the
    log|det| of data → base is added, {expected}.
    """
    z, log_det = forward(x)
    return base_log_prob(z) - log_det


@page.wrong("log-det left out")
def _(x, forward, base_log_prob):
    """You return the density of z, as if f did not change volumes: {got}; with log|det ∂f/∂x| it
    is {expected}.
    """
    z, _ = forward(x)
    return base_log_prob(z)


@page.wrong("base at x")
def _(x, forward, base_log_prob):
    """You evaluate the base density at x: {got}; the base is a density of z = f(x), which gives
    {expected}.
    """
    _, log_det = forward(x)
    return base_log_prob(x) + log_det


@page.wrong("log-det once for each dimension")
def _(x, forward, base_log_prob):
    """You add log|det| once for each dimension: {got}; the determinant is of the whole Jacobian
    and counts once, {expected}.
    """
    z, log_det = forward(x)
    return base_log_prob(z) + x.shape[1] * log_det


@page.wrong("log-det averaged over the batch")
def _(x, forward, base_log_prob):
    """You average log|det| over the batch: {got}; each data point has its own Jacobian,
    {expected}.
    """
    z, log_det = forward(x)
    return base_log_prob(z) + log_det.mean()


@page.wrong("standard normal for the base")
def _(x, forward, base_log_prob):
    """You take a standard normal for the base: {got}; with the `base_log_prob` that was passed it
    is {expected}.
    """
    z, log_det = forward(x)
    return -0.5 * (z**2 + math.log(2 * math.pi)).sum(1) + log_det


@page.wrong("log taken twice")
def _(x, forward, base_log_prob):
    """You take the log of `log_det`: {got}; it is a log already, {expected}."""
    z, log_det = forward(x)
    return base_log_prob(z) + torch.log(torch.abs(log_det))


@page.wrong("absolute value of log-det")
def _(x, forward, base_log_prob):
    """You take the absolute value of `log_det`: {got}; the bars belong to the determinant, and
    its log is negative where f shrinks, {expected}.
    """
    z, log_det = forward(x)
    return base_log_prob(z) + log_det.abs()


page.but(
    "average over the batch",
    "You average over the batch; each data point has its own log-likelihood, shape (B,).",
    torch.mean,
)


@page.wrong("log-det detached")
def _(x, forward, base_log_prob):
    """Your numbers are right, but you detach log|det|: trained like that, the flow would shrink
    all data to the base's mode.
    """
    z, log_det = forward(x)
    return base_log_prob(z) + log_det.detach()
