"""`e_step`: the responsibilities of a mixture's components."""

import math

import torch
import torch.nn.functional as F

from dgm_utils import latent_variable_models
from dgm_utils.exercises.latent_variable_models._shared import CANCELS, along_the_simplex
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    latent_variable_models.e_step,
    "the responsibilities q(c|x_n) ∝ weights_c N(x_n; means_c, variances_c), shape (N, C)",
    points=3,
    minutes=20,
    difficulty=2,
    axes="N D, C, C D, C D -> N C",
    wrt="x weights means variances",
    rtol=CANCELS,
    hints=(
        "Bayes' rule: q(c|x) = p(c) p(x|c) / Σ_j p(j) p(x|j). Work with the logs of the "
        "numerators.",
        "`x[:, None]` is (N, 1, D) and broadcasts against the means, (C, D), to (N, C, D). The "
        "log-density is −½ ((x − μ)²/σ² + log σ²), summed over the last axis; ½ log 2π cancels.",
        "`log_joint = torch.log(weights) - 0.5 * ((x[:, None] - means)**2 / variances + "
        "variances.log()).sum(-1)`, then exponentiate and normalize each row without underflow: "
        "that is a softmax over the components.",
    ),
)


@page.cases
def _(draw):
    def case(name, *args, **facts):
        return page.case(name, *args, project={"weights": along_the_simplex}, **facts)

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
    yield case(
        "halfway between components 80 deviations apart", *args, share=[[0.3, 0.7]], extreme=True
    )
    nearest = torch.randint(3, (n,), generator=draw.generator)
    weights, means, variances = mixture(3, 2)
    means = means + 1000 * draw.tensor([[0.0], [1.0], [2.0]])
    x = means[nearest.to(draw.device)] + draw.normal(n, 2)
    exact = F.one_hot(nearest, 3)
    yield case("components 1000 apart", x, weights, means, variances, share=exact, extreme=True)
    means = draw.tensor([[0.0, 0.0], [1.0, 1.0]])
    x = draw.tensor([[1000.0, 1000.0], [-1000.0, -500.0]])
    args = x, draw.tensor([0.6, 0.4]), means, torch.ones_like(means)
    yield case(
        "points far from both components", *args, share=[[0.0, 1.0], [1.0, 0.0]], extreme=True
    )
    weights, means, variances = mixture(2, 300)
    yield case(
        "300 dimensions",
        30 * draw.normal(3, 300),
        weights,
        means,
        900 * variances**0.1,
        extreme=True,
    )
    name = "narrow components, arguments that are not contiguous in memory"
    yield case(name, *_narrow(draw, n, *mixture(c, 2)[:2]))


def _narrow(draw, n, weights, means):
    """Points, and narrow components of which no two share a point that is far from both.

    There the gradient is large and hangs on the difference of two log-densities below −100, which
    float32 does not hold to the digits that a right answer needs.
    """
    while True:
        variances = torch.exp(-3 + 0.3 * draw.normal(2, len(means))).T
        x = (2 * draw.normal(2, n)).T
        log_density = -0.5 * ((x[:, None] - means) ** 2 / variances + variances.log()).sum(-1)
        first, second = log_density.topk(2).values.unbind(1)
        if not ((first < -20) & (first - second < 20)).any():
            return x, weights, means, variances


@page.must
def sum_to_one(value):
    """The responsibilities for each data point must sum to one over the components. Yours do
    not.
    """
    return is_exact(value.sum(1), torch.ones(value.shape[0]), single=CANCELS[torch.float32])


page.must_equal(
    "share",
    "Here Bayes' rule can be worked out by hand: components with equal densities share x as their "
    "weights do, and the far nearer one takes it all. Yours do not.",
)


@page.formula
def _(x, weights, means, variances):
    squares = (x[:, None] - means) ** 2 / variances
    log_px = -0.5 * (squares + variances.log() + math.log(2 * math.pi)).sum(2)
    return torch.softmax(log_px + weights.log(), 1)


@page.formula
def _(x, weights, means, variances):
    squares = (x[:, None] - means) ** 2 / variances
    log_px = -0.5 * (squares + variances.log() + math.log(2 * math.pi)).sum(2)
    joint = torch.exp(log_px) * weights
    return joint / joint.sum(1, keepdim=True)


@page.piece
def log_density(x, means, variances):
    """log N(x; means_c, variances_c), without the constant that cancels, `(N, C)`."""
    squares = (x[:, None] - means) ** 2 / variances
    return -0.5 * (squares + torch.log(variances)).sum(-1)


