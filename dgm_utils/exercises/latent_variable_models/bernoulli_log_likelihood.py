"""`bernoulli_log_likelihood`: log p(x) of binary pixels, from their logits."""

import itertools
import math

import torch
import torch.nn.functional as F

from dgm_utils import latent_variable_models
from nbjudge.asking.page import Page
from nbjudge.asking.statements import at_most, is_exact

page = Page(
    latent_variable_models.bernoulli_log_likelihood,
    "log p(x) of binary pixels with p(x_d = 1) = sigmoid(logits_d), shape (B,)",
    points=1,
    minutes=10,
    difficulty=1,
    axes="B D, B D -> B",
    wrt="logits",
    hints=(
        "A pixel has the probability p^x (1 − p)^(1−x) with p = sigmoid(logit); the pixels are "
        "independent.",
        "With a the logit, log p = a − log(1 + eᵃ) and log(1 − p) = −log(1 + eᵃ). "
        "`F.softplus(a)` is log(1 + eᵃ) without overflow.",
        "`x * logits - F.softplus(logits)`, summed over the pixels; or minus "
        "`F.binary_cross_entropy_with_logits` with `reduction='none'`, summed.",
    ),
)

page.terms(
    {
        "Σ x·a": lambda x, logits: (x * logits).sum(-1),
        "Σ log(1 + eᵃ)": lambda logits: F.softplus(logits).sum(-1),
    }
)


@page.cases
def _(draw):
    args = (draw.tensor([[1.0, 0.0]]), draw.tensor([[0.0, math.log(3)]]))
    yield page.case("a pixel with p = ½ and one with p = ¾", *args, log_px=[-math.log(8)])
    b, d = draw.integer(4, 5), draw.integer(6, 8)
    yield page.case("more pixels than images", draw.bernoulli(b, d), 2 * draw.normal(b, d))
    yield page.case("one pixel", draw.bernoulli(b, 1), 2 * draw.normal(b, 1))
    yield page.case("one image", draw.bernoulli(1, d), 2 * draw.normal(1, d))
    x, y = draw.bernoulli(b, d), draw.bernoulli(b, d)
    # A pixel that is not the likely one costs 100 nats, a likely one 4·10⁻⁴⁴.
    log_px = -100 * (x != y).sum(1).double().cpu()
    yield page.case("logits of ±100", x, 100 * (2 * y - 1), log_px=log_px, extreme=True)
    x = draw.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    logits = (2 * draw.normal(1, 4)).repeat(16, 1)
    yield page.case("all images of four pixels", x, logits, all=True)
    yield page.case("300 pixels", draw.bernoulli(3, 300), 2 * draw.normal(3, 300), extreme=True)
    args = (draw.bernoulli(d, b).T, 2 * draw.normal(d, b).T)
    yield page.case("arguments that are not contiguous in memory", *args)


@page.must
def not_be_positive(value):
    """A probability is at most 1, so its log is not positive. Yours is."""
    return at_most(value, torch.zeros_like(value))


@page.must
def add_to_one(value, all):
    """The probabilities of all sixteen images of four pixels add to one. Yours do not."""
    return is_exact(value.exp().sum(), 1.0)


page.must_equal(
    "log_px",
    "Pixels with p = ½ and 1 − p = ¼ have the log-likelihood −log 8, and one pixel against a logit "
    "of ±100 costs 100 nats. Yours does not say so.",
)


@page.formula
def _(x, logits):
    return (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).sum(-1)


@page.formula
def _(x, logits):
    p = torch.sigmoid(logits)
    return (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(-1)


@page.right
def _(x, logits):
    return (x * logits - F.softplus(logits)).sum(-1)


@page.wrong("logits taken for probabilities")
def _(x, logits):
    """You take the logits for probabilities: {got}; p(x = 1) is their sigmoid, {expected}."""
    p = logits.clamp(1e-6, 1 - 1e-6)
    return (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(-1)


@page.wrong("sigmoid taken twice")
def _(x, logits):
    """You pass sigmoid(logits) on to a cross-entropy that takes the sigmoid itself: {got}; with
    the logits it is {expected}.
    """
    p = torch.sigmoid(logits)
    return -F.binary_cross_entropy_with_logits(p, x, reduction="none").sum(-1)


@page.wrong("log of a rounded sigmoid")
def _(x, logits):
    """You take the cross-entropy of sigmoid(logits), which rounds to 0 or 1 at large logits and
    loses the gradient: {got}; the cross-entropy with logits keeps it, {expected}.
    """
    return -F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="none").sum(-1)


@page.wrong("log of a sigmoid plus epsilon")
def _(x, logits):
    """You add a small number to a probability before its log: {got}; e⁻¹⁰⁰ is below any such
    number, and written with the logits themselves the result is {expected}.
    """
    p = torch.sigmoid(logits)
    return (x * torch.log(p + 1e-8) + (1 - x) * torch.log(1 - p + 1e-8)).sum(-1)


@page.wrong("mean over the pixels")
def _(x, logits):
    """You average over the pixels: {got}; they are independent, so their logs add up,
    {expected}.
    """
    return (x * logits - F.softplus(logits)).mean(-1)


page.but(
    "loss for log-likelihood",
    "You return the cross-entropy, a loss: {got}; the log-likelihood is its negative, {expected}.",
    torch.neg,
)


@page.wrong("black pixels left out")
def _(x, logits):
    """You count only the pixels that are 1: {got}; a pixel that is 0 adds log(1 − p),
    {expected}.
    """
    return (x * F.logsigmoid(logits)).sum(-1)


@page.wrong("softplus left out")
def _(x, logits):
    """You leave the normalizing term −log(1 + e^logit) out: {got}; with it the two probabilities
    of a pixel add to one, {expected}.
    """
    return (x * logits).sum(-1)


@page.wrong("squared error")
def _(x, logits):
    """You take the squared error, which is the log-density of a Gaussian decoder: {got}; a
    Bernoulli one has {expected}.
    """
    return -((x - torch.sigmoid(logits)) ** 2).sum(-1)


page.but(
    "sum over the batch",
    "You sum over the images as well; each has its own log-likelihood, shape (B,).",
    torch.sum,
)


@page.wrong("one number for each pixel")
def _(x, logits):
    """You return a log-likelihood for each pixel; the image's is their sum, shape (B,)."""
    return x * logits - F.softplus(logits)


page.but(
    "detached",
    "Your numbers are right, but you detach the logits, so the decoder cannot be trained.",
    torch.detach,
)
