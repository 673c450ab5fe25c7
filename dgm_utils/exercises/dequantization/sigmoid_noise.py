"""`sigmoid_noise`: noise in the unit cell from a Gaussian, and its log-density."""

import math

import torch
import torch.nn.functional as F

from dgm_utils import dequantization
from dgm_utils.exercises.dequantization._shared import LOG_2PI
from nbjudge.asking.page import Page

page = Page(
    dequantization.sigmoid_noise,
    "u = sigmoid(eps · exp(log_scale) + shift), shape (B, D), and log q(u), shape (B,)",
    points=3,
    minutes=20,
    difficulty=3,
    axes="B D, B D, B D -> B D, B",
    wrt="eps shift log_scale",
    hints=(
        "A change of variables: log q(u) = log N(eps; 0, I) − log|det ∂u/∂eps|. The map acts on "
        "each dimension by itself, so the log-determinant is a sum over D.",
        "With a = eps·exp(log_scale) + shift the slope is exp(log_scale)·σ(a)·σ(−a). "
        "`F.logsigmoid` gives log σ without rounding, at any a.",
        "`-0.5 * (eps**2 + math.log(2 * math.pi))`, minus `log_scale`, minus `F.logsigmoid(a)` "
        "and minus `F.logsigmoid(-a)`, all summed over the last axis.",
    ),
)


@page.cases
def _(draw):
    zero = draw.tensor(torch.zeros(1, 2))
    args, log_q = (zero, zero, zero + math.log(2)), [2 * (math.log(2) - 0.5 * LOG_2PI)]
    yield page.case("eps = 0, no shift, scale 2", *args, u=0.5, log_q=log_q)
    b, d = draw.integer(3, 4), draw.integer(5, 7)
    args = (draw.normal(b, d), draw.normal(b, d), 0.5 * draw.normal(b, d))
    yield page.case("a batch", *args)
    args = (draw.normal(1, d), draw.normal(1, d), draw.normal(1, d) - 1)
    yield page.case("one data point", *args)

    # Far out log σ(a) + log σ(−a) is −|a|, up to e^(−|a|).
    eps = 40 * (2 * draw.bernoulli(b, d) - 1)
    eps[0, :2] = draw.tensor([40.0, -40.0])
    shift, log_scale = draw.normal(b, d), 0.1 * draw.normal(b, d)
    e, t, s = (v.cpu().double() for v in (eps, shift, log_scale))
    slopes = -(e * torch.exp(s) + t).abs()
    log_q = (-0.5 * e**2 - 0.5 * LOG_2PI - s - slopes).sum(-1)
    yield page.case("eps = ±40", eps, shift, log_scale, log_q=log_q, extreme=True)
    args = (draw.normal(b, d), 5 * draw.normal(b, d), draw.normal(b, d))
    yield page.case("wide and narrow noise, large shifts", *args, extreme=True)

    # In one dimension, on a grid: q(u) du = q(u) |∂u/∂eps| deps, and the whole is 1.
    grid = torch.linspace(-8, 8, 129, dtype=torch.float64)[:, None]
    shift, log_scale = torch.randn(2, generator=draw.generator, dtype=torch.float64).tolist()
    log_scale = 0.3 * log_scale
    a = grid * math.exp(log_scale) + shift
    log_slope = F.logsigmoid(a) + F.logsigmoid(-a) + log_scale
    args = (grid, torch.full_like(grid, shift), torch.full_like(grid, log_scale))
    args = tuple(draw.tensor(arg) for arg in args)
    log_cell = log_slope[:, 0] + math.log(16 / 128)
    yield page.case("one dimension, eps on a grid", *args, log_cell=log_cell)
    args = (draw.normal(2, 300), draw.normal(2, 300), 0.5 * draw.normal(2, 300))
    yield page.case("300 dimensions", *args, extreme=True)
    args = (draw.normal(d, b).T, draw.normal(d, b).T, 0.5 * draw.normal(d, b).T)
    yield page.case("arguments that are not contiguous in memory", *args)


# What it says of the noise, and what it says of its density.
for fact, part in (("u", 0), ("log_q", 1)):
    page.must_equal(
        fact,
        "At eps = 0, shift 0 and scale 2 the noise is ½ and its density (2/√2π)^D; far out "
        "log σ(a) + log σ(−a) is −|a|. Yours says otherwise.",
        part=part,
    )
page.must_add_to_one(
    "log_cell",
    "q is a density: in one dimension, integrated over u on a grid, it must give 1. "
    "Yours does not.",
    part=1,
    double=1e-6,
)


@page.formula
def _(eps, shift, log_scale):
    a = eps * torch.exp(log_scale) + shift
    log_normal = -0.5 * (eps**2 + math.log(2 * math.pi)).sum(1)
    log_slope = (F.logsigmoid(a) + F.logsigmoid(-a)).sum(1)
    return torch.sigmoid(a), log_normal - log_scale.sum(1) - log_slope


