"""`noisy_decoder_log_prob`: the log-density of x around a decoded z."""

import math

import torch

from dgm_utils import nf_as_vae
from dgm_utils.exercises.nf_as_vae import _networks
from dgm_utils.exercises.nf_as_vae._networks import Curved, Inverse, scaling
from dgm_utils.exercises.nf_as_vae._shared import LOG_2PI, random_sigma
from nbjudge.asking.page import Page

page = Page(
    nf_as_vae.noisy_decoder_log_prob,
    "log N(x; g(z), σ²I), shape (B,)",
    points=2,
    minutes=10,
    difficulty=1,
    axes="B D, B D, _, _ -> B",
    wrt="x z inverse",
    may_use=(_networks,),
    hints=(
        "A Gaussian around `inverse(z)` with the same standard deviation σ in each dimension.",
        "Each dimension contributes −½ ((x − g(z))/σ)² − log σ − ½ log 2π; sum them.",
        "`scaled = (x - inverse(z)) / sigma`, then `-0.5 * (scaled**2 + math.log(2 * math.pi))` "
        "summed over axis 1, less D times `math.log(sigma)`.",
    ),
)

page.terms(
    {
        "Σ (x − f⁻¹(z))²/σ²": lambda x, z, inverse, sigma: (
            ((x - inverse(z)) ** 2).sum(1) / sigma**2
        ),
        "D log σ": lambda x, sigma: x.new_tensor(x.shape[1] * math.log(sigma)),
        "D log 2π": lambda x: x.new_tensor(x.shape[1] * math.log(2 * math.pi)),
    }
)


@page.cases
def _(draw):
    flow = scaling(draw, 2, 0.5)
    z = draw.tensor([[0.5, -1.0], [0.5, -1.0]])
    x = draw.tensor([[1.0, -2.0], [1.5, -2.0]])
    # g(z) = 2z = (1, −2): the first point is met, the second is one σ off.
    met = -2 * math.log(0.5) - LOG_2PI
    args = (x, z, Inverse(flow))
    yield page.case("x = g(z), and one σ beside it", *args, sigma=0.5, log_px=[met, met - 0.5])

    def random(name, b, d, sigma, **about):
        args = (draw.normal(b, d), draw.normal(b, d), Inverse(Curved(draw, d)))
        return page.case(name, *args, sigma, **about)

    b, d = draw.integer(5, 6), draw.integer(3, 4)
    yield random("a curved flow", b, d, random_sigma(draw, 0.3, 0.8))
    yield random("a large σ", b, d, random_sigma(draw, 3.0, 5.0))
    yield random("one data point, one dimension", 1, 1, random_sigma(draw, 0.3, 0.8))
    x = draw.tensor(torch.linspace(-9, 9, 181, dtype=torch.float64))[:, None]
    z = draw.tensor([[0.3]] * 181)
    args = (x, z, Inverse(Curved(draw, 1)), random_sigma(draw, 0.5, 0.7))
    yield page.case("a line of data", *args, log_cell=math.log(18 / 180))
    yield random("as many data points as dimensions", b, b, random_sigma(draw, 0.3, 0.8))
    yield random("σ = 10⁻³, far from g(z)", b, d, 1e-3, extreme=True)
    yield random("300 dimensions", 2, 300, 0.05, extreme=True)
    args = (draw.normal(d, b).T, draw.normal(d, b).T, Inverse(Curved(draw, d)))
    yield page.case("arguments that are not contiguous in memory", *args, sigma=0.4)


page.must_equal(
    "log_px",
    "In two dimensions and with σ = ½, log p(x|z) is log 4 − log 2π at x = g(z), and ½ less one σ "
    "beside it. Yours is not.",
)
page.must_add_to_one(
    "log_cell",
    "Over a line of data p(x|z) must integrate to one. Yours does not.",
    double=1e-6,
    single=1e-3,
)


@page.formula
def _(x, z, inverse, sigma):
    squares = (x - inverse(z)) ** 2 / sigma**2
    return -0.5 * (squares + 2 * math.log(sigma) + math.log(2 * math.pi)).sum(1)


