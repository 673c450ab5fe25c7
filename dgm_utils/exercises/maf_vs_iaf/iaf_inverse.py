"""`iaf_inverse`: an IAF from base to data, in one call of its network."""

import torch

from dgm_utils import maf_vs_iaf
from dgm_utils.exercises.maf_vs_iaf import _networks
from dgm_utils.exercises.maf_vs_iaf._shared import fast_cases
from nbjudge.asking.page import Page

page = Page(
    maf_vs_iaf.iaf_inverse,
    "x = σ(z) ⊙ z + μ(z) and log|det ∂x/∂z| in one call of the network",
    points=1,
    minutes=5,
    difficulty=1,
    axes="B D, _ -> B D, B",
    wrt="z net",
    may_use=(_networks,),
    hints=(
        "In an IAF μ and σ are functions of z, and all of z is given: one call of `net`.",
        "x_i depends on z_1 … z_i: the Jacobian ∂x/∂z is triangular with σ_i on its diagonal.",
        "`mu, log_sigma = net(z)`; x is `z * torch.exp(log_sigma) + mu`, and the log-determinant "
        "`log_sigma` summed over the coordinates, without a minus: this map multiplies by σ.",
    ),
)


@page.cases
def _(draw):
    yield from fast_cases(page, draw, lambda z, mu, log_sigma: z * torch.exp(log_sigma) + mu)


page.must_equal(
    "log_det",
    "x = σ(z) ⊙ z + μ(z), differentiated, has another log-determinant than the one you return.",
    part=1,
)


@page.must
def be_scaled_then_shifted(value, z, net):
    """x less μ(z) must be σ(z) ⊙ z, where σ = exp(log_sigma). Yours is not."""
    # Not (x − μ(z)) / σ(z): where σ is small, x forgets z.
    x = value[0].double()
    with torch.no_grad():
        mu, log_sigma = (part.double() for part in net(z))
    residual = (x - mu - z.double() * torch.exp(log_sigma)).abs()
    tolerance = 1e-4 if value[0].dtype == torch.float32 else 1e-8
    return bool((residual <= tolerance * (1 + x.abs())).all())


@page.formula
def _(z, net):
    mu, log_sigma = net(z)
    return z * torch.exp(log_sigma) + mu, log_sigma.sum(1)


@page.wrong("log-det with the wrong sign")
def _(z, net):
    """You return −Σ log σ as the log-determinant: {got}. It is that of the map that was applied,
    z → x, which multiplies by σ: +Σ log σ, {expected}.
    """
    mu, log_sigma = net(z)
    return z * torch.exp(log_sigma) + mu, -log_sigma.sum(1)


@page.wrong("the map of a MAF")
def _(z, net):
    """You subtract μ and divide by σ: {got}; an IAF goes from base to data by x = σ(z) ⊙ z +
    μ(z), {expected}.
    """
    mu, log_sigma = net(z)
    return (z - mu) * torch.exp(-log_sigma), -log_sigma.sum(1)


@page.wrong("μ scaled too")
def _(z, net):
    """You add μ before multiplying by σ, σ ⊙ (z + μ): {got}; σ ⊙ z + μ is {expected}."""
    mu, log_sigma = net(z)
    return (z + mu) * torch.exp(log_sigma), log_sigma.sum(1)


@page.wrong("log σ taken for log σ²")
def _(z, net):
    """You take log_sigma for the logarithm of the variance and halve it: {got}; it is log σ, and
    σ = exp(log_sigma), which gives {expected}.
    """
    mu, log_sigma = net(z)
    return z * torch.exp(0.5 * log_sigma) + mu, 0.5 * log_sigma.sum(1)


@page.wrong("gated update")
def _(z, net):
    """You use the gated form of the IAF paper, σ ⊙ z + (1 − σ) ⊙ μ with a sigmoid for σ: {got};
    here log_sigma is the log of σ and μ is added as it is, {expected}.
    """
    mu, log_sigma = net(z)
    gate = torch.sigmoid(log_sigma)
    return gate * z + (1 - gate) * mu, torch.log(gate).sum(1)


@page.wrong("log-det of each coordinate")
def _(z, net):
    """You return log σ of each coordinate, shape (B, D); the log-determinant is their sum over
    the coordinates, one number for each data point, shape (B,).
    """
    mu, log_sigma = net(z)
    return z * torch.exp(log_sigma) + mu, log_sigma


@page.wrong("log of the product")
def _(z, net):
    """You multiply the σ and take the log of the product, which under- or overflows in many
    dimensions: {got}; the sum of the logs does not, {expected}.
    """
    mu, log_sigma = net(z)
    sigma = torch.exp(log_sigma)
    return z * sigma + mu, torch.log(sigma.prod(1))


@page.wrong("one coordinate after the other, from x")
def _(z, net):
    """You call `net` at x, one coordinate after the other, which is how a MAF is sampled; in an
    IAF μ and σ are functions of z, all of which is known, so one call is enough.
    """
    x = torch.zeros_like(z)
    for i in range(z.shape[1]):
        mu, log_sigma = net(x)
        new = torch.arange(z.shape[1], device=z.device) == i
        x = torch.where(new, z * torch.exp(log_sigma) + mu, x)
    return x, log_sigma.sum(1)


@page.wrong("the network detached")
def _(z, net):
    """Your numbers are right, but you call `net` under no_grad, so that no gradient reaches its
    parameters and none goes through μ(z) and σ(z); nothing can be trained with it.
    """
    with torch.no_grad():
        mu, log_sigma = net(z)
    return z * torch.exp(log_sigma) + mu, log_sigma.sum(1)
