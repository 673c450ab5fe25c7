"""`reverse_kl`: estimates of KL(p‖π) from draws of the flow p."""

import torch

from dgm_utils import maf_vs_iaf
from dgm_utils.exercises.maf_vs_iaf import _networks
from dgm_utils.exercises.maf_vs_iaf._shared import kl_cases
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    maf_vs_iaf.reverse_kl,
    "log p(x) − log π(x) at x = g(z) for each draw z of the base, shape (B,)",
    points=2,
    minutes=15,
    difficulty=2,
    axes="B D, _, _, _ -> B",
    wrt="z base_log_prob generate target_log_prob",
    may_use=(_networks,),
    hints=(
        "KL(p‖π) is the expectation of log p(x) − log π(x) over x ~ p, and x = g(z) with z from "
        "the base is such a draw. You need log p at a point that you have just generated.",
        "Change of variables: log p(x) = log p(z) − log|det ∂x/∂z|. No inverse of g is needed, "
        "because z is known.",
        "`x, log_det = generate(z)`, then `base_log_prob(z) - log_det - target_log_prob(x)`.",
    ),
)

page.terms(
    {
        "log p(z)": lambda z, base_log_prob: base_log_prob(z),
        "log |det|": lambda z, generate: generate(z)[1],
        "the target's log p(x)": lambda z, generate, target_log_prob: target_log_prob(
            generate(z)[0]
        ),
    }
)


@page.cases
def _(draw):
    yield from kl_cases(page, draw)


page.must_equal(
    "log_ratio",
    "Where the flow's density is the target's, log p(x) − log π(x) is 0 for every draw (and −3 "
    "where π is too large by e³). Yours is not.",
)


@page.must
def average_to_the_kl(value, kl):
    """For these z the average over the draws is exactly the KL divergence of two Gaussians.
    Yours is not.
    """
    return is_exact(value.mean(), kl)


@page.wrong("log-det with the wrong sign")
def _(z, base_log_prob, generate, target_log_prob):
    """You add the log-determinant: {got}. `generate` gives that of z → x; where the map
    stretches, the density falls, so log p(x) = log p(z) − log_det, {expected}.
    """
    x, log_det = generate(z)
    return base_log_prob(z) + log_det - target_log_prob(x)


page.but(
    "the sign of the ratio",
    "You return log π(x) − log p(x): {got}; KL(p‖π) is the expectation under p of log p(x) − log "
    "π(x), {expected}.",
    torch.neg,
)


@page.wrong("the base at x")
def _(z, base_log_prob, generate, target_log_prob):
    """You evaluate the base's density at x: {got}; the base is the density of z, {expected}."""
    x, log_det = generate(z)
    return base_log_prob(x) - log_det - target_log_prob(x)


@page.wrong("the target at z")
def _(z, base_log_prob, generate, target_log_prob):
    """You evaluate the target at z: {got}; it is a density of the data, x = g(z), {expected}."""
    _, log_det = generate(z)
    return base_log_prob(z) - log_det - target_log_prob(z)


@page.wrong("the base left out")
def _(z, base_log_prob, generate, target_log_prob):
    """You leave log p(z) out: {got}. On average it is a constant, but not for each sample, and
    without it the value is no divergence: {expected}.
    """
    x, log_det = generate(z)
    return -log_det - target_log_prob(x)


@page.wrong("log-det left out")
def _(z, base_log_prob, generate, target_log_prob):
    """You leave the log-determinant out: {got}; the density of x = g(z) is p(z) divided by the
    stretch of g, {expected}.
    """
    x, _ = generate(z)
    return base_log_prob(z) - target_log_prob(x)


page.but(
    "averaged over the batch",
    "You average over the draws; each has its own value here, shape (B,).",
    torch.mean,
)


@page.wrong("x detached")
def _(z, base_log_prob, generate, target_log_prob):
    """Your numbers are right, but you detach x, so that the flow is not told where the target is
    high; its gradient goes through log π(g(z)).
    """
    x, log_det = generate(z)
    return base_log_prob(z) - log_det - target_log_prob(x.detach())
