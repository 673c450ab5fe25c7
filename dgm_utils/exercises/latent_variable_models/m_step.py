"""`m_step`: the weights, means and variances of a mixture, given responsibilities."""

import torch
import torch.nn.functional as F

from dgm_utils import latent_variable_models
from dgm_utils.exercises.latent_variable_models._shared import CANCELS, along_the_simplex
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    latent_variable_models.m_step,
    "the weights (C,), means (C, D) and variances (C, D) of maximum likelihood, given the "
    "responsibilities",
    points=3,
    minutes=20,
    difficulty=2,
    axes="N D, N C -> C, C D, C D",
    wrt="x responsibilities",
    rtol=CANCELS,
    hints=(
        "Everything is a weighted average: component c sees data point n with the weight "
        "responsibilities[n, c], and N_c is the sum of its weights.",
        "weights_c = N_c/N, means_c = Σ_n r_nc x_n / N_c, variances_c = Σ_n r_nc (x_n − "
        "means_c)² / N_c. The sum over n is a matrix product, `responsibilities.T @ x`.",
        "`squares = (x[:, None] - means)**2` is (N, C, D), with the new means; the variances are "
        "`(responsibilities[:, :, None] * squares).sum(0) / counts[:, None]`. Return the three as "
        "a tuple.",
    ),
)


@page.cases
def _(draw):
    def case(name, *args, **facts):
        return page.case(name, *args, project={"responsibilities": along_the_simplex}, **facts)

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
    yield case(
        "almost hard responsibilities", 3 * draw.normal(n, 2), shares(n, 3, 8.0), extreme=True
    )
    yield case("fewer data points than components", draw.normal(2, 2), shares(2, c))
    yield case("one data point", draw.normal(1, 2), shares(1, 3))
    rare = torch.softmax(draw.normal(n, 3) - draw.tensor([0.0, 0.0, 16.0]), 1)
    yield case("a component with almost no data", draw.normal(n, 2) + 1, rare, extreme=True)
    yield case("300 dimensions", draw.normal(n, 300) + 1, shares(n, 2), extreme=True)
    x, responsibilities = draw.normal(2, n).T, torch.softmax(draw.normal(3, n), 0).T
    yield case("arguments that are not contiguous in memory", x, responsibilities)


@page.must
def have_weights_that_sum_to_one(value):
    """The weights of a mixture sum to one. Yours do not."""
    return is_exact(value[0].sum(), 1.0)


@page.must
def be_the_maximum(value, exact):
    """The points 0 and 6 with responsibilities 1 and ½ have the mean 2 and the variance 8, and one
    component for all has the mean and the variance of the data. Yours have not.
    """
    return all(map(is_exact, value, exact))


@page.must
def keep_the_moments(value, x):
    """After an M-step the mixture has exactly the mean and the variance of the data, Σ_c π_c μ_c
    and Σ_c π_c (σ²_c + (μ_c − mean)²). Yours has not.
    """
    # The law of total variance.
    weights, means, variances = (v.double().cpu() for v in value)
    rows = x.double().cpu()
    mean = weights @ means
    variance = weights @ (variances + (means - mean) ** 2)
    right = rows.mean(0), rows.var(0, correction=0)
    pairs = zip((mean, variance), right, strict=True)
    return all(is_exact(got.to(x.dtype), want, single=1e-3) for got, want in pairs)


@page.formula
def _(x, responsibilities):
    counts = responsibilities.sum(0)
    shares = responsibilities[:, :, None] / counts[:, None]
    means = (shares * x[:, None]).sum(0)
    variances = (shares * (x[:, None] - means) ** 2).sum(0)
    return counts / len(x), means, variances


@page.piece
def counted(x, responsibilities):
    """N_c, and the means."""
    counts = responsibilities.sum(0)
    return counts, responsibilities.T @ x / counts[:, None]


@page.piece
def squares_around(means, x, responsibilities):
    """Σ_n r_nc (x_n − means_c)², `(C, D)`."""
    squares = (x[:, None] - means) ** 2
    return torch.einsum("nc,ncd->cd", responsibilities, squares)


page.but(
    "counts for weights",
    "You return the counts N_c as weights: {got}; divided by the number of data points they sum "
    "to one, {expected}.",
    lambda parts, x: (len(x) * parts[0], *parts[1:]),
)


