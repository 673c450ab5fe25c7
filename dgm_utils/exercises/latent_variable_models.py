"""What is asked in the assignment `latent_variable_models`: cases, exact answers, hints.

The wrong implementations use `torch`, `F`, `math` and `itertools` and nothing else of this module,
because their sources are pasted into notebooks that have the same imports.
"""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dgm_utils import latent_variable_models as reference
from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import Exercise, Misconceptions, Property
from nbjudge.asking.statements import at_most, is_exact, is_fact
from nbjudge.check import Checker
from nbjudge.inside.case import Case

# The expanded square x² − 2xμ + μ² and (z − μ)/σ² are right answers and cancel in float32.
_CANCELS = {torch.float64: 1e-8, torch.float32: 1e-3}
# Log-likelihoods of 10⁴ are a thousandth apart in float32.
_COARSE = {torch.float64: 1e-8, torch.float32: 5e-3}


def _averages_to(name):
    """A statement about the cases whose rows are nodes of a quadrature, with known weights."""

    def holds(case, value):
        if name not in case.facts:
            return True
        average = case.facts["node_weights"] @ value.double().cpu()
        return is_exact(average.to(value.dtype), case.facts[name])

    return holds


def _gauss_hermite(num):
    """Nodes and weights with `Σ weights f(nodes) = E f(ε)`, ε ~ N(0, 1), in float64."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def _along_the_simplex(gradient):
    """The part of a gradient that moves rows which keep their sum."""
    return gradient - gradient.mean(-1, keepdim=True)


# --- naive_log_likelihood -------------------------------------------------------------------------


def _naive_cases(draw):
    log_px = draw.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]).log()
    exact = [math.log(2), math.log(4)]
    yield Case("likelihoods 1, 2, 3 and 2, 4, 6", (log_px,), (0,), {"log_px": exact})
    facts = {"log_px": [value - 1e4 for value in exact]}
    name = "likelihoods 1, 2, 3 and 2, 4, 6, times e⁻¹⁰⁰⁰⁰"
    yield Case(name, (log_px - 1e4,), (0,), facts)
    yield Case("one sample", (draw.normal(1, draw.integer(4, 6)),), wrt=(0,))
    k, b = draw.integer(4, 5), draw.integer(6, 8)
    yield Case("more data points than samples", (2 * draw.normal(k, b) - 3,), wrt=(0,))
    yield Case("one data point", (draw.normal(b, 1),), wrt=(0,))
    scale = draw.tensor([0.0, -1e4, 1e4])
    yield Case("data points 10⁴ apart", (draw.normal(k, 3) + scale,), wrt=(0,))
    log_px = (2 * draw.normal(b, k) + 1).T
    yield Case("an argument that is not contiguous in memory", (log_px,), wrt=(0,))

    # p(z) = N(0, 1) and p(x|z) = N(z, ½) at x = 1. The same samples in groups of K give estimates
    # of p(x) with the same average, exactly, whatever K is.
    log_px = -((1 - draw.normal(256)) ** 2) - 0.5 * math.log(math.pi)
    facts = {"likelihood": log_px.double().exp().mean().item()}
    for k in (4, 32):
        yield Case(f"256 samples in groups of {k}", (log_px.reshape(k, -1),), (0,), facts)


def _is_unbiased(case, value):
    return "likelihood" not in case.facts or is_exact(value.exp().mean(), case.facts["likelihood"])


def _is_between(case, value):
    log_px = case.args[0]
    return at_most(log_px.mean(0), value) and at_most(value, log_px.amax(0))


naive_log_likelihood_wrong = Misconceptions()


@naive_log_likelihood_wrong("mean of logs for log of mean")
def _(log_px_given_z):
    """You average the logs: {got}; the estimate of p(x) is the average of the likelihoods, and
    its log is {expected}.
    """
    return log_px_given_z.mean(0)


@naive_log_likelihood_wrong("log K forgotten")
def _(log_px_given_z):
    """You take the log of the sum of the likelihoods: {got}; an average divides by K, so log K
    is subtracted, {expected}.
    """
    return torch.logsumexp(log_px_given_z, 0)


@naive_log_likelihood_wrong("log K subtracted twice")
def _(log_px_given_z):
    """You subtract log K twice, inside and outside the log: {got}; once gives {expected}."""
    log_k = math.log(log_px_given_z.shape[0])
    return torch.logsumexp(log_px_given_z - log_k, 0) - log_k


@naive_log_likelihood_wrong("sum of logs")
def _(log_px_given_z):
    """You add the logs over the samples, as if the samples were data: {got}; they are K tries
    at one data point, whose average likelihood has the log {expected}.
    """
    return log_px_given_z.sum(0)


@naive_log_likelihood_wrong("wrong axis")
def _(log_px_given_z):
    """You average over the batch, axis 1; the K samples are on axis 0."""
    return torch.logsumexp(log_px_given_z, 1) - math.log(log_px_given_z.shape[1])


@naive_log_likelihood_wrong("sum over the batch")
def _(log_px_given_z):
    """You sum over the data points as well; each has its own estimate, shape (B,)."""
    return (torch.logsumexp(log_px_given_z, 0) - math.log(log_px_given_z.shape[0])).sum()


@naive_log_likelihood_wrong("mean over the batch")
def _(log_px_given_z):
    """You average over the data points as well; each has its own estimate, shape (B,)."""
    return (torch.logsumexp(log_px_given_z, 0) - math.log(log_px_given_z.shape[0])).mean()


@naive_log_likelihood_wrong("exponentials that underflow")
def _(log_px_given_z):
    """You exponentiate the log-likelihoods themselves, and e^(−10⁴) is 0 in floating point:
    {got}; with the largest subtracted first it is {expected}.
    """
    return torch.log(torch.exp(log_px_given_z).mean(0))


@naive_log_likelihood_wrong("epsilon inside the log")
def _(log_px_given_z):
    """You add a small number inside the log, which hides likelihoods that underflow: {got};
    with the largest subtracted first it needs none, {expected}.
    """
    return torch.log(torch.exp(log_px_given_z).mean(0) + 1e-8)


@naive_log_likelihood_wrong("one maximum for the whole tensor")
def _(log_px_given_z):
    """You subtract the maximum of the whole tensor, so a data point far below it underflows:
    {got}; with the maximum of its own column it is {expected}.
    """
    largest = log_px_given_z.max()
    return largest + torch.log(torch.exp(log_px_given_z - largest).mean(0))


@naive_log_likelihood_wrong("likelihood for its log")
def _(log_px_given_z):
    """You return the average likelihood itself: {got}; its log is {expected}."""
    return torch.exp(torch.logsumexp(log_px_given_z, 0) - math.log(log_px_given_z.shape[0]))


@naive_log_likelihood_wrong("best sample")
def _(log_px_given_z):
    """You keep the sample that explains x best: {got}; all K count in the average, {expected}."""
    return log_px_given_z.max(0).values


@naive_log_likelihood_wrong("detached")
def _(log_px_given_z):
    """Your numbers are right, but you detach the log-likelihoods, so nothing can be trained with
    them.
    """
    return torch.logsumexp(log_px_given_z.detach(), 0) - math.log(log_px_given_z.shape[0])


_naive_log_likelihood = Exercise(
    name="naive_log_likelihood",
    question="the log of the average likelihood, log (1/K Σ_k p(x|z_k)), shape (B,)",
    reference=reference.naive_log_likelihood,
    cases=_naive_cases,
    properties=(
        Property(
            "between",
            "The log of an average lies between the average of the logs and the largest of them. "
            "Yours does not.",
            _is_between,
        ),
        Property(
            "exact",
            "Likelihoods 1, 2, 3 average to 2, whatever factor e^c they share, so the result is "
            "log 2 + c. Yours is not.",
            is_fact("log_px"),
        ),
        Property(
            "unbiased",
            "The same samples in groups of K give estimates of p(x) with the same average for "
            "every K. Yours, after exp, do not.",
            _is_unbiased,
        ),
    ),
    misconceptions=tuple(naive_log_likelihood_wrong),
    hints=(
        "p(x) = E p(x|z) over z ~ p(z). Estimate it by an average of likelihoods, then take the "
        "log. The order matters.",
        "exp(−10⁴) is 0 in floating point. With m the largest of a column, "
        "log Σ exp(a_k) = m + log Σ exp(a_k − m); `torch.logsumexp` does this.",
        "`torch.logsumexp(…)` over the axis of the samples, minus the log of the number of "
        "samples.",
    ),
    points=2,
    minutes=10,
    difficulty=1,
)


# --- e_step ---------------------------------------------------------------------------------------


def _e_step_cases(draw):
    def case(name, x, weights, means, variances, **facts):
        project = {1: _along_the_simplex}
        args = (x, weights, means, variances)
        return Case(name, args, (0, 1, 2, 3), facts, project=project)

    def mixture(c, d, spread=2.0):
        weights = torch.softmax(draw.normal(c), 0)
        return weights, spread * draw.normal(c, d), torch.exp(0.5 * draw.normal(c, d))

    # 0.8 N(x; 1, 1) against 0.2 N(x; −1, 4): the ratio is 8 exp(−½ (x − 1)² + ⅛ (x + 1)²).
    x = torch.tensor([[0.0], [1.0], [-3.0]], dtype=torch.float64)
    log_ratio = math.log(8) - (x - 1) ** 2 / 2 + (x + 1) ** 2 / 8
    exact = torch.sigmoid(torch.cat([log_ratio, -log_ratio], 1))
    args = [[0.8, 0.2], [[1.0], [-1.0]], [[1.0], [4.0]]]
    name = "0.8 N(1, 1) and 0.2 N(−1, 4) at x = 0, 1, −3"
    yield case(name, draw.tensor(x), *map(draw.tensor, args), share=exact)
    n, c = draw.integer(7, 9), draw.integer(4, 5)
    yield case("all axes of different length", 2 * draw.normal(n, 3), *mixture(c, 3))
    yield case("one component", draw.normal(n, 2), *mixture(1, 2), share=torch.ones(n, 1))
    yield case("one data point", 2 * draw.normal(1, 2), *mixture(c, 2))
    line = torch.linspace(-5, 5, 41, dtype=torch.float64)[:, None]
    yield case("points on a line", draw.tensor(line), *mixture(3, 1, 3.0), line=True)

    weights, means, variances = mixture(3, 2)
    same = means[:1].expand(3, 2), variances[:1].expand(3, 2)
    exact = weights.double().cpu().expand(n, 3)
    yield case("three equal components", draw.normal(n, 2), weights, *same, share=exact)
    # Both densities are e⁻⁸⁰⁰ at 40, which is 0 in floating point, and equal.
    args = map(draw.tensor, ([[40.0]], [0.3, 0.7], [[0.0], [80.0]], [[1.0], [1.0]]))
    yield case("halfway between components 80 deviations apart", *args, share=[[0.3, 0.7]])
    nearest = torch.randint(3, (n,), generator=draw.generator)
    weights, means, variances = mixture(3, 2)
    means = means + 1000 * draw.tensor([[0.0], [1.0], [2.0]])
    x = means[nearest.to(draw.device)] + draw.normal(n, 2)
    exact = F.one_hot(nearest, 3)
    yield case("components 1000 apart", x, weights, means, variances, share=exact)
    means = draw.tensor([[0.0, 0.0], [1.0, 1.0]])
    x = draw.tensor([[1000.0, 1000.0], [-1000.0, -500.0]])
    args = x, draw.tensor([0.6, 0.4]), means, torch.ones_like(means)
    yield case("points far from both components", *args, share=[[0.0, 1.0], [1.0, 0.0]])
    weights, means, variances = mixture(2, 300)
    yield case("300 dimensions", 30 * draw.normal(3, 300), weights, means, 900 * variances**0.1)
    name = "narrow components, arguments that are not contiguous in memory"
    yield case(name, *_narrow(draw, n, mixture(c, 2)[:2]))


def _narrow(draw, n, weights_and_means):
    """Points, and narrow components of which no two share a point that is far from both.

    There the gradient is large and hangs on the difference of two log-densities below −100, which
    float32 does not hold to the digits that a right answer needs.
    """
    weights, means = weights_and_means
    while True:
        variances = torch.exp(-3 + 0.3 * draw.normal(2, len(means))).T
        x = (2 * draw.normal(2, n)).T
        log_density = -0.5 * ((x[:, None] - means) ** 2 / variances + variances.log()).sum(-1)
        first, second = log_density.topk(2).values.unbind(1)
        if not ((first < -20) & (first - second < 20)).any():
            return x, weights, means, variances


def _rows_sum_to_one(case, value):
    return is_exact(value.sum(1), torch.ones(value.shape[0]), single=_CANCELS[torch.float32])


def _draw_responsibilities(axis, triples):
    """Responsibilities along a line, the student's beside the right ones."""
    axis.set(xlabel="x", ylabel="responsibility", title="Who is responsible for x?")
    lines = [t for t in triples if "line" in t[0].facts]
    if not lines:
        return "Responsibilities along a line: no values to draw."
    case, value, expected = lines[0]
    x = case.args[0][:, 0].cpu()
    for c, right in enumerate(expected.double().cpu().T):
        axis.plot(x, right, color="#0072B2", linewidth=3, alpha=0.5, label="" if c else "right")
    said = "Responsibilities of three components along a line: blue, the right ones"
    if value.shape != expected.shape or not value.isfinite().all():
        axis.legend()
        return f"{said}; yours cannot be drawn."
    for c, yours in enumerate(value.double().cpu().T):
        axis.plot(x, yours, "--", color="#D55E00", label="" if c else "yours")
    axis.legend()
    off = (value - expected).abs().max()
    return f"{said}; dashed, yours, which differ by up to {off:.3g}."


