"""What is asked in the assignment `vampprior`: cases, exact answers, wrong answers, hints.

The wrong implementations use `torch`, `F`, `math` and `itertools` and nothing else of this module,
because their sources are pasted into notebooks that have the same imports.
"""

import functools
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from dgm_utils import vampprior
from dgm_utils.data import digits
from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import Exercise, Misconceptions, Property
from nbjudge.asking.statements import adds_to_one, is_fact
from nbjudge.check import Checker
from nbjudge.inside.case import Case

# The expanded square z² − 2zμ + μ² is a right answer and cancels in float32.
_EXPANDED = {torch.float64: 1e-8, torch.float32: 1e-3}

# Cases hand over an encoder that lives here, so its code runs inside the student's function.
_OWN_ENCODER = ("dgm_utils.exercises.vampprior",)


class _Encoder(nn.Module):
    """`u (B, D) → mean (B, L), log_var (B, L)`, row by row, with random weights.

    Means lie within ±`spread`, standard deviations between 0.6 and 1.25.
    """

    def __init__(self, draw, pixels, latents, spread=3.0):
        super().__init__()
        hidden = draw.integer(4, 6)
        self.spread = spread
        self.weight = nn.Parameter(draw.normal(pixels, hidden) / pixels**0.5)
        self.bias = nn.Parameter(0.5 * draw.normal(hidden))
        self.mean_weight = nn.Parameter(draw.normal(hidden, latents))
        self.log_var_weight = nn.Parameter(draw.normal(hidden, latents))
        self.log_var_bias = nn.Parameter(draw.normal(latents))

    def forward(self, u):
        hidden = torch.tanh((2 * u - 1) @ self.weight + self.bias)
        mean = self.spread * torch.tanh(hidden @ self.mean_weight)
        return mean, 0.7 * torch.tanh(hidden @ self.log_var_weight + self.log_var_bias) - 0.3


def _plane(draw):
    """Points `(M, 2)` over ±8.4 and the log of the area that each stands for.

    The sum over them is an integral to 1e-6 where means lie within ±2 and standard deviations
    between 0.6 and 1.25: a spacing of 0.6 costs 1e-8, and the border is five of them away.
    """
    axis = torch.linspace(-8.4, 8.4, 29, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    return draw.tensor(points), 2 * math.log(0.6)


# --- mixture_log_prob -----------------------------------------------------------------------------


def _mixture_cases(draw):
    # Two components at ±1 look the same from 0, so that the mixture is each of them there.
    log_var = draw.normal(1, 1).expand(2, 1)
    variance = math.exp(log_var[0, 0].item())
    exact = -0.5 * (1 / variance + math.log(2 * math.pi * variance))
    args = (draw.tensor([[0.0]]), draw.tensor([[1.0], [-1.0]]), log_var.clone())
    yield Case("halfway between two components", args, (0, 1, 2), {"log_prob": [exact]})

    b, c, latents = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 8)
    args = (draw.normal(b, latents), draw.normal(c, latents), draw.normal(c, latents))
    yield Case("all axes of different length", args, (0, 1, 2))
    args = (draw.normal(b, 2), draw.normal(1, 2), draw.normal(1, 2))
    z, mean, log_var = (arg.double().cpu() for arg in args)
    squares = (z - mean) ** 2 / log_var.exp()
    exact = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(1)
    yield Case("one component", args, (0, 1, 2), {"log_prob": exact})
    args = (draw.normal(3, 3), 2 * draw.normal(3, 3), draw.normal(3, 3))
    yield Case("three points, three components, three dimensions", args, (0, 1, 2))
    args = (draw.normal(1, 4), draw.normal(c, 4), draw.normal(c, 4))
    yield Case("one point", args, (0, 1, 2))

    points, log_cell = _plane(draw)
    means, log_vars = 4 * draw.uniform(2, 2) - 2, 1.4 * draw.uniform(2, 2) - 1
    args = (points, means, log_vars)
    yield Case("a grid over two dimensions", args, (0, 1, 2), {"log_cell": log_cell})

    far = draw.tensor([[0.0, 0.0], [90.0, -90.0], [-1000.0, 0.0]])
    args = (far, draw.normal(c, 2), 0.3 * draw.normal(c, 2))
    yield Case("points far from every component", args, (0, 1, 2))
    args = (draw.normal(b, 2), 80 * draw.normal(c, 2), 0.3 * draw.normal(c, 2))
    yield Case("components far apart", args, (0, 1, 2))
    args = (2 * draw.normal(b, 300), 2 * draw.normal(c, 300), draw.normal(c, 300))
    yield Case("300 dimensions", args, (0, 1, 2))
    args = (draw.normal(latents, b).T, draw.normal(latents, c).T, draw.normal(latents, c).T)
    yield Case("arguments that are not contiguous in memory", args, (0, 1, 2))


mixture_log_prob_wrong = Misconceptions()


@mixture_log_prob_wrong("product of one-dimensional mixtures")
def _(z, means, log_vars):
    """You take the log-sum-exp over the components in each dimension and add the dimensions
    afterwards, which scores a product of one-dimensional mixtures with C^L modes: {got}; first
    sum each component's log-density over the dimensions, {expected}.
    """
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_normal = -0.5 * (squares + log_vars + math.log(2 * math.pi))
    return (torch.logsumexp(log_normal, 1) - math.log(means.shape[0])).sum(-1)


@mixture_log_prob_wrong("log C forgotten")
def _(z, means, log_vars):
    """You add the C densities and do not divide by C: {got}, a density that integrates to C;
    less log C it is {expected}.
    """
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_normal = -0.5 * (squares + log_vars + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_normal, 1)


@mixture_log_prob_wrong("mean of logs for log of mean")
def _(z, means, log_vars):
    """You average the components' log-densities: {got}; a mixture is the average of the
    densities, and its log is {expected}.
    """
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_normal = -0.5 * (squares + log_vars + math.log(2 * math.pi)).sum(-1)
    return log_normal.mean(1)


@mixture_log_prob_wrong("densities that underflow")
def _(z, means, log_vars):
    """You leave the log for the densities themselves, which are 0 in floating point far from
    the components or in many dimensions: {got}; with log-sum-exp it is {expected}.
    """
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_normal = -0.5 * (squares + log_vars + math.log(2 * math.pi)).sum(-1)
    return torch.log(torch.exp(log_normal).mean(1))


@mixture_log_prob_wrong("epsilon inside the log")
def _(z, means, log_vars):
    """You add a small number inside the log, which hides densities below it: {got}; with
    log-sum-exp none is needed, {expected}.
    """
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_normal = -0.5 * (squares + log_vars + math.log(2 * math.pi)).sum(-1)
    return torch.log(torch.exp(log_normal).mean(1) + 1e-8)


@mixture_log_prob_wrong("variance taken for the standard deviation")
def _(z, means, log_vars):
    """You use exp(log_vars) as standard deviations: {got}; they are variances, and the standard
    deviation is exp(log_vars / 2), which gives {expected}.
    """
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-2 * log_vars)
    log_normal = -0.5 * (squares + 2 * log_vars + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_normal, 1) - math.log(means.shape[0])


