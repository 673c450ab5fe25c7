"""`importance_weighted_dequantization`: the log of the average weight of S draws of noise."""

import math

import torch

from dgm_utils import dequantization
from dgm_utils.exercises.dequantization import _densities
from dgm_utils.exercises.dequantization._shared import (
    COARSE,
    levels,
    log_mass,
    mixture,
    noise,
    on_the_line,
    posterior_noise,
)
from dgm_utils.oracles import unit_cell
from nbjudge.asking.page import Page
from nbjudge.asking.statements import at_most

page = Page(
    dequantization.importance_weighted_dequantization,
    "the log of the average weight p(x + u_s) / q(u_s|x) over S draws, shape (B,)",
    points=2,
    minutes=10,
    difficulty=2,
    axes="_, B D, S B D, S B -> B",
    wrt="log_prob u log_q",
    rtol=COARSE,
    may_use=(_densities,),
    hints=(
        "Under u ~ q(u|x) the weight p(x + u)/q(u|x) has the mean P(x). Average the weights first, "
        "then take the log.",
        "log w = log p(x + u) − log q(u|x) has shape (S, B). exp(log w) may be 0 or ∞ in floating "
        "point; `torch.logsumexp` avoids both.",
        "`torch.logsumexp(log_prob(x + u) - log_q, …)` over the axis of the draws, minus the log "
        "of their number.",
    ),
)


@page.cases
def _(draw):
    flat = _densities.FlatOnCells(draw.tensor([[1.0, 3.0]]).log())
    x = torch.tensor([[0], [1]], device=draw.device)
    # P = ¼ and ¾; divided by q = ½, 1 and by q = 1, 3 the weights are ½, ¼ and ¾, ¼.
    log_q = draw.tensor([[0.5, 1.0], [1.0, 3.0]]).log()
    args, exact = (flat, x, noise(draw, 2, 2, 1), log_q), [math.log(3 / 8), math.log(1 / 2)]
    yield page.case("weights ½, ¼ and ¾, ¼", *args, wrt="log_prob log_q", bound=exact)
    s, b, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    args = (mixture(draw, 3, d), levels(draw, 6, b, d), noise(draw, s, b, d), draw.normal(s, b))
    yield page.case("all axes of different length", *args)
    x = levels(draw, 6, b, d, dtype=torch.uint8)
    args = (mixture(draw, 2, d), x, noise(draw, 1, b, d), 1 + draw.normal(1, b))
    yield page.case("one draw, levels held as bytes", *args)
    x = draw.tensor(levels(draw, 6, 1, 1))
    args = (mixture(draw, 2, 1), x, noise(draw, 5, 1, 1), draw.normal(5, 1))
    yield page.case("one data point, one dimension, levels held as floats", *args)

    density = mixture(draw, 3, d, centre=1.5)
    x = levels(draw, 3, b, d, dtype=torch.int32)
    u, log_q, log_pmf = posterior_noise(draw, density, x, s)
    name = "q is the density within the cell"
    yield page.case(name, density, x, u, log_q, log_pmf=log_pmf)

    # With u at the nodes of a quadrature and 1/q its weights, times S, the average weight is the
    # integral of p over the cell.
    nodes, log_weights = unit_cell(9, dims=2)
    density, x = mixture(draw, 2, 2, centre=1.5), levels(draw, 3, b, 2)
    log_q = -(log_weights + math.log(len(nodes)))[:, None].repeat(1, b)
    args = (density, x, draw.tensor(nodes[:, None].repeat(1, b, 1)), draw.tensor(log_q))
    yield page.case("noise and weights of a quadrature", *args, log_pmf=log_mass(density, x))

    scale = draw.tensor([0.0, -1e4, 1e4])
    args = (mixture(draw, 3, d), levels(draw, 6, 3, d), noise(draw, s, 3, d))
    args = (*args, draw.normal(s, 3) + scale)
    yield page.case("data points 10⁴ nats apart", *args, extreme=True)
    args = (mixture(draw, 2, 300), levels(draw, 6, 2, 300), noise(draw, s, 2, 300))
    yield page.case("300 dimensions", *args, 5 * draw.normal(s, 2), extreme=True)
    args = (mixture(draw, 2, b), levels(draw, 6, b, d).T, noise(draw, b, d, s).permute(2, 1, 0))
    args = (*args, draw.normal(d, s).T)
    yield page.case("arguments that are not contiguous in memory", *args)

    # One narrow Gaussian inside the cell of x = 2, with uniform noise. The same 512 draws are
    # grouped by 1, 4, … so that the average of the bound grows with S exactly.
    density = on_the_line(draw, 2.4, -1.5)
    u = draw.uniform(512)
    for s in (1, 4, 16, 64):
        u_s = u.reshape(s, -1, 1)
        x = torch.full_like(u_s[0], 2, dtype=torch.int64)
        log_q = torch.zeros_like(u_s[..., 0])
        args, log_px = (density, x, u_s, log_q), log_mass(density, x[:1]).item()
        yield page.case(f"one narrow Gaussian, S = {s}", *args, draws=s, log_px=log_px)