e_step_wrong = Misconceptions()


@e_step_wrong("weights left out")
def _(x, weights, means, variances):
    """You leave the mixture's weights out: {got}; a rare component is responsible for less, by
    Bayes' rule weights_c N(x; …), {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -0.5 * (squares + torch.log(variances)).sum(-1)
    return torch.softmax(log_density + 0 * weights, 1)


@e_step_wrong("normalized over the data")
def _(x, weights, means, variances):
    """You normalize over the data points, axis 0: {got}; the components compete for each data
    point, so every row sums to one, {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -0.5 * (squares + torch.log(variances)).sum(-1)
    return torch.softmax(log_density + torch.log(weights), 0)


@e_step_wrong("variance taken for the standard deviation")
def _(x, weights, means, variances):
    """You use the variances as standard deviations: {got}; the square of x − μ is divided by the
    variance itself, {expected}.
    """
    squares = ((x[:, None] - means) / variances) ** 2
    log_density = -0.5 * squares.sum(-1) - torch.log(variances).sum(-1)
    return torch.softmax(log_density + torch.log(weights), 1)


@e_step_wrong("½ missing")
def _(x, weights, means, variances):
    """Your Gaussian log-density lacks the factor ½: {got}; with −½ ((x − μ)²/σ² + log σ²) it is
    {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -(squares + torch.log(variances)).sum(-1)
    return torch.softmax(log_density + torch.log(weights), 1)


@e_step_wrong("normalizing constant left out")
def _(x, weights, means, variances):
    """You leave −½ Σ log σ² out, as if it cancelled: {got}; it differs between the components,
    and with it the result is {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    return torch.softmax(-0.5 * squares.sum(-1) + torch.log(weights), 1)


@e_step_wrong("exponentials that underflow")
def _(x, weights, means, variances):
    """You compute the densities themselves, all of which are 0 far from every component, and 0
    divided by 0 is no number: {got}; a softmax of log-densities gives {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -0.5 * (squares + torch.log(2 * math.pi * variances)).sum(-1)
    joint = weights * torch.exp(log_density)
    return joint / joint.sum(1, keepdim=True)


@e_step_wrong("epsilon in the denominator")
def _(x, weights, means, variances):
    """You add a small number to the denominator, so a point far from every component belongs to
    nobody: {got}; a softmax of log-densities needs no such number, {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -0.5 * (squares + torch.log(2 * math.pi * variances)).sum(-1)
    joint = weights * torch.exp(log_density)
    return joint / (joint.sum(1, keepdim=True) + 1e-8)


@e_step_wrong("hard assignment")
def _(x, weights, means, variances):
    """You give each point to its most likely component, as k-means does: {got}; EM shares it,
    {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -0.5 * (squares + torch.log(variances)).sum(-1)
    nearest = (log_density + torch.log(weights)).argmax(1)
    return F.one_hot(nearest, len(weights)).to(x.dtype)


@e_step_wrong("log-responsibilities")
def _(x, weights, means, variances):
    """You return the logs of the responsibilities: {got}; they themselves are {expected}."""
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -0.5 * (squares + torch.log(variances)).sum(-1)
    return torch.log_softmax(log_density + torch.log(weights), 1)


@e_step_wrong("mean over the dimensions")
def _(x, weights, means, variances):
    """You average the log-density over the dimensions: {got}; with a diagonal covariance the
    density is a product over them, so the logs add up, {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -0.5 * (squares + torch.log(variances)).mean(-1)
    return torch.softmax(log_density + torch.log(weights), 1)


@e_step_wrong("weights added to the log-density")
def _(x, weights, means, variances):
    """You add the weights to the log-densities: {got}; a factor of the density becomes its log,
    log(weights), {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -0.5 * (squares + torch.log(variances)).sum(-1)
    return torch.softmax(log_density + weights, 1)


@e_step_wrong("not normalized")
def _(x, weights, means, variances):
    """You return the joint density weights_c N(x; …): {got}; divided by its sum over the
    components, which is p(x), it is {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -0.5 * (squares + torch.log(2 * math.pi * variances)).sum(-1)
    return weights * torch.exp(log_density)


@e_step_wrong("detached")
def _(x, weights, means, variances):
    """Your numbers are right, but you detach them; return them differentiable, and let whoever
    uses them decide.
    """
    squares = (x[:, None] - means) ** 2 / variances
    log_density = -0.5 * (squares + torch.log(variances)).sum(-1)
    return torch.softmax(log_density + torch.log(weights), 1).detach()


_e_step = Exercise(
    name="e_step",
    question="the responsibilities q(c|x_n) ∝ weights_c N(x_n; means_c, variances_c), shape (N, C)",
    reference=reference.e_step,
    cases=_e_step_cases,
    rtol=_CANCELS,
    properties=(
        Property(
            "rows sum to one",
            "The responsibilities for each data point must sum to one over the components. "
            "Yours do not.",
            _rows_sum_to_one,
        ),
        Property(
            "exact",
            "Here Bayes' rule can be worked out by hand: components with equal densities share x "
            "as their weights do, and the far nearer one takes it all. Yours do not.",
            is_fact("share"),
        ),
    ),
    misconceptions=tuple(e_step_wrong),
    hints=(
        "Bayes' rule: q(c|x) = p(c) p(x|c) / Σ_j p(j) p(x|j). Work with the logs of the "
        "numerators.",
        "`x[:, None]` is (N, 1, D) and broadcasts against the means, (C, D), to (N, C, D). The "
        "log-density is −½ ((x − μ)²/σ² + log σ²), summed over the last axis; ½ log 2π cancels.",
        "`log_joint = torch.log(weights) - 0.5 * ((x[:, None] - means)**2 / variances + "
        "variances.log()).sum(-1)`, then exponentiate and normalize each row without underflow: "
        "that is a softmax over the components.",
    ),
    points=3,
    minutes=20,
    difficulty=2,
    picture=_draw_responsibilities,
)


# --- m_step ---------------------------------------------------------------------------------------


def _m_step_cases(draw):
    def case(name, x, responsibilities, **facts):
        project = {1: _along_the_simplex}
        return Case(name, (x, responsibilities), (0, 1), facts, project=project)

    def shares(n, c, sharpness=1.0):
        return torch.softmax(sharpness * draw.normal(n, c), 1)

    # N_c is 1.5 and 2.5.
    x = draw.tensor([[0.0], [6.0], [12.0], [12.0]])
    shared = draw.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]])
    exact = ([0.375, 0.625], [[2.0], [10.8]], [[8.0], [5.76]])
    yield case("x = 0, 6, 12, 12, the 6 shared by halves", x, shared, exact=exact)
    n, c = draw.integer(8, 10), draw.integer(4, 5)
    yield case("all axes of different length", 2 * draw.normal(n, 3) + 1, shares(n, c))
    x = 2 * draw.normal(n, 2) - 3
    rows = x.double().cpu()
    exact = ([1.0], rows.mean(0, keepdim=True), rows.var(0, keepdim=True, correction=0))
    yield case("one component", x, torch.ones_like(x[:, :1]), exact=exact)
    yield case("one dimension", draw.normal(n, 1) + 2, shares(n, 3))
    yield case("almost hard responsibilities", 3 * draw.normal(n, 2), shares(n, 3, 8.0))
    yield case("fewer data points than components", draw.normal(2, 2), shares(2, c))
    yield case("one data point", draw.normal(1, 2), shares(1, 3))
    rare = torch.softmax(draw.normal(n, 3) - draw.tensor([0.0, 0.0, 16.0]), 1)
    yield case("a component with almost no data", draw.normal(n, 2) + 1, rare)
    yield case("300 dimensions", draw.normal(n, 300) + 1, shares(n, 2))
    x, responsibilities = draw.normal(2, n).T, torch.softmax(draw.normal(3, n), 0).T
    yield case("arguments that are not contiguous in memory", x, responsibilities)


def _is_exact_maximum(case, value):
    exact = case.facts.get("exact")
    return exact is None or all(map(is_exact, value, exact))


def _keeps_the_moments(case, value):
    """The mixture has the mean and the variance of the data: the law of total variance."""
    weights, means, variances = (v.double().cpu() for v in value)
    x = case.args[0]
    rows = x.double().cpu()
    mean = weights @ means
    variance = weights @ (variances + (means - mean) ** 2)
    right = rows.mean(0), rows.var(0, correction=0)
    pairs = zip((mean, variance), right, strict=True)
    return all(is_exact(got.to(x.dtype), want, single=1e-3) for got, want in pairs)


m_step_wrong = Misconceptions()


@m_step_wrong("counts for weights")
def _(x, responsibilities):
    """You return the counts N_c as weights: {got}; divided by the number of data points they
    sum to one, {expected}.
    """
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", responsibilities, squares) / counts[:, None]
    return counts, means, variances


@m_step_wrong("divided by N_c − 1")
def _(x, responsibilities):
    """You divide the variances by N_c − 1, as for an unbiased estimate: {got}; the maximum of
    the likelihood divides by N_c, {expected}.
    """
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", responsibilities, squares) / (counts[:, None] - 1)
    return counts / len(x), means, variances


@m_step_wrong("divided by N")
def _(x, responsibilities):
    """You divide means and variances by the number of all data points: {got}; a component's own
    share of them is N_c, the sum of its responsibilities, {expected}.
    """
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / len(x)
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", responsibilities, squares) / len(x)
    return counts / len(x), means, variances


@m_step_wrong("variances divided by N")
def _(x, responsibilities):
    """You divide the variances by the number of all data points: {got}; divide them by N_c, as
    you do with the means, {expected}.
    """
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", responsibilities, squares) / len(x)
    return counts / len(x), means, variances


@m_step_wrong("second moment")
def _(x, responsibilities):
    """You average x² instead of (x − mean)²: {got}; the variance is around the new mean,
    {expected}.
    """
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    return counts / len(x), means, responsibilities.T @ x**2 / counts[:, None]


@m_step_wrong("variance around the mean of all data")
def _(x, responsibilities):
    """You take the squares around the mean of all the data: {got}; each component has its own
    mean, {expected}.
    """
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    squares = (x - x.mean(0)) ** 2
    return counts / len(x), means, responsibilities.T @ squares / counts[:, None]


@m_step_wrong("hard assignment")
def _(x, responsibilities):
    """You count each point for its most likely component only: {got}; it counts for every
    component with its responsibility, {expected}.
    """
    hard = F.one_hot(responsibilities.argmax(1), responsibilities.shape[1]).to(x.dtype)
    counts = hard.sum(0)
    means = hard.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", hard, squares) / counts[:, None]
    return counts / len(x), means, variances


@m_step_wrong("standard deviations for variances")
def _(x, responsibilities):
    """You return standard deviations: {got}; the variances are their squares, {expected}."""
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", responsibilities, squares) / counts[:, None]
    return counts / len(x), means, variances.sqrt()


@m_step_wrong("responsibilities squared")
def _(x, responsibilities):
    """You square the responsibility together with x − mean: {got}; it weighs the square, once,
    {expected}.
    """
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    weighted = responsibilities[:, :, None] * (x[:, None] - means)
    return counts / len(x), means, (weighted**2).sum(0) / counts[:, None]


@m_step_wrong("one variance for all dimensions")
def _(x, responsibilities):
    """You average the variance over the dimensions: {got}; a diagonal covariance has one for
    each, {expected}.
    """
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", responsibilities, squares) / counts[:, None]
    return counts / len(x), means, variances.mean(1, keepdim=True).expand(means.shape)


@m_step_wrong("one variance for all components")
def _(x, responsibilities):
    """You pool the variance over the components: {got}; each component has its own, {expected}."""
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    pooled = torch.einsum("nc,ncd->d", responsibilities, squares) / len(x)
    return counts / len(x), means, pooled.expand(means.shape)


@m_step_wrong("epsilon in the denominator")
def _(x, responsibilities):
    """You add a small number to N_c: {got}; no component is empty, one may be nearly so, and
    without that number it is {expected}.
    """
    counts = responsibilities.sum(0) + 1e-8
    means = responsibilities.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", responsibilities, squares) / counts[:, None]
    return counts / len(x), means, variances


@m_step_wrong("equal weights")
def _(x, responsibilities):
    """You give every component the weight 1/C: {got}; its weight is its share of the data,
    N_c/N, {expected}.
    """
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", responsibilities, squares) / counts[:, None]
    return torch.ones_like(counts) / len(counts), means, variances


@m_step_wrong("detached")
def _(x, responsibilities):
    """Your numbers are right, but you detach them; return them differentiable, and let whoever
    uses them decide.
    """
    responsibilities = responsibilities.detach()
    x = x.detach()
    counts = responsibilities.sum(0)
    means = responsibilities.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", responsibilities, squares) / counts[:, None]
    return counts / len(x), means, variances


_m_step = Exercise(
    name="m_step",
    question="the weights (C,), means (C, D) and variances (C, D) of maximum likelihood, given the "
    "responsibilities",
    reference=reference.m_step,
    cases=_m_step_cases,
    rtol=_CANCELS,
    properties=(
        Property(
            "weights sum to one",
            "The weights of a mixture sum to one. Yours do not.",
            lambda case, value: is_exact(value[0].sum(), 1.0),
        ),
        Property(
            "exact",
            "The points 0 and 6 with responsibilities 1 and ½ have the mean 2 and the variance 8, "
            "and one component for all has the mean and the variance of the data. Yours have not.",
            _is_exact_maximum,
        ),
        Property(
            "moments",
            "After an M-step the mixture has exactly the mean and the variance of the data, "
            "Σ_c π_c μ_c and Σ_c π_c (σ²_c + (μ_c − mean)²). Yours has not.",
            _keeps_the_moments,
        ),
    ),
    misconceptions=tuple(m_step_wrong),
    hints=(
        "Everything is a weighted average: component c sees data point n with the weight "
        "responsibilities[n, c], and N_c is the sum of its weights.",
        "weights_c = N_c/N, means_c = Σ_n r_nc x_n / N_c, variances_c = Σ_n r_nc (x_n − "
        "means_c)² / N_c. The sum over n is a matrix product, `responsibilities.T @ x`.",
        "`squares = (x[:, None] - means)**2` is (N, C, D), with the new means; the variances are "
        "`(responsibilities[:, :, None] * squares).sum(0) / counts[:, None]`. Return the three as "
        "a tuple.",
    ),
    points=3,
    minutes=20,
    difficulty=2,
)


# --- reparameterize -------------------------------------------------------------------------------


def _reparameterize_cases(draw):
    def case(name, mean, scale_tril, noise, **facts):
        # Nothing above the diagonal belongs to the argument.
        return Case(name, (mean, scale_tril, noise), (0, 1, 2), facts, project={1: torch.tril})

    def factor(b, latents):
        lower = draw.normal(b, latents, latents).tril(-1)
        return lower + torch.diag_embed(torch.exp(0.5 * draw.normal(b, latents)))

    args = [[1.0, 2.0]], [[[2.0, 0.0], [1.0, 3.0]]], [[1.0, -1.0]]
    yield case("two latents, noise 1 and −1", *map(draw.tensor, args), z=[[3.0, 0.0]])
    b, latents = draw.integer(5, 7), draw.integer(3, 4)
    mean, noise = draw.normal(b, latents), draw.normal(b, latents)
    yield case("more data points than latents", mean, factor(b, latents), noise)
    yield case("one latent", draw.normal(b, 1), factor(b, 1), draw.normal(b, 1))
    yield case("one data point", draw.normal(1, latents), factor(1, latents), mean[:1])
    mean, noise = draw.normal(latents, latents), draw.normal(latents, latents)
    yield case("as many latents as data points", mean, factor(latents, latents), noise)
    # Noise at the corners of a cube has mean 0 and covariance I exactly.
    noise = draw.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))
    mean, scale_tril = draw.normal(1, 3).repeat(8, 1), factor(1, 3).repeat(8, 1, 1)
    yield case("noise at the corners of a cube", mean, scale_tril, noise, moments=True)
    args = draw.normal(2, 300), factor(2, 300) / 10, draw.normal(2, 300)
    yield case("300 latents", *args)
    upper = factor(b, latents).mT.contiguous()
    args = draw.normal(latents, b).T, upper.mT, draw.normal(latents, b).T
    yield case("arguments that are not contiguous in memory", *args)