@mixture_log_prob_wrong("2π left out")
def _(z, means, log_vars):
    """You leave out ½ log 2π of each dimension: {got}; alone, a log-density needs it,
    {expected}.
    """
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_normal = -0.5 * (squares + log_vars).sum(-1)
    return torch.logsumexp(log_normal, 1) - math.log(means.shape[0])


@mixture_log_prob_wrong("log-variance left out")
def _(z, means, log_vars):
    """You leave ½ log σ² out of the Gaussians, so wide ones count for too much: {got}; with
    it the mixture gives {expected}.
    """
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_normal = -0.5 * (squares + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_normal, 1) - math.log(means.shape[0])


@mixture_log_prob_wrong("nearest component only")
def _(z, means, log_vars):
    """You keep the component that explains z best and drop the others: {got}; all of them add
    to the density, {expected}.
    """
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_normal = -0.5 * (squares + log_vars + math.log(2 * math.pi)).sum(-1)
    return log_normal.max(1).values - math.log(means.shape[0])


@mixture_log_prob_wrong("one Gaussian with averaged parameters")
def _(z, means, log_vars):
    """You average the means and log-variances and score one Gaussian: {got}; a mixture averages
    densities, not parameters, {expected}.
    """
    mean, log_var = means.mean(0), log_vars.mean(0)
    squares = (z - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)


@mixture_log_prob_wrong("wrong axis")
def _(z, means, log_vars):
    """You average over the points and are left with one number for each component; average over
    the components: one number for each point, shape (B,).
    """
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_normal = -0.5 * (squares + log_vars + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_normal, 0) - math.log(z.shape[0])


_mixture_log_prob = Exercise(
    name="mixture_log_prob",
    question="log of the average of C diagonal Gaussian densities, shape (B,)",
    reference=vampprior.mixture_log_prob,
    cases=_mixture_cases,
    rtol=_EXPANDED,
    properties=(
        Property(
            "exact",
            "Where all components look the same, or there is one only, the mixture is that "
            "Gaussian. Yours is not.",
            is_fact("log_prob", single=1e-3),
        ),
        Property(
            "integrates to one",
            "A density integrates to 1: over a grid of two dimensions the densities times the "
            "area of a cell must add to 1. Yours do not.",
            adds_to_one("log_cell", double=1e-6),
        ),
    ),
    misconceptions=tuple(mixture_log_prob_wrong),
    hints=(
        "First the log-density of each point under each component, `(B, C)`; then the log of the "
        "average over the components.",
        "`z.unsqueeze(1) - means` is `(B, C, L)`. A component is a product over its dimensions, so "
        "its log-densities are summed over the last axis, before anything happens to the axis "
        "of the components.",
        "With `log_normal = -0.5 * (squares / variance + log_vars + log 2π).sum(-1)`, return "
        "`torch.logsumexp(log_normal, 1) - math.log(C)`.",
    ),
    points=3,
    minutes=20,
    difficulty=2,
)


# --- monte_carlo_kl -------------------------------------------------------------------------------


def _kl_cases(draw):
    log_q = draw.tensor([[-1.0, -2.0, 0.0], [-2.0, -5.0, 0.0]])
    log_p = draw.tensor([[-3.0, -2.0, 2.0], [-4.0, -4.0, 1.0]])
    facts = {"kl": [2.0, -0.5, -1.5]}
    yield Case("two samples of three data points", (log_q, log_p), (0, 1), facts)
    s, b = draw.integer(3, 4), draw.integer(5, 7)
    args = (draw.normal(1, b) - 3, draw.normal(1, b) - 3)
    yield Case("one sample", args, (0, 1), {"kl": (args[0] - args[1])[0].double().cpu()})
    yield Case("one data point", (draw.normal(s, 1), draw.normal(s, 1) - 2), (0, 1))
    args = (2 * draw.normal(s, b) - 5, 2 * draw.normal(s, b) - 7)
    yield Case("more data points than samples", args, (0, 1))
    yield Case("as many samples as data points", (draw.normal(3, 3), draw.normal(3, 3)), (0, 1))

    # log q − log p is a square in z here, and two samples one standard deviation from the mean
    # have the mean square of q: their average is the KL itself.
    mean, log_var = 2 * draw.normal(b), draw.normal(b)
    z = torch.stack([mean + torch.exp(0.5 * log_var), mean - torch.exp(0.5 * log_var)])
    log_q = (-0.5 * (1 + log_var + math.log(2 * math.pi))).expand(2, b).clone()
    log_p = -0.5 * (z**2 + math.log(2 * math.pi))
    exact = (0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var)).double().cpu()
    yield Case("KL(N(μ, σ²) ‖ N(0, 1)) at z = μ ± σ", (log_q, log_p), (0, 1), {"kl": exact})

    args = (draw.normal(s, b) - 20, 2 * draw.normal(s, b) - 1e4)
    yield Case("log p near −10⁴", args, (0, 1))
    args = (draw.normal(b, s).T, draw.normal(b, s).T - 1)
    yield Case("arguments that are not contiguous in memory", args, (0, 1))


monte_carlo_kl_wrong = Misconceptions()


@monte_carlo_kl_wrong("sign reversed")
def _(log_q, log_p):
    """You average log p − log q, the negative of the KL: {got}; KL(q ‖ p) averages log q − log p,
    {expected}.
    """
    return (log_p - log_q).mean(0)


@monte_carlo_kl_wrong("sum over the samples")
def _(log_q, log_p):
    """You add the samples: {got}; an expectation is estimated by their average, {expected}."""
    return (log_q - log_p).sum(0)


@monte_carlo_kl_wrong("weighted with q again")
def _(log_q, log_p):
    """You weight each term with q(z), as in a sum over all z: {got}; samples of q come as often
    as q says already, so each counts the same, {expected}.
    """
    return (torch.exp(log_q) * (log_q - log_p)).mean(0)


@monte_carlo_kl_wrong("log of mean for mean of logs")
def _(log_q, log_p):
    """You take the log of the average ratio q/p: {got}; the KL is the average of the log ratio,
    {expected}.
    """
    return torch.logsumexp(log_q - log_p, 0) - math.log(log_q.shape[0])


@monte_carlo_kl_wrong("no negative values")
def _(log_q, log_p):
    """You cut off at 0: {got}. The KL is never negative, but an estimate may be, {expected};
    what is cut off makes it biased.
    """
    return (log_q - log_p).mean(0).clamp(min=0)


@monte_carlo_kl_wrong("absolute values")
def _(log_q, log_p):
    """You average |log q − log p|: {got}; terms of both signs belong to the average, or it is
    biased, {expected}.
    """
    return (log_q - log_p).abs().mean(0)


@monte_carlo_kl_wrong("half the square")
def _(log_q, log_p):
    """You average ½ (log q − log p)²: {got}. That is close to the KL where p is close to q and
    nowhere else; the average of log q − log p is {expected}.
    """
    return 0.5 * ((log_q - log_p) ** 2).mean(0)


@monte_carlo_kl_wrong("wrong axis")
def _(log_q, log_p):
    """You average over the data points, axis 1; the S samples are on axis 0 and each data point
    has its own KL, shape (B,).
    """
    return (log_q - log_p).mean(1)


