"""`iwae_bound`: the log of the average weight, log (1/K Σ_k w_k)."""

import math

import torch

from dgm_utils import iwae
from dgm_utils.exercises.iwae._shared import SINGLE
from nbjudge.asking.page import Page
from nbjudge.asking.statements import at_most, is_exact

page = Page(
    iwae.iwae_bound,
    "the log of the average weight, log (1/K Σ_k w_k), shape (B,)",
    points=2,
    minutes=10,
    difficulty=2,
    axes="K B -> B",
    wrt="log_w",
    hints=(
        "Average the weights, then take the log: log (1/K Σ_k exp(log w_k)). The order matters.",
        "exp(−10⁴) is 0 in floating point. With m the largest log-weight of a data point, "
        "log Σ exp(log w_k) = m + log Σ exp(log w_k − m); `torch.logsumexp` does this.",
        "`torch.logsumexp(…)` over the axis of the samples, minus the log of the number of "
        "samples.",
    ),
)


@page.cases
def _(draw):
    log_w = draw.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]).log()
    exact = [math.log(2), math.log(4)]
    yield page.case("weights 1, 2, 3 and 2, 4, 6", log_w, bound=exact)
    tiny = [value - 1e4 for value in exact]
    yield page.case(
        "weights 1, 2, 3 and 2, 4, 6, times e⁻¹⁰⁰⁰⁰", log_w - 1e4, bound=tiny, extreme=True
    )
    huge = [value + 1e3 for value in exact]
    yield page.case(
        "weights 1, 2, 3 and 2, 4, 6, times e¹⁰⁰⁰", log_w + 1e3, bound=huge, extreme=True
    )
    yield page.case("one sample", draw.normal(1, draw.integer(4, 6)))
    k, b = draw.integer(4, 5), draw.integer(6, 8)
    yield page.case("more data points than samples", 2 * draw.normal(k, b) - 3)
    yield page.case("one data point", draw.normal(b, 1))
    scale = draw.tensor([0.0, -1e4, 1e4])
    yield page.case("data points 10⁴ apart", draw.normal(k, 3) + scale, extreme=True)
    log_w = (2 * draw.normal(b, k)).T
    yield page.case("an argument that is not contiguous in memory", log_w)

    # One model, p(z) = N(0, 1) and p(x|z) = N(z, ½), at x = 1, with q = N(0, 0.8²). The same 2048
    # samples are grouped by 1, 2, 4, … so that the average of the bound grows with K exactly.
    z = 0.8 * draw.normal(2048)
    log_px = -0.5 / 1.5 - 0.5 * math.log(2 * math.pi * 1.5)
    log_w = -((1 - z) ** 2) - 0.5 * z**2 + 0.5 * (z / 0.8) ** 2
    log_w = log_w - 0.5 * math.log(math.pi) + math.log(0.8)
    for k in (1, 2, 4, 8, 16, 32):
        name = f"a model with known log p(x), K = {k}"
        yield page.case(name, log_w.reshape(k, -1), samples=k, log_px=log_px)


@page.must
def be_the_first_log_weight_of_one(bound, log_w):
    """With one sample the bound is its log-weight, the ELBO. Yours is not."""
    return len(log_w) > 1 or is_exact(bound, log_w[0].double().cpu(), single=SINGLE)


@page.must
def lie_between(bound, log_w):
    """The log of an average lies between the average of the logs and the largest of them.
    Yours does not.
    """
    return at_most(log_w.mean(0), bound) and at_most(bound, log_w.amax(0))


page.must_equal(
    "bound",
    "Weights 1, 2, 3 average to 2, whatever factor e^c they share, so the bound is log 2 + c. "
    "Yours is not.",
    single=SINGLE,
)


@page.formula
def _(log_w):
    return torch.log(torch.exp(log_w).mean(0))


@page.formula
def _(log_w):
    largest = log_w.amax(0)
    return largest + torch.log(torch.exp(log_w - largest).mean(0))


@page.right
def _(log_w):
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])


