"""`maf_forward`: a MAF from data to base, in one call of its network."""

import math

import torch

from dgm_utils import maf_vs_iaf
from dgm_utils.exercises.maf_vs_iaf import _networks
from dgm_utils.exercises.maf_vs_iaf._networks import Conditioner
from dgm_utils.exercises.maf_vs_iaf._shared import fast_cases
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact
from nbjudge.inside.tensors import Counted

page = Page(
    maf_vs_iaf.maf_forward,
    "z = (x − μ(x)) / σ(x) and log|det ∂z/∂x| in one call of the network",
    points=2,
    minutes=10,
    difficulty=1,
    axes="B D, _ -> B D, B",
    wrt="x net",
    may_use=(_networks,),
    hints=(
        "All of x is given, so one call of `net` gives μ_i and log σ_i for every coordinate.",
        "z_i depends on x_1 … x_i only: the Jacobian is triangular, with 1/σ_i on its diagonal. "
        "The determinant of a triangular matrix is the product of its diagonal.",
        "`mu, log_sigma = net(x)`; z is `(x - mu) * torch.exp(-log_sigma)`, and the "
        "log-determinant minus `log_sigma` summed over the coordinates.",
    ),
)


@page.cases
def _(draw):
    yield from fast_cases(page, draw, lambda x, mu, log_sigma: (x - mu) / torch.exp(log_sigma))
    # The density of a flow integrates to one: points on a grid, σ between 0.67 and 1.5.
    line = torch.linspace(-10, 10, 31, dtype=torch.float64)
    net = Counted(Conditioner(draw, 2, spread=0.4, scale=0.4))
    grid, cell = draw.tensor(torch.cartesian_prod(line, line)), (20 / 30) ** 2
    yield page.case("a grid in two dimensions", grid, net, passes={"net": (1, 1)}, cell=cell)


page.must_equal(
    "log_det",
    "z = (x − μ(x)) / σ(x), differentiated, has another log-determinant than the one you return.",
    part=1,
)


@page.must
def be_a_gaussian_autoregressive_model(value, x, net):
    """log N(z; 0, I) + log_det must be Σ_i log N(x_i; μ_i, σ_i²), the density of a Gaussian
    autoregressive model. Yours is not.
    """
    z, log_det = (part.double() for part in value)
    with torch.no_grad():
        mu, log_sigma = (part.double() for part in net(x))
    noise = (x.double() - mu) / torch.exp(log_sigma)
    expected = -(0.5 * noise**2 + log_sigma).sum(1)
    got = -0.5 * (z**2).sum(1) + log_det
    return is_exact(got.to(value[0].dtype), expected)


@page.must
def integrate_to_one(value, cell):
    """The density N(z(x); 0, I) · |det ∂z/∂x| must integrate to 1 over x. Yours does not."""
    z, log_det = (part.double() for part in value)
    log_density = log_det - 0.5 * (z**2).sum(1) - math.log(2 * math.pi)
    total = log_density.exp().sum() * cell
    return is_exact(total.to(value[0].dtype), 1.0, double=1e-6)


page.but(
    "log-det with the wrong sign",
    "You return +Σ log σ as the log-determinant: {got}; z is x divided by σ, so that ∂z_i/∂x_i = "
    "1/σ_i and the log-determinant is −Σ log σ, {expected}.",
    lambda both: (both[0], -both[1]),
)


@page.wrong("the direction of sampling")
def _(x, net):
    """You map base to data, σ ⊙ v + μ: {got}; from data to base μ is subtracted and σ divided
    out, {expected}.
    """
    mu, log_sigma = net(x)
    return x * torch.exp(log_sigma) + mu, log_sigma.sum(1)


@page.wrong("log σ taken for log σ²")
def _(x, net):
    """You take log_sigma for the logarithm of the variance and halve it: {got}; it is log σ, and
    σ = exp(log_sigma), which gives {expected}.
    """
    mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-0.5 * log_sigma), -0.5 * log_sigma.sum(1)


@page.wrong("μ subtracted after the division")
def _(x, net):
    """You divide x by σ before μ is subtracted, x/σ − μ: {got}; (x − μ)/σ is {expected}."""
    mu, log_sigma = net(x)
    return x * torch.exp(-log_sigma) - mu, -log_sigma.sum(1)


@page.wrong("log-det of each coordinate")
def _(x, net):
    """You return −log σ of each coordinate, shape (B, D); the log-determinant of a triangular
    Jacobian is their sum over the coordinates, one number for each data point, shape (B,).
    """
    mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-log_sigma), -log_sigma


@page.wrong("log-det averaged")
def _(x, net):
    """You average log σ over the coordinates: {got}; the determinant is a product over all of
    them, so the logs add up, {expected}.
    """
    mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-log_sigma), -log_sigma.mean(1)


@page.wrong("log of the product")
def _(x, net):
    """You multiply the σ and take the log of the product, which under- or overflows in many
    dimensions: {got}; the sum of the logs does not, {expected}.
    """
    mu, log_sigma = net(x)
    sigma = torch.exp(log_sigma)
    return (x - mu) / sigma, -torch.log(sigma.prod(1))


@page.wrong("epsilon added to σ")
def _(x, net):
    """You add a small number to σ before dividing: {got}; σ = exp(log_sigma) is never zero, and
    without the number it is {expected}.
    """
    mu, log_sigma = net(x)
    return (x - mu) / (torch.exp(log_sigma) + 1e-6), -log_sigma.sum(1)


@page.wrong("a call for each coordinate")
def _(x, net):
    """Your numbers are right, but you call `net` once for each coordinate. All of x is known in
    this direction, so one call gives every μ_i and σ_i: that is what makes MAF's density fast.
    """
    columns, log_det = [], torch.zeros_like(x[:, 0])
    for i in range(x.shape[1]):
        mu, log_sigma = net(x)
        columns.append((x[:, i] - mu[:, i]) * torch.exp(-log_sigma[:, i]))
        log_det = log_det - log_sigma[:, i]
    return torch.stack(columns, 1), log_det


@page.wrong("the network detached")
def _(x, net):
    """Your numbers are right, but you call `net` under no_grad, so that no gradient reaches its
    parameters and none goes through μ(x) and σ(x); nothing can be trained with it.
    """
    with torch.no_grad():
        mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-log_sigma), -log_sigma.sum(1)