def _has_the_moments(case, value):
    if "moments" not in case.facts:
        return True
    mean, scale_tril, _ = (arg.double().cpu() for arg in case.args)
    z = value.double().cpu()
    centred = z - z.mean(0)
    right = mean[0], scale_tril[0] @ scale_tril[0].T
    found = z.mean(0), centred.T @ centred / len(z)
    return all(is_exact(f.to(value.dtype), r) for f, r in zip(found, right, strict=True))


reparameterize_wrong = Misconceptions()


@reparameterize_wrong("transposed")
def _(mean, scale_tril, noise):
    """You multiply the noise by the transpose, so the covariance of z is LᵀL: {got}; with L
    itself it is LLᵀ, and the result {expected}.
    """
    return mean + torch.einsum("bji,bj->bi", scale_tril, noise)


@reparameterize_wrong("diagonal only")
def _(mean, scale_tril, noise):
    """You use the diagonal of L only, so the latents are independent: {got}; the entries below
    it correlate them, {expected}.
    """
    return mean + scale_tril.diagonal(dim1=-2, dim2=-1) * noise


@reparameterize_wrong("covariance for its factor")
def _(mean, scale_tril, noise):
    """You multiply the noise by LLᵀ, so the covariance of z is the square of that: {got}; the
    factor L alone gives {expected}.
    """
    covariance = scale_tril @ scale_tril.mT
    return mean + (covariance @ noise.unsqueeze(-1)).squeeze(-1)