@page.piece
def joint_density(x, weights, means, variances):
    """weights_c N(x; means_c, variances_c), `(N, C)`."""
    squares = (x[:, None] - means) ** 2 / variances
    log_px_given_c = -0.5 * (squares + torch.log(2 * math.pi * variances)).sum(-1)
    return weights * torch.exp(log_px_given_c)


@page.wrong("weights left out")
def _(x, weights, means, variances):
    """You leave the mixture's weights out: {got}; a rare component is responsible for less, by
    Bayes' rule weights_c N(x; …), {expected}.
    """
    return torch.softmax(log_density(x, means, variances) + 0 * weights, 1)


@page.wrong("normalized over the data")
def _(x, weights, means, variances):
    """You normalize over the data points, axis 0: {got}; the components compete for each data
    point, so every row sums to one, {expected}.
    """
    return torch.softmax(log_density(x, means, variances) + torch.log(weights), 0)


@page.wrong("variance taken for the standard deviation")
def _(x, weights, means, variances):
    """You use the variances as standard deviations: {got}; the square of x − μ is divided by the
    variance itself, {expected}.
    """
    squares = ((x[:, None] - means) / variances) ** 2
    log_px_given_c = -0.5 * squares.sum(-1) - torch.log(variances).sum(-1)
    return torch.softmax(log_px_given_c + torch.log(weights), 1)


@page.wrong("½ missing")
def _(x, weights, means, variances):
    """Your Gaussian log-density lacks the factor ½: {got}; with −½ ((x − μ)²/σ² + log σ²) it is
    {expected}.
    """
    return torch.softmax(2 * log_density(x, means, variances) + torch.log(weights), 1)


@page.wrong("normalizing constant left out")
def _(x, weights, means, variances):
    """You leave −½ Σ log σ² out, as if it cancelled: {got}; it differs between the components,
    and with it the result is {expected}.
    """
    squares = (x[:, None] - means) ** 2 / variances
    return torch.softmax(-0.5 * squares.sum(-1) + torch.log(weights), 1)


@page.wrong("exponentials that underflow")
def _(x, weights, means, variances):
    """You compute the densities themselves, all of which are 0 far from every component, and 0
    divided by 0 is no number: {got}; a softmax of log-densities gives {expected}.
    """
    joint = joint_density(x, weights, means, variances)
    return joint / joint.sum(1, keepdim=True)


@page.wrong("epsilon in the denominator")
def _(x, weights, means, variances):
    """You add a small number to the denominator, so a point far from every component belongs to
    nobody: {got}; a softmax of log-densities needs no such number, {expected}.
    """
    joint = joint_density(x, weights, means, variances)
    return joint / (joint.sum(1, keepdim=True) + 1e-8)


@page.wrong("hard assignment")
def _(x, weights, means, variances):
    """You give each point to its most likely component, as k-means does: {got}; EM shares it,
    {expected}.
    """
    log_joint = log_density(x, means, variances) + torch.log(weights)
    return F.one_hot(log_joint.argmax(1), len(weights)).to(x.dtype)


@page.wrong("log-responsibilities")
def _(x, weights, means, variances):
    """You return the logs of the responsibilities: {got}; they themselves are {expected}."""
    return torch.log_softmax(log_density(x, means, variances) + torch.log(weights), 1)


@page.wrong("mean over the dimensions")
def _(x, weights, means, variances):
    """You average the log-density over the dimensions: {got}; with a diagonal covariance the
    density is a product over them, so the logs add up, {expected}.
    """
    average = log_density(x, means, variances) / x.shape[1]
    return torch.softmax(average + torch.log(weights), 1)


@page.wrong("weights added to the log-density")
def _(x, weights, means, variances):
    """You add the weights to the log-densities: {got}; a factor of the density becomes its log,
    log(weights), {expected}.
    """
    return torch.softmax(log_density(x, means, variances) + weights, 1)


@page.wrong("not normalized")
def _(x, weights, means, variances):
    """You return the joint density weights_c N(x; …): {got}; divided by its sum over the
    components, which is p(x), it is {expected}.
    """
    return joint_density(x, weights, means, variances)


@page.wrong("detached")
def _(x, weights, means, variances):
    """Your numbers are right, but you detach them; return them differentiable, and let whoever
    uses them decide.
    """
    return torch.softmax(log_density(x, means, variances) + torch.log(weights), 1).detach()


@page.picture
def _(axis, triples):
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
