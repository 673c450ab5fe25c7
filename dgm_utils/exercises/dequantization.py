"""What is asked in the assignment `dequantization`: cases, exact answers, wrong answers, hints.

The densities that the cases hand over, `log_prob` and `cdf`, are the modules at the top. The wrong
implementations use `torch`, `F`, `math` and `itertools` and nothing else of this module, because
their sources are pasted into notebooks that have the same imports.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from dgm_utils import dequantization
from dgm_utils.exercises import EDITION
from dgm_utils.oracles import unit_cell
from nbjudge.asking.exercise import Exercise, Misconceptions, Property
from nbjudge.asking.statements import adds_to_one, at_most, is_exact, is_fact
from nbjudge.check import Checker
from nbjudge.inside.case import Case

_LOG_2PI = math.log(2 * math.pi)

# A student's function calls the densities of this module.
_HERE = ("dgm_utils.exercises.dequantization",)

# Log-weights of 10⁴ are a thousandth apart in float32, and a right answer may round a few times.
_COARSE = {torch.float64: 1e-8, torch.float32: 5e-3}


class GaussianMixture(nn.Module):
    """A mixture of C Gaussians with diagonal covariances, its log-density `(..., D) → (...)`."""

    def __init__(self, means, log_stds, logits):
        super().__init__()
        self.means = nn.Parameter(means)
        self.log_stds = nn.Parameter(log_stds)
        self.logits = nn.Parameter(logits)

    def forward(self, y):
        """Log-density of real vectors."""
        standardized = (y[..., None, :] - self.means) * torch.exp(-self.log_stds)
        log_prob = -0.5 * (standardized**2 + _LOG_2PI).sum(-1) - self.log_stds.sum(-1)
        return torch.logsumexp(log_prob + torch.log_softmax(self.logits, 0), -1)


class FlatOnCells(nn.Module):
    """A density that is constant on each unit cell, `(..., D) → (...)`; heights `(D, levels)`."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, y):
        """Log-density of real vectors in [0, levels)."""
        pixels = torch.arange(y.shape[-1], device=y.device)
        heights = torch.log_softmax(self.logits, -1)
        return heights[pixels, torch.floor(y).long()].sum(-1)


class LogisticMixtureCdf(nn.Module):
    """The distribution function of a mixture of C logistics on the line, elementwise."""

    def __init__(self, means, log_scales, logits):
        super().__init__()
        self.means = nn.Parameter(means)
        self.log_scales = nn.Parameter(log_scales)
        self.logits = nn.Parameter(logits)

    def forward(self, y):
        """Probability of what lies below y."""
        below = torch.sigmoid((y[..., None] - self.means) * torch.exp(-self.log_scales))
        return (below * torch.softmax(self.logits, 0)).sum(-1)