@page.formula
def _(eps, shift, log_scale):
    a = eps * torch.exp(log_scale) + shift
    log_normal = -0.5 * (eps**2).sum(1) - 0.5 * eps.shape[1] * math.log(2 * math.pi)
    log_slope = (F.logsigmoid(a) + F.logsigmoid(-a)).sum(1)
    return torch.sigmoid(a), log_normal - log_scale.sum(1) - log_slope


@page.piece
def stretched(eps, shift, log_scale):
    """The sigmoid's argument."""
    return eps * torch.exp(log_scale) + shift


@page.piece
def log_normal(eps):
    """Log-density of a standard normal vector."""
    return -0.5 * (eps**2 + math.log(2 * math.pi)).sum(-1)


@page.piece
def log_det(a, log_scale):
    """Log-determinant of the affine map and the sigmoid, whose argument is a."""
    return (log_scale + F.logsigmoid(a) + F.logsigmoid(-a)).sum(-1)


@page.wrong("log-determinant with the wrong sign")
def _(eps, shift, log_scale):
    """You add log|det ∂u/∂eps| to log N(eps): {got}; where the map stretches, the density thins
    out, so it is subtracted, {expected}.
    """
    a = stretched(eps, shift, log_scale)
    return torch.sigmoid(a), log_normal(eps) + log_det(a, log_scale)


@page.wrong("base density left out")
def _(eps, shift, log_scale):
    """You return −log|det ∂u/∂eps| alone: {got}; log q also has the density of eps itself,
    log N(eps; 0, I), {expected}.
    """
    a = stretched(eps, shift, log_scale)
    return torch.sigmoid(a), -log_det(a, log_scale)


@page.wrong("log_scale left out")
def _(eps, shift, log_scale):
    """You leave the affine map's log-determinant out: {got}; scaling by exp(log_scale) costs
    Σ log_scale, {expected}.
    """
    a = stretched(eps, shift, log_scale)
    return torch.sigmoid(a), log_normal(eps) - (F.logsigmoid(a) + F.logsigmoid(-a)).sum(-1)


@page.wrong("sigmoid's slope left out")
def _(eps, shift, log_scale):
    """You return the density before the sigmoid: {got}; with the sigmoid's own log-determinant,
    log σ(a) + log σ(−a), it is {expected}.
    """
    a = stretched(eps, shift, log_scale)
    return torch.sigmoid(a), log_normal(eps) - log_scale.sum(-1)


@page.wrong("base density at the wrong point")
def _(eps, shift, log_scale):
    """You evaluate N(0, I) at the sigmoid's argument: {got}; it is eps that has this density,
    {expected}.
    """
    a = stretched(eps, shift, log_scale)
    return torch.sigmoid(a), log_normal(a) - log_det(a, log_scale)


@page.wrong("½ log 2π left out")
def _(eps, shift, log_scale):
    """You drop ½ log 2π: {got}; nothing cancels it here, since log p(x + u) has constants of its
    own, {expected}.
    """
    a = stretched(eps, shift, log_scale)
    return torch.sigmoid(a), -0.5 * (eps**2).sum(-1) - log_det(a, log_scale)


@page.wrong("log_scale taken for a log-variance")
def _(eps, shift, log_scale):
    """You scale by exp(log_scale / 2), as if log_scale were the log of a variance: {got};
    the scale is exp(log_scale), {expected}.
    """
    half = 0.5 * log_scale
    a = stretched(eps, shift, half)
    return torch.sigmoid(a), log_normal(eps) - log_det(a, half)


@page.wrong("log of rounded noise")
def _(eps, shift, log_scale):
    """You compute log u + log(1 − u) from u, which is rounded to 1 far out: {got}; from the
    sigmoid's argument, as log σ(a) + log σ(−a), it is {expected}.
    """
    u = torch.sigmoid(stretched(eps, shift, log_scale))
    return u, log_normal(eps) - (log_scale + torch.log(u) + torch.log(1 - u)).sum(-1)


@page.wrong("epsilon inside the log")
def _(eps, shift, log_scale):
    """You add a small number to u and 1 − u before the log: {got}; log σ(a) + log σ(−a) needs
    none, {expected}.
    """
    u = torch.sigmoid(stretched(eps, shift, log_scale))
    log_slope = torch.log(u + 1e-8) + torch.log(1 - u + 1e-8)
    return u, log_normal(eps) - (log_scale + log_slope).sum(-1)


@page.wrong("not summed over the dimensions")
def _(eps, shift, log_scale):
    """You return log q of each dimension; the density of a vector is one number, their sum over
    D, shape (B,).
    """
    a = stretched(eps, shift, log_scale)
    log_normal = -0.5 * (eps**2 + math.log(2 * math.pi))
    return torch.sigmoid(a), log_normal - log_scale - F.logsigmoid(a) - F.logsigmoid(-a)


@page.wrong("log q detached")
def _(eps, shift, log_scale):
    """Your numbers are right, but you detach log q, so the noise would be trained for log p
    alone and shrink to a point.
    """
    a = stretched(eps, shift, log_scale)
    return torch.sigmoid(a), (log_normal(eps) - log_det(a, log_scale)).detach()