@reparameterize_wrong("noise paired with the rows of L")
def _(mean, scale_tril, noise):
    """You multiply row i of L by noise_i and sum the row: {got}; the product Lε takes
    L_ij ε_j, {expected}.
    """
    return mean + (scale_tril * noise.unsqueeze(-1)).sum(-1)


@reparameterize_wrong("the mean scaled too")
def _(mean, scale_tril, noise):
    """You multiply L with mean + noise: {got}; only the noise is scaled, {expected}."""
    return (scale_tril @ (mean + noise).unsqueeze(-1)).squeeze(-1)


@reparameterize_wrong("first matrix for all")
def _(mean, scale_tril, noise):
    """You use the first data point's L for the whole batch: {got}; each has its own,
    {expected}.
    """
    return mean + noise @ scale_tril[0].T


@reparameterize_wrong("every matrix with every noise")
def _(mean, scale_tril, noise):
    """You multiply the whole batch of noise with each matrix, which gives (B, B, L); data point b
    has its own matrix and its own noise, shape (B, L).
    """
    return mean + noise @ scale_tril.mT


@reparameterize_wrong("noise not scaled")
def _(mean, scale_tril, noise):
    """You add the noise itself, so the covariance of z is I: {got}; with Lε the result is
    {expected}.
    """
    return mean + noise


@reparameterize_wrong("mean left out")
def _(mean, scale_tril, noise):
    """You leave the mean out: {got}; z = μ + Lε is {expected}."""
    return torch.einsum("bij,bj->bi", scale_tril, noise)


@reparameterize_wrong("detached")
def _(mean, scale_tril, noise):
    """Your numbers are right, but you detach z, and to let gradients through the sample is the
    point of the reparametrization.
    """
    return (mean + torch.einsum("bij,bj->bi", scale_tril, noise)).detach()


_reparameterize = Exercise(
    name="reparameterize",
    question="z = mean + scale_tril · noise for each data point, shape (B, L)",
    reference=reference.reparameterize,
    cases=_reparameterize_cases,
    properties=(
        Property(
            "moments",
            "Over noise of mean 0 and covariance I, z must have the mean μ and the covariance LLᵀ. "
            "Yours has not.",
            _has_the_moments,
        ),
        Property(
            "exact",
            "With μ = (1, 2), L = ((2, 0), (1, 3)) and ε = (1, −1), z is (3, 0). Yours is not.",
            is_fact("z"),
        ),
    ),
    misconceptions=tuple(reparameterize_wrong),
    hints=(
        "A linear map of standard normal noise: E zzᵀ − μμᵀ = L E[εεᵀ] Lᵀ = LLᵀ.",
        "One matrix-vector product for each data point: z_bi = μ_bi + Σ_j L_bij ε_bj.",
        "`scale_tril @ noise.unsqueeze(-1)` is (B, L, 1): squeeze the last axis and add the mean.",
    ),
    points=1,
    minutes=10,
    difficulty=1,
)


# --- gaussian_kl ----------------------------------------------------------------------------------