@monte_carlo_kl_wrong("average over everything")
def _(log_q, log_p):
    """You average over samples and data points together; each data point has its own KL, shape
    (B,).
    """
    return (log_q - log_p).mean()


@monte_carlo_kl_wrong("q detached")
def _(log_q, log_p):
    """Your numbers are right, but you detach log q, so the encoder is not told that its own
    density counts; differentiate both.
    """
    return (log_q.detach() - log_p).mean(0)


_monte_carlo_kl = Exercise(
    name="monte_carlo_kl",
    question="the average of log q − log p over the S samples, shape (B,)",
    reference=vampprior.monte_carlo_kl,
    cases=_kl_cases,
    properties=(
        Property(
            "exact",
            "Where the KL divergence is known, the average over these samples is equal to it. "
            "Yours is not.",
            is_fact("kl", single=1e-4),
        ),
    ),
    misconceptions=tuple(monte_carlo_kl_wrong),
    hints=(
        "KL(q ‖ p) is an expectation under q, and you have S samples of q.",
        "KL(q ‖ p) = E_q [log q(z) − log p(z)]: average this difference over axis 0.",
        "One line: `(log_q - log_p).mean(…)` over the axis of the samples.",
    ),
    points=1,
    minutes=4,
    difficulty=1,
)


# --- pseudo_inputs --------------------------------------------------------------------------------


def _pseudo_cases(draw):
    # What was seen for which number, in any case: one function answers all of them.
    seen = {}

    def case(name, raw, first=False):
        return Case(name, (raw,), (0,), {"seen": seen, "first": first})

    seven = draw.tensor(torch.linspace(-3, 3, 7, dtype=torch.float64))[None]
    yield case("seven numbers from −3 to 3", seven, first=True)
    yield case("one number", draw.tensor([[2.0]]))
    c, d = draw.integer(2, 4), draw.integer(5, 8)
    # Quarters, so that equal numbers come back in other rows, columns and cases.
    quarters = torch.randint(-12, 13, (c, d), generator=draw.generator) / 4
    yield case("numbers within ±3, some of them equal", draw.tensor(quarters))
    yield case("the same numbers in another order", draw.tensor(quarters.flip(0, 1)))
    yield case("every number the same", draw.tensor(torch.full((d, c), 1.0)))
    yield case("numbers of all sizes", 5 * draw.normal(d, c))
    yield case("numbers up to ±1000", draw.tensor([[-1000.0, -90.0, -3.0], [3.0, 90.0, 1000.0]]))
    far = draw.tensor([-30.0, -3.0, 0.0, 1.0, 3.0, 30.0])
    yield case("an argument that is not contiguous in memory", far.reshape(3, 2).T)


def _same_form(case, value):
    raw = case.args[0]
    return (value.shape, value.dtype, value.device) == (raw.shape, raw.dtype, raw.device)


def _in_unit_interval(case, value):
    return bool(((value >= 0) & (value <= 1)).all())


def _sorted(case, value):
    """The raw numbers in order, and the pixels in the same order."""
    raw, order = case.args[0].flatten().sort()
    return raw, value.flatten()[order]


def _never_decreases(case, value):
    _, pixels = _sorted(case, value)
    return bool((pixels.diff() >= -4 * torch.finfo(value.dtype).eps).all())


def _increases_inside(case, value):
    raw, pixels = _sorted(case, value)
    later = (raw[None] - raw[:, None] > 0.2) & (raw[:, None] >= -3) & (raw[None] <= 3)
    inside = raw.abs() < 2.9
    # Whatever lies within ±3 has room on both sides, so 0 and 1 are not reached there.
    room = (pixels[inside] > 0) & (pixels[inside] < 1)
    return bool((pixels[None] > pixels[:, None])[later].all() and room.all())


def _elementwise(case, value):
    tolerance = 1e-5 if value.dtype == torch.float32 else 1e-9
    pairs = zip(case.args[0].flatten().tolist(), value.flatten().tolist(), strict=True)
    seen = case.facts["seen"]
    if case.facts["first"]:
        # A class is judged on the same cases: here the next function begins.
        seen.clear()
    return all(abs(seen.setdefault(raw, pixel) - pixel) <= tolerance for raw, pixel in pairs)


pseudo_inputs_wrong = Misconceptions()


@pseudo_inputs_wrong("cut off at 0 and 1")
def _(raw):
    """You cut off at 0 and 1. The range is right, but a number beyond gives a pixel with
    gradient 0, which never comes back; map the whole line to [0, 1] by a function that keeps
    rising.
    """
    return raw.clamp(0, 1)


@pseudo_inputs_wrong("no limits")
def _(raw):
    """You return the numbers as they are; pixels lie in [0, 1], so squash them."""
    return raw * 1.0


@pseudo_inputs_wrong("tanh")
def _(raw):
    """You use tanh, whose values lie between −1 and 1; pixels lie in [0, 1]."""
    return torch.tanh(raw)


@pseudo_inputs_wrong("softmax")
def _(raw):
    """You use a softmax, which makes the pixels of an image compete: they add to 1, and a pixel
    depends on all others; apply one function to each number by itself.
    """
    return torch.softmax(raw, -1)


@pseudo_inputs_wrong("rescaled by minimum and maximum")
def _(raw):
    """You rescale by the smallest and the largest number of the image, so a pixel depends on
    the others; apply one function to each number by itself.
    """
    low, high = raw.amin(1, keepdim=True), raw.amax(1, keepdim=True)
    return (raw - low) / (high - low + 1e-8)


@pseudo_inputs_wrong("standardized first")
def _(raw):
    """You subtract the mean and divide by the standard deviation of all numbers first, so a
    pixel depends on the others; apply one function to each number by itself.
    """
    return torch.sigmoid((raw - raw.mean()) / (raw.std(correction=0) + 1e-5))


@pseudo_inputs_wrong("exponentials that overflow")
def _(raw):
    """You write the sigmoid as eᵃ / (1 + eᵃ), which is inf / inf for large a, not a number;
    `torch.sigmoid` knows both ends.
    """
    return torch.exp(raw) / (1 + torch.exp(raw))


@pseudo_inputs_wrong("black and white")
def _(raw):
    """You make pixels 0 or 1 with a comparison, through which no gradient flows; grey values
    between 0 and 1 can be learnt.
    """
    return (raw > 0).to(raw.dtype)


@pseudo_inputs_wrong("decreasing")
def _(raw):
    """Your pixels grow darker as the number rises; the map must never decrease."""
    return torch.sigmoid(-raw)


@pseudo_inputs_wrong("detached")
def _(raw):
    """Your pixels are right, but you detach them, so the pseudo-inputs cannot be learnt."""
    return torch.sigmoid(raw.detach())


