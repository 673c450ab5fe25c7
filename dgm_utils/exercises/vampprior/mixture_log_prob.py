"""`mixture_log_prob`: the log-density of a mixture of Gaussians."""

import math

import torch

from dgm_utils import vampprior
from dgm_utils.exercises.vampprior._shared import EXPANDED, plane
from nbjudge.asking.page import Page

page = Page(
    vampprior.mixture_log_prob,
    "log of the average of C diagonal Gaussian densities, shape (B,)",
    points=3,
    minutes=20,
    difficulty=2,
    axes="B L, C L, C L -> B",
    wrt="z means log_vars",
    rtol=EXPANDED,
    hints=(
        "First the log-density of each point under each component, `(B, C)`; then the log of the "
        "average over the components.",
        "`z.unsqueeze(1) - means` is `(B, C, L)`. A component is a product over its dimensions, so "
        "its log-densities are summed over the last axis, before anything happens to the axis "
        "of the components.",
        "With `log_normal = -0.5 * (squares / variance + log_vars + log 2π).sum(-1)`, return "
        "`torch.logsumexp(log_normal, 1) - math.log(C)`.",
    ),
)


@page.cases
def _(draw):
    # Two components at ±1 look the same from 0, so that the mixture is each of them there.
    log_var = draw.normal(1, 1).expand(2, 1)
    variance = math.exp(log_var[0, 0].item())
    exact = -0.5 * (1 / variance + math.log(2 * math.pi * variance))
    args = (draw.tensor([[0.0]]), draw.tensor([[1.0], [-1.0]]), log_var.clone())
    yield page.case("halfway between two components", *args, log_prob=[exact])

    b, c, latents = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 8)
    args = (draw.normal(b, latents), draw.normal(c, latents), draw.normal(c, latents))
    yield page.case("all axes of different length", *args)
    args = (draw.normal(b, 2), draw.normal(1, 2), draw.normal(1, 2))
    z, mean, log_var = (arg.double().cpu() for arg in args)
    squares = (z - mean) ** 2 / log_var.exp()
    exact = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(1)
    yield page.case("one component", *args, log_prob=exact)
    args = (draw.normal(3, 3), 2 * draw.normal(3, 3), draw.normal(3, 3))
    yield page.case("three points, three components, three dimensions", *args)
    args = (draw.normal(1, 4), draw.normal(c, 4), draw.normal(c, 4))
    yield page.case("one point", *args)

    points, log_cell = plane(draw)
    means, log_vars = 4 * draw.uniform(2, 2) - 2, 1.4 * draw.uniform(2, 2) - 1
    yield page.case("a grid over two dimensions", points, means, log_vars, log_cell=log_cell)

    far = draw.tensor([[0.0, 0.0], [90.0, -90.0], [-1000.0, 0.0]])
    args = (far, draw.normal(c, 2), 0.3 * draw.normal(c, 2))
    yield page.case("points far from every component", *args, extreme=True)
    args = (draw.normal(b, 2), 80 * draw.normal(c, 2), 0.3 * draw.normal(c, 2))
    yield page.case("components far apart", *args, extreme=True)
    args = (2 * draw.normal(b, 300), 2 * draw.normal(c, 300), draw.normal(c, 300))
    yield page.case("300 dimensions", *args, extreme=True)
    args = (draw.normal(latents, b).T, draw.normal(latents, c).T, draw.normal(latents, c).T)
    yield page.case("arguments that are not contiguous in memory", *args)


page.must_equal(
    "log_prob",
    "Where all components look the same, or there is one only, the mixture is that Gaussian. "
    "Yours is not.",
    single=1e-3,
)
page.must_add_to_one(
    "log_cell",
    "A density integrates to 1: over a grid of two dimensions the densities times the area of a "
    "cell must add to 1. Yours do not.",
    double=1e-6,
)


@page.formula
def _(z, means, log_vars):
    squares = (z[..., None, :] - means) ** 2 / log_vars.exp()
    log_q = -0.5 * (squares + log_vars + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_q, -1) - math.log(len(means))