def _kl_cases(draw):
    log_var = draw.tensor([[0.0, math.log(4)]])
    exact = [0.5 + 0.5 * (3 - math.log(4))]
    args = (draw.tensor([[1.0, 0.0]]), log_var)
    yield Case("N(1, 1) and N(0, 4)", args, (0, 1), {"kl": exact})
    b, latents = draw.integer(5, 7), draw.integer(3, 4)
    zero = draw.tensor(torch.zeros(b, latents))
    yield Case("q is the prior", (zero, zero), (0, 1), {"kl": [0.0] * b})
    args = (draw.normal(b, latents), draw.normal(b, latents))
    yield Case("more data points than latents", args, (0, 1))
    # ∫ q log(q/p) dz on a grid of 12 standard deviations to both sides.
    mean = torch.randn(b, 1, generator=draw.generator, dtype=torch.float64)
    log_var = torch.randn(b, 1, generator=draw.generator, dtype=torch.float64)
    noise = torch.linspace(-12, 12, 241, dtype=torch.float64)
    z = mean + torch.exp(0.5 * log_var) * noise
    log_ratio = -0.5 * noise**2 - 0.5 * log_var + 0.5 * z**2
    kl = (torch.exp(-0.5 * noise**2) / math.sqrt(2 * math.pi) * log_ratio).sum(1) * 0.1
    args = (draw.tensor(mean), draw.tensor(log_var))
    yield Case("one latent", args, (0, 1), {"kl": kl})
    yield Case("one data point", (draw.normal(1, latents), draw.normal(1, latents)), (0, 1))
    args = (draw.normal(2, 2), draw.tensor([[-60.0, 1.0], [10.0, -30.0]]))
    yield Case("variances from e⁻⁶⁰ to e¹⁰", args, (0, 1))
    yield Case("means near 1000", (draw.normal(b, 2) + 1e3, draw.normal(b, 2)), (0, 1))
    yield Case("300 latents", (draw.normal(2, 300), draw.normal(2, 300) - 1), (0, 1))
    args = (draw.normal(2, b).T, draw.normal(2, b).T)
    yield Case("arguments that are not contiguous in memory", args, (0, 1))


gaussian_kl_wrong = Misconceptions()


@gaussian_kl_wrong("½ missing")
def _(mean, log_var):
    """You leave out the factor ½: {got}; ½ Σ (μ² + σ² − 1 − log σ²) is {expected}."""
    return (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)


@gaussian_kl_wrong("variance taken for the standard deviation")
def _(mean, log_var):
    """You square exp(log_var), which already is σ²: {got}; without the square it is
    {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) ** 2 - 1 - 2 * log_var).sum(-1)


@gaussian_kl_wrong("log σ² for log σ")
def _(mean, log_var):
    """You subtract log σ² where log σ belongs: {got}; ½ log σ² gives {expected}."""
    return (0.5 * (mean**2 + torch.exp(log_var) - 1) - log_var).sum(-1)


@gaussian_kl_wrong("arguments exchanged")
def _(mean, log_var):
    """You compute KL(N(0, I)‖q), from the prior to q: {got}; asked is KL(q‖N(0, I)),
    {expected}.
    """
    return 0.5 * (torch.exp(-log_var) * (1 + mean**2) - 1 + log_var).sum(-1)


@gaussian_kl_wrong("negative KL")
def _(mean, log_var):
    """You return −KL, as it stands in the ELBO: {got}; a KL divergence is not negative,
    {expected}.
    """
    return 0.5 * (1 + log_var - mean**2 - torch.exp(log_var)).sum(-1)


@gaussian_kl_wrong("the 1 forgotten")
def _(mean, log_var):
    """You leave out the −1 for each latent: {got}; with it the KL of the prior to itself is 0,
    and here {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) - log_var).sum(-1)


@gaussian_kl_wrong("prior left out")
def _(mean, log_var):
    """You return the negative entropy, −½ Σ (1 + log 2πσ²), without log p(z): {got}; with the
    prior it is {expected}.
    """
    return -0.5 * (1 + math.log(2 * math.pi) + log_var + 0 * mean).sum(-1)


@gaussian_kl_wrong("entropy left out")
def _(mean, log_var):
    """You leave log σ² out, the entropy of q, so nothing keeps σ from 0: {got}; with it the
    result is {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) - 1).sum(-1)


@gaussian_kl_wrong("mean over the latents")
def _(mean, log_var):
    """You average over the latents: {got}; they are independent under both densities, so their
    KL divergences add up, {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).mean(-1)


@gaussian_kl_wrong("sum over the batch")
def _(mean, log_var):
    """You sum over the data points as well; each has its own KL, shape (B,)."""
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum()


@gaussian_kl_wrong("epsilon inside the log")
def _(mean, log_var):
    """You take the log of a variance plus a small number: {got}; log σ² is the argument itself,
    {expected}.
    """
    var = torch.exp(log_var)
    return 0.5 * (mean**2 + var - 1 - torch.log(var + 1e-8)).sum(-1)


@gaussian_kl_wrong("detached")
def _(mean, log_var):
    """Your numbers are right, but you detach them, so the encoder cannot be trained."""
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1).detach()


_gaussian_kl = Exercise(
    name="gaussian_kl",
    question="KL(N(mean, diag exp(log_var)) ‖ N(0, I)), shape (B,)",
    reference=reference.gaussian_kl,
    cases=_kl_cases,
    properties=(
        Property(
            "not negative",
            "A KL divergence is not negative. Yours is.",
            lambda case, value: at_most(torch.zeros_like(value), value),
        ),
        Property(
            "exact",
            "From the prior to itself the KL is 0, and in one dimension ∫ q log(q/p) dz can be "
            "added up on a grid. Yours is different.",
            is_fact("kl"),
        ),
    ),
    misconceptions=tuple(gaussian_kl_wrong),
    hints=(
        "KL(q‖p) = E_q [log q(z) − log p(z)]. Both densities factorize, so the KL is a sum over "
        "the latents.",
        "For one latent E_q log q = −½ (log 2πσ² + 1) and E_q log p = −½ (log 2π + μ² + σ²), with "
        "σ² = exp(log_var).",
        "½ (μ² + σ² − 1 − log σ²), summed over the last axis: "
        "`0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(…)`.",
    ),
    points=2,
    minutes=10,
    difficulty=1,
)


# --- bernoulli_log_likelihood ---------------------------------------------------------------------


def _bernoulli_cases(draw):
    args = (draw.tensor([[1.0, 0.0]]), draw.tensor([[0.0, math.log(3)]]))
    facts = {"log_px": [-math.log(8)]}
    yield Case("a pixel with p = ½ and one with p = ¾", args, (1,), facts)
    b, d = draw.integer(4, 5), draw.integer(6, 8)
    yield Case("more pixels than images", (draw.bernoulli(b, d), 2 * draw.normal(b, d)), (1,))
    yield Case("one pixel", (draw.bernoulli(b, 1), 2 * draw.normal(b, 1)), (1,))
    yield Case("one image", (draw.bernoulli(1, d), 2 * draw.normal(1, d)), (1,))
    x, y = draw.bernoulli(b, d), draw.bernoulli(b, d)
    # A pixel that is not the likely one costs 100 nats, a likely one 4·10⁻⁴⁴.
    facts = {"log_px": -100 * (x != y).sum(1).double().cpu()}
    yield Case("logits of ±100", (x, 100 * (2 * y - 1)), (1,), facts)
    x = draw.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    logits = (2 * draw.normal(1, 4)).repeat(16, 1)
    yield Case("all images of four pixels", (x, logits), (1,), {"all": True})
    yield Case("300 pixels", (draw.bernoulli(3, 300), 2 * draw.normal(3, 300)), (1,))
    args = (draw.bernoulli(d, b).T, 2 * draw.normal(d, b).T)
    yield Case("arguments that are not contiguous in memory", args, (1,))


def _probabilities_add_to_one(case, value):
    return "all" not in case.facts or is_exact(value.exp().sum(), 1.0)


bernoulli_log_likelihood_wrong = Misconceptions()


@bernoulli_log_likelihood_wrong("logits taken for probabilities")
def _(x, logits):
    """You take the logits for probabilities: {got}; p(x = 1) is their sigmoid, {expected}."""
    p = logits.clamp(1e-6, 1 - 1e-6)
    return (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(-1)


@bernoulli_log_likelihood_wrong("sigmoid taken twice")
def _(x, logits):
    """You pass sigmoid(logits) on to a cross-entropy that takes the sigmoid itself: {got}; with
    the logits it is {expected}.
    """
    p = torch.sigmoid(logits)
    return -F.binary_cross_entropy_with_logits(p, x, reduction="none").sum(-1)


@bernoulli_log_likelihood_wrong("log of a rounded sigmoid")
def _(x, logits):
    """You take the cross-entropy of sigmoid(logits), which rounds to 0 or 1 at large logits and
    loses the gradient: {got}; the cross-entropy with logits keeps it, {expected}.
    """
    return -F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="none").sum(-1)


@bernoulli_log_likelihood_wrong("log of a sigmoid plus epsilon")
def _(x, logits):
    """You add a small number to a probability before its log: {got}; e⁻¹⁰⁰ is below any such
    number, and written with the logits themselves the result is {expected}.
    """
    p = torch.sigmoid(logits)
    return (x * torch.log(p + 1e-8) + (1 - x) * torch.log(1 - p + 1e-8)).sum(-1)


