"""`naive_log_likelihood`: log p(x) by the average likelihood of samples of the prior."""

import math

import torch

from dgm_utils import latent_variable_models
from nbjudge.asking.page import Page
from nbjudge.asking.statements import at_most, is_exact

page = Page(
    latent_variable_models.naive_log_likelihood,
    "the log of the average likelihood, log (1/K Σ_k p(x|z_k)), shape (B,)",
    points=2,
    minutes=10,
    difficulty=1,
    axes="K B -> B",
    wrt="log_px_given_z",
    hints=(
        "p(x) = E p(x|z) over z ~ p(z). Estimate it by an average of likelihoods, then take the "
        "log. The order matters.",
        "exp(−10⁴) is 0 in floating point. With m the largest of a column, "
        "log Σ exp(a_k) = m + log Σ exp(a_k − m); `torch.logsumexp` does this.",
        "`torch.logsumexp(…)` over the axis of the samples, minus the log of the number of "
        "samples.",
    ),
)


@page.cases
def _(draw):
    log_px = draw.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]).log()
    exact = [math.log(2), math.log(4)]
    yield page.case("likelihoods 1, 2, 3 and 2, 4, 6", log_px, log_px=exact)
    tiny = [value - 1e4 for value in exact]
    yield page.case(
        "likelihoods 1, 2, 3 and 2, 4, 6, times e⁻¹⁰⁰⁰⁰", log_px - 1e4, log_px=tiny, extreme=True
    )
    yield page.case("one sample", draw.normal(1, draw.integer(4, 6)))
    k, b = draw.integer(4, 5), draw.integer(6, 8)
    yield page.case("more data points than samples", 2 * draw.normal(k, b) - 3)
    yield page.case("one data point", draw.normal(b, 1))
    scale = draw.tensor([0.0, -1e4, 1e4])
    yield page.case("data points 10⁴ apart", draw.normal(k, 3) + scale, extreme=True)
    log_px = (2 * draw.normal(b, k) + 1).T
    yield page.case("an argument that is not contiguous in memory", log_px)

    # p(z) = N(0, 1) and p(x|z) = N(z, ½) at x = 1. The same samples in groups of K give estimates
    # of p(x) with the same average, exactly, whatever K is.
    log_px = -((1 - draw.normal(256)) ** 2) - 0.5 * math.log(math.pi)
    average = log_px.double().exp().mean().item()
    for k in (4, 32):
        name = f"256 samples in groups of {k}"
        yield page.case(name, log_px.reshape(k, -1), likelihood=average)


@page.must
def lie_between(value, log_px_given_z):
    """The log of an average lies between the average of the logs and the largest of them.
    Yours does not.
    """
    return at_most(log_px_given_z.mean(0), value) and at_most(value, log_px_given_z.amax(0))


page.must_equal(
    "log_px",
    "Likelihoods 1, 2, 3 average to 2, whatever factor e^c they share, so the result is log 2 + c. "
    "Yours is not.",
)


@page.must
def be_unbiased(value, likelihood):
    """The same samples in groups of K give estimates of p(x) with the same average for every K.
    Yours, after exp, do not.
    """
    return is_exact(value.exp().mean(), likelihood)


@page.formula
def _(log_px_given_z):
    return torch.log(torch.exp(log_px_given_z).mean(0))


@page.formula
def _(log_px_given_z):
    largest = log_px_given_z.amax(0)
    return largest + torch.log(torch.exp(log_px_given_z - largest).mean(0))


@page.right
def _(log_px_given_z):
    return torch.logsumexp(log_px_given_z, 0) - math.log(log_px_given_z.shape[0])


@page.wrong("mean of logs for log of mean")
def _(log_px_given_z):
    """You average the logs: {got}; the estimate of p(x) is the average of the likelihoods, and
    its log is {expected}.
    """
    return log_px_given_z.mean(0)


@page.wrong("log K forgotten")
def _(log_px_given_z):
    """You take the log of the sum of the likelihoods: {got}; an average divides by K, so log K
    is subtracted, {expected}.
    """
    return torch.logsumexp(log_px_given_z, 0)


@page.wrong("log K subtracted twice")
def _(log_px_given_z):
    """You subtract log K twice, inside and outside the log: {got}; once gives {expected}."""
    log_k = math.log(log_px_given_z.shape[0])
    return torch.logsumexp(log_px_given_z - log_k, 0) - log_k


@page.wrong("sum of logs")
def _(log_px_given_z):
    """You add the logs over the samples, as if the samples were data: {got}; they are K tries
    at one data point, whose average likelihood has the log {expected}.
    """
    return log_px_given_z.sum(0)


@page.wrong("wrong axis")
def _(log_px_given_z):
    """You average over the batch, axis 1; the K samples are on axis 0."""
    return torch.logsumexp(log_px_given_z, 1) - math.log(log_px_given_z.shape[1])


page.but(
    "sum over the batch",
    "You sum over the data points as well; each has its own estimate, shape (B,).",
    torch.sum,
)
page.but(
    "mean over the batch",
    "You average over the data points as well; each has its own estimate, shape (B,).",
    torch.mean,
)


@page.wrong("exponentials that underflow")
def _(log_px_given_z):
    """You exponentiate the log-likelihoods themselves, and e^(−10⁴) is 0 in floating point:
    {got}; with the largest subtracted first it is {expected}.
    """
    return torch.log(torch.exp(log_px_given_z).mean(0))


@page.wrong("epsilon inside the log")
def _(log_px_given_z):
    """You add a small number inside the log, which hides likelihoods that underflow: {got};
    with the largest subtracted first it needs none, {expected}.
    """
    return torch.log(torch.exp(log_px_given_z).mean(0) + 1e-8)


@page.wrong("one maximum for the whole tensor")
def _(log_px_given_z):
    """You subtract the maximum of the whole tensor, so a data point far below it underflows:
    {got}; with the maximum of its own column it is {expected}.
    """
    largest = log_px_given_z.max()
    return largest + torch.log(torch.exp(log_px_given_z - largest).mean(0))


page.but(
    "likelihood for its log",
    "You return the average likelihood itself: {got}; its log is {expected}.",
    torch.exp,
)


@page.wrong("best sample")
def _(log_px_given_z):
    """You keep the sample that explains x best: {got}; all K count in the average, {expected}."""
    return log_px_given_z.max(0).values


page.but(
    "detached",
    "Your numbers are right, but you detach the log-likelihoods, so nothing can be trained with "
    "them.",
    torch.detach,
)