class PiecewiseLinearCdf(nn.Module):
    """The distribution function of a density that is constant on each unit cell, elementwise."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, y):
        """Probability of what lies below y."""
        levels = torch.arange(len(self.logits), device=y.device)
        return ((y[..., None] - levels).clamp(0, 1) * torch.softmax(self.logits, 0)).sum(-1)


def _mixture(draw, components, dims, centre=3.0):
    """A mixture with standard deviations around 1 and means around `centre`."""
    means, log_stds = centre + draw.normal(components, dims), 0.3 * draw.normal(components, dims)
    return GaussianMixture(means, log_stds, draw.normal(components))


def _gaussian(draw, dims):
    """One Gaussian, and its means and standard deviations in float64."""
    density = _mixture(draw, 1, dims)
    mean, std = density.means.detach().cpu().double(), density.log_stds.detach().cpu().double()
    return density, mean[0], torch.exp(std[0])


def _log_pmf(mixture, x):
    """Exact log P(x) of a mixture of Gaussians, from distribution functions, in float64."""
    means, log_stds, logits = (p.detach().cpu().double() for p in mixture.parameters())
    x = x.cpu().double()[..., None, :]
    low, high = ((e - means) * torch.exp(-log_stds) for e in (x, x + 1))
    # The same mass on the other side: above the mean the difference is one of numbers near 1.
    low, high = torch.where(low + high > 0, -high, low), torch.where(low + high > 0, -low, high)
    # torch's ndtr is 0 below −9.
    mass = (torch.erfc(-high / math.sqrt(2)) - torch.erfc(-low / math.sqrt(2))) / 2
    return torch.logsumexp(torch.log(mass).sum(-1) + torch.log_softmax(logits, 0), -1)


def _levels(draw, high, *shape, dtype=torch.int64):
    """Levels 0 … high."""
    x = torch.randint(high + 1, shape, generator=draw.generator)
    return x.to(draw.device, dtype)


def _noise(draw, *shape):
    """Noise of U[0, 1) that stays below the next level when float32 rounds x + u."""
    return 0.999 * draw.uniform(*shape)


# --- uniform_dequantize ---------------------------------------------------------------------------


def _uniform_dequantize_cases(draw):
    x = torch.tensor([0, 3, 255], device=draw.device)
    args = (x, draw.tensor([0.25, 0.5, 0.75]))
    yield Case("three levels", args, (1,), {"y": [0.25, 3.5, 255.75]})
    b, d = draw.integer(3, 4), draw.integer(5, 7)
    yield Case("a batch", (_levels(draw, 16, b, d), _noise(draw, b, d)), wrt=(1,))
    args = (_levels(draw, 255, b, d, dtype=torch.uint8), _noise(draw, b, d))
    yield Case("levels held as bytes", args, wrt=(1,))
    args = (_levels(draw, 16, d, dtype=torch.int32), _noise(draw, d))
    yield Case("levels held as int32, one axis", args, wrt=(1,))
    args = (_levels(draw, 1, 2, b, 4, 4, dtype=torch.int16), _noise(draw, 2, b, 4, 4))
    yield Case("binary images, four axes", args, wrt=(1,))
    args = (draw.tensor(_levels(draw, 16, b, d)), _noise(draw, b, d))
    yield Case("levels held as floats", args, wrt=(1,))
    args = (_levels(draw, 7, d, b).T, _noise(draw, d, b).T)
    yield Case("arguments that are not contiguous in memory", args, wrt=(1,))


def _stays_in_the_cell(case, value):
    x = case.args[0]
    return bool(((x <= value) & (value < x + 1.0)).all())


uniform_dequantize_wrong = Misconceptions()


@uniform_dequantize_wrong("noise added to rescaled levels")
def _(x, noise):
    """You divide the levels by 256 first, so the noise is 256 levels wide: {got}; one level
    wide means added to the levels themselves, {expected}.
    """
    return x / 256 + noise


@uniform_dequantize_wrong("rescaled to the unit interval")
def _(x, noise):
    """You add the noise and then divide by 256: {got}; nothing is rescaled here, so that a cell
    has volume 1, {expected}.
    """
    return (x + noise) / 256


@uniform_dequantize_wrong("noise as narrow as on rescaled levels")
def _(x, noise):
    """You divide the noise by 256, as if the levels were in [0, 1]: {got}; neighbouring levels
    are 1 apart here, and the noise fills all of that, {expected}.
    """
    return x + noise / 256


@uniform_dequantize_wrong("noise around zero")
def _(x, noise):
    """You centre the noise on the level: {got}; here the cell of x is [x, x + 1), with x at its
    lower end, {expected}.
    """
    return x + noise - 0.5


@uniform_dequantize_wrong("noise two levels wide")
def _(x, noise):
    """You stretch the noise to [−1, 1), so that neighbouring cells overlap: {got}; the noise is
    already as wide as one level, {expected}.
    """
    return x + 2 * noise - 1


@uniform_dequantize_wrong("noise rounded to whole numbers")
def _(x, noise):
    """You turn the noise into the dtype of x, and integers drop everything after the point; turn
    x into the dtype of the noise.
    """
    return x + noise.to(x.dtype)


@uniform_dequantize_wrong("detached")
def _(x, noise):
    """Your numbers are right, but you detach the noise; learned noise needs its gradient."""
    return x + noise.detach()


_uniform_dequantize = Exercise(
    name="uniform_dequantize",
    question="levels x plus noise u of U[0, 1), in the noise's dtype",
    reference=dequantization.uniform_dequantize,
    cases=_uniform_dequantize_cases,
    properties=(
        Property(
            "in the cell",
            "x + u lies in the cell [x, x + 1), so rounding down must give x back. Yours does not.",
            _stays_in_the_cell,
        ),
        Property(
            "exact",
            "The levels 0, 3, 255 with the noise ¼, ½, ¾ become 0.25, 3.5, 255.75. Yours do not.",
            is_fact("y"),
        ),
    ),
    misconceptions=tuple(uniform_dequantize_wrong),
    hints=(
        "The noise is as wide as the distance between two levels, which is 1.",
        "Nothing is rescaled. The levels are integers, the result has the dtype of the noise.",
        "A sum; `x.to(noise.dtype)` says which dtype it has.",
    ),
    points=1,
    minutes=3,
    difficulty=1,
)


# --- exact_log_pmf --------------------------------------------------------------------------------


def _pmf_cases(draw):
    # Weights 1, 2, 1 of the three cells; the distribution function is 0, ¼, ¾, 1 at their ends.
    cdf = PiecewiseLinearCdf(draw.tensor([1.0, 2.0, 1.0]).log())
    x = torch.arange(3, device=draw.device)
    exact = [math.log(0.25), math.log(0.5), math.log(0.25)]
    yield Case("three levels with P = ¼, ½, ¼", (cdf, x), (0,), {"log_pmf": exact})

    def logistics(components):
        means, log_scales = 3 + draw.normal(components), 0.3 * draw.normal(components)
        return LogisticMixtureCdf(means, log_scales, draw.normal(components))

    b, d = draw.integer(3, 4), draw.integer(5, 6)
    args = (logistics(draw.integer(2, 4)), _levels(draw, 6, b, d))
    yield Case("a mixture of logistics", args, wrt=(0,))
    args = (logistics(1), _levels(draw, 6, 1, d, dtype=torch.uint8))
    yield Case("levels held as bytes, one data point", args, wrt=(0,))
    args = (logistics(3), draw.tensor(_levels(draw, 6, b, 1)))
    yield Case("levels held as floats, one dimension", args, wrt=(0,))
    levels = draw.integer(6, 9)
    cdf = PiecewiseLinearCdf(draw.normal(levels))
    x = torch.arange(levels, device=draw.device)
    exact = torch.log_softmax(cdf.logits.detach().cpu().double(), 0)
    yield Case("all levels of a density", (cdf, x), (0,), {"log_pmf": exact, "all": True})
    args = (logistics(2), _levels(draw, 6, d, 2, b, dtype=torch.int32).permute(2, 1, 0))
    yield Case("three axes that are not contiguous in memory", args, wrt=(0,))


def _all_add_to_one(case, value):
    return "all" not in case.facts or is_exact(value.exp().sum(), 1.0)


exact_log_pmf_wrong = Misconceptions()


@exact_log_pmf_wrong("difference of logs")
def _(cdf, x):
    """You subtract the logs: {got}; the probability of the cell is the difference of the
    distribution function itself, and the log comes after it, {expected}.
    """
    return torch.log(cdf(x + 1)) - torch.log(cdf(x))


@exact_log_pmf_wrong("the cell below")
def _(cdf, x):
    """You use the cell [x − 1, x): {got}; the noise is added, so the cell of x is [x, x + 1),
    {expected}.
    """
    return torch.log(cdf(x) - cdf(x - 1))


@exact_log_pmf_wrong("a cell around the level")
def _(cdf, x):
    """You use the cell from x − ½ to x + ½: {got}; noise of U[0, 1) goes from x to x + 1,
    {expected}.
    """
    return torch.log(cdf(x + 0.5) - cdf(x - 0.5))


@exact_log_pmf_wrong("log forgotten")
def _(cdf, x):
    """You return the probability: {got}; its log is {expected}."""
    return cdf(x + 1) - cdf(x)


@exact_log_pmf_wrong("bits for nats")
def _(cdf, x):
    """You take the logarithm to base 2: {got}; everything here is in nats, {expected}."""
    return torch.log2(cdf(x + 1) - cdf(x))


@exact_log_pmf_wrong("everything below the cell's upper end")
def _(cdf, x):
    """You take the probability of all that lies below x + 1: {got}; what lies below x belongs
    to other levels, {expected}.
    """
    return torch.log(cdf(x + 1))


@exact_log_pmf_wrong("the wrong way round")
def _(cdf, x):
    """You subtract the upper end from the lower one, and the log of a negative number is
    {got}; the distribution function grows, so cdf(x + 1) comes first, {expected}.
    """
    return torch.log(cdf(x) - cdf(x + 1))


@exact_log_pmf_wrong("summed over the dimensions")
def _(cdf, x):
    """You sum over the last axis; here each entry of x keeps its own log-probability, in the
    shape of x.
    """
    return torch.log(cdf(x + 1) - cdf(x)).sum(-1)


@exact_log_pmf_wrong("detached")
def _(cdf, x):
    """Your numbers are right, but you detach the probability, so the density cannot be trained
    with them.
    """
    return torch.log((cdf(x + 1) - cdf(x)).detach())


_exact_log_pmf = Exercise(
    name="exact_log_pmf",
    question="log P(x), the log of the mass between x and x + 1, elementwise",
    reference=dequantization.exact_log_pmf,
    cases=_pmf_cases,
    properties=(
        Property(
            "adds to one",
            "Every point belongs to one cell, so the probabilities of all levels must add to 1. "
            "Yours do not.",
            _all_add_to_one,
        ),
        Property(
            "exact",
            "Where the density is constant on each cell its height is the probability of the "
            "level. Yours is not.",
            is_fact("log_pmf"),
        ),
    ),
    misconceptions=tuple(exact_log_pmf_wrong),
    hints=(
        "P(x) is the integral of the density over the cell [x, x + 1), and an integral of a "
        "density over an interval is a difference of its distribution function.",
        "The mass between a and b is `cdf(b) - cdf(a)`. `cdf` works on whole tensors.",
        "`torch.log(…)` of the difference of `cdf` at `x + 1` and at `x`.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
    may_use=_HERE,
)


# --- uniform_bound --------------------------------------------------------------------------------


def _two_nodes(draw, dims):
    """Two draws of noise that average every quadratic in u exactly, for each dimension."""
    node = 0.5 / math.sqrt(3)
    return draw.tensor([0.5 - node, 0.5 + node])[:, None, None].repeat(1, 1, dims)


def _uniform_bound_cases(draw):
    # A Gaussian with mean 1 and variance 1 at x = 0: E log p = −½ log 2π − ½ ∫ (u − 1)² du.
    density = GaussianMixture(draw.tensor([[1.0]]), draw.tensor([[0.0]]), draw.tensor([0.0]))
    args = (density, torch.zeros(1, 1, dtype=torch.int64, device=draw.device), _two_nodes(draw, 1))
    exact = [-0.5 * _LOG_2PI - 1 / 6]
    yield Case("a Gaussian at one level", args, (0, 2), {"bound": exact})
    s, b, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    args = (_mixture(draw, 3, d), _levels(draw, 6, b, d), _noise(draw, s, b, d))
    yield Case("all axes of different length", args, wrt=(0, 2))
    args = (_mixture(draw, 2, d), _levels(draw, 6, b, d, dtype=torch.uint8), _noise(draw, 1, b, d))
    yield Case("one draw, levels held as bytes", args, wrt=(0, 2))
    args = (_mixture(draw, 2, 1), draw.tensor(_levels(draw, 6, 1, 1)), _noise(draw, 5, 1, 1))
    yield Case("one data point, one dimension, levels held as floats", args, wrt=(0, 2))

    levels = draw.integer(4, 6)
    flat = FlatOnCells(draw.normal(d, levels))
    x = _levels(draw, levels - 1, b, d, dtype=torch.int32)
    heights = torch.log_softmax(flat.logits.detach().cpu().double(), -1)
    exact = heights[torch.arange(d), x.cpu().long()].sum(-1)
    args = (flat, x, _noise(draw, s, b, d))
    yield Case("a density that is flat on each cell", args, (0,), {"log_pmf": exact})

    density, mean, std = _gaussian(draw, d)
    x = _levels(draw, 6, b, d)
    squares = ((x.cpu() + 0.5 - mean) / std) ** 2 + 1 / 12 / std**2
    exact = -0.5 * (squares + _LOG_2PI).sum(-1) - std.log().sum()
    facts = {"bound": exact, "highest": _log_pmf(density, x)}
    args = (density, x, _two_nodes(draw, d).repeat(1, b, 1))
    yield Case("noise that averages a quadratic exactly", args, (0, 2), facts)

    far = torch.tensor([[0], [120]], device=draw.device)
    args = (_mixture(draw, 3, 2), _levels(draw, 6, 2, 2) + far, _noise(draw, s, 2, 2))
    yield Case("data points 10⁴ nats apart", args, wrt=(0, 2))
    args = (_mixture(draw, 2, 300), _levels(draw, 6, 2, 300), _noise(draw, s, 2, 300))
    yield Case("300 dimensions", args, wrt=(0, 2))
    args = (_mixture(draw, 2, b), _levels(draw, 6, b, d).T, _noise(draw, b, d, s).permute(2, 1, 0))
    yield Case("arguments that are not contiguous in memory", args, wrt=(0, 2))


def _is_below(case, value):
    if "highest" not in case.facts:
        return True
    return at_most(value.cpu(), case.facts["highest"].to(value.dtype))


uniform_bound_wrong = Misconceptions()


@uniform_bound_wrong("log of mean for mean of logs")
def _(log_prob, x, noise):
    """You average the densities and take the log, which is the importance weighted bound:
    {got}; this bound averages the logs, {expected}.
    """
    return torch.logsumexp(log_prob(x + noise), 0) - math.log(noise.shape[0])


@uniform_bound_wrong("sum over the draws")
def _(log_prob, x, noise):
    """You sum over the draws: {got}; an expectation is estimated by their average, {expected}."""
    return log_prob(x + noise).sum(0)


@uniform_bound_wrong("average over everything")
def _(log_prob, x, noise):
    """You average over draws and data points together; each data point has its own bound, shape
    (B,).
    """
    return log_prob(x + noise).mean()


@uniform_bound_wrong("average of the noise")
def _(log_prob, x, noise):
    """You average the noise and evaluate the density once: {got}; the average comes after log p,
    {expected}.
    """
    return log_prob(x + noise.mean(0))


@uniform_bound_wrong("first draw only")
def _(log_prob, x, noise):
    """You use the first draw and drop the others: {got}; the average of all S is {expected}."""
    return log_prob(x + noise[0])


@uniform_bound_wrong("no noise")
def _(log_prob, x, noise):
    """You evaluate the density at the levels themselves: {got}; without noise the likelihood has
    no bound at all, with it you get {expected}.
    """
    return log_prob(x.to(noise.dtype))


@uniform_bound_wrong("noise added to rescaled levels")
def _(log_prob, x, noise):
    """You divide the levels by 256 before the noise: {got}; `log_prob` is the density of x + u on
    the scale of the levels, {expected}.
    """
    return log_prob(x / 256 + noise).mean(0)


@uniform_bound_wrong("noise around zero")
def _(log_prob, x, noise):
    """You centre the noise on the level: {got}; the cell of x is [x, x + 1), {expected}."""
    return log_prob(x + noise - 0.5).mean(0)


@uniform_bound_wrong("detached")
def _(log_prob, x, noise):
    """Your numbers are right, but you detach log p, so the density cannot be trained with
    them.
    """
    return log_prob(x + noise).detach().mean(0)


_uniform_bound = Exercise(
    name="uniform_bound",
    question="the average over S draws of log p(x + u), shape (B,)",
    reference=dequantization.uniform_bound,
    cases=_uniform_bound_cases,
    properties=(
        Property(
            "flat density",
            "Where the density is constant on each cell, log p(x + u) is log P(x) whatever the "
            "noise. Yours is not.",
            is_fact("log_pmf"),
        ),
        Property(
            "exact",
            "With the two noises ½ ± 1/√12 the average of a quadratic in u is its integral over "
            "the cell, and log p of a Gaussian is a quadratic. Yours is not that integral.",
            is_fact("bound"),
        ),
        Property(
            "below log P(x)",
            "The bound, integrated exactly, is at most log P(x). Yours is above it.",
            _is_below,
        ),
    ),
    misconceptions=tuple(uniform_bound_wrong),
    hints=(
        "E_u log p(x + u): dequantize with each of the S draws, evaluate log p, average.",
        "`x + noise` broadcasts to (S, B, D), and `log_prob` of it has shape (S, B).",
        "`log_prob(x + noise)`, then the mean over the axis of the draws.",
    ),
    points=2,
    minutes=8,
    difficulty=1,
    may_use=_HERE,
)


# --- sigmoid_noise --------------------------------------------------------------------------------


def _sigmoid_noise_cases(draw):
    zero = draw.tensor(torch.zeros(1, 2))
    facts = {"u": 0.5, "log_q": [2 * (math.log(2) - 0.5 * _LOG_2PI)]}
    yield Case("eps = 0, no shift, scale 2", (zero, zero, zero + math.log(2)), (0, 1, 2), facts)
    b, d = draw.integer(3, 4), draw.integer(5, 7)
    args = (draw.normal(b, d), draw.normal(b, d), 0.5 * draw.normal(b, d))
    yield Case("a batch", args, wrt=(0, 1, 2))
    args = (draw.normal(1, d), draw.normal(1, d), draw.normal(1, d) - 1)
    yield Case("one data point", args, wrt=(0, 1, 2))

    # Far out log σ(a) + log σ(−a) is −|a|, up to e^(−|a|).
    eps = 40 * (2 * draw.bernoulli(b, d) - 1)
    eps[0, :2] = draw.tensor([40.0, -40.0])
    shift, log_scale = draw.normal(b, d), 0.1 * draw.normal(b, d)
    e, t, s = (v.cpu().double() for v in (eps, shift, log_scale))
    slopes = -(e * torch.exp(s) + t).abs()
    facts = {"log_q": (-0.5 * e**2 - 0.5 * _LOG_2PI - s - slopes).sum(-1)}
    yield Case("eps = ±40", (eps, shift, log_scale), (0, 1, 2), facts)
    args = (draw.normal(b, d), 5 * draw.normal(b, d), draw.normal(b, d))
    yield Case("wide and narrow noise, large shifts", args, wrt=(0, 1, 2))

    # In one dimension, on a grid: q(u) du = q(u) |∂u/∂eps| deps, and the whole is 1.
    grid = torch.linspace(-8, 8, 129, dtype=torch.float64)[:, None]
    shift, log_scale = torch.randn(2, generator=draw.generator, dtype=torch.float64).tolist()
    log_scale = 0.3 * log_scale
    a = grid * math.exp(log_scale) + shift
    log_slope = F.logsigmoid(a) + F.logsigmoid(-a) + log_scale
    args = (grid, torch.full_like(grid, shift), torch.full_like(grid, log_scale))
    args = tuple(draw.tensor(arg) for arg in args)
    facts = {"log_cell": log_slope[:, 0] + math.log(16 / 128)}
    yield Case("one dimension, eps on a grid", args, (0, 1, 2), facts)
    args = (draw.normal(2, 300), draw.normal(2, 300), 0.5 * draw.normal(2, 300))
    yield Case("300 dimensions", args, wrt=(0, 1, 2))
    args = (draw.normal(d, b).T, draw.normal(d, b).T, 0.5 * draw.normal(d, b).T)
    yield Case("arguments that are not contiguous in memory", args, wrt=(0, 1, 2))


def _knows_noise(case, value):
    u, log_q = value
    facts = case.facts
    return ("u" not in facts or is_exact(u, facts["u"])) and (
        "log_q" not in facts or is_exact(log_q, facts["log_q"])
    )


sigmoid_noise_wrong = Misconceptions()


@sigmoid_noise_wrong("log-determinant with the wrong sign")
def _(eps, shift, log_scale):
    """You add log|det ∂u/∂eps| to log N(eps): {got}; where the map stretches, the density thins
    out, so it is subtracted, {expected}.
    """
    a = eps * torch.exp(log_scale) + shift
    log_normal = -0.5 * (eps**2 + math.log(2 * math.pi)).sum(-1)
    log_det = (log_scale + F.logsigmoid(a) + F.logsigmoid(-a)).sum(-1)
    return torch.sigmoid(a), log_normal + log_det


@sigmoid_noise_wrong("base density left out")
def _(eps, shift, log_scale):
    """You return −log|det ∂u/∂eps| alone: {got}; log q also has the density of eps itself,
    log N(eps; 0, I), {expected}.
    """
    a = eps * torch.exp(log_scale) + shift
    log_det = (log_scale + F.logsigmoid(a) + F.logsigmoid(-a)).sum(-1)
    return torch.sigmoid(a), -log_det


@sigmoid_noise_wrong("log_scale left out")
def _(eps, shift, log_scale):
    """You leave the affine map's log-determinant out: {got}; scaling by exp(log_scale) costs
    Σ log_scale, {expected}.
    """
    a = eps * torch.exp(log_scale) + shift
    log_normal = -0.5 * (eps**2 + math.log(2 * math.pi)).sum(-1)
    return torch.sigmoid(a), log_normal - (F.logsigmoid(a) + F.logsigmoid(-a)).sum(-1)


@sigmoid_noise_wrong("sigmoid's slope left out")
def _(eps, shift, log_scale):
    """You return the density before the sigmoid: {got}; with the sigmoid's own log-determinant,
    log σ(a) + log σ(−a), it is {expected}.
    """
    a = eps * torch.exp(log_scale) + shift
    log_normal = -0.5 * (eps**2 + math.log(2 * math.pi)).sum(-1)
    return torch.sigmoid(a), log_normal - log_scale.sum(-1)


@sigmoid_noise_wrong("base density at the wrong point")
def _(eps, shift, log_scale):
    """You evaluate N(0, I) at the sigmoid's argument: {got}; it is eps that has this density,
    {expected}.
    """
    a = eps * torch.exp(log_scale) + shift
    log_normal = -0.5 * (a**2 + math.log(2 * math.pi)).sum(-1)
    log_det = (log_scale + F.logsigmoid(a) + F.logsigmoid(-a)).sum(-1)
    return torch.sigmoid(a), log_normal - log_det


@sigmoid_noise_wrong("½ log 2π left out")
def _(eps, shift, log_scale):
    """You drop ½ log 2π: {got}; nothing cancels it here, since log p(x + u) has constants of its
    own, {expected}.
    """
    a = eps * torch.exp(log_scale) + shift
    log_det = (log_scale + F.logsigmoid(a) + F.logsigmoid(-a)).sum(-1)
    return torch.sigmoid(a), -0.5 * (eps**2).sum(-1) - log_det


@sigmoid_noise_wrong("log_scale taken for a log-variance")
def _(eps, shift, log_scale):
    """You scale by exp(log_scale / 2), as if log_scale were the log of a variance: {got};
    the scale is exp(log_scale), {expected}.
    """
    a = eps * torch.exp(0.5 * log_scale) + shift
    log_normal = -0.5 * (eps**2 + math.log(2 * math.pi)).sum(-1)
    log_det = (0.5 * log_scale + F.logsigmoid(a) + F.logsigmoid(-a)).sum(-1)
    return torch.sigmoid(a), log_normal - log_det


@sigmoid_noise_wrong("log of rounded noise")
def _(eps, shift, log_scale):
    """You compute log u + log(1 − u) from u, which is rounded to 1 far out: {got}; from the
    sigmoid's argument, as log σ(a) + log σ(−a), it is {expected}.
    """
    u = torch.sigmoid(eps * torch.exp(log_scale) + shift)
    log_normal = -0.5 * (eps**2 + math.log(2 * math.pi)).sum(-1)
    return u, log_normal - (log_scale + torch.log(u) + torch.log(1 - u)).sum(-1)


@sigmoid_noise_wrong("epsilon inside the log")
def _(eps, shift, log_scale):
    """You add a small number to u and 1 − u before the log: {got}; log σ(a) + log σ(−a) needs
    none, {expected}.
    """
    u = torch.sigmoid(eps * torch.exp(log_scale) + shift)
    log_normal = -0.5 * (eps**2 + math.log(2 * math.pi)).sum(-1)
    return u, log_normal - (log_scale + torch.log(u + 1e-8) + torch.log(1 - u + 1e-8)).sum(-1)


@sigmoid_noise_wrong("not summed over the dimensions")
def _(eps, shift, log_scale):
    """You return log q of each dimension; the density of a vector is one number, their sum over
    D, shape (B,).
    """
    a = eps * torch.exp(log_scale) + shift
    log_normal = -0.5 * (eps**2 + math.log(2 * math.pi))
    return torch.sigmoid(a), log_normal - log_scale - F.logsigmoid(a) - F.logsigmoid(-a)


@sigmoid_noise_wrong("log q detached")
def _(eps, shift, log_scale):
    """Your numbers are right, but you detach log q, so the noise would be trained for log p
    alone and shrink to a point.
    """
    a = eps * torch.exp(log_scale) + shift
    log_normal = -0.5 * (eps**2 + math.log(2 * math.pi)).sum(-1)
    log_det = (log_scale + F.logsigmoid(a) + F.logsigmoid(-a)).sum(-1)
    return torch.sigmoid(a), (log_normal - log_det).detach()


_sigmoid_noise = Exercise(
    name="sigmoid_noise",
    question="u = sigmoid(eps · exp(log_scale) + shift), shape (B, D), and log q(u), shape (B,)",
    reference=dequantization.sigmoid_noise,
    cases=_sigmoid_noise_cases,
    properties=(
        Property(
            "exact",
            "At eps = 0, shift 0 and scale 2 the noise is ½ and its density (2/√2π)^D; far out "
            "log σ(a) + log σ(−a) is −|a|. Yours says otherwise.",
            _knows_noise,
        ),
        Property(
            "integrates to one",
            "q is a density: in one dimension, integrated over u on a grid, it must give 1. "
            "Yours does not.",
            adds_to_one("log_cell", 1, double=1e-6),
        ),
    ),
    misconceptions=tuple(sigmoid_noise_wrong),
    hints=(
        "A change of variables: log q(u) = log N(eps; 0, I) − log|det ∂u/∂eps|. The map acts on "
        "each dimension by itself, so the log-determinant is a sum over D.",
        "With a = eps·exp(log_scale) + shift the slope is exp(log_scale)·σ(a)·σ(−a). "
        "`F.logsigmoid` gives log σ without rounding, at any a.",
        "`-0.5 * (eps**2 + math.log(2 * math.pi))`, minus `log_scale`, minus `F.logsigmoid(a)` "
        "and minus `F.logsigmoid(-a)`, all summed over the last axis.",
    ),
    points=3,
    minutes=20,
    difficulty=3,
)


# --- variational_bound ----------------------------------------------------------------------------


def _posterior_noise(draw, density, x, s):
    """Noise, and log q that makes it the density within the cell: every log-weight is log P(x)."""
    u = _noise(draw, s, *x.shape)
    log_pmf = _log_pmf(density, x)
    with torch.no_grad():
        log_q = density(x + u) - log_pmf.to(u)
    return u, log_q, log_pmf


def _variational_bound_cases(draw):
    # A Gaussian with mean 1 and variance 1 at x = 0; q is uniform on [0, ½), so log q = log 2.
    density = GaussianMixture(draw.tensor([[1.0]]), draw.tensor([[0.0]]), draw.tensor([0.0]))
    x = torch.zeros(1, 1, dtype=torch.int64, device=draw.device)
    args = (density, x, 0.5 * _two_nodes(draw, 1), draw.tensor([[2.0], [2.0]]).log())
    facts = {"bound": [-0.5 * _LOG_2PI - 7 / 24 - math.log(2)]}
    yield Case("a Gaussian at one level, q uniform on half the cell", args, (0, 2, 3), facts)
    s, b, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    args = (_mixture(draw, 3, d), _levels(draw, 6, b, d), _noise(draw, s, b, d), draw.normal(s, b))
    yield Case("all axes of different length", args, wrt=(0, 2, 3))
    x = _levels(draw, 6, b, d, dtype=torch.uint8)
    args = (_mixture(draw, 2, d), x, _noise(draw, 1, b, d), 1 + draw.normal(1, b))
    yield Case("one draw, levels held as bytes", args, wrt=(0, 2, 3))
    x = draw.tensor(_levels(draw, 6, 1, 1))
    args = (_mixture(draw, 2, 1), x, _noise(draw, 5, 1, 1), draw.normal(5, 1))
    yield Case("one data point, one dimension, levels held as floats", args, wrt=(0, 2, 3))

    density = _mixture(draw, 3, d, centre=1.5)
    x = _levels(draw, 3, b, d, dtype=torch.int32)
    u, log_q, log_pmf = _posterior_noise(draw, density, x, s)
    args = (density, x, u, log_q)
    yield Case("q is the density within the cell", args, (0, 2, 3), {"log_pmf": log_pmf})

    # q uniform on [low, low + width): E_q log p of a Gaussian is a quadratic's average again.
    density, mean, std = _gaussian(draw, d)
    x = _levels(draw, 6, b, d)
    low, width = 0.5 * draw.uniform(b, d), 0.2 + 0.3 * draw.uniform(b, d)
    l64, w64 = low.cpu().double(), width.cpu().double()
    squares = ((x.cpu() + l64 + w64 / 2 - mean) / std) ** 2 + (w64 / std) ** 2 / 12
    exact = (-0.5 * (squares + _LOG_2PI) - std.log() + w64.log()).sum(-1)
    facts = {"bound": exact, "highest": _log_pmf(density, x)}
    args = (density, x, low + width * _two_nodes(draw, d), -width.log().sum(-1).repeat(2, 1))
    yield Case("q uniform on a part of the cell", args, (0, 2, 3), facts)

    scale = draw.tensor([0.0, -1e4, 1e4])
    args = (_mixture(draw, 3, d), _levels(draw, 6, 3, d), _noise(draw, s, 3, d))
    args = (*args, draw.normal(s, 3) + scale)
    yield Case("data points 10⁴ nats apart", args, wrt=(0, 2, 3))
    args = (_mixture(draw, 2, 300), _levels(draw, 6, 2, 300), _noise(draw, s, 2, 300))
    yield Case("300 dimensions", (*args, 50 * draw.normal(s, 2)), wrt=(0, 2, 3))
    args = (_mixture(draw, 2, b), _levels(draw, 6, b, d).T, _noise(draw, b, d, s).permute(2, 1, 0))
    args = (*args, draw.normal(d, s).T)
    yield Case("arguments that are not contiguous in memory", args, wrt=(0, 2, 3))


variational_bound_wrong = Misconceptions()


@variational_bound_wrong("log q added")
def _(log_prob, x, u, log_q):
    """You add log q: {got}; the weight is p(x + u) divided by q(u|x), so its log is subtracted,
    {expected}.
    """
    return (log_prob(x + u) + log_q).mean(0)


@variational_bound_wrong("log q left out")
def _(log_prob, x, u, log_q):
    """You leave log q out, which is right for uniform noise only: {got}; what is gained by
    placing the noise well has to be paid for, {expected}.
    """
    return log_prob(x + u).mean(0) + 0 * log_q.sum()


@variational_bound_wrong("log of mean for mean of logs")
def _(log_prob, x, u, log_q):
    """You average the weights and take the log, which is the importance weighted bound: {got};
    this bound averages the log-weights, {expected}.
    """
    return torch.logsumexp(log_prob(x + u) - log_q, 0) - math.log(u.shape[0])


@variational_bound_wrong("sum over the draws")
def _(log_prob, x, u, log_q):
    """You sum over the draws: {got}; an expectation is estimated by their average, {expected}."""
    return (log_prob(x + u) - log_q).sum(0)


@variational_bound_wrong("average over everything")
def _(log_prob, x, u, log_q):
    """You average over draws and data points together; each data point has its own bound, shape
    (B,).
    """
    return (log_prob(x + u) - log_q).mean()


@variational_bound_wrong("average of the noise")
def _(log_prob, x, u, log_q):
    """You average the noise and evaluate the density once: {got}; the average comes after log p,
    {expected}.
    """
    return log_prob(x + u.mean(0)) - log_q.mean(0)


@variational_bound_wrong("noise added to rescaled levels")
def _(log_prob, x, u, log_q):
    """You divide the levels by 256 before the noise: {got}; `log_prob` is the density of x + u on
    the scale of the levels, {expected}.
    """
    return (log_prob(x / 256 + u) - log_q).mean(0)


@variational_bound_wrong("noise detached")
def _(log_prob, x, u, log_q):
    """Your numbers are right, but you detach u, so the noise cannot learn where the density is
    high; only log q would train it.
    """
    return (log_prob(x + u.detach()) - log_q).mean(0)


@variational_bound_wrong("log q detached")
def _(log_prob, x, u, log_q):
    """Your numbers are right, but you detach log q; the entropy of the noise is part of the
    bound and of its gradient.
    """
    return (log_prob(x + u) - log_q.detach()).mean(0)


_variational_bound = Exercise(
    name="variational_bound",
    question="the average over S draws of log p(x + u) − log q(u|x), shape (B,)",
    reference=dequantization.variational_bound,
    cases=_variational_bound_cases,
    properties=(
        Property(
            "q is the density within the cell",
            "Where q(u|x) = p(x + u)/P(x), log p(x + u) − log q(u|x) is log P(x) for every draw. "
            "Yours is not.",
            is_fact("log_pmf"),
        ),
        Property(
            "exact",
            "For a Gaussian and noise uniform on a part of the cell, two draws at the nodes of a "
            "quadratic give E_q log p(x + u) + log of the part's volume exactly. Yours do not.",
            is_fact("bound"),
        ),
        Property(
            "below log P(x)",
            "The bound, integrated exactly, is at most log P(x). Yours is above it.",
            _is_below,
        ),
    ),
    misconceptions=tuple(variational_bound_wrong),
    hints=(
        "This is an ELBO with u in the place of the latent variable: E_q of the log of a weight, "
        "estimated by the average over S draws.",
        "log w = log p(x + u) − log q(u|x), of shape (S, B).",
        "`log_prob(x + u) - log_q`, then the mean over the axis of the draws.",
    ),
    points=2,
    minutes=8,
    difficulty=2,
    may_use=_HERE,
)


# --- importance_weighted_dequantization -----------------------------------------------------------


def _importance_weighted_cases(draw):
    flat = FlatOnCells(draw.tensor([[1.0, 3.0]]).log())
    x = torch.tensor([[0], [1]], device=draw.device)
    # P = ¼ and ¾; divided by q = ½, 1 and by q = 1, 3 the weights are ½, ¼ and ¾, ¼.
    log_q = draw.tensor([[0.5, 1.0], [1.0, 3.0]]).log()
    args = (flat, x, _noise(draw, 2, 2, 1), log_q)
    facts = {"bound": [math.log(3 / 8), math.log(1 / 2)]}
    yield Case("weights ½, ¼ and ¾, ¼", args, (0, 3), facts)
    s, b, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    args = (_mixture(draw, 3, d), _levels(draw, 6, b, d), _noise(draw, s, b, d), draw.normal(s, b))
    yield Case("all axes of different length", args, wrt=(0, 2, 3))
    x = _levels(draw, 6, b, d, dtype=torch.uint8)
    args = (_mixture(draw, 2, d), x, _noise(draw, 1, b, d), 1 + draw.normal(1, b))
    yield Case("one draw, levels held as bytes", args, wrt=(0, 2, 3))
    x = draw.tensor(_levels(draw, 6, 1, 1))
    args = (_mixture(draw, 2, 1), x, _noise(draw, 5, 1, 1), draw.normal(5, 1))
    yield Case("one data point, one dimension, levels held as floats", args, wrt=(0, 2, 3))

    density = _mixture(draw, 3, d, centre=1.5)
    x = _levels(draw, 3, b, d, dtype=torch.int32)
    u, log_q, log_pmf = _posterior_noise(draw, density, x, s)
    args = (density, x, u, log_q)
    yield Case("q is the density within the cell", args, (0, 2, 3), {"log_pmf": log_pmf})

    # With u at the nodes of a quadrature and 1/q its weights, times S, the average weight is the
    # integral of p over the cell.
    nodes, log_weights = unit_cell(9, dims=2)
    density, x = _mixture(draw, 2, 2, centre=1.5), _levels(draw, 3, b, 2)
    log_q = -(log_weights + math.log(len(nodes)))[:, None].repeat(1, b)
    args = (density, x, draw.tensor(nodes[:, None].repeat(1, b, 1)), draw.tensor(log_q))
    facts = {"log_pmf": _log_pmf(density, x)}
    yield Case("noise and weights of a quadrature", args, (0, 2, 3), facts)

    scale = draw.tensor([0.0, -1e4, 1e4])
    args = (_mixture(draw, 3, d), _levels(draw, 6, 3, d), _noise(draw, s, 3, d))
    args = (*args, draw.normal(s, 3) + scale)
    yield Case("data points 10⁴ nats apart", args, wrt=(0, 2, 3))
    args = (_mixture(draw, 2, 300), _levels(draw, 6, 2, 300), _noise(draw, s, 2, 300))
    yield Case("300 dimensions", (*args, 5 * draw.normal(s, 2)), wrt=(0, 2, 3))
    args = (_mixture(draw, 2, b), _levels(draw, 6, b, d).T, _noise(draw, b, d, s).permute(2, 1, 0))
    args = (*args, draw.normal(d, s).T)
    yield Case("arguments that are not contiguous in memory", args, wrt=(0, 2, 3))

    # One narrow Gaussian inside the cell of x = 2, with uniform noise. The same 512 draws are
    # grouped by 1, 4, … so that the average of the bound grows with S exactly.
    density = GaussianMixture(draw.tensor([[2.4]]), draw.tensor([[-1.5]]), draw.tensor([0.0]))
    u = draw.uniform(512)
    for s in (1, 4, 16, 64):
        u_s = u.reshape(s, -1, 1)
        x = torch.full_like(u_s[0], 2, dtype=torch.int64)
        log_q = torch.zeros_like(u_s[..., 0])
        exact = _log_pmf(density, x[:1]).item()
        facts = {"draws": s, "log_px": exact}
        yield Case(f"one narrow Gaussian, S = {s}", (density, x, u_s, log_q), (0, 2, 3), facts)


def _is_above_variational(case, value):
    return at_most(dequantization.variational_bound(*case.args), value)


def _draw_importance_weighted(axis, triples):
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


importance_weighted_dequantization_wrong = Misconceptions()


@importance_weighted_dequantization_wrong("mean of logs for log of mean")
def _(log_prob, x, u, log_q):
    """You average the log-weights, which is the variational bound: {got}; here the weights are
    averaged and the log taken after it, {expected}.
    """
    return (log_prob(x + u) - log_q).mean(0)


@importance_weighted_dequantization_wrong("log S forgotten")
def _(log_prob, x, u, log_q):
    """You take the log of the sum of the weights: {got}; an average divides by S, so log S is
    subtracted, {expected}.
    """
    return torch.logsumexp(log_prob(x + u) - log_q, 0)


@importance_weighted_dequantization_wrong("log S subtracted twice")
def _(log_prob, x, u, log_q):
    """You subtract log S twice, inside and outside the log: {got}; once gives {expected}."""
    log_s = math.log(u.shape[0])
    return torch.logsumexp(log_prob(x + u) - log_q - log_s, 0) - log_s


@importance_weighted_dequantization_wrong("log q added")
def _(log_prob, x, u, log_q):
    """You add log q: {got}; the weight is p(x + u) divided by q(u|x), so its log is subtracted,
    {expected}.
    """
    return torch.logsumexp(log_prob(x + u) + log_q, 0) - math.log(u.shape[0])


@importance_weighted_dequantization_wrong("log q left out")
def _(log_prob, x, u, log_q):
    """You average p(x + u) without dividing by q(u|x), which is right for uniform noise only:
    {got}; with it the result is {expected}.
    """
    return torch.logsumexp(log_prob(x + u) + 0 * log_q, 0) - math.log(u.shape[0])


@importance_weighted_dequantization_wrong("ratio of averages")
def _(log_prob, x, u, log_q):
    """You divide the average of p by the average of q: {got}; each draw has its own weight p/q,
    and these are averaged, {expected}.
    """
    return torch.logsumexp(log_prob(x + u), 0) - torch.logsumexp(log_q, 0)


@importance_weighted_dequantization_wrong("exponentials that over- or underflow")
def _(log_prob, x, u, log_q):
    """You exponentiate the log-weights themselves, and e^(−10⁴) is 0 in floating point: {got};
    with log-sum-exp it is {expected}.
    """
    return torch.log(torch.exp(log_prob(x + u) - log_q).mean(0))


@importance_weighted_dequantization_wrong("one maximum for the whole tensor")
def _(log_prob, x, u, log_q):
    """You subtract the maximum of the whole tensor, so a data point far below it underflows:
    {got}; with the maximum of its own draws it is {expected}.
    """
    log_w = log_prob(x + u) - log_q
    return log_w.max() + torch.log(torch.exp(log_w - log_w.max()).mean(0))


@importance_weighted_dequantization_wrong("average over everything")
def _(log_prob, x, u, log_q):
    """You average the weights of draws and data points together; each data point has its own
    bound, shape (B,).
    """
    log_w = (log_prob(x + u) - log_q).flatten()
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])


@importance_weighted_dequantization_wrong("noise detached")
def _(log_prob, x, u, log_q):
    """Your numbers are right, but you detach u, so the noise cannot learn where the density is
    high; only log q would train it.
    """
    return torch.logsumexp(log_prob(x + u.detach()) - log_q, 0) - math.log(u.shape[0])


_importance_weighted_dequantization = Exercise(
    name="importance_weighted_dequantization",
    question="the log of the average weight p(x + u_s) / q(u_s|x) over S draws, shape (B,)",
    reference=dequantization.importance_weighted_dequantization,
    cases=_importance_weighted_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "q is the density within the cell",
            "Where every weight is P(x), as for q(u|x) = p(x + u)/P(x), or where weights and "
            "noise are those of a quadrature, the result is log P(x). Yours is not.",
            # In float64 the quadrature is exact to 1e-8, not better.
            is_fact("log_pmf", double=1e-7),
        ),
        Property(
            "exact",
            "The weights ½ and ¼ average to ⅜, and ¾ and ¼ to ½. Yours do not.",
            is_fact("bound"),
        ),
        Property(
            "above the variational bound",
            "By Jensen's inequality the log of an average is at least the average of the logs. "
            "Yours is below it.",
            _is_above_variational,
        ),
    ),
    misconceptions=tuple(importance_weighted_dequantization_wrong),
    hints=(
        "Under u ~ q(u|x) the weight p(x + u)/q(u|x) has the mean P(x). Average the weights first, "
        "then take the log.",
        "log w = log p(x + u) − log q(u|x) has shape (S, B). exp(log w) may be 0 or ∞ in floating "
        "point; `torch.logsumexp` avoids both.",
        "`torch.logsumexp(log_prob(x + u) - log_q, …)` over the axis of the draws, minus the log "
        "of their number.",
    ),
    points=2,
    minutes=10,
    difficulty=2,
    picture=_draw_importance_weighted,
    may_use=_HERE,
)


# --- logit_preprocess -----------------------------------------------------------------------------


def _logit_cases(draw):
    d = draw.integer(2, 3)
    y = draw.tensor(torch.full((1, d), 2.0))
    facts = {"value": 0.0, "log_det": [d * math.log(4 * 0.8 / 4)]}
    yield Case("half of four levels, α = 0.1", (y, 4, 0.1), (0,), facts)
    b, d, levels = draw.integer(3, 4), draw.integer(5, 7), draw.integer(6, 20)
    yield Case("a batch", (levels * _noise(draw, b, d), levels, 0.05), wrt=(0,))
    yield Case("one pixel, two levels", (2 * _noise(draw, 1, 1), 2, 0.05), wrt=(0,))
    y = 250 * draw.uniform(b, d)
    y[:, 0] = 0
    yield Case("y = 0, 256 levels, α = 10⁻⁶", (y, 256, 1e-6), wrt=(0,))
    y = draw.tensor([[0.0, 16.999], [0.001, 16.5], [8.5, 17 - 1 / 64]])
    yield Case("the first and the last cell, α = 0.05", (y, 17, 0.05), wrt=(0,))
    yield Case("α = 0", (0.5 + 7 * draw.uniform(b, d), 8, 0.0), wrt=(0,))
    yield Case("α = 0.3", (8 * _noise(draw, d, b), 8, 0.3), wrt=(0,))

    # The density N(logit(…)) · exp(log_det) of y in [0, 16) has the Gaussian's mass between the
    # ends: on the nodes of a quadrature.
    nodes, log_weights = unit_cell(60)
    ends = torch.logit(torch.tensor([0.05, 0.95], dtype=torch.float64))
    low, high = torch.special.ndtr(ends).tolist()
    facts = {"log_weights": log_weights + math.log(16), "mass": high - low}
    yield Case("one pixel, y on a grid", (draw.tensor(16 * nodes), 16, 0.05), (0,), facts)
    yield Case("300 dimensions", (256 * _noise(draw, 2, 300), 256, 0.05), wrt=(0,))
    y = 16 * _noise(draw, d, b).T
    yield Case("an argument that is not contiguous in memory", (y, 16, 0.05), wrt=(0,))


def _knows_logit(case, value):
    z, log_det = value
    facts = case.facts
    return "value" not in facts or (
        is_exact(z, facts["value"]) and is_exact(log_det, facts["log_det"])
    )


def _keeps_mass(case, value):
    if "mass" not in case.facts:
        return True
    z, log_det = (part.double().cpu() for part in value)
    log_density = -0.5 * (z[:, 0] ** 2 + _LOG_2PI) + log_det
    mass = (log_density + case.facts["log_weights"]).exp().sum()
    return is_exact(mass.to(value[1].dtype), case.facts["mass"], double=1e-7)


logit_preprocess_wrong = Misconceptions()


@logit_preprocess_wrong("the levels' log left out")
def _(y, num_levels, alpha):
    """Your log-determinant leaves out the division by the number of levels: {got}; it costs
    log num_levels in each dimension, {expected}.
    """
    p = alpha + (1 - 2 * alpha) * (y / num_levels)
    log_slope = math.log(1 - 2 * alpha) - torch.log(p) - torch.log(1 - p)
    return torch.log(p) - torch.log(1 - p), log_slope.sum(-1)


@logit_preprocess_wrong("log (1 − 2α) left out")
def _(y, num_levels, alpha):
    """Your log-determinant leaves out the factor 1 − 2α of the squeeze: {got}; with its log in
    each dimension it is {expected}.
    """
    p = alpha + (1 - 2 * alpha) * (y / num_levels)
    log_slope = -math.log(num_levels) - torch.log(p) - torch.log(1 - p)
    return torch.log(p) - torch.log(1 - p), log_slope.sum(-1)


@logit_preprocess_wrong("constants left out")
def _(y, num_levels, alpha):
    """Your log-determinant has the logit's slope only: {got}; the linear map before it has the
    slope (1 − 2α)/num_levels in each dimension, {expected}.
    """
    p = alpha + (1 - 2 * alpha) * (y / num_levels)
    log_slope = -torch.log(p) - torch.log(1 - p)
    return torch.log(p) - torch.log(1 - p), log_slope.sum(-1)


@logit_preprocess_wrong("log-determinant with the wrong sign")
def _(y, num_levels, alpha):
    """Your log-determinant is that of the way back, from the logits to y: {got}; from y to the
    logits it is {expected}.
    """
    p = alpha + (1 - 2 * alpha) * (y / num_levels)
    log_slope = math.log((1 - 2 * alpha) / num_levels) - torch.log(p) - torch.log(1 - p)
    return torch.log(p) - torch.log(1 - p), -log_slope.sum(-1)


@logit_preprocess_wrong("slope of the sigmoid")
def _(y, num_levels, alpha):
    """You use the slope p(1 − p) of the sigmoid: {got}; the logit is its inverse and has the
    slope 1/(p(1 − p)), {expected}.
    """
    p = alpha + (1 - 2 * alpha) * (y / num_levels)
    log_slope = math.log((1 - 2 * alpha) / num_levels) + torch.log(p) + torch.log(1 - p)
    return torch.log(p) - torch.log(1 - p), log_slope.sum(-1)


@logit_preprocess_wrong("mean over the dimensions")
def _(y, num_levels, alpha):
    """You average the log-slopes over the dimensions: {got}; the determinant of a diagonal
    Jacobian is the product of its entries, so their logs are summed, {expected}.
    """
    p = alpha + (1 - 2 * alpha) * (y / num_levels)
    log_slope = math.log((1 - 2 * alpha) / num_levels) - torch.log(p) - torch.log(1 - p)
    return torch.log(p) - torch.log(1 - p), log_slope.mean(-1)


@logit_preprocess_wrong("constants counted once")
def _(y, num_levels, alpha):
    """You add log((1 − 2α)/num_levels) once: {got}; every dimension is squeezed, so it counts D
    times, {expected}.
    """
    p = alpha + (1 - 2 * alpha) * (y / num_levels)
    log_slope = -(torch.log(p) + torch.log(1 - p)).sum(-1)
    return torch.log(p) - torch.log(1 - p), log_slope + math.log((1 - 2 * alpha) / num_levels)


@logit_preprocess_wrong("1 − α for 1 − 2α")
def _(y, num_levels, alpha):
    """You squeeze with α + (1 − α)·y/num_levels, which reaches 1 at the upper end: {got}; with
    1 − 2α both ends are kept away, {expected}.
    """
    p = alpha + (1 - alpha) * (y / num_levels)
    log_slope = math.log((1 - alpha) / num_levels) - torch.log(p) - torch.log(1 - p)
    return torch.log(p) - torch.log(1 - p), log_slope.sum(-1)


@logit_preprocess_wrong("levels − 1")
def _(y, num_levels, alpha):
    """You divide by num_levels − 1: {got}; with the noise y reaches up to num_levels,
    {expected}.
    """
    p = alpha + (1 - 2 * alpha) * (y / max(num_levels - 1, 1))
    log_slope = math.log((1 - 2 * alpha) / max(num_levels - 1, 1)) - torch.log(p * (1 - p))
    return torch.log(p) - torch.log(1 - p), log_slope.sum(-1)


@logit_preprocess_wrong("clamped for squeezed")
def _(y, num_levels, alpha):
    """You cut y/num_levels off at α and 1 − α: {got}; that is not invertible, the squeeze
    α + (1 − 2α)·y/num_levels is, {expected}.
    """
    p = (y / num_levels).clamp(alpha, 1 - alpha)
    log_slope = -math.log(num_levels) - torch.log(p) - torch.log(1 - p)
    return torch.log(p) - torch.log(1 - p), log_slope.sum(-1)


_logit_preprocess = Exercise(
    name="logit_preprocess",
    question="logit(α + (1 − 2α) y/levels), shape (B, D), and log|det| of the map, shape (B,)",
    reference=dequantization.logit_preprocess,
    cases=_logit_cases,
    properties=(
        Property(
            "exact",
            "At half the levels the logit is 0 and each dimension has the slope "
            "4 (1 − 2α)/num_levels. Yours says otherwise.",
            _knows_logit,
        ),
        Property(
            "keeps the mass",
            "A Gaussian density of the logits, times exp(log_det), is a density of y: integrated "
            "over [0, num_levels) it has the Gaussian's mass between the two ends. Yours has not.",
            _keeps_mass,
        ),
    ),
    misconceptions=tuple(logit_preprocess_wrong),
    hints=(
        "Three maps, one after the other: y ↦ y/num_levels, s ↦ α + (1 − 2α)s, p ↦ logit p = "
        "log p − log(1 − p). Their slopes multiply, their log-slopes add.",
        "The slopes are 1/num_levels, 1 − 2α and 1/(p(1 − p)). The map acts on each dimension by "
        "itself, so log|det| is the sum over D of the log-slopes.",
        "log_det sums `math.log((1 - 2 * alpha) / num_levels) - torch.log(p) - torch.log(1 - p)` "
        "over the last axis.",
    ),
    points=3,
    minutes=15,
    difficulty=2,
)


# --- bits_per_dim ---------------------------------------------------------------------------------


def _bits_cases(draw):
    d = draw.integer(3, 5)
    facts = {"bits": [8.0, 1.0]}
    log_prob = draw.tensor([-8.0 * d, -1.0 * d]) * math.log(2)
    yield Case("256 levels and 2 levels, all equally likely", (log_prob, d), (0,), facts)
    b = draw.integer(4, 7)
    yield Case("a batch", (-90 + 10 * draw.normal(b), 64), wrt=(0,))
    yield Case("one data point", (-2 + draw.normal(1), draw.integer(2, 9)), wrt=(0,))
    yield Case("one dimension", (-3 + draw.normal(b), 1), wrt=(0,))
    yield Case("log-probabilities near −10⁴", (-1e4 + 100 * draw.normal(b), 3072), wrt=(0,))
    log_prob = (-50 + 10 * draw.normal(b, 2))[:, 0]
    yield Case("an argument that is not contiguous in memory", (log_prob, 28), wrt=(0,))


bits_per_dim_wrong = Misconceptions()


@bits_per_dim_wrong("nats per dimension")
def _(log_prob, num_dims):
    """You return nats: {got}; a bit is log 2 nats, so divide by log 2, {expected}."""
    return -log_prob / num_dims


@bits_per_dim_wrong("sign")
def _(log_prob, num_dims):
    """You keep the sign of the log-probability: {got}; bits are a cost, −log P(x), {expected}."""
    return log_prob / (num_dims * math.log(2))


@bits_per_dim_wrong("bits of the whole vector")
def _(log_prob, num_dims):
    """You do not divide by the number of dimensions: {got}; for each dimension it is
    {expected}.
    """
    return -log_prob / math.log(2)


@bits_per_dim_wrong("multiplied by log 2")
def _(log_prob, num_dims):
    """You multiply by log 2: {got}; a nat is more than a bit, 1/log 2 of them, so divide,
    {expected}.
    """
    return -log_prob * math.log(2) / num_dims


@bits_per_dim_wrong("levels paid for twice")
def _(log_prob, num_dims):
    """You add 8 bits for rescaling by 256 levels: {got}; the log-probability is that of the
    discrete model, which owes nothing any more, {expected}.
    """
    return -log_prob / (num_dims * math.log(2)) + 8


@bits_per_dim_wrong("average over the batch")
def _(log_prob, num_dims):
    """You average over the batch; each data point has its own bits, shape (B,)."""
    return -log_prob.mean() / (num_dims * math.log(2))


@bits_per_dim_wrong("perplexity")
def _(log_prob, num_dims):
    """You exponentiate, which is the perplexity of a dimension: {got}; bits are the logarithm
    itself, {expected}.
    """
    return torch.exp(-log_prob / num_dims)


@bits_per_dim_wrong("detached")
def _(log_prob, num_dims):
    """Your numbers are right, but you detach them, so nothing can be trained with them."""
    return -log_prob.detach() / (num_dims * math.log(2))


_bits_per_dim = Exercise(
    name="bits_per_dim",
    question="bits that a dimension costs, from log P(x) in nats, shape (B,)",
    reference=dequantization.bits_per_dim,
    cases=_bits_cases,
    properties=(
        Property(
            "exact",
            "With all of 256 levels equally likely a dimension costs 8 bits, with two levels 1. "
            "Yours does not.",
            is_fact("bits"),
        ),
    ),
    misconceptions=tuple(bits_per_dim_wrong),
    hints=(
        "The ideal code of x is −log₂ P(x) bits long, for all dimensions together.",
        "log₂ P = log P / log 2.",
        "Minus `log_prob`, divided by `num_dims` and by `math.log(2)`.",
    ),
    points=1,
    minutes=3,
    difficulty=1,
)


EXERCISES = (
    _uniform_dequantize,
    _exact_log_pmf,
    _uniform_bound,
    _sigmoid_noise,
    _variational_bound,
    _importance_weighted_dequantization,
    _logit_preprocess,
    _bits_per_dim,
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
