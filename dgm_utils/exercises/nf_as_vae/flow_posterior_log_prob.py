"""`flow_posterior_log_prob`: log q(z_K) of a sample that went through K layers."""

import math

import torch

from dgm_utils import nf_as_vae
from dgm_utils.exercises.nf_as_vae._shared import LOG_2PI
from nbjudge.asking.page import Page

page = Page(
    nf_as_vae.flow_posterior_log_prob,
    "log q_K(z_K) from log q(z_0) and the log-det of each layer, shape (B,)",
    points=1,
    minutes=5,
    difficulty=1,
    axes="B, _ -> B",
    wrt="log_q0 log_dets",
    hints=(
        "One layer: q_1(z_1) |dz_1| = q_0(z_0) |dz_0|.",
        "So log q_1(z_1) = log q_0(z_0) − log|det ∂z_1/∂z_0|, and the same again for each layer.",
        "`log_q0` and `sum(log_dets)`, with the right sign between them.",
    ),
)


@page.cases
def _(draw):
    z0 = torch.tensor([0.0, 1.0], dtype=torch.float64)
    log_q0 = -0.5 * (z0**2 + LOG_2PI)
    log_dets = [draw.tensor([math.log(2)] * 2) for _ in range(3)]
    # N(0, 1) stretched by 2 three times is N(0, 8²).
    exact = -0.5 * (z0**2 + LOG_2PI) - math.log(8)
    yield page.case("three layers z → 2z", draw.tensor(log_q0), log_dets, log_qk=exact)

    def random(name, layers, b):
        log_dets = [draw.normal(b) for _ in range(layers)]
        return page.case(name, draw.normal(b) - 3, log_dets)

    layers, b = draw.integer(3, 4), draw.integer(5, 7)
    yield random("several layers", layers, b)
    yield random("one layer", 1, b)
    yield random("one data point", layers, 1)
    yield random("as many layers as data points", b, b)
    yield random("80 layers", 80, 2)
    scale = draw.tensor([0.0, -1e4, 1e4])
    log_dets = [draw.normal(3) - scale / layers for _ in range(layers)]
    yield page.case("log-dets 10⁴ apart", draw.normal(3), log_dets, extreme=True)
    columns = draw.normal(b, layers + 1)
    yield page.case("columns of one matrix", columns[:, 0], list(columns[:, 1:].unbind(1)))


page.must_equal("log_qk", "N(0, 1) stretched by 2 three times is N(0, 8²). Yours is not.")


@page.formula
def _(log_q0, log_dets):
    return log_q0 - sum(log_dets)


@page.formula
def _(log_q0, log_dets):
    log_q = log_q0
    for log_det in log_dets:
        log_q = log_q - log_det
    return log_q


@page.wrong("log-dets added")
def _(log_q0, log_dets):
    """You add the log-dets: {got}; a layer base → data that stretches thins the density, so they
    are subtracted, {expected}.
    """
    return log_q0 + sum(log_dets)


@page.wrong("last layer only")
def _(log_q0, log_dets):
    """You use the last layer's log-det only: {got}; every layer changes volumes, {expected}."""
    return log_q0 - log_dets[-1]


@page.wrong("last layer left out")
def _(log_q0, log_dets):
    """You leave the last layer out: {got}; that is the density before it, and that of z_K is
    {expected}.
    """
    return log_q0 - sum(log_dets[:-1])


@page.wrong("average over the layers")
def _(log_q0, log_dets):
    """You average over the layers: {got}; determinants multiply, so their logs add up,
    {expected}.
    """
    return log_q0 - sum(log_dets) / len(log_dets)


@page.wrong("sum over the batch")
def _(log_q0, log_dets):
    """You sum the log-dets over the batch as well: {got}; each data point keeps its own,
    {expected}.
    """
    return log_q0 - torch.stack(log_dets).sum()


@page.wrong("q0 left out")
def _(log_q0, log_dets):
    """You leave log q(z_0) out: {got}; the layers only change it, {expected}."""
    return -sum(log_dets)


@page.wrong("determinants for their logs")
def _(log_q0, log_dets):
    """You subtract the determinants themselves: {got}; with their logs it is {expected}."""
    return log_q0 - sum(torch.exp(log_det) for log_det in log_dets)


@page.wrong("log of the summed determinants")
def _(log_q0, log_dets):
    """You take the log of the sum of the determinants: {got}; they multiply, so their logs are
    summed, {expected}.
    """
    return log_q0 - torch.logsumexp(torch.stack(log_dets), 0)


@page.wrong("determinants multiplied first")
def _(log_q0, log_dets):
    """You multiply the determinants and take the log at the end, and e^(−10⁴) is 0 in floating
    point: {got}; add the logs, {expected}.
    """
    return log_q0 - torch.log(torch.exp(torch.stack(log_dets)).prod(0))


@page.wrong("log-dets detached")
def _(log_q0, log_dets):
    """Your numbers are right, but you detach the log-dets, so that the layers learn nothing from
    the density they make.
    """
    return log_q0 - sum(log_det.detach() for log_det in log_dets)