@page.piece
def squares(z, means, log_vars):
    """Squared distances in standard deviations, `(B, C, L)`."""
    return (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)


@page.piece
def log_normal(z, means, log_vars):
    """Log-density of each point under each component, `(B, C)`."""
    return -0.5 * (squares(z, means, log_vars) + log_vars + math.log(2 * math.pi)).sum(-1)


@page.wrong("product of one-dimensional mixtures")
def _(z, means, log_vars):
    """You take the log-sum-exp over the components in each dimension and add the dimensions
    afterwards, which scores a product of one-dimensional mixtures with C^L modes: {got}; first
    sum each component's log-density over the dimensions, {expected}.
    """
    log_each = -0.5 * (squares(z, means, log_vars) + log_vars + math.log(2 * math.pi))
    return (torch.logsumexp(log_each, 1) - math.log(means.shape[0])).sum(-1)


@page.wrong("log C forgotten")
def _(z, means, log_vars):
    """You add the C densities and do not divide by C: {got}, a density that integrates to C;
    less log C it is {expected}.
    """
    return torch.logsumexp(log_normal(z, means, log_vars), 1)


@page.wrong("mean of logs for log of mean")
def _(z, means, log_vars):
    """You average the components' log-densities: {got}; a mixture is the average of the
    densities, and its log is {expected}.
    """
    return log_normal(z, means, log_vars).mean(1)


@page.wrong("densities that underflow")
def _(z, means, log_vars):
    """You leave the log for the densities themselves, which are 0 in floating point far from
    the components or in many dimensions: {got}; with log-sum-exp it is {expected}.
    """
    return torch.log(torch.exp(log_normal(z, means, log_vars)).mean(1))


@page.wrong("epsilon inside the log")
def _(z, means, log_vars):
    """You add a small number inside the log, which hides densities below it: {got}; with
    log-sum-exp none is needed, {expected}.
    """
    return torch.log(torch.exp(log_normal(z, means, log_vars)).mean(1) + 1e-8)


@page.wrong("variance taken for the standard deviation")
def _(z, means, log_vars):
    """You use exp(log_vars) as standard deviations: {got}; they are variances, and the standard
    deviation is exp(log_vars / 2), which gives {expected}.
    """
    return torch.logsumexp(log_normal(z, means, 2 * log_vars), 1) - math.log(means.shape[0])


@page.wrong("2π left out")
def _(z, means, log_vars):
    """You leave out ½ log 2π of each dimension: {got}; alone, a log-density needs it,
    {expected}.
    """
    unnormalized = -0.5 * (squares(z, means, log_vars) + log_vars).sum(-1)
    return torch.logsumexp(unnormalized, 1) - math.log(means.shape[0])


@page.wrong("log-variance left out")
def _(z, means, log_vars):
    """You leave ½ log σ² out of the Gaussians, so wide ones count for too much: {got}; with
    it the mixture gives {expected}.
    """
    unnormalized = -0.5 * (squares(z, means, log_vars) + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(unnormalized, 1) - math.log(means.shape[0])


@page.wrong("nearest component only")
def _(z, means, log_vars):
    """You keep the component that explains z best and drop the others: {got}; all of them add
    to the density, {expected}.
    """
    return log_normal(z, means, log_vars).max(1).values - math.log(means.shape[0])


@page.wrong("one Gaussian with averaged parameters")
def _(z, means, log_vars):
    """You average the means and log-variances and score one Gaussian: {got}; a mixture averages
    densities, not parameters, {expected}.
    """
    mean, log_var = means.mean(0), log_vars.mean(0)
    squares = (z - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)


@page.wrong("wrong axis")
def _(z, means, log_vars):
    """You average over the points and are left with one number for each component; average over
    the components: one number for each point, shape (B,).
    """
    return torch.logsumexp(log_normal(z, means, log_vars), 0) - math.log(z.shape[0])
