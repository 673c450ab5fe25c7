"""`q_iw_log_prob`: the log-density of the distribution that the bound implies."""

import math

import torch

from dgm_utils import iwae
from dgm_utils.exercises.iwae._shared import COARSE, SINGLE
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    iwae.q_iw_log_prob,
    "log q_IW(z|x, z_2…z_K) = log w(z) + log q(z|x) − log of the average of all K weights",
    points=2,
    minutes=15,
    difficulty=2,
    axes="B, K-1 B, B -> B",
    wrt="log_w_first log_w_rest log_q_first",
    rtol=COARSE,
    hints=(
        "q_IW is q(z|x) times w(z) divided by the average of all K weights, w(z) included. Take "
        "logs.",
        "The log of the denominator is `iwae_bound` of the K log-weights together: put "
        "`log_w_first` on top of `log_w_rest`.",
        "`log_w = torch.cat([log_w_first[None], log_w_rest])`, then log w(z) + log q(z|x) minus "
        "`iwae_bound(log_w)`.",
    ),
)

page.terms(
    {
        "log w(z)": lambda log_w_first: log_w_first,
        "log q(z)": lambda log_q_first: log_q_first,
        "log Σ w": lambda log_w_first, log_w_rest: torch.logsumexp(
            torch.cat([log_w_first[None], log_w_rest]), 0
        ),
        "log K": lambda log_w_rest: log_w_rest.new_tensor(math.log(len(log_w_rest) + 1)),
    }
)


@page.cases
def _(draw):
    # w(z) = 3 and w(z_2) = 1 average to 2: the density grows by the factor 3/2.
    args = (draw.tensor([3.0]).log(), draw.tensor([[1.0]]).log(), draw.tensor([0.5]).log())
    yield page.case("w = 3 and 1, q = ½", *args, log_q_iw=[math.log(0.75)])
    k, b = draw.integer(4, 5), draw.integer(6, 8)
    args = (draw.normal(b), draw.normal(0, b), draw.normal(b) - 2)
    yield page.case("K = 1, no other samples", *args, wrt="log_q_first")
    args = (2 * draw.normal(b), 2 * draw.normal(k - 1, b), draw.normal(b) - 2)
    yield page.case("more data points than samples", *args)

    log_q = torch.randn(b, generator=draw.generator, dtype=torch.float64)
    log_w = draw.normal(b)
    args = (log_w, log_w.repeat(k - 1, 1), draw.tensor(log_q))
    yield page.case("equal weights", *args, log_q_iw=log_q)
    args = (draw.normal(b) - 1e4, draw.normal(k - 1, b) - 1e4, draw.normal(b))
    yield page.case("log-weights near −10⁴", *args, extreme=True)
    scale = draw.tensor([0.0, -1e4, 1e4])
    args = (draw.normal(3) + scale, draw.normal(k - 1, 3) + scale, draw.normal(3))
    yield page.case("data points 10⁴ apart", *args, extreme=True)
    args = (draw.normal(b) - 200, draw.normal(b, k - 1).T, draw.normal(b))
    yield page.case("a sample with almost no weight", *args, extreme=True)

    # q = N(0, 1), posterior N(½, 0.8²); z and z_2 on a grid: E_{z_2} q_IW(z|x, z_2) sums to one.
    grid = torch.linspace(-6, 6, 31, dtype=torch.float64)
    log_q = -0.5 * grid**2 - 0.5 * math.log(2 * math.pi)
    log_w = -0.5 * ((grid - 0.5) / 0.8) ** 2 - log_q
    log_q_first, log_q_second = (v.flatten() for v in torch.meshgrid(log_q, log_q, indexing="ij"))
    first, second = (v.flatten() for v in torch.meshgrid(log_w, log_w, indexing="ij"))
    args = tuple(draw.tensor(v) for v in (first, second[None], log_q_first))
    log_cell = log_q_second + 2 * math.log(12 / 30)
    yield page.case("K = 2 on a grid of z and z_2", *args, log_cell=log_cell)


@page.must
def be_q_without_other_samples(value, log_w_rest, log_q_first):
    """Without other samples the weight cancels, and q_IW is q. Yours is not."""
    return len(log_w_rest) > 0 or is_exact(value, log_q_first.double().cpu(), single=SINGLE)