_pseudo_inputs = Exercise(
    name="pseudo_inputs",
    question="pixels in [0, 1] from unconstrained numbers, one by one, shape (C, D)",
    reference=vampprior.pseudo_inputs,
    cases=_pseudo_cases,
    compare=False,
    properties=(
        Property(
            "form",
            "There must be one pixel for each number, in the same shape and dtype and on the same "
            "device. Yours come back otherwise.",
            _same_form,
        ),
        Property(
            "finite",
            "Every number has a pixel, the largest too. Yours are not all finite: look for an exp "
            "that overflows.",
            lambda case, value: bool(value.isfinite().all()),
        ),
        Property("range", "Pixels lie in [0, 1]. Yours do not.", _in_unit_interval),
        Property(
            "elementwise",
            "The same number must give the same pixel wherever it stands and whatever stands "
            "beside it. Yours do not.",
            _elementwise,
        ),
        Property(
            "never decreasing",
            "A larger number must not give a smaller pixel. Yours does.",
            _never_decreases,
        ),
        Property(
            "increasing within ±3",
            "From −3 to 3 a larger number must give a larger pixel, or nothing can be learnt "
            "there. Yours is flat somewhere.",
            _increases_inside,
        ),
    ),
    misconceptions=tuple(pseudo_inputs_wrong),
    hints=(
        "Adam may move `raw` anywhere on the real line; find a smooth function from the line to "
        "the interval from 0 to 1 that keeps rising.",
        "A decoder's logits are turned into the probabilities of pixels in the same way.",
        "One call: `torch.sigmoid`.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


# --- vampprior_log_prob ---------------------------------------------------------------------------


def _vampprior_cases(draw):
    def random(name, b, c, d, latents, spread=3.0):
        encoder = _Encoder(draw, d, latents, spread)
        args = (0.8 * spread * draw.normal(b, latents), draw.uniform(c, d), encoder)
        return Case(name, args, (0, 1, 2))

    def exact(z, pseudo, encoder):
        with torch.no_grad():
            mean, log_var = (t.double().cpu() for t in encoder(pseudo))
        normal = torch.distributions.Normal(mean, torch.exp(0.5 * log_var))
        log_q = normal.log_prob(z.double().cpu()[:, None]).sum(-1)
        return torch.logsumexp(log_q, 1) - math.log(len(pseudo))

    case = random("one pseudo-input of two pixels, one latent", 2, 1, 2, 1)
    yield Case(case.name, case.args, case.wrt, {"log_prob": exact(*case.args)})
    b, c, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    latents = draw.integer(8, 9)
    yield random("all axes of different length", b, c, d, latents)
    yield random("one pixel and one point", 1, c, 1, 2)
    yield random("as many points, pseudo-inputs, pixels and latents", 3, 3, 3, 3)

    # The data as pseudo-inputs: the aggregated posterior of these data.
    case = random("as many pseudo-inputs as data", b, 12, d, 2)
    facts = {"log_prob": exact(*case.args)}
    yield Case("data as pseudo-inputs: the aggregated posterior", case.args, case.wrt, facts)

    points, log_cell = _plane(draw)
    args = (points, draw.uniform(2, d), _Encoder(draw, d, 2, spread=2.0))
    yield Case("a grid over two latents", args, (0, 1, 2), {"log_cell": log_cell})
    args = (draw.tensor([[90.0, -90.0], [0.0, 0.0]]), draw.uniform(c, d), _Encoder(draw, d, 2))
    yield Case("a point far from every component", args, (0, 1, 2))
    yield random("posteriors far apart", b, c, d, 2, spread=60.0)
    yield random("300 latents", b, c, d, 300)
    args = (draw.normal(2, b).T, draw.uniform(d, c).T, _Encoder(draw, d, 2))
    yield Case("arguments that are not contiguous in memory", args, (0, 1, 2))


vampprior_log_prob_wrong = Misconceptions()


@vampprior_log_prob_wrong("product of one-dimensional mixtures")
def _(z, pseudo, encoder):
    """You take the log-sum-exp over the pseudo-inputs in each latent dimension and add the
    dimensions afterwards: {got}, a product of one-dimensional mixtures; q(z|u) is one density of
    the whole vector z, so sum over its dimensions first, {expected}.
    """
    mean, log_var = encoder(pseudo)
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi))
    return (torch.logsumexp(log_q, 1) - math.log(pseudo.shape[0])).sum(-1)


@vampprior_log_prob_wrong("log C forgotten")
def _(z, pseudo, encoder):
    """You add the C posteriors and do not divide by C: {got}, a prior that integrates to C; less
    log C it is {expected}.
    """
    mean, log_var = encoder(pseudo)
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_q, 1)


@vampprior_log_prob_wrong("mean of logs for log of mean")
def _(z, pseudo, encoder):
    """You average log q(z|u) over the pseudo-inputs: {got}; the prior is the average of the
    densities, and its log is {expected}.
    """
    mean, log_var = encoder(pseudo)
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1).mean(1)


@vampprior_log_prob_wrong("the average pseudo-input encoded")
def _(z, pseudo, encoder):
    """You average the pseudo-inputs and encode the average, which gives one Gaussian: {got};
    encode each and average the densities, {expected}.
    """
    mean, log_var = encoder(pseudo.mean(0, keepdim=True))
    squares = (z - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)


@vampprior_log_prob_wrong("squashed once more")
def _(z, pseudo, encoder):
    """You put the pseudo-inputs through a sigmoid: {got}; they are pixels in [0, 1] already, and
    encoded as they are they give {expected}.
    """
    mean, log_var = encoder(torch.sigmoid(pseudo))
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_q, 1) - math.log(pseudo.shape[0])


@vampprior_log_prob_wrong("variance taken for the standard deviation")
def _(z, pseudo, encoder):
    """You use exp(log_var) as the standard deviation of q(z|u): {got}; it is the variance, and
    the standard deviation is exp(log_var / 2), which gives {expected}.
    """
    mean, log_var = encoder(pseudo)
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-2 * log_var)
    log_q = -0.5 * (squares + 2 * log_var + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_q, 1) - math.log(pseudo.shape[0])


@vampprior_log_prob_wrong("densities that underflow")
def _(z, pseudo, encoder):
    """You leave the log for the densities themselves, which are 0 in floating point where z is
    far from every posterior: {got}; with log-sum-exp it is {expected}.
    """
    mean, log_var = encoder(pseudo)
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return torch.log(torch.exp(log_q).mean(1))


@vampprior_log_prob_wrong("nearest posterior only")
def _(z, pseudo, encoder):
    """You keep the pseudo-input that explains z best and drop the others: {got}; all of them add
    to the prior, {expected}.
    """
    mean, log_var = encoder(pseudo)
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return log_q.max(1).values - math.log(pseudo.shape[0])


@vampprior_log_prob_wrong("sum over the points")
def _(z, pseudo, encoder):
    """You add up the points of the batch; each has its own log-density, shape (B,)."""
    mean, log_var = encoder(pseudo)
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return (torch.logsumexp(log_q, 1) - math.log(pseudo.shape[0])).sum()


@vampprior_log_prob_wrong("encoder cut off")
def _(z, pseudo, encoder):
    """Your numbers are right, but you detach what the encoder returns, so neither the encoder
    nor the pseudo-inputs learn from the prior; differentiate through both.
    """
    mean, log_var = (t.detach() for t in encoder(pseudo))
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_q, 1) - math.log(pseudo.shape[0])


@vampprior_log_prob_wrong("pseudo-inputs cut off")
def _(z, pseudo, encoder):
    """Your numbers are right, but you detach the pseudo-inputs, so they stay where they started
    however long one trains; the prior learns them.
    """
    mean, log_var = encoder(pseudo.detach())
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_q, 1) - math.log(pseudo.shape[0])