# In float64 the quadrature is exact to 1e-8, not better.
page.must_equal(
    "log_pmf",
    "Where every weight is P(x), as for q(u|x) = p(x + u)/P(x), or where weights and noise are "
    "those of a quadrature, the result is log P(x). Yours is not.",
    double=1e-7,
)
page.must_equal(
    "bound",
    "The weights ½ and ¼ average to ⅜, and ¾ and ¼ to ½. Yours do not.",
)


@page.must
def lie_above_the_variational_bound(bound, log_prob, x, u, log_q):
    """By Jensen's inequality the log of an average is at least the average of the logs. Yours is
    below it.
    """
    return at_most(dequantization.variational_bound(log_prob, x, u, log_q), bound)


@page.formula
def _(log_prob, x, u, log_q):
    log_w = log_prob(x + u) - log_q
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


@page.wrong("mean of logs for log of mean")
def _(log_prob, x, u, log_q):
    """You average the log-weights, which is the variational bound: {got}; here the weights are
    averaged and the log taken after it, {expected}.
    """
    return (log_prob(x + u) - log_q).mean(0)


@page.wrong("log S forgotten")
def _(log_prob, x, u, log_q):
    """You take the log of the sum of the weights: {got}; an average divides by S, so log S is
    subtracted, {expected}.
    """
    return torch.logsumexp(log_prob(x + u) - log_q, 0)


@page.wrong("log S subtracted twice")
def _(log_prob, x, u, log_q):
    """You subtract log S twice, inside and outside the log: {got}; once gives {expected}."""
    log_s = math.log(u.shape[0])
    return torch.logsumexp(log_prob(x + u) - log_q - log_s, 0) - log_s


@page.wrong("log q added")
def _(log_prob, x, u, log_q):
    """You add log q: {got}; the weight is p(x + u) divided by q(u|x), so its log is subtracted,
    {expected}.
    """
    return torch.logsumexp(log_prob(x + u) + log_q, 0) - math.log(u.shape[0])


@page.wrong("log q left out")
def _(log_prob, x, u, log_q):
    """You average p(x + u) without dividing by q(u|x), which is right for uniform noise only:
    {got}; with it the result is {expected}.
    """
    return torch.logsumexp(log_prob(x + u) + 0 * log_q, 0) - math.log(u.shape[0])


@page.wrong("ratio of averages")
def _(log_prob, x, u, log_q):
    """You divide the average of p by the average of q: {got}; each draw has its own weight p/q,
    and these are averaged, {expected}.
    """
    return torch.logsumexp(log_prob(x + u), 0) - torch.logsumexp(log_q, 0)


@page.wrong("exponentials that over- or underflow")
def _(log_prob, x, u, log_q):
    """You exponentiate the log-weights themselves, and e^(−10⁴) is 0 in floating point: {got};
    with log-sum-exp it is {expected}.
    """
    return torch.log(torch.exp(log_prob(x + u) - log_q).mean(0))


@page.wrong("one maximum for the whole tensor")
def _(log_prob, x, u, log_q):
    """You subtract the maximum of the whole tensor, so a data point far below it underflows:
    {got}; with the maximum of its own draws it is {expected}.
    """
    log_w = log_prob(x + u) - log_q
    return log_w.max() + torch.log(torch.exp(log_w - log_w.max()).mean(0))


@page.wrong("average over everything")
def _(log_prob, x, u, log_q):
    """You average the weights of draws and data points together; each data point has its own
    bound, shape (B,).
    """
    log_w = (log_prob(x + u) - log_q).flatten()
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])


@page.wrong("noise detached")
def _(log_prob, x, u, log_q):
    """Your numbers are right, but you detach u, so the noise cannot learn where the density is
    high; only log q would train it.
    """
    return torch.logsumexp(log_prob(x + u.detach()) - log_q, 0) - math.log(u.shape[0])


@page.picture
def _(axis, triples):
    """The bound against S on one density, the student's beside the right one, and log P(x)."""
    # Cases come back in several dtypes; one curve is enough.
    known = {t[0].facts["draws"]: t for t in triples if "draws" in t[0].facts}
    axis.set(xlabel="S, draws of the noise", ylabel="nats", title="The bound against S")
    if not known:
        return "The bound against S: no values to draw."
    log_px = next(iter(known.values()))[0].facts["log_px"]
    right = {s: float(expected.double().mean()) for s, (_, _, expected) in known.items()}
    yours = {
        s: float(value.double().mean())
        for s, (_, value, expected) in known.items()
        if value.shape == expected.shape and value.isfinite().all()
    }
    axis.axhline(log_px, color="black", linestyle=":", label="log P(x)")
    axis.plot(right.keys(), right.values(), "o-", color="#0072B2", markersize=9, label="right")
    if yours:
        axis.plot(yours.keys(), yours.values(), "s--", color="#D55E00", label="yours")
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(known), [str(s) for s in known])
    axis.legend()
    said = f"The bound against S. log P(x) is {log_px:.3f}; " + _from_to("the right bound", right)
    return f"{said}; {_from_to('yours', yours)}." if yours else f"{said}; yours cannot be drawn."


def _from_to(name, curve):
    (low, first), *_, (high, last) = curve.items() if len(curve) > 1 else [*curve.items()] * 2
    return f"{name} goes from {first:.3f} at S = {low} to {last:.3f} at S = {high}"