@bernoulli_log_likelihood_wrong("mean over the pixels")
def _(x, logits):
    """You average over the pixels: {got}; they are independent, so their logs add up,
    {expected}.
    """
    return (x * logits - F.softplus(logits)).mean(-1)


@bernoulli_log_likelihood_wrong("loss for log-likelihood")
def _(x, logits):
    """You return the cross-entropy, a loss: {got}; the log-likelihood is its negative,
    {expected}.
    """
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


@bernoulli_log_likelihood_wrong("black pixels left out")
def _(x, logits):
    """You count only the pixels that are 1: {got}; a pixel that is 0 adds log(1 − p),
    {expected}.
    """
    return (x * F.logsigmoid(logits)).sum(-1)


@bernoulli_log_likelihood_wrong("softplus left out")
def _(x, logits):
    """You leave the normalizing term −log(1 + e^logit) out: {got}; with it the two probabilities
    of a pixel add to one, {expected}.
    """
    return (x * logits).sum(-1)


@bernoulli_log_likelihood_wrong("squared error")
def _(x, logits):
    """You take the squared error, which is the log-density of a Gaussian decoder: {got}; a
    Bernoulli one has {expected}.
    """
    return -((x - torch.sigmoid(logits)) ** 2).sum(-1)


@bernoulli_log_likelihood_wrong("sum over the batch")
def _(x, logits):
    """You sum over the images as well; each has its own log-likelihood, shape (B,)."""
    return (x * logits - F.softplus(logits)).sum()


@bernoulli_log_likelihood_wrong("one number for each pixel")
def _(x, logits):
    """You return a log-likelihood for each pixel; the image's is their sum, shape (B,)."""
    return x * logits - F.softplus(logits)


@bernoulli_log_likelihood_wrong("detached")
def _(x, logits):
    """Your numbers are right, but you detach the logits, so the decoder cannot be trained."""
    logits = logits.detach()
    return (x * logits - F.softplus(logits)).sum(-1)


_bernoulli_log_likelihood = Exercise(
    name="bernoulli_log_likelihood",
    question="log p(x) of binary pixels with p(x_d = 1) = sigmoid(logits_d), shape (B,)",
    reference=reference.bernoulli_log_likelihood,
    cases=_bernoulli_cases,
    properties=(
        Property(
            "not positive",
            "A probability is at most 1, so its log is not positive. Yours is.",
            lambda case, value: at_most(value, torch.zeros_like(value)),
        ),
        Property(
            "adds to one",
            "The probabilities of all sixteen images of four pixels add to one. Yours do not.",
            _probabilities_add_to_one,
        ),
        Property(
            "exact",
            "Pixels with p = ½ and 1 − p = ¼ have the log-likelihood −log 8, and one pixel against "
            "a logit of ±100 costs 100 nats. Yours does not say so.",
            is_fact("log_px"),
        ),
    ),
    misconceptions=tuple(bernoulli_log_likelihood_wrong),
    hints=(
        "A pixel has the probability p^x (1 − p)^(1−x) with p = sigmoid(logit); the pixels are "
        "independent.",
        "With a the logit, log p = a − log(1 + eᵃ) and log(1 − p) = −log(1 + eᵃ). "
        "`F.softplus(a)` is log(1 + eᵃ) without overflow.",
        "`x * logits - F.softplus(logits)`, summed over the pixels; or minus "
        "`F.binary_cross_entropy_with_logits` with `reduction='none'`, summed.",
    ),
    points=1,
    minutes=10,
    difficulty=1,
)


# --- gaussian_elbo --------------------------------------------------------------------------------


def _elbo_cases(draw):
    def case(name, x, logits, mean, log_var, **facts):
        return Case(name, (x, logits, mean, log_var), (1, 2, 3), facts)

    def encoded(b, latents):
        return draw.normal(b, latents), draw.normal(b, latents) - 0.5

    # −log 2 less the KL, ½ (1 + 4 − 1 − log 4).
    args = [[1.0]], [[0.0]], [[1.0]], [[math.log(4)]]
    yield case("one pixel with p = ½, q = N(1, 4)", *map(draw.tensor, args), elbo=[-2.0])
    b, d = draw.integer(5, 6), draw.integer(7, 9)
    args = draw.bernoulli(b, d), 2 * draw.normal(b, d), *encoded(b, 3)
    yield case("all axes of different length", *args)
    args = draw.bernoulli(1, d), 2 * draw.normal(1, d), *encoded(1, 4)
    yield case("one data point", *args)
    logits = 100 * (2 * draw.bernoulli(b, d) - 1)
    yield case("logits of ±100", draw.bernoulli(b, d), logits, *encoded(b, 2))
    # A decoder that ignores z has the prior as its posterior.
    p = 0.1 + 0.8 * torch.rand(b, 4, generator=draw.generator, dtype=torch.float64)
    x = torch.randint(2, (b, 4), generator=draw.generator).double()
    log_px = torch.where(x == 1, p, 1 - p).log().sum(-1)
    zero = draw.tensor(torch.zeros(b, 2))
    args = draw.tensor(x), draw.tensor(torch.log(p / (1 - p))), zero, zero
    yield case("the decoder ignores z and q is the prior", *args, elbo=log_px)

    # Logits linear in one latent, z at the nodes of a quadrature.
    nodes, node_weights = _gauss_hermite(40)
    x = torch.randint(2, (1, 3), generator=draw.generator).double()
    slope = torch.randn(1, 3, generator=draw.generator, dtype=torch.float64)
    mean, std = 0.4, 0.7
    z = mean + std * nodes[:, None]
    logits = slope * z + 0.3
    log_joint = (x * logits - F.softplus(logits)).sum(1) - 0.5 * (z**2).sum(1)
    log_q = -0.5 * nodes**2 - math.log(std)
    columns = x.repeat(40, 1), logits, 0 * z + mean, 0 * z + 2 * math.log(std)
    facts = {"average": node_weights @ (log_joint - log_q), "node_weights": node_weights}
    yield case("z at the nodes of a quadrature", *map(draw.tensor, columns), **facts)

    args = draw.bernoulli(b, 3), draw.normal(b, 3), draw.normal(b, 2), draw.normal(b, 2) - 30
    yield case("a narrow q", *args)
    args = draw.bernoulli(2, 300), draw.normal(2, 300), *encoded(2, 300)
    yield case("300 pixels and 300 latents", *args)
    args = draw.bernoulli(d, b).T, draw.normal(d, b).T, draw.normal(3, b).T, draw.normal(3, b).T
    yield case("arguments that are not contiguous in memory", *args)


gaussian_elbo_wrong = Misconceptions()


@gaussian_elbo_wrong("KL added")
def _(x, logits, mean, log_var):
    """You add the KL: {got}; the ELBO is the reconstruction less the KL, {expected}."""
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    return reconstruction + kl


@gaussian_elbo_wrong("loss for ELBO")
def _(x, logits, mean, log_var):
    """You return the negative ELBO, a loss: {got}; the ELBO itself is {expected}."""
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    return kl - reconstruction


@gaussian_elbo_wrong("reconstruction only")
def _(x, logits, mean, log_var):
    """You return the reconstruction alone, the objective of a plain autoencoder: {got}; the KL
    to the prior is subtracted, {expected}.
    """
    return (x * logits - F.softplus(logits)).sum(-1) + 0 * (mean + log_var).sum(-1)


@gaussian_elbo_wrong("½ missing")
def _(x, logits, mean, log_var):
    """Your KL lacks the factor ½: {got}; with ½ Σ (μ² + σ² − 1 − log σ²) the ELBO is
    {expected}.
    """
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    return reconstruction - (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)


@gaussian_elbo_wrong("entropy left out")
def _(x, logits, mean, log_var):
    """You leave the entropy of q out, E_q log p(x, z) only: {got}; −log q(z|x) belongs to the
    ELBO, {expected}.
    """
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    squares = mean**2 + torch.exp(log_var)
    return reconstruction - 0.5 * (squares + math.log(2 * math.pi)).sum(-1)


@gaussian_elbo_wrong("prior left out")
def _(x, logits, mean, log_var):
    """You add the entropy of q and leave the prior out: {got}; the ELBO has E_q log p(z) too,
    {expected}.
    """
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    entropy = 0.5 * (1 + math.log(2 * math.pi) + log_var).sum(-1)
    return reconstruction + entropy + 0 * mean.sum(-1)


@gaussian_elbo_wrong("KL with its arguments exchanged")
def _(x, logits, mean, log_var):
    """You subtract KL(p(z)‖q): {got}; the ELBO has KL(q‖p(z)), {expected}."""
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    kl = 0.5 * (torch.exp(-log_var) * (1 + mean**2) - 1 + log_var).sum(-1)
    return reconstruction - kl