_vampprior_log_prob = Exercise(
    name="vampprior_log_prob",
    question="log of the average posterior of the C pseudo-inputs at z, shape (B,)",
    reference=vampprior.vampprior_log_prob,
    cases=_vampprior_cases,
    rtol=_EXPANDED,
    properties=(
        Property(
            "aggregated posterior",
            "With the data as pseudo-inputs, the VampPrior is the aggregated posterior, "
            "1/N Σ_n q(z|x_n). Yours is not.",
            is_fact("log_prob", single=1e-3),
        ),
        Property(
            "integrates to one",
            "A prior integrates to 1: over a grid of two latents the densities times the area of "
            "a cell must add to 1. Yours do not.",
            adds_to_one("log_cell", double=1e-6),
        ),
    ),
    misconceptions=tuple(vampprior_log_prob_wrong),
    hints=(
        "The encoder turns each pseudo-input into a Gaussian over z; the prior is the mixture of "
        "these C Gaussians with equal weights.",
        "`mean, log_var = encoder(pseudo)` are `(C, L)`. Then it is the mixture of the first "
        "exercise.",
        "`log_q = -0.5 * ((z.unsqueeze(1) - mean)**2 / log_var.exp() + log_var + math.log(2 * "
        "math.pi)).sum(-1)`, then log-sum-exp over axis 1 less log C.",
    ),
    points=2,
    minutes=15,
    difficulty=2,
    may_use=_OWN_ENCODER,
)


# --- sample_vampprior -----------------------------------------------------------------------------


def _sample_cases(draw):
    def components(c, s):
        return torch.randint(c, (s,), generator=draw.generator).to(draw.device)

    def random(name, s, c, d, latents):
        args = (draw.uniform(c, d), _Encoder(draw, d, latents), components(c, s))
        return Case(name, (*args, draw.normal(s, latents)), (0, 1, 3))

    yield random("one pseudo-input of two pixels, one sample, one latent", 1, 1, 2, 1)
    c, d, latents = draw.integer(3, 4), draw.integer(5, 6), draw.integer(7, 8)
    s = draw.integer(9, 11)
    yield random("all axes of different length", s, c, d, latents)
    yield random("more pseudo-inputs than samples", 2, c, d, 3)
    yield random("one pixel", s, c, 1, 2)

    # Each component once at its mean, once a standard deviation above and once below.
    pseudo, encoder = draw.uniform(c, d), _Encoder(draw, d, 2)
    with torch.no_grad():
        mean, log_var = (t.double().cpu() for t in encoder(pseudo))
    std = torch.exp(0.5 * log_var)
    order = torch.randperm(c, generator=draw.generator)
    facts = {"samples": torch.cat([mean[order], (mean + std)[order], (mean - std)[order]])}
    noise = draw.tensor([0.0, 1.0, -1.0]).repeat_interleave(c)[:, None].repeat(1, 2)
    args = (pseudo, encoder, order.repeat(3).to(draw.device), noise)
    yield Case("noise of 0, 1 and −1", args, (0, 1, 3), facts)

    component = torch.full((s,), c - 1, device=draw.device)
    args = (draw.uniform(c, d), _Encoder(draw, d, 2), component, draw.normal(s, 2))
    yield Case("every sample from the last pseudo-input", args, (0, 1, 3))
    yield random("300 latents", 2, c, d, 300)
    args = (draw.uniform(d, c).T, _Encoder(draw, d, 3), components(c, 2 * s)[::2])
    args = (*args, draw.normal(3, s).T)
    yield Case("arguments that are not contiguous in memory", args, (0, 1, 3))


sample_vampprior_wrong = Misconceptions()


@sample_vampprior_wrong("variance taken for the standard deviation")
def _(pseudo, encoder, component, noise):
    """You multiply the noise by exp(log_var): {got}; that is the variance, and the standard
    deviation exp(log_var / 2) gives {expected}.
    """
    mean, log_var = encoder(pseudo[component])
    return mean + torch.exp(log_var) * noise


@sample_vampprior_wrong("log-variance taken for the standard deviation")
def _(pseudo, encoder, component, noise):
    """You multiply the noise by log_var itself: {got}; the standard deviation is
    exp(log_var / 2), which gives {expected}.
    """
    mean, log_var = encoder(pseudo[component])
    return mean + log_var * noise


@sample_vampprior_wrong("precision taken for the variance")
def _(pseudo, encoder, component, noise):
    """You divide the noise by the standard deviation: {got}; a wide posterior has far samples,
    so multiply, {expected}.
    """
    mean, log_var = encoder(pseudo[component])
    return mean + torch.exp(-0.5 * log_var) * noise


@sample_vampprior_wrong("noise left out")
def _(pseudo, encoder, component, noise):
    """You return the means of the posteriors: {got}; a sample has noise of their standard
    deviation around them, {expected}.
    """
    mean, log_var = encoder(pseudo[component])
    return mean + 0 * log_var * noise


@sample_vampprior_wrong("components in turn")
def _(pseudo, encoder, component, noise):
    """You take the pseudo-inputs in turn and do not look at `component`: {got}; sample s comes
    from the pseudo-input numbered component[s], {expected}.
    """
    turn = torch.arange(noise.shape[0], device=noise.device) % pseudo.shape[0]
    mean, log_var = encoder(pseudo[turn])
    return mean + torch.exp(0.5 * log_var) * noise


@sample_vampprior_wrong("one component for all")
def _(pseudo, encoder, component, noise):
    """You take every sample from the first component drawn: {got}; each sample has a component of
    its own, {expected}.
    """
    mean, log_var = encoder(pseudo[component[:1]])
    return mean + torch.exp(0.5 * log_var) * noise


@sample_vampprior_wrong("counted from one")
def _(pseudo, encoder, component, noise):
    """You count the components from 1, so you take the one before: {got}; they are numbered from
    0 to C − 1, {expected}.
    """
    mean, log_var = encoder(pseudo[component - 1])
    return mean + torch.exp(0.5 * log_var) * noise


@sample_vampprior_wrong("components averaged")
def _(pseudo, encoder, component, noise):
    """You average the means and variances of all components and sample one Gaussian: {got}; a
    sample of a mixture comes from one component, {expected}.
    """
    mean, log_var = encoder(pseudo)
    return mean.mean(0) + torch.exp(log_var).mean(0).sqrt() * noise


@sample_vampprior_wrong("noise of one sample only")
def _(pseudo, encoder, component, noise):
    """You use the first row of the noise for every sample: {got}; each has its own row,
    {expected}.
    """
    mean, log_var = encoder(pseudo[component])
    return mean + torch.exp(0.5 * log_var) * noise[:1]


@sample_vampprior_wrong("without gradients")
def _(pseudo, encoder, component, noise):
    """Your numbers are right, but you encode under no_grad, so nothing that depends on a sample
    reaches the encoder or the pseudo-inputs.
    """
    with torch.no_grad():
        mean, log_var = encoder(pseudo[component])
    return mean + torch.exp(0.5 * log_var) * noise