page.must_equal(
    "log_q_iw",
    "Where all K weights are equal q_IW is q; where w(z) = 3 and the other weight is 1 it is 3/2 "
    "of it. Yours is not.",
    single=SINGLE,
)
page.must_add_to_one(
    "log_cell",
    "Averaged over z_2 ~ q and integrated over z, q_IW must give 1: q_EW is a density. "
    "Yours is not.",
    double=1e-6,
)


@page.formula
def _(log_w_first, log_w_rest, log_q_first):
    log_w = torch.cat([log_w_first[None], log_w_rest])
    log_average = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    return log_w_first + log_q_first - log_average


@page.wrong("K − 1 for K")
def _(log_w_first, log_w_rest, log_q_first):
    """You divide by the number of the other samples, K − 1: {got}; the average is over all K, z
    among them, {expected}.
    """
    log_w = torch.cat([log_w_first[None], log_w_rest])
    average = torch.logsumexp(log_w, 0) - math.log(max(len(log_w_rest), 1))
    return log_w_first + log_q_first - average


@page.wrong("z left out of the sum")
def _(log_w_first, log_w_rest, log_q_first):
    """You divide by K but leave w(z) out of the sum: {got}; with it the result is {expected}."""
    average = torch.logsumexp(log_w_rest, 0) - math.log(len(log_w_rest) + 1)
    return log_w_first + log_q_first - average


@page.wrong("average of the others")
def _(log_w_first, log_w_rest, log_q_first):
    """You average the other K − 1 weights only: {got}; w(z) itself belongs to the average of K,
    {expected}.
    """
    average = torch.logsumexp(log_w_rest, 0) - math.log(max(len(log_w_rest), 1))
    return log_w_first + log_q_first - average


@page.wrong("log q forgotten")
def _(log_w_first, log_w_rest, log_q_first):
    """You leave log q(z|x) out, so this is only the reweighting factor: {got}; the density has
    both, {expected}.
    """
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first - torch.logsumexp(log_w, 0) + math.log(len(log_w)) + 0 * log_q_first


@page.wrong("log q subtracted")
def _(log_w_first, log_w_rest, log_q_first):
    """You subtract log q(z|x): {got}; the factor multiplies q, so its log is added, {expected}."""
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first - log_q_first - torch.logsumexp(log_w, 0) + math.log(len(log_w))


@page.wrong("log K forgotten")
def _(log_w_first, log_w_rest, log_q_first):
    """You divide by the sum of the weights: {got}; the denominator is their average, so log K
    is added, {expected}.
    """
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first + log_q_first - torch.logsumexp(log_w, 0)


@page.wrong("log K subtracted")
def _(log_w_first, log_w_rest, log_q_first):
    """You subtract log K: {got}; it divides the denominator, so it is added, {expected}."""
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first + log_q_first - torch.logsumexp(log_w, 0) - math.log(len(log_w))


@page.wrong("mean of logs in the denominator")
def _(log_w_first, log_w_rest, log_q_first):
    """You subtract the average log-weight, the ELBO: {got}; the denominator is the log of the
    average weight, {expected}.
    """
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first + log_q_first - log_w.mean(0)


@page.wrong("w(z) left out")
def _(log_w_first, log_w_rest, log_q_first):
    """You leave the weight of z out of the numerator: {got}; with it the result is {expected}."""
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_q_first - torch.logsumexp(log_w, 0) + math.log(len(log_w))


@page.wrong("exponentials that underflow")
def _(log_w_first, log_w_rest, log_q_first):
    """You exponentiate the log-weights themselves, and e^(−10⁴) is 0 in floating point: {got};
    in logs it is {expected}.
    """
    w = torch.exp(torch.cat([log_w_first[None], log_w_rest]))
    return torch.log(w[0] / w.mean(0)) + log_q_first


@page.wrong("density for log-density")
def _(log_w_first, log_w_rest, log_q_first):
    """You return the density: {got}; its log is {expected}."""
    log_w = torch.cat([log_w_first[None], log_w_rest])
    ratio = torch.softmax(log_w, 0)[0] * len(log_w)
    return ratio * torch.exp(log_q_first)
