"""`monte_carlo_kl`: a KL divergence estimated with S samples of q."""

import math

import torch

from dgm_utils import vampprior
from nbjudge.asking.page import Page

page = Page(
    vampprior.monte_carlo_kl,
    "the average of log q − log p over the S samples, shape (B,)",
    points=1,
    minutes=4,
    difficulty=1,
    axes="S B, S B -> B",
    wrt="log_q log_p",
    hints=(
        "KL(q ‖ p) is an expectation under q, and you have S samples of q.",
        "KL(q ‖ p) = E_q [log q(z) − log p(z)]: average this difference over axis 0.",
        "One line: `(log_q - log_p).mean(…)` over the axis of the samples.",
    ),
)

page.terms(
    {
        "the mean of log q": lambda log_q: log_q.mean(0),
        "the mean of log p": lambda log_p: log_p.mean(0),
    }
)


@page.cases
def _(draw):
    log_q = draw.tensor([[-1.0, -2.0, 0.0], [-2.0, -5.0, 0.0]])
    log_p = draw.tensor([[-3.0, -2.0, 2.0], [-4.0, -4.0, 1.0]])
    yield page.case("two samples of three data points", log_q, log_p, kl=[2.0, -0.5, -1.5])
    s, b = draw.integer(3, 4), draw.integer(5, 7)
    args = (draw.normal(1, b) - 3, draw.normal(1, b) - 3)
    yield page.case("one sample", *args, kl=(args[0] - args[1])[0].double().cpu())
    yield page.case("one data point", draw.normal(s, 1), draw.normal(s, 1) - 2)
    args = (2 * draw.normal(s, b) - 5, 2 * draw.normal(s, b) - 7)
    yield page.case("more data points than samples", *args)
    yield page.case("as many samples as data points", draw.normal(3, 3), draw.normal(3, 3))

    # log q − log p is a square in z here, and two samples one standard deviation from the mean
    # have the mean square of q: their average is the KL itself.
    mean, log_var = 2 * draw.normal(b), draw.normal(b)
    z = torch.stack([mean + torch.exp(0.5 * log_var), mean - torch.exp(0.5 * log_var)])
    log_q = (-0.5 * (1 + log_var + math.log(2 * math.pi))).expand(2, b).clone()
    log_p = -0.5 * (z**2 + math.log(2 * math.pi))
    exact = (0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var)).double().cpu()
    yield page.case("KL(N(μ, σ²) ‖ N(0, 1)) at z = μ ± σ", log_q, log_p, kl=exact)

    args = (draw.normal(s, b) - 20, 2 * draw.normal(s, b) - 1e4)
    yield page.case("log p near −10⁴", *args, extreme=True)
    args = (draw.normal(b, s).T, draw.normal(b, s).T - 1)
    yield page.case("arguments that are not contiguous in memory", *args)


page.must_equal(
    "kl",
    "Where the KL divergence is known, the average over these samples is equal to it. "
    "Yours is not.",
    single=1e-4,
)


page.but(
    "sign reversed",
    "You average log p − log q, the negative of the KL: {got}; KL(q ‖ p) averages log q − log p, "
    "{expected}.",
    torch.neg,
)


@page.wrong("sum over the samples")
def _(log_q, log_p):
    """You add the samples: {got}; an expectation is estimated by their average, {expected}."""
    return (log_q - log_p).sum(0)


@page.wrong("weighted with q again")
def _(log_q, log_p):
    """You weight each term with q(z), as in a sum over all z: {got}; samples of q come as often
    as q says already, so each counts the same, {expected}.
    """
    return (torch.exp(log_q) * (log_q - log_p)).mean(0)


@page.wrong("log of mean for mean of logs")
def _(log_q, log_p):
    """You take the log of the average ratio q/p: {got}; the KL is the average of the log ratio,
    {expected}.
    """
    return torch.logsumexp(log_q - log_p, 0) - math.log(log_q.shape[0])


page.but(
    "no negative values",
    "You cut off at 0: {got}. The KL is never negative, but an estimate may be, {expected}; what "
    "is cut off makes it biased.",
    lambda kl: kl.clamp(min=0),
)


@page.wrong("absolute values")
def _(log_q, log_p):
    """You average |log q − log p|: {got}; terms of both signs belong to the average, or it is
    biased, {expected}.
    """
    return (log_q - log_p).abs().mean(0)


@page.wrong("half the square")
def _(log_q, log_p):
    """You average ½ (log q − log p)²: {got}. That is close to the KL where p is close to q and
    nowhere else; the average of log q − log p is {expected}.
    """
    return 0.5 * ((log_q - log_p) ** 2).mean(0)


@page.wrong("wrong axis")
def _(log_q, log_p):
    """You average over the data points, axis 1; the S samples are on axis 0 and each data point
    has its own KL, shape (B,).
    """
    return (log_q - log_p).mean(1)


page.but(
    "average over everything",
    "You average over samples and data points together; each data point has its own KL, shape "
    "(B,).",
    torch.mean,
)


@page.wrong("q detached")
def _(log_q, log_p):
    """Your numbers are right, but you detach log q, so the encoder is not told that its own
    density counts; differentiate both.
    """
    return (log_q.detach() - log_p).mean(0)