_sample_vampprior = Exercise(
    name="sample_vampprior",
    question="one sample of q(z|u) for each chosen pseudo-input u, shape (S, L)",
    reference=vampprior.sample_vampprior,
    cases=_sample_cases,
    properties=(
        Property(
            "mean and standard deviation",
            "With noise 0 a sample is the mean of its component, with noise ±1 one standard "
            "deviation away from it. Yours is not.",
            is_fact("samples", single=1e-4),
        ),
    ),
    misconceptions=tuple(sample_vampprior_wrong),
    hints=(
        "Sampling a mixture takes two steps: choose a component, then sample it. The choice is "
        "given.",
        "`pseudo[component]` is `(S, D)`: the pseudo-input of each sample. Encode these, and "
        "reparametrize.",
        "`mean, log_var = encoder(pseudo[component])`, then `mean + exp(log_var / 2) * noise`.",
    ),
    points=2,
    minutes=10,
    difficulty=1,
    may_use=_OWN_ENCODER,
)


# --- hierarchical_elbo ----------------------------------------------------------------------------


def _hierarchical_cases(draw):
    everything = (0, 1, 2, 3, 4)
    args = tuple(draw.tensor([value]) for value in (-7.0, -1.0, -2.0, -0.5, -0.25))
    yield Case("one data point", args, everything, {"elbo": [-9.25]})
    b = draw.integer(4, 8)
    args = tuple(scale * draw.normal(b) - scale for scale in (20, 3, 2, 3, 2))
    yield Case("several data points", args, everything)

    # x, z1 and z2 are 0 or 1 here, and every one of the eight combinations is a row.
    def table(*shape):
        p = 0.1 + 0.8 * torch.rand(*shape, 1, generator=draw.generator, dtype=torch.float64)
        return torch.log(torch.cat([p, 1 - p], -1))

    p_z2, p_z1, p_x, q_z2, q_z1 = table(), table(2), table(2, 2), table(2), table(2, 2)
    rows = [
        (p_x[z1, z2, x], p_z1[z2, z1], p_z2[z2], q_z1[x, z2, z1], q_z2[x, z2])
        for x, z1, z2 in itertools.product([0, 1], repeat=3)
    ]
    columns = torch.tensor(rows, dtype=torch.float64).T
    facts = {"log_q": columns[3] + columns[4]}
    args = tuple(draw.tensor(column) for column in columns)
    yield Case("every x, z1 and z2 of a binary model", args, everything, facts)

    # q is the posterior: what the five terms leave is log p(x).
    log_px, log_pz1, log_pz2, log_qz1 = (draw.normal(b) for _ in range(4))
    evidence = draw.normal(b)
    args = (log_px, log_pz1, log_pz2, log_qz1, log_px + log_pz1 + log_pz2 - log_qz1 - evidence)
    facts = {"elbo": evidence.double().cpu()}
    yield Case("q is the posterior", args, everything, facts)

    args = (1e4 * draw.normal(b) - 3e4, *(draw.normal(b) for _ in range(4)))
    yield Case("data points 10⁴ apart", args, everything)
    args = tuple(draw.normal(b, 5).unbind(1))
    yield Case("arguments that are not contiguous in memory", args, everything)


hierarchical_elbo_wrong = Misconceptions()


@hierarchical_elbo_wrong("log q added")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You add the log-densities of q: {got}; the joint is divided by q, so they are subtracted,
    {expected}.
    """
    return log_px + log_pz1 + log_pz2 + log_qz1 + log_qz2


@hierarchical_elbo_wrong("prior and posterior exchanged")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You add log q − log p, so the KL terms are rewarded: {got}; the ELBO pays for them,
    {expected}.
    """
    return log_px - log_pz1 - log_pz2 + log_qz1 + log_qz2


@hierarchical_elbo_wrong("q(z1|x, z2) left out")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You leave q(z1|x, z2) out: {got}; both layers are sampled from q, and both densities are
    subtracted, {expected}.
    """
    return log_px + log_pz1 + log_pz2 - log_qz2


@hierarchical_elbo_wrong("q(z2|x) left out")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You leave q(z2|x) out: {got}; both layers are sampled from q, and both densities are
    subtracted, {expected}.
    """
    return log_px + log_pz1 + log_pz2 - log_qz1


@hierarchical_elbo_wrong("p(z1|z2) left out")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You leave p(z1|z2) out: {got}; the joint is p(x|z1, z2) p(z1|z2) p(z2), {expected}."""
    return log_px + log_pz2 - log_qz1 - log_qz2


@hierarchical_elbo_wrong("p(z2) left out")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You leave p(z2) out, the very factor that the VampPrior replaces: {got}; the joint is
    p(x|z1, z2) p(z1|z2) p(z2), {expected}.
    """
    return log_px + log_pz1 - log_qz1 - log_qz2


@hierarchical_elbo_wrong("upper layer only")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You compare prior and posterior of z2 only: {got}; z1 has a prior p(z1|z2) and a posterior
    of its own, {expected}.
    """
    return log_px + log_pz2 - log_qz2


@hierarchical_elbo_wrong("KL terms cut off at 0")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You cut log q − log p off at 0, as if it were a KL: {got}. One sample of it may be
    negative, and it averages to the KL only if it is left alone, {expected}.
    """
    return log_px - (log_qz1 - log_pz1).clamp(min=0) - (log_qz2 - log_pz2).clamp(min=0)


