"""`flow_elbo`: the ELBO of one sample of a flow posterior."""

import torch

from dgm_utils import nf_as_vae
from nbjudge.asking.page import Page

page = Page(
    nf_as_vae.flow_elbo,
    "the one-sample ELBO log p(x, z_K) − log q_K(z_K|x) with a flow posterior, shape (B,)",
    points=1,
    minutes=5,
    difficulty=1,
    axes="B, B, _ -> B",
    wrt="log_joint log_q0 log_dets",
    hints=(
        "The ELBO of one sample is log p(x, z) − log q(z|x), at the sample z = z_K.",
        "log q_K(z_K) = log q(z_0) − Σ log|det|: mind the sign when you subtract it.",
        "`log_joint - (log_q0 - …)`, with the sum of the log-dets.",
    ),
)

page.terms(
    {
        "log p(x, z)": lambda log_joint: log_joint,
        "log q₀": lambda log_q0: log_q0,
        "Σ log |det|": lambda log_dets: sum(log_dets),
    }
)


@page.cases
def _(draw):
    args = (draw.tensor([-5.0]), draw.tensor([-1.0]), [draw.tensor([0.5]), draw.tensor([0.25])])
    yield page.case("two layers, one data point", *args, elbo=[-3.25])

    def random(name, layers, b):
        log_dets = [draw.normal(b) for _ in range(layers)]
        return page.case(name, draw.normal(b) - 90, draw.normal(b) - 3, log_dets)

    layers, b = draw.integer(3, 4), draw.integer(5, 7)
    yield random("several layers", layers, b)
    yield random("one layer", 1, b)
    yield random("as many layers as data points", b, b)
    # When q_K is the posterior, p(x, z_K)/q_K(z_K) is p(x) for every sample.
    log_px, log_q0 = draw.normal(b) - 50, draw.normal(b) - 2
    log_dets = [draw.normal(b) for _ in range(layers)]
    log_joint = log_px + log_q0 - torch.stack(log_dets).sum(0)
    args = (log_joint, log_q0, log_dets)
    yield page.case("q_K is the posterior", *args, log_px=log_px.double().cpu())
    scale = draw.tensor([0.0, -1e4, 1e4])
    args = (draw.normal(3) + scale, draw.normal(3), [draw.normal(3) for _ in range(layers)])
    yield page.case("data points 10⁴ apart", *args, extreme=True)
    columns = draw.normal(b, layers + 2)
    args = (columns[:, 0], columns[:, 1], list(columns[:, 2:].unbind(1)))
    yield page.case("columns of one matrix", *args)


page.must_equal(
    "elbo",
    "With log p(x, z_K) = −5, log q(z_0) = −1 and log-dets ½ and ¼, log q_K is −1.75 and the ELBO "
    "−3.25. Yours is not.",
)
page.must_equal(
    "log_px", "Where q_K is the posterior, every sample's bound is log p(x). Yours is not."
)


@page.formula
def _(log_joint, log_q0, log_dets):
    return log_joint - log_q0 + sum(log_dets)


@page.formula
def _(log_joint, log_q0, log_dets):
    log_q = log_q0
    for log_det in log_dets:
        log_q = log_q - log_det
    return log_joint - log_q


@page.right
def _(log_joint, log_q0, log_dets):
    return log_joint - log_q0 + sum(log_dets)


@page.wrong("log-dets subtracted")
def _(log_joint, log_q0, log_dets):
    """You subtract the log-dets from the ELBO: {got}; log q_K contains −Σ log|det|, and the ELBO
    subtracts log q_K, so they are added, {expected}.
    """
    return log_joint - log_q0 - sum(log_dets)


@page.wrong("log-dets left out")
def _(log_joint, log_q0, log_dets):
    """You subtract the density of z_0 from the joint of z_K: {got}; the sample is z_K, with
    log q_K = log q_0 − Σ log|det|, {expected}.
    """
    return log_joint - log_q0


@page.wrong("q0 left out")
def _(log_joint, log_q0, log_dets):
    """You leave log q(z_0) out: {got}; log q_K has it beside the log-dets, {expected}."""
    return log_joint + sum(log_dets)


@page.wrong("log q added")
def _(log_joint, log_q0, log_dets):
    """You add log q_K: {got}; the ELBO is E log p(x, z) − E log q(z), {expected}."""
    return log_joint + log_q0 - sum(log_dets)


page.but(
    "loss",
    "You return the negative ELBO, a loss: {got}; the bound itself is {expected}.",
    torch.neg,
)


@page.wrong("average over the layers")
def _(log_joint, log_q0, log_dets):
    """You average the log-dets over the layers: {got}; they add up, {expected}."""
    return log_joint - log_q0 + sum(log_dets) / len(log_dets)


@page.wrong("last layer only")
def _(log_joint, log_q0, log_dets):
    """You use the last layer's log-det only: {got}; every layer changes volumes, {expected}."""
    return log_joint - log_q0 + log_dets[-1]


page.but(
    "average over the batch",
    "You average over the batch; each data point has its own ELBO, shape (B,).",
    torch.mean,
)


@page.wrong("log q detached")
def _(log_joint, log_q0, log_dets):
    """Your numbers are right, but you detach log q_K, so that nothing keeps the posterior from
    shrinking to a point.
    """
    return log_joint - (log_q0 - sum(log_dets)).detach()