@page.formula
def _(x, z, inverse, sigma):
    constant = math.log(sigma) + 0.5 * math.log(2 * math.pi)
    return -0.5 * ((x - inverse(z)) ** 2).sum(1) / sigma**2 - x.shape[1] * constant


@page.wrong("σ taken for the variance")
def _(x, z, inverse, sigma):
    """You take σ for the variance: {got}; σ is the standard deviation and σ² the variance,
    {expected}.
    """
    squares = (x - inverse(z)) ** 2
    return -0.5 * (squares / sigma + math.log(2 * math.pi * sigma)).sum(1)


@page.wrong("σ² taken for the standard deviation")
def _(x, z, inverse, sigma):
    """You pass σ² where a standard deviation is asked: {got}; with σ it is {expected}."""
    scaled = (x - inverse(z)) / sigma**2
    return -0.5 * (scaled**2 + math.log(2 * math.pi)).sum(1) - 2 * x.shape[1] * math.log(sigma)


@page.wrong("½ missing")
def _(x, z, inverse, sigma):
    """You leave the ½ in front of the squares out: {got}; with −½ ((x − g(z))/σ)² it is
    {expected}.
    """
    scaled = (x - inverse(z)) / sigma
    constant = math.log(sigma) + 0.5 * math.log(2 * math.pi)
    return -(scaled**2).sum(1) - x.shape[1] * constant


@page.wrong("squared error only")
def _(x, z, inverse, sigma):
    """You return the scaled squared error alone: {got}; a density has its normalizing constant,
    which depends on σ, {expected}.
    """
    return -0.5 * (((x - inverse(z)) / sigma) ** 2).sum(1)


@page.wrong("½ log 2π left out")
def _(x, z, inverse, sigma):
    """You leave ½ log 2π out: {got}; it stands there once for each dimension, {expected}."""
    scaled = (x - inverse(z)) / sigma
    return -0.5 * (scaled**2).sum(1) - x.shape[1] * math.log(sigma)


@page.wrong("constant once instead of D times")
def _(x, z, inverse, sigma):
    """You subtract log σ + ½ log 2π once: {got}; each of the D dimensions has its own,
    {expected}.
    """
    scaled = (x - inverse(z)) / sigma
    return -0.5 * (scaled**2).sum(1) - math.log(sigma) - 0.5 * math.log(2 * math.pi)


@page.wrong("log σ with the wrong sign")
def _(x, z, inverse, sigma):
    """You add log σ: {got}; the narrower the Gaussian the higher its peak, so it is subtracted,
    {expected}.
    """
    scaled = (x - inverse(z)) / sigma
    constant = 0.5 * math.log(2 * math.pi) - math.log(sigma)
    return -0.5 * (scaled**2).sum(1) - x.shape[1] * constant


@page.wrong("mean over the dimensions")
def _(x, z, inverse, sigma):
    """You average over the dimensions: {got}; they are independent given z, so their logs add
    up, {expected}.
    """
    scaled = (x - inverse(z)) / sigma
    return -0.5 * (scaled**2 + math.log(2 * math.pi)).mean(1) - math.log(sigma)


@page.wrong("compared with z")
def _(x, z, inverse, sigma):
    """You compare x with z itself: {got}; the decoder's mean is g(z), `inverse(z)`,
    {expected}.
    """
    scaled = (x - z) / sigma
    return -0.5 * (scaled**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)


@page.wrong("no sum over the dimensions")
def _(x, z, inverse, sigma):
    """You keep the dimensions apart; the log-density of x is their sum, one number for each data
    point, shape (B,).
    """
    scaled = (x - inverse(z)) / sigma
    return -0.5 * (scaled**2 + math.log(2 * math.pi)) - math.log(sigma)


@page.wrong("g(z) detached")
def _(x, z, inverse, sigma):
    """Your numbers are right, but you detach g(z), so that neither z nor the flow learns from the
    reconstruction.
    """
    scaled = (x - inverse(z).detach()) / sigma
    return -0.5 * (scaled**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)