@page.wrong("divided by N_c − 1")
def _(x, responsibilities):
    """You divide the variances by N_c − 1, as for an unbiased estimate: {got}; the maximum of
    the likelihood divides by N_c, {expected}.
    """
    counts, means = counted(x, responsibilities)
    squares = squares_around(means, x, responsibilities)
    return counts / len(x), means, squares / (counts[:, None] - 1)


@page.wrong("divided by N")
def _(x, responsibilities):
    """You divide means and variances by the number of all data points: {got}; a component's own
    share of them is N_c, the sum of its responsibilities, {expected}.
    """
    counts, means = responsibilities.sum(0), responsibilities.T @ x / len(x)
    return counts / len(x), means, squares_around(means, x, responsibilities) / len(x)


@page.wrong("variances divided by N")
def _(x, responsibilities):
    """You divide the variances by the number of all data points: {got}; divide them by N_c, as
    you do with the means, {expected}.
    """
    counts, means = counted(x, responsibilities)
    return counts / len(x), means, squares_around(means, x, responsibilities) / len(x)


@page.wrong("second moment")
def _(x, responsibilities):
    """You average x² instead of (x − mean)²: {got}; the variance is around the new mean,
    {expected}.
    """
    counts, means = counted(x, responsibilities)
    return counts / len(x), means, responsibilities.T @ x**2 / counts[:, None]


@page.wrong("variance around the mean of all data")
def _(x, responsibilities):
    """You take the squares around the mean of all the data: {got}; each component has its own
    mean, {expected}.
    """
    counts, means = counted(x, responsibilities)
    squares = (x - x.mean(0)) ** 2
    return counts / len(x), means, responsibilities.T @ squares / counts[:, None]


@page.wrong("hard assignment")
def _(x, responsibilities):
    """You count each point for its most likely component only: {got}; it counts for every
    component with its responsibility, {expected}.
    """
    hard = F.one_hot(responsibilities.argmax(1), responsibilities.shape[1]).to(x.dtype)
    counts, means = counted(x, hard)
    return counts / len(x), means, squares_around(means, x, hard) / counts[:, None]


page.but(
    "standard deviations for variances",
    "You return standard deviations: {got}; the variances are their squares, {expected}.",
    lambda parts: (*parts[:2], parts[2].sqrt()),
)


@page.wrong("responsibilities squared")
def _(x, responsibilities):
    """You square the responsibility together with x − mean: {got}; it weighs the square, once,
    {expected}.
    """
    counts, means = counted(x, responsibilities)
    weighted = responsibilities[:, :, None] * (x[:, None] - means)
    return counts / len(x), means, (weighted**2).sum(0) / counts[:, None]


page.but(
    "one variance for all dimensions",
    "You average the variance over the dimensions: {got}; a diagonal covariance has one for each, "
    "{expected}.",
    lambda parts: (*parts[:2], parts[2].mean(1, keepdim=True).expand(parts[2].shape)),
)


@page.wrong("one variance for all components")
def _(x, responsibilities):
    """You pool the variance over the components: {got}; each component has its own, {expected}."""
    counts, means = counted(x, responsibilities)
    pooled = squares_around(means, x, responsibilities).sum(0) / len(x)
    return counts / len(x), means, pooled.expand(means.shape)


@page.wrong("epsilon in the denominator")
def _(x, responsibilities):
    """You add a small number to N_c: {got}; no component is empty, one may be nearly so, and
    without that number it is {expected}.
    """
    counts = responsibilities.sum(0) + 1e-8
    means = responsibilities.T @ x / counts[:, None]
    squares = squares_around(means, x, responsibilities)
    return counts / len(x), means, squares / counts[:, None]


page.but(
    "equal weights",
    "You give every component the weight 1/C: {got}; its weight is its share of the data, N_c/N, "
    "{expected}.",
    lambda parts: (torch.full_like(parts[0], 1 / len(parts[0])), *parts[1:]),
)
page.but(
    "detached",
    "Your numbers are right, but you detach them; return them differentiable, and let whoever "
    "uses them decide.",
    lambda parts: tuple(part.detach() for part in parts),
)