@hierarchical_elbo_wrong("mean over the batch")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You average over the data points; each has its own bound, shape (B,)."""
    return (log_px + log_pz1 + log_pz2 - log_qz1 - log_qz2).mean()


@hierarchical_elbo_wrong("q detached")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """Your numbers are right, but you detach the densities of q, so the gradient lacks their
    part; differentiate all five.
    """
    return log_px + log_pz1 + log_pz2 - log_qz1.detach() - log_qz2.detach()


_hierarchical_elbo = Exercise(
    name="hierarchical_elbo",
    question="log p(x, z1, z2) − log q(z1, z2|x) from its five factors, shape (B,)",
    reference=vampprior.hierarchical_elbo,
    cases=_hierarchical_cases,
    properties=(
        Property(
            "exact",
            "Where q is the posterior, log p(x, z1, z2) − log q(z1, z2|x) is log p(x). "
            "Yours is not.",
            is_fact("elbo", single=1e-4),
        ),
        Property(
            "adds to one",
            "q times the exponential of your result is p(x, z1, z2), which adds to 1 over every "
            "x, z1 and z2 of a binary model. Yours does not.",
            adds_to_one("log_q", single=1e-5),
        ),
    ),
    misconceptions=tuple(hierarchical_elbo_wrong),
    hints=(
        "The ELBO is E_q [log p(x, z1, z2) − log q(z1, z2|x)]; write both densities as products.",
        "p(x, z1, z2) = p(x|z1, z2) p(z1|z2) p(z2), and q(z1, z2|x) = q(z1|x, z2) q(z2|x).",
        "Three terms with a plus, two with a minus.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


# --- train_vampprior ------------------------------------------------------------------------------

# Nats on images held out, mean ± standard deviation over five seeds: standard normal −19.43 ± 0.11,
# the VampPrior better by 0.55 ± 0.06. Over thirty runs from six starts of the weights: by 0.38 to
# 0.85.
MARGIN = 0.25


def train_vampprior(batches, noise, weights, raw):
    """A VAE and the pseudo-inputs of its VampPrior after one step of Adam for each batch.

    Args:
        batches: `(T, B, D)` images, 0 or 1, a batch for each step.
        noise: `(T, B, L)` standard normal, for one sample of z for each image.
        weights: eight tensors to start from, W₁ (D,H), b₁, W₂ (H,2L), b₂ of the encoder and
            V₁ (L,H), c₁, V₂ (H,D), c₂ of the decoder.
        raw: `(C, D)` numbers to start from; their sigmoids are the pseudo-inputs.

    Returns:
        The eight trained tensors as a list, and the trained `raw`.

    """
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    raw = raw.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([*weights, raw], lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        loss = -_elbo(x, eps, weights, raw).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [weight.detach() for weight in weights], raw.detach()


def _elbo(x, eps, weights, raw=None):
    """ELBO of one sample of z; raw makes the prior, which is standard normal without it."""
    w1, b1, w2, b2, v1, c1, v2, c2 = weights

    def encode(u):
        return (torch.tanh(u @ w1 + b1) @ w2 + b2).chunk(2, -1)

    mean, log_var = encode(x)
    z = mean + torch.exp(0.5 * log_var) * eps
    logits = torch.tanh(z @ v1 + c1) @ v2 + c2
    log_px = (x * logits - F.softplus(logits)).sum(-1)
    log_qz = -0.5 * (eps**2 + log_var + math.log(2 * math.pi)).sum(-1)
    if raw is None:
        return log_px - 0.5 * (z**2 + math.log(2 * math.pi)).sum(-1) - log_qz
    means, log_vars = encode(torch.sigmoid(raw))
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_components = -0.5 * (squares + log_vars + math.log(2 * math.pi)).sum(-1)
    return log_px + torch.logsumexp(log_components, 1) - math.log(len(raw)) - log_qz


def _train_standard_normal(batches, noise, weights):
    """What `train_vampprior` does, with N(0, I) for a prior."""
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    optimizer = torch.optim.Adam(weights, lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        optimizer.zero_grad()
        (-_elbo(x, eps, weights).mean()).backward()
        optimizer.step()
    return [weight.detach() for weight in weights]


@torch.no_grad()
def _held_out_elbo(facts, weights, raw=None):
    """Average over the images held out, 20 samples of z for each; the same noise for everyone."""
    x, noise = facts["held_out"], facts["held_out_noise"]
    return sum(_elbo(x, eps, weights, raw).mean().item() for eps in noise) / len(noise)


@functools.cache
def _images(split):
    """Digits in black and white, `(N, 64)`; grey pixels drawn anew would drown the prior's part."""
    return (digits(split).flat() > 0.5).double()


def _first_weights(hidden, latents):
    """Where training starts, the same for every seed: the start is half of what seeds differ by."""
    generator = torch.Generator().manual_seed(2)

    def normal(*shape):
        # Each sum of `shape[0]` terms has variance 1.
        numbers = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return numbers / shape[0] ** 0.5

    # The encoder starts with standard deviations of 0.37, so that codes say something at once.
    mean_and_log_var = torch.cat([normal(hidden, latents), 0.1 * normal(hidden, latents)], 1)
    centre = torch.cat([torch.zeros(latents), torch.full((latents,), -2.0)])
    encoder = normal(64, hidden), torch.zeros(hidden), mean_and_log_var, centre
    decoder = normal(latents, hidden), torch.zeros(hidden), normal(hidden, 64), torch.zeros(64)
    return [*encoder, *decoder]


def _training_cases(draw):
    def start(steps, batch, components, hidden, latents):
        images = _images("train")
        rows = torch.randint(len(images), (steps, batch), generator=draw.generator)
        batches = draw.tensor(images[rows])
        weights = [draw.tensor(weight) for weight in _first_weights(hidden, latents)]
        chosen = images[torch.randperm(len(images), generator=draw.generator)[:components]]
        raw = draw.tensor(torch.where(chosen > 0.5, 3.0, -3.0))
        return batches, draw.normal(steps, batch, latents), weights, raw

    sizes = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7), 8, 3
    yield Case("two or three steps", start(*sizes))
    facts = {"held_out": draw.tensor(_images("test")), "held_out_noise": draw.normal(20, 297, 8)}
    args = start(300, 100, draw.integer(46, 54), 100, 8)
    # A training, and the same for every answer on this case.
    facts["baseline"] = functools.cache(
        lambda: _held_out_elbo(facts, _train_standard_normal(*args[:3]))
    )
    yield Case("300 steps on the digits", args, facts=facts)


def _trained_form(case, value):
    given = [*case.args[2], case.args[3]]
    trained = [*value[0], value[1]]
    pairs = zip(trained, given, strict=True)
    return all((a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device) for a, b in pairs)


def _is_better(case, value):
    if "held_out" not in case.facts:
        return True
    return _held_out_elbo(case.facts, *value) >= case.facts["baseline"]() + MARGIN


train_vampprior_wrong = Misconceptions()


@train_vampprior_wrong("standard normal prior")
def _(batches, noise, weights, raw):
    """You train with a standard normal prior, so the pseudo-inputs stay where they started; put
    the mixture of their posteriors in its place.
    """
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    w1, b1, w2, b2, v1, c1, v2, c2 = weights
    optimizer = torch.optim.Adam(weights, lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        mean, log_var = (torch.tanh(x @ w1 + b1) @ w2 + b2).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_var) * eps
        logits = torch.tanh(z @ v1 + c1) @ v2 + c2
        log_px = (x * logits - F.softplus(logits)).sum(-1)
        log_ratio = -0.5 * (z**2).sum(-1) + 0.5 * (eps**2 + log_var).sum(-1)
        optimizer.zero_grad()
        (-(log_px + log_ratio).mean()).backward()
        optimizer.step()
    return [weight.detach() for weight in weights], raw.clone()


@train_vampprior_wrong("pseudo-inputs not given to the optimizer")
def _(batches, noise, weights, raw):
    """You train the weights only: gradients reach the pseudo-inputs, but no step is made with
    them; give `raw` to the optimizer too.
    """
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    w1, b1, w2, b2, v1, c1, v2, c2 = weights
    optimizer = torch.optim.Adam(weights, lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        mean, log_var = (torch.tanh(x @ w1 + b1) @ w2 + b2).chunk(2, -1)
        u_mean, u_log_var = (torch.tanh(torch.sigmoid(raw) @ w1 + b1) @ w2 + b2).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_var) * eps
        logits = torch.tanh(z @ v1 + c1) @ v2 + c2
        log_px = (x * logits - F.softplus(logits)).sum(-1)
        squares = (z.unsqueeze(1) - u_mean) ** 2 * torch.exp(-u_log_var)
        log_pz = torch.logsumexp(-0.5 * (squares + u_log_var).sum(-1), 1)
        log_qz = -0.5 * (eps**2 + log_var).sum(-1)
        optimizer.zero_grad()
        (-(log_px + log_pz - log_qz).mean()).backward()
        optimizer.step()
    return [weight.detach() for weight in weights], raw.clone()


