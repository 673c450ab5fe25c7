"""`gradient_snr`: the signal-to-noise ratio of S estimates of a gradient."""

import math

import torch

from dgm_utils import iwae
from dgm_utils.exercises.iwae._shared import SINGLE
from nbjudge.asking.page import Page

page = Page(
    iwae.gradient_snr,
    "|mean| / standard deviation of S gradient estimates, for each parameter, shape (P,)",
    points=1,
    minutes=5,
    difficulty=1,
    axes="S P -> P",
    wrt="gradients",
    # The variance as E g² − (E g)² is a right answer and cancels in float32.
    rtol={torch.float64: 1e-8, torch.float32: 1e-3},
    hints=(
        "Each column holds S independent estimates of one parameter's gradient. Signal: the size "
        "of their average. Noise: their standard deviation.",
        "Both over axis 0; the absolute value after the average; the standard deviation with "
        "S − 1, torch's default.",
        "`gradients.mean(0).abs()` divided by `gradients.std(…)` over the same axis.",
    ),
)


@page.cases
def _(draw):
    gradients = draw.tensor([[10.0, -10.0, 50.0], [30.0, -30.0, 90.0]])
    # Means 20, −20 and 70, standard deviations 10√2, 10√2 and 10√8.
    exact = [math.sqrt(2), math.sqrt(2), 7 / math.sqrt(8)]
    yield page.case("two estimates of three parameters", gradients, snr=exact)
    s, p = draw.integer(8, 10), draw.integer(5, 7)
    yield page.case("gradients of size 10⁻⁷", 1e-7 * (draw.normal(s, p) + 1), extreme=True)
    yield page.case("signals about as large as the noise", draw.normal(s, p) + 1)
    yield page.case("negative signals", draw.normal(s, p) - 2)
    yield page.case("one parameter", draw.normal(s, 1) + 0.7)
    yield page.case("as many estimates as parameters", draw.normal(s, s) + 0.5)
    yield page.case("300 parameters", draw.normal(s, 300) + draw.normal(300))
    gradients = (100 * draw.normal(p, s) - 50).T
    yield page.case("an argument that is not contiguous in memory", gradients)


@page.must
def not_be_negative(snr):
    """A signal-to-noise ratio is not negative. Yours is."""
    return bool((snr >= 0).all())


page.must_equal(
    "snr",
    "The estimates 10 and 30 have mean 20 and standard deviation 10√2, so their ratio is √2. "
    "Yours is not.",
    single=SINGLE,
)


@page.right
def _(gradients):
    return gradients.mean(0).abs() / gradients.std(0)


@page.wrong("variance for standard deviation")
def _(gradients):
    """You divide by the variance: {got}; noise is the standard deviation, which has the units
    of the gradient, {expected}.
    """
    return gradients.mean(0).abs() / gradients.var(0)


@page.wrong("no absolute value")
def _(gradients):
    """You keep the sign of the mean: {got}; the ratio has its absolute value, {expected}."""
    return gradients.mean(0) / gradients.std(0)


@page.wrong("divided by S")
def _(gradients):
    """Your standard deviation divides by S: {got}; with S − 1 it is {expected}."""
    return gradients.mean(0).abs() / gradients.std(0, correction=0)


@page.wrong("over the parameters")
def _(gradients):
    """You take mean and standard deviation over the parameters, axis 1; the noise is that of
    one parameter's S estimates, axis 0, shape (P,).
    """
    return gradients.mean(1).abs() / gradients.std(1)


@page.wrong("norm of the whole gradient")
def _(gradients):
    """You compare the norms of the whole gradient; each parameter has its own ratio, shape
    (P,).
    """
    mean = gradients.mean(0)
    return mean.norm() / gradients.var(0).sum().sqrt()


page.but(
    "averaged over the parameters",
    "You average the ratios over the parameters; each keeps its own, shape (P,).",
    torch.mean,
)


@page.wrong("standard error")
def _(gradients):
    """You divide by the standard error of the mean, std/√S: {got}; the noise is that of one
    estimate, {expected}.
    """
    return gradients.mean(0).abs() / (gradients.std(0) / math.sqrt(gradients.shape[0]))


@page.wrong("noise-to-signal")
def _(gradients):
    """You divide the noise by the signal: {got}; the other way round it is {expected}."""
    return gradients.std(0) / gradients.mean(0).abs()


@page.wrong("mean of the magnitudes")
def _(gradients):
    """You average the absolute values, where noise counts as signal: {got}; the signal is the
    absolute value of the average, {expected}.
    """
    return gradients.abs().mean(0) / gradients.std(0)


@page.wrong("root mean square")
def _(gradients):
    """You divide by the root mean square, which holds the signal as well: {got}; the noise is
    the spread around the mean, {expected}.
    """
    return gradients.mean(0).abs() / (gradients**2).mean(0).sqrt()


@page.wrong("epsilon in the denominator")
def _(gradients):
    """You add a small number to the standard deviation: {got}; gradients can be as small as it,
    and without it the ratio is {expected}.
    """
    return gradients.mean(0).abs() / (gradients.std(0) + 1e-8)


page.but(
    "ratio of squares",
    "You return mean² / variance, the ratio of powers: {got}; here the ratio of amplitudes is "
    "asked, {expected}.",
    torch.square,
)
