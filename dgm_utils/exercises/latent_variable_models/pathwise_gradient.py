"""`pathwise_gradient`: ∂/∂mean E f(z) through the sample."""

import torch

from dgm_utils import latent_variable_models
from dgm_utils.exercises.latent_variable_models import _networks
from dgm_utils.exercises.latent_variable_models._shared import gradient_cases
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    latent_variable_models.pathwise_gradient,
    "f'(mean + std · noise), one estimate of ∂/∂mean E f(z) for each sample, shape (S,)",
    points=2,
    minutes=15,
    difficulty=2,
    axes="_, (), (), S -> S",
    may_use=(_networks,),
    hints=(
        "With z = mean + std · noise the noise does not depend on the mean, so the derivative "
        "goes inside the expectation: ∂f(z)/∂mean = f'(z) · ∂z/∂mean.",
        "∂z/∂mean = 1, so all you need is f'(z) for each sample. f acts elementwise, so the "
        "gradient of `f(z).sum()` with respect to z holds each sample's own derivative.",
        "`z = (mean + std * noise).detach().requires_grad_()`, then "
        "`torch.autograd.grad(f(z).sum(), z)`, which returns a tuple of one tensor.",
    ),
)


@page.cases
def _(draw):
    # The result need not be differentiable again, so no gradient of it is compared.
    yield from gradient_cases(page, draw, [-2.0, 2.0, 10.0])


page.must_equal(
    "exact",
    "For f(z) = z², mean 1, std 2 and noise −1, 0, 2 the estimates are −2, 2, 10. Yours are not.",
)


@page.must
def be_unbiased(value, average, node_weights):
    """Averaged over the noise, by quadrature, the estimates must give ∂/∂mean E f(z). Yours do
    not.
    """
    return is_exact((node_weights @ value.double().cpu()).to(value.dtype), average)


@page.piece
def derivative(f, z):
    """f'(z), elementwise."""
    z = z.detach().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0]


@page.wrong("f for its derivative")
def _(f, mean, std, noise):
    """You return f(z): {got}; its derivative is {expected}."""
    return f(mean + std * noise)


page.but(
    "averaged over the samples",
    "You average over the samples; return the estimate of each, shape (S,), so that their "
    "variance can be seen.",
    torch.mean,
)


@page.wrong("derivative of the sum")
def _(f, mean, std, noise):
    """You differentiate the sum of all f(z) with respect to the one mean, which adds the samples
    up; each has its own estimate, shape (S,).
    """
    mean = mean.detach().requires_grad_()
    return torch.autograd.grad(f(mean + std * noise).sum(), mean)[0]


@page.wrong("derivative of the mean over samples")
def _(f, mean, std, noise):
    """You differentiate the average of f(z), so every entry is divided by S: {got}; one sample's
    own derivative is {expected}.
    """
    z = (mean + std * noise).detach().requires_grad_()
    return torch.autograd.grad(f(z).mean(), z)[0]


@page.wrong("derivative with respect to the noise")
def _(f, mean, std, noise):
    """You differentiate with respect to the noise, which brings in a factor std: {got}; z moves
    with the mean one to one, {expected}.
    """
    noise = noise.detach().requires_grad_()
    return torch.autograd.grad(f(mean + std * noise).sum(), noise)[0]


page.but(
    "derivative with respect to std",
    "You differentiate with respect to std, which brings in a factor noise: {got}; z moves with "
    "the mean one to one, {expected}.",
    lambda estimates, noise: estimates * noise,
)


@page.wrong("score function")
def _(f, mean, std, noise):
    """You multiply f(z) by the score, which is the score-function estimate: {got}; the pathwise
    one is the derivative of f at z, {expected}.
    """
    return f(mean + std * noise) * noise / std


page.but(
    "derivative times score",
    "You multiply the derivative of f by the score as well: {got}; the pathwise estimate is the "
    "derivative alone, {expected}.",
    lambda estimates, std, noise: estimates * noise / std,
)


@page.wrong("derivative at the mean")
def _(f, mean, std, noise):
    """You take the derivative at the mean, the same for all samples: {got}; each sample has its
    own z = mean + std · noise, {expected}.
    """
    return derivative(f, mean + 0 * noise)


@page.wrong("derivative at the noise")
def _(f, mean, std, noise):
    """You take the derivative at the noise: {got}; at z = mean + std · noise it is
    {expected}.
    """
    return derivative(f, noise)


@page.wrong("std taken for the variance")
def _(f, mean, std, noise):
    """You scale the noise by √std: {got}; std is the standard deviation itself, {expected}."""
    return derivative(f, mean + torch.sqrt(std) * noise)


@page.wrong("difference quotient")
def _(f, mean, std, noise):
    """You approximate the derivative by a difference quotient: {got}; autograd gives it to the
    last digit, {expected}.
    """
    z = mean + std * noise
    return (f(z + 1e-4) - f(z)) / 1e-4
