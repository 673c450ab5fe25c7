"""`iwae_gradient_weights`: the normalized weights, which the bound's gradient averages with."""

import torch
import torch.nn.functional as F

from dgm_utils import iwae
from dgm_utils.exercises.iwae._shared import COARSE, SINGLE
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    iwae.iwae_gradient_weights,
    "the normalized weights w_k / Σ_j w_j, shape (K, B)",
    points=1,
    minutes=5,
    difficulty=1,
    axes="K B -> K B",
    wrt="log_w",
    rtol=COARSE,
    hints=(
        "Differentiate log (1/K Σ_k w_k) and use ∇ w_k = w_k ∇ log w_k.",
        "∇ L_K = Σ_k (w_k / Σ_j w_j) ∇ log w_k: you are asked for the factor in brackets, from "
        "log w and without overflow.",
        "exp(log w_k) / Σ_j exp(log w_j) is a softmax over the axis of the samples.",
    ),
)


@page.cases
def _(draw):
    log_w = draw.tensor([[1.0, 3.0], [2.0, 3.0], [5.0, 4.0]]).log()
    exact = [[0.125, 0.3], [0.25, 0.3], [0.625, 0.4]]
    yield page.case("weights 1, 2, 5 and 3, 3, 4", log_w, weights=exact)
    yield page.case("one sample", draw.normal(1, draw.integer(4, 6)))
    k, b = draw.integer(4, 5), draw.integer(6, 8)
    yield page.case("more data points than samples", draw.normal(k, b) - 3)
    yield page.case("one data point", draw.normal(k, 1))
    yield page.case("log-weights near −10⁴", draw.normal(k, b) - 1e4, extreme=True)
    yield page.case("log-weights near 1000", draw.normal(k, b) + 1e3, extreme=True)
    scale = draw.tensor([0.0, -1e4, 1e4])
    yield page.case("data points 10⁴ apart", draw.normal(k, 3) + scale, extreme=True)
    log_w = draw.normal(b, k).T
    yield page.case("an argument that is not contiguous in memory", log_w)


@page.must
def sum_to_one(weights):
    """The normalized weights of each data point must sum to one over the K samples.
    Yours do not.
    """
    return is_exact(weights.sum(0), torch.ones(weights.shape[1]), single=COARSE[torch.float32])


page.must_equal(
    "weights", "Weights 1, 2, 5 normalize to 1/8, 1/4, 5/8. Yours do not.", single=SINGLE
)


@page.formula
def _(log_w):
    return torch.exp(log_w - torch.logsumexp(log_w, 0))


@page.formula
def _(log_w):
    weights = torch.exp(log_w)
    return weights / weights.sum(0)


@page.wrong("normalized over the batch")
def _(log_w):
    """You normalize over the batch, axis 1: {got}; the weights of one data point compete among
    its K samples, axis 0, {expected}.
    """
    return torch.softmax(log_w, 1)


@page.wrong("normalized over everything")
def _(log_w):
    """You normalize over samples and data points together: {got}; each data point has weights
    that sum to one over K, {expected}.
    """
    return torch.softmax(log_w.flatten(), 0).reshape(log_w.shape)


@page.wrong("uniform weights")
def _(log_w):
    """You give every sample 1/K, which is the gradient of the ELBO: {got}; the bound's gradient
    weighs a sample by w_k, {expected}.
    """
    return torch.ones_like(log_w) / log_w.shape[0] + 0 * log_w


@page.wrong("normalized logs")
def _(log_w):
    """You divide the log-weights by their sum: {got}; the weights themselves are normalized,
    after exp, {expected}.
    """
    return log_w / log_w.sum(0)


@page.wrong("not normalized")
def _(log_w):
    """You return exp(log w) without dividing by the sum: {got}; it should be {expected}."""
    return torch.exp(log_w)


@page.wrong("divided by the largest")
def _(log_w):
    """You divide by the largest weight: {got}; divide by the sum, {expected}."""
    return torch.exp(log_w - log_w.amax(0))


@page.wrong("log of the weights")
def _(log_w):
    """You return the logs of the normalized weights: {got}; the weights are {expected}."""
    return torch.log_softmax(log_w, 0)


page.but(
    "squared weights",
    "You square the normalized weights, as the doubly reparametrized gradient does: {got}; the "
    "plain gradient has the first power, {expected}.",
    torch.square,
)


@page.wrong("exponentials that underflow")
def _(log_w):
    """You exponentiate the log-weights themselves and divide 0 by 0 or ∞ by ∞: {got}; subtract
    the largest of each data point first, {expected}.
    """
    w = torch.exp(log_w)
    return w / w.sum(0)


page.but(
    "weights of mean one",
    "Your weights sum to K: {got}; the 1/K of the average cancels in ∇ log, so they sum to one, "
    "{expected}.",
    lambda weights: weights * len(weights),
)


@page.wrong("winner takes all")
def _(log_w):
    """You give everything to the largest weight: {got}; every sample has its share, {expected}."""
    return F.one_hot(log_w.argmax(0), log_w.shape[0]).T.to(log_w.dtype)


page.but(
    "detached",
    "Your numbers are right, but you detach them; return them differentiable, and let whoever uses "
    "them decide.",
    torch.detach,
)
