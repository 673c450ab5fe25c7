"""`bits_per_dim`: what a dimension costs, in bits."""

import math

import torch

from dgm_utils import dequantization
from nbjudge.asking.page import Page

page = Page(
    dequantization.bits_per_dim,
    "bits that a dimension costs, from log P(x) in nats, shape (B,)",
    points=1,
    minutes=3,
    difficulty=1,
    axes="B, _ -> B",
    wrt="log_prob",
    hints=(
        "The ideal code of x is −log₂ P(x) bits long, for all dimensions together.",
        "log₂ P = log P / log 2.",
        "Minus `log_prob`, divided by `num_dims` and by `math.log(2)`.",
    ),
)


@page.cases
def _(draw):
    d = draw.integer(3, 5)
    log_prob = draw.tensor([-8.0 * d, -1.0 * d]) * math.log(2)
    yield page.case("256 levels and 2 levels, all equally likely", log_prob, d, bits=[8.0, 1.0])
    b = draw.integer(4, 7)
    yield page.case("a batch", -90 + 10 * draw.normal(b), 64)
    yield page.case("one data point", -2 + draw.normal(1), draw.integer(2, 9))
    yield page.case("one dimension", -3 + draw.normal(b), 1)
    yield page.case("log-probabilities near −10⁴", -1e4 + 100 * draw.normal(b), 3072, extreme=True)
    log_prob = (-50 + 10 * draw.normal(b, 2))[:, 0]
    yield page.case("an argument that is not contiguous in memory", log_prob, 28)


page.must_equal(
    "bits",
    "With all of 256 levels equally likely a dimension costs 8 bits, with two levels 1. "
    "Yours does not.",
)


@page.right
def _(log_prob, num_dims):
    return -log_prob / (num_dims * math.log(2))


@page.wrong("nats per dimension")
def _(log_prob, num_dims):
    """You return nats: {got}; a bit is log 2 nats, so divide by log 2, {expected}."""
    return -log_prob / num_dims


page.but(
    "sign",
    "You keep the sign of the log-probability: {got}; bits are a cost, −log P(x), {expected}.",
    torch.neg,
)


@page.wrong("bits of the whole vector")
def _(log_prob, num_dims):
    """You do not divide by the number of dimensions: {got}; for each dimension it is
    {expected}.
    """
    return -log_prob / math.log(2)


@page.wrong("multiplied by log 2")
def _(log_prob, num_dims):
    """You multiply by log 2: {got}; a nat is more than a bit, 1/log 2 of them, so divide,
    {expected}.
    """
    return -log_prob * math.log(2) / num_dims


page.but(
    "levels paid for twice",
    "You add 8 bits for rescaling by 256 levels: {got}; the log-probability is that of the "
    "discrete model, which owes nothing any more, {expected}.",
    lambda bits: bits + 8,
)
page.but(
    "average over the batch",
    "You average over the batch; each data point has its own bits, shape (B,).",
    torch.mean,
)


@page.wrong("perplexity")
def _(log_prob, num_dims):
    """You exponentiate, which is the perplexity of a dimension: {got}; bits are the logarithm
    itself, {expected}.
    """
    return torch.exp(-log_prob / num_dims)


page.but(
    "detached",
    "Your numbers are right, but you detach them, so nothing can be trained with them.",
    torch.detach,
)