@train_vampprior_wrong("prior cut off")
def _(batches, noise, weights, raw):
    """You encode the pseudo-inputs under no_grad or detach the result, so the prior runs after
    the encoder and the pseudo-inputs get no gradient at all; differentiate through it.
    """
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    w1, b1, w2, b2, v1, c1, v2, c2 = weights
    optimizer = torch.optim.Adam(weights, lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        mean, log_var = (torch.tanh(x @ w1 + b1) @ w2 + b2).chunk(2, -1)
        with torch.no_grad():
            u_mean, u_log_var = (torch.tanh(torch.sigmoid(raw) @ w1 + b1) @ w2 + b2).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_var) * eps
        logits = torch.tanh(z @ v1 + c1) @ v2 + c2
        log_px = (x * logits - F.softplus(logits)).sum(-1)
        squares = (z.unsqueeze(1) - u_mean) ** 2 * torch.exp(-u_log_var)
        log_pz = torch.logsumexp(-0.5 * (squares + u_log_var).sum(-1), 1)
        log_qz = -0.5 * (eps**2 + log_var).sum(-1)
        optimizer.zero_grad()
        (-(log_px + log_pz - log_qz).mean()).backward()
        optimizer.step()
    return [weight.detach() for weight in weights], raw.clone()


@train_vampprior_wrong("product of one-dimensional mixtures")
def _(batches, noise, weights, raw):
    """You train with the log-sum-exp taken in each latent dimension, a product of one-dimensional
    mixtures. Scored with the VampPrior, such a model is not better than with a standard normal;
    sum over the dimensions first.
    """
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    raw = raw.detach().clone().requires_grad_()
    w1, b1, w2, b2, v1, c1, v2, c2 = weights
    optimizer = torch.optim.Adam([*weights, raw], lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        mean, log_var = (torch.tanh(x @ w1 + b1) @ w2 + b2).chunk(2, -1)
        u_mean, u_log_var = (torch.tanh(torch.sigmoid(raw) @ w1 + b1) @ w2 + b2).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_var) * eps
        logits = torch.tanh(z @ v1 + c1) @ v2 + c2
        log_px = (x * logits - F.softplus(logits)).sum(-1)
        squares = (z.unsqueeze(1) - u_mean) ** 2 * torch.exp(-u_log_var)
        log_pz = torch.logsumexp(-0.5 * (squares + u_log_var), 1).sum(-1)
        log_qz = -0.5 * (eps**2 + log_var).sum(-1)
        optimizer.zero_grad()
        (-(log_px + log_pz - log_qz).mean()).backward()
        optimizer.step()
    return [weight.detach() for weight in weights], raw.detach()


@train_vampprior_wrong("pseudo-inputs not squashed")
def _(batches, noise, weights, raw):
    """You encode `raw` itself, numbers outside [0, 1]; the pseudo-inputs are its sigmoids, and
    with them your model is not better than with a standard normal prior.
    """
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    raw = raw.detach().clone().requires_grad_()
    w1, b1, w2, b2, v1, c1, v2, c2 = weights
    optimizer = torch.optim.Adam([*weights, raw], lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        mean, log_var = (torch.tanh(x @ w1 + b1) @ w2 + b2).chunk(2, -1)
        u_mean, u_log_var = (torch.tanh(raw @ w1 + b1) @ w2 + b2).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_var) * eps
        logits = torch.tanh(z @ v1 + c1) @ v2 + c2
        log_px = (x * logits - F.softplus(logits)).sum(-1)
        squares = (z.unsqueeze(1) - u_mean) ** 2 * torch.exp(-u_log_var)
        log_pz = torch.logsumexp(-0.5 * (squares + u_log_var).sum(-1), 1)
        log_qz = -0.5 * (eps**2 + log_var).sum(-1)
        optimizer.zero_grad()
        (-(log_px + log_pz - log_qz).mean()).backward()
        optimizer.step()
    return [weight.detach() for weight in weights], raw.detach()


@train_vampprior_wrong("q left out")
def _(batches, noise, weights, raw):
    """You leave log q(z|x) out of the loss, so nothing rewards a wide posterior and it shrinks to
    a point; the ELBO is log p(x|z) + log p(z) − log q(z|x).
    """
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    raw = raw.detach().clone().requires_grad_()
    w1, b1, w2, b2, v1, c1, v2, c2 = weights
    optimizer = torch.optim.Adam([*weights, raw], lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        mean, log_var = (torch.tanh(x @ w1 + b1) @ w2 + b2).chunk(2, -1)
        u_mean, u_log_var = (torch.tanh(torch.sigmoid(raw) @ w1 + b1) @ w2 + b2).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_var) * eps
        logits = torch.tanh(z @ v1 + c1) @ v2 + c2
        log_px = (x * logits - F.softplus(logits)).sum(-1)
        squares = (z.unsqueeze(1) - u_mean) ** 2 * torch.exp(-u_log_var)
        log_pz = torch.logsumexp(-0.5 * (squares + u_log_var).sum(-1), 1)
        optimizer.zero_grad()
        (-(log_px + log_pz).mean()).backward()
        optimizer.step()
    return [weight.detach() for weight in weights], raw.detach()


_train_vampprior = Exercise(
    name="train_vampprior",
    question="weights and raw of a VAE with a VampPrior after training, (list of 8, (C, D))",
    reference=train_vampprior,
    cases=_training_cases,
    compare=False,
    # For naming a known wrong answer only: 300 steps make rounding errors larger.
    rtol={torch.float64: 1e-3, torch.float32: 1e-2},
    properties=(
        Property(
            "form",
            "The trained tensors must come back in the order, shapes and dtype of those given. "
            "Yours do not.",
            _trained_form,
        ),
        Property(
            "finite",
            "Something overflowed: a trained number is infinite or not a number.",
            lambda case, value: all(bool(t.isfinite().all()) for t in [*value[0], value[1]]),
        ),
        Property(
            "pseudo-inputs learnt",
            "`raw` came back as it was: the pseudo-inputs were not trained.",
            lambda case, value: not torch.equal(value[1], case.args[3]),
        ),
        Property(
            "better than a standard normal",
            "With the sigmoids of your `raw` as pseudo-inputs, the ELBO on the images held out is "
            f"not {MARGIN} nats above that of a standard normal prior, trained with the same "
            "batches, noise and Adam.",
            _is_better,
        ),
    ),
    misconceptions=tuple(train_vampprior_wrong),
    hints=(
        "In each step: encode x, sample z with the noise given, decode; encode the pseudo-inputs "
        "with the same encoder; then −ELBO, backward, a step of Adam on the weights and on `raw`.",
        "Train copies: `w.clone().requires_grad_()`. The encoder is `(torch.tanh(u @ w1 + b1) @ w2 "
        "+ b2).chunk(2, -1)` for images and pseudo-inputs alike, and the prior is encoded anew in "
        "each step.",
        "The loss is `-(log_px + log_pz - log_qz).mean()` with log_px summed over pixels, log_qz "
        "over latents, and log_pz the log-sum-exp over the components of what is summed over "
        "latents, less log C.",
    ),
    points=4,
    minutes=35,
    difficulty=3,
    time_limit=30.0,
)


EXERCISES = (
    _mixture_log_prob,
    _monte_carlo_kl,
    _pseudo_inputs,
    _vampprior_log_prob,
    _sample_vampprior,
    _hierarchical_elbo,
    _train_vampprior,
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