@page.wrong("mean of logs for log of mean")
def _(log_w):
    """You average the logs, which is the ELBO L_1: {got} here; the bound is the log of the
    average weight, {expected}.
    """
    return log_w.mean(0)


@page.wrong("log K forgotten")
def _(log_w):
    """You take the log of the sum of the weights: {got}; an average divides by K, so log K is
    subtracted, {expected}.
    """
    return torch.logsumexp(log_w, 0)


@page.wrong("log K subtracted twice")
def _(log_w):
    """You subtract log K twice, inside and outside the log: {got}; once gives {expected}."""
    log_k = math.log(log_w.shape[0])
    return torch.logsumexp(log_w - log_k, 0) - log_k


page.but(
    "sum over the batch",
    "You sum over the data points as well; each has its own bound, shape (B,).",
    torch.sum,
)
page.but(
    "mean over the batch",
    "You average over the data points as well; each has its own bound, shape (B,).",
    torch.mean,
)


@page.wrong("wrong axis")
def _(log_w):
    """You reduce over the batch, axis 1; the K samples are on axis 0."""
    return torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])


@page.wrong("exponentials that underflow")
def _(log_w):
    """You exponentiate the log-weights themselves, and e^(−10⁴) is 0 in floating point: {got};
    with the largest subtracted first it is {expected}.
    """
    return torch.log(torch.exp(log_w).mean(0))


@page.wrong("epsilon inside the log")
def _(log_w):
    """You add a small number inside the log, which hides weights that underflow: {got}; with
    the largest log-weight subtracted first it needs none, {expected}.
    """
    return torch.log(torch.exp(log_w).mean(0) + 1e-8)


@page.wrong("one maximum for the whole tensor")
def _(log_w):
    """You subtract the maximum of the whole tensor, so a data point far below it underflows:
    {got}; with the maximum of its own column it is {expected}.
    """
    largest = log_w.max()
    return largest + torch.log(torch.exp(log_w - largest).mean(0))


@page.wrong("weighted average of logs")
def _(log_w):
    """You average the logs with the normalized weights: {got}; the gradient of the bound is
    such an average of gradients, the bound itself is the log of the average weight, {expected}.
    """
    return (torch.softmax(log_w, 0) * log_w).sum(0)


@page.wrong("maximum")
def _(log_w):
    """You take the largest log-weight: {got}; the bound averages all K weights, {expected}."""
    return log_w.max(0).values


page.but(
    "detached",
    "Your numbers are right, but you detach the log-weights, so nothing can be trained with them.",
    torch.detach,
)


@page.picture
def _(axis, triples):
    """The bound against K on one model, the student's beside the right one, and log p(x)."""
    # Cases come back in several dtypes; one curve is enough.
    known = {t[0].facts["samples"]: t for t in triples if "samples" in t[0].facts}
    axis.set(xlabel="K, samples", ylabel="nats", title="The bound against K")
    if not known:
        return "The bound against K: no values to draw."
    log_px = next(iter(known.values()))[0].facts["log_px"]
    right = {k: float(expected.double().mean()) for k, (_, _, expected) in known.items()}
    yours = {
        k: float(value.double().mean())
        for k, (_, value, expected) in known.items()
        if value.shape == expected.shape and value.isfinite().all()
    }
    axis.axhline(log_px, color="black", linestyle=":", label="log p(x)")
    axis.plot(right.keys(), right.values(), "o-", color="#0072B2", markersize=9, label="$L_K$")
    if yours:
        axis.plot(yours.keys(), yours.values(), "s--", color="#D55E00", label="yours")
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(known), [str(k) for k in known])
    axis.legend()
    said = f"The bound against K. log p(x) is {log_px:.3f}; " + _from_to("the right bound", right)
    return f"{said}; {_from_to('yours', yours)}." if yours else f"{said}; yours cannot be drawn."


def _from_to(name, curve):
    (low, first), *_, (high, last) = curve.items() if len(curve) > 1 else [*curve.items()] * 2
    return f"{name} goes from {first:.3f} at K = {low} to {last:.3f} at K = {high}"