@gaussian_elbo_wrong("variance taken for the standard deviation")
def _(x, logits, mean, log_var):
    """You use exp(log_var) as the standard deviation of q: {got}; it is the variance, which
    gives {expected}.
    """
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) ** 2 - 1 - 2 * log_var).sum(-1)
    return reconstruction - kl


@gaussian_elbo_wrong("mean over the pixels")
def _(x, logits, mean, log_var):
    """You average the reconstruction over the pixels, so the KL weighs D times too much: {got};
    the sum gives {expected}.
    """
    reconstruction = (x * logits - F.softplus(logits)).mean(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    return reconstruction - kl


@gaussian_elbo_wrong("KL averaged over the latents")
def _(x, logits, mean, log_var):
    """You average the KL over the latents: {got}; their KL divergences add up, {expected}."""
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).mean(-1)
    return reconstruction - kl


@gaussian_elbo_wrong("KL of the whole batch")
def _(x, logits, mean, log_var):
    """You subtract the KL of the whole batch from each reconstruction: {got}; a data point pays
    for its own q only, {expected}.
    """
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum()
    return reconstruction - kl


@gaussian_elbo_wrong("mean over the batch")
def _(x, logits, mean, log_var):
    """You average over the data points; each has its own ELBO, shape (B,)."""
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    return (reconstruction - kl).mean()


@gaussian_elbo_wrong("logits taken for probabilities")
def _(x, logits, mean, log_var):
    """You take the logits for probabilities: {got}; p(x = 1|z) is their sigmoid, {expected}."""
    p = logits.clamp(1e-6, 1 - 1e-6)
    reconstruction = (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    return reconstruction - kl


@gaussian_elbo_wrong("log of a rounded sigmoid")
def _(x, logits, mean, log_var):
    """You take the cross-entropy of sigmoid(logits), which rounds to 0 or 1 at large logits and
    loses the gradient: {got}; the cross-entropy with logits keeps it, {expected}.
    """
    p = torch.sigmoid(logits)
    reconstruction = -F.binary_cross_entropy(p, x, reduction="none").sum(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    return reconstruction - kl


@gaussian_elbo_wrong("q detached")
def _(x, logits, mean, log_var):
    """Your numbers are right, but you detach mean and log_var in the KL, so nothing holds q near
    the prior; differentiate the KL too.
    """
    mean, log_var = mean.detach(), log_var.detach()
    reconstruction = (x * logits - F.softplus(logits)).sum(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    return reconstruction - kl


_gaussian_elbo = Exercise(
    name="gaussian_elbo",
    question="log p(x|z) of one sample, less the exact KL of q to the prior, shape (B,)",
    reference=reference.gaussian_elbo,
    cases=_elbo_cases,
    properties=(
        Property(
            "exact",
            "Where the decoder ignores z and q is the prior the ELBO is log p(x); one pixel with "
            "p = ½ and q = N(1, 4) has −2. Yours is different.",
            is_fact("elbo"),
        ),
        Property(
            "averages to the ELBO",
            "Averaged over z ~ q, by quadrature, the result must be E_q [log p(x, z) − log "
            "q(z|x)]. Yours is not.",
            _averages_to("average"),
        ),
    ),
    misconceptions=tuple(gaussian_elbo_wrong),
    hints=(
        "ELBO = E_q log p(x|z) − KL(q(z|x)‖p(z)). The first term is estimated by the one sample "
        "that made the logits, the second has a closed form.",
        "The reconstruction is a Bernoulli log-likelihood with logits, summed over the pixels; the "
        "KL is ½ Σ (μ² + σ² − 1 − log σ²), summed over the latents.",
        "`(x * logits - F.softplus(logits)).sum(-1)`, minus "
        "`0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1)`.",
    ),
    points=2,
    minutes=10,
    difficulty=1,
)


# --- The gradient of an expectation ---------------------------------------------------------------


class _Polynomial(nn.Module):
    """`Σ_i coefficients_i z^i`, elementwise; the coefficients are parameters."""

    def __init__(self, coefficients):
        super().__init__()
        self.coefficients = nn.Parameter(torch.as_tensor(coefficients, dtype=torch.float64))

    def forward(self, z):
        return sum(c * z**i for i, c in enumerate(self.coefficients))


class _Network(nn.Module):
    """A network from one number to one, elementwise: `Σ_h out_h tanh(slope_h z + shift_h)`."""

    def __init__(self, width, generator):
        super().__init__()
        weights = torch.randn(3, width, generator=generator, dtype=torch.float64)
        self.slope, self.shift, self.out = (nn.Parameter(w.clone()) for w in weights)

    def forward(self, z):
        hidden = torch.tanh(z.unsqueeze(-1) * self.slope + self.shift)
        return (hidden * self.out).sum(-1)


class _Wave(nn.Module):
    """`sin(frequency · z)`, elementwise."""

    def __init__(self, frequency):
        super().__init__()
        self.frequency = nn.Parameter(torch.tensor(frequency, dtype=torch.float64))

    def forward(self, z):
        return torch.sin(self.frequency * z)


class _Step(nn.Module):
    """1 above the threshold and 0 below: no derivative says where it is."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold, dtype=torch.float64))

    def forward(self, z):
        return (z > self.threshold).to(z.dtype)


def _gradient_cases(draw, fact, wrt):
    """Cases of both estimators; `fact` is what the first of them gives, worked out by hand."""

    def case(name, f, mean, std, noise, **facts):
        args = (f.to(draw.device, draw.dtype), draw.tensor(mean), draw.tensor(std), noise)
        return Case(name, args, wrt, facts)

    # z is −1, 1, 5 and z² is 1, 1, 25.
    noise = draw.tensor([-1.0, 0.0, 2.0])
    square = [0.0, 0.0, 1.0]
    yield case("f(z) = z², z = −1, 1, 5", _Polynomial(square), 1.0, 2.0, noise, exact=fact)
    s, width = draw.integer(5, 8), draw.integer(3, 6)
    mean, std = draw.normal().item(), 0.5 + draw.uniform().item()
    network = _Network(width, draw.generator)
    yield case("f is a small network", network, mean, std, draw.normal(s))
    yield case("one sample", _Network(width, draw.generator), mean, std, draw.normal(1))
    # Gauss-Hermite nodes as noise: the weighted average of the estimates is exact for a cubic.
    nodes, node_weights = _gauss_hermite(8)
    coefficients = torch.randn(4, generator=draw.generator, dtype=torch.float64)
    z = 0.7 + 1.3 * nodes
    slope = sum(i * coefficients[i] * z ** (i - 1) for i in (1, 2, 3))
    facts = {"average": node_weights @ slope, "node_weights": node_weights}
    cubic = _Polynomial(coefficients)
    yield case("noise at the nodes of a quadrature", cubic, 0.7, 1.3, draw.tensor(nodes), **facts)
    yield case("a constant f", _Polynomial([3.0]), mean, std, draw.normal(s))
    yield case("f(z) = sin(10 z)", _Wave(10.0), mean, 1.0, draw.normal(s))
    yield case("a narrow density", _Network(width, draw.generator), mean, 0.05, draw.normal(s))
    noise = draw.normal(s, 2)[:, 1]
    yield case("noise that is not contiguous in memory", cubic, mean, std, noise)


def _score_cases(draw):
    # The estimates are differentiable in mean, std, noise and in f's own parameters.
    yield from _gradient_cases(draw, [-0.5, 0.0, 25.0], wrt=(0, 1, 2, 3))
    mean, std = draw.tensor(0.3), draw.tensor(0.8)
    step = _Step(0.2).to(draw.device, draw.dtype)
    yield Case("a step, which has no slope", (step, mean, std, draw.normal(7)), (0, 1, 2, 3))


def _pathwise_cases(draw):
    # The result need not be differentiable again, so no gradient of it is compared.
    yield from _gradient_cases(draw, [-2.0, 2.0, 10.0], wrt=())


score_function_gradient_wrong = Misconceptions()


@score_function_gradient_wrong("averaged over the samples")
def _(f, mean, std, noise):
    """You average over the samples; return the estimate of each, shape (S,), so that their
    variance can be seen.
    """
    return (f(mean + std * noise) * noise / std).mean()


@score_function_gradient_wrong("divided by the variance")
def _(f, mean, std, noise):
    """You divide the noise by std²: {got}; (z − mean)/std² is noise/std, {expected}."""
    return f(mean + std * noise) * noise / std**2


@score_function_gradient_wrong("not divided by std")
def _(f, mean, std, noise):
    """You multiply f(z) by the noise itself, (z − mean)/std: {got}; the score divides by the
    variance, (z − mean)/std² = noise/std, {expected}.
    """
    return f(mean + std * noise) * noise


@score_function_gradient_wrong("wrong sign")
def _(f, mean, std, noise):
    """Your score has the sign of ∂/∂z: {got}; ∂/∂mean of −½ (z − mean)²/std² is
    +(z − mean)/std², {expected}.
    """
    return -f(mean + std * noise) * noise / std


@score_function_gradient_wrong("baseline subtracted")
def _(f, mean, std, noise):
    """You subtract the average of f as a baseline: {got}; this estimate is asked without one,
    {expected}.
    """
    value = f(mean + std * noise)
    return (value - value.mean()) * noise / std


@score_function_gradient_wrong("z for z − mean")
def _(f, mean, std, noise):
    """You use z/std² as the score: {got}; the mean is subtracted first, {expected}."""
    z = mean + std * noise
    return f(z) * z / std**2


@score_function_gradient_wrong("f at the noise")
def _(f, mean, std, noise):
    """You evaluate f at the noise: {got}; at z = mean + std · noise it gives {expected}."""
    return f(noise) * noise / std


@score_function_gradient_wrong("pathwise")
def _(f, mean, std, noise):
    """You differentiate f, which is the pathwise estimate: {got}; the score-function estimate
    needs only its values, {expected}.
    """
    z = (mean + std * noise).detach().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z, create_graph=True)[0]


@score_function_gradient_wrong("log-density for its gradient")
def _(f, mean, std, noise):
    """You multiply f(z) by log N(z; mean, std²), the surrogate that is still to be
    differentiated: {got}; its derivative with respect to the mean gives {expected}.
    """
    log_prob = -0.5 * (noise**2 + math.log(2 * math.pi)) - torch.log(std)
    return f(mean + std * noise) * log_prob


@score_function_gradient_wrong("gradient of the density")
def _(f, mean, std, noise):
    """You multiply by the gradient of the density, and the samples are already drawn from it:
    {got}; the gradient of its log gives {expected}.
    """
    density = torch.exp(-0.5 * noise**2) / (std * math.sqrt(2 * math.pi))
    return f(mean + std * noise) * density * noise / std


@score_function_gradient_wrong("derivative with respect to std")
def _(f, mean, std, noise):
    """You use the score of std, (noise² − 1)/std: {got}; the score of the mean gives
    {expected}.
    """
    return f(mean + std * noise) * (noise**2 - 1) / std


@score_function_gradient_wrong("sample detached")
def _(f, mean, std, noise):
    """Your numbers are right, but z is detached; return the estimates differentiable in mean and
    std, and let whoever uses them decide.
    """
    return f((mean + std * noise).detach()) * noise / std


_score_function_gradient = Exercise(
    name="score_function_gradient",
    question="f(z) times the score of each sample, one estimate of ∂/∂mean E f(z) each, shape (S,)",
    reference=reference.score_function_gradient,
    cases=_score_cases,
    rtol=_CANCELS,
    properties=(
        Property(
            "exact",
            "For f(z) = z², mean 1, std 2 and noise −1, 0, 2 the estimates are −½, 0, 25. Yours "
            "are not.",
            is_fact("exact"),
        ),
        Property(
            "unbiased",
            "Averaged over the noise, by quadrature, the estimates must give ∂/∂mean E f(z). "
            "Yours do not.",
            _averages_to("average"),
        ),
    ),
    misconceptions=tuple(score_function_gradient_wrong),
    may_use=("dgm_utils.exercises.latent_variable_models",),
    hints=(
        "∂/∂mean ∫ N(z; mean, std²) f(z) dz: only the density depends on the mean, and "
        "∂N/∂mean = N · ∂log N/∂mean.",
        "log N = −½ (z − mean)²/std² + …, whose derivative with respect to the mean is "
        "(z − mean)/std². With z = mean + std · noise this is noise/std.",
        "`f(…) * noise / std`, with f at `mean + std * noise`; no average over the samples.",
    ),
    points=2,
    minutes=15,
    difficulty=2,
)


pathwise_gradient_wrong = Misconceptions()


@pathwise_gradient_wrong("f for its derivative")
def _(f, mean, std, noise):
    """You return f(z): {got}; its derivative is {expected}."""
    return f(mean + std * noise)


@pathwise_gradient_wrong("averaged over the samples")
def _(f, mean, std, noise):
    """You average over the samples; return the estimate of each, shape (S,), so that their
    variance can be seen.
    """
    z = (mean + std * noise).detach().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0].mean()


@pathwise_gradient_wrong("derivative of the sum")
def _(f, mean, std, noise):
    """You differentiate the sum of all f(z) with respect to the one mean, which adds the samples
    up; each has its own estimate, shape (S,).
    """
    mean = mean.detach().requires_grad_()
    return torch.autograd.grad(f(mean + std * noise).sum(), mean)[0]


@pathwise_gradient_wrong("derivative of the mean over samples")
def _(f, mean, std, noise):
    """You differentiate the average of f(z), so every entry is divided by S: {got}; one sample's
    own derivative is {expected}.
    """
    z = (mean + std * noise).detach().requires_grad_()
    return torch.autograd.grad(f(z).mean(), z)[0]


@pathwise_gradient_wrong("derivative with respect to the noise")
def _(f, mean, std, noise):
    """You differentiate with respect to the noise, which brings in a factor std: {got}; z moves
    with the mean one to one, {expected}.
    """
    noise = noise.detach().requires_grad_()
    return torch.autograd.grad(f(mean + std * noise).sum(), noise)[0]


@pathwise_gradient_wrong("derivative with respect to std")
def _(f, mean, std, noise):
    """You differentiate with respect to std, which brings in a factor noise: {got}; z moves with
    the mean one to one, {expected}.
    """
    z = (mean + std * noise).detach().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0] * noise


@pathwise_gradient_wrong("score function")
def _(f, mean, std, noise):
    """You multiply f(z) by the score, which is the score-function estimate: {got}; the pathwise
    one is the derivative of f at z, {expected}.
    """
    return f(mean + std * noise) * noise / std


@pathwise_gradient_wrong("derivative times score")
def _(f, mean, std, noise):
    """You multiply the derivative of f by the score as well: {got}; the pathwise estimate is the
    derivative alone, {expected}.
    """
    z = (mean + std * noise).detach().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0] * noise / std


@pathwise_gradient_wrong("derivative at the mean")
def _(f, mean, std, noise):
    """You take the derivative at the mean, the same for all samples: {got}; each sample has its
    own z = mean + std · noise, {expected}.
    """
    z = (mean + 0 * noise).detach().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0]


@pathwise_gradient_wrong("derivative at the noise")
def _(f, mean, std, noise):
    """You take the derivative at the noise: {got}; at z = mean + std · noise it is
    {expected}.
    """
    z = noise.detach().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0]


@pathwise_gradient_wrong("std taken for the variance")
def _(f, mean, std, noise):
    """You scale the noise by √std: {got}; std is the standard deviation itself, {expected}."""
    z = (mean + torch.sqrt(std) * noise).detach().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0]


@pathwise_gradient_wrong("difference quotient")
def _(f, mean, std, noise):
    """You approximate the derivative by a difference quotient: {got}; autograd gives it to the
    last digit, {expected}.
    """
    z = mean + std * noise
    return (f(z + 1e-4) - f(z)) / 1e-4


_pathwise_gradient = Exercise(
    name="pathwise_gradient",
    question="f'(mean + std · noise), one estimate of ∂/∂mean E f(z) for each sample, shape (S,)",
    reference=reference.pathwise_gradient,
    cases=_pathwise_cases,
    properties=(
        Property(
            "exact",
            "For f(z) = z², mean 1, std 2 and noise −1, 0, 2 the estimates are −2, 2, 10. Yours "
            "are not.",
            is_fact("exact"),
        ),
        Property(
            "unbiased",
            "Averaged over the noise, by quadrature, the estimates must give ∂/∂mean E f(z). "
            "Yours do not.",
            _averages_to("average"),
        ),
    ),
    misconceptions=tuple(pathwise_gradient_wrong),
    may_use=("dgm_utils.exercises.latent_variable_models",),
    hints=(
        "With z = mean + std · noise the noise does not depend on the mean, so the derivative "
        "goes inside the expectation: ∂f(z)/∂mean = f'(z) · ∂z/∂mean.",
        "∂z/∂mean = 1, so all you need is f'(z) for each sample. f acts elementwise, so the "
        "gradient of `f(z).sum()` with respect to z holds each sample's own derivative.",
        "`z = (mean + std * noise).detach().requires_grad_()`, then "
        "`torch.autograd.grad(f(z).sum(), z)`, which returns a tuple of one tensor.",
    ),
    points=2,
    minutes=15,
    difficulty=2,
)


EXERCISES = (
    _naive_log_likelihood,
    _e_step,
    _m_step,
    _reparameterize,
    _gaussian_kl,
    _bernoulli_log_likelihood,
    _gaussian_elbo,
    _score_function_gradient,
    _pathwise_gradient,
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
