"""`score_function_gradient`: ∂/∂mean E f(z) from the gradient of the density."""

import math

import torch

from dgm_utils import latent_variable_models
from dgm_utils.exercises.latent_variable_models import _networks
from dgm_utils.exercises.latent_variable_models._networks import Step
from dgm_utils.exercises.latent_variable_models._shared import CANCELS, gradient_cases
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    latent_variable_models.score_function_gradient,
    "f(z) times the score of each sample, one estimate of ∂/∂mean E f(z) each, shape (S,)",
    points=2,
    minutes=15,
    difficulty=2,
    axes="_, (), (), S -> S",
    wrt="f mean std noise",
    rtol=CANCELS,
    may_use=(_networks,),
    hints=(
        "∂/∂mean ∫ N(z; mean, std²) f(z) dz: only the density depends on the mean, and "
        "∂N/∂mean = N · ∂log N/∂mean.",
        "log N = −½ (z − mean)²/std² + …, whose derivative with respect to the mean is "
        "(z − mean)/std². With z = mean + std · noise this is noise/std.",
        "`f(…) * noise / std`, with f at `mean + std * noise`; no average over the samples.",
    ),
)


@page.cases
def _(draw):
    # The estimates are differentiable in mean, std, noise and in f's own parameters.
    yield from gradient_cases(page, draw, [-0.5, 0.0, 25.0])
    mean, std = draw.tensor(0.3), draw.tensor(0.8)
    step = Step(0.2).to(draw.device, draw.dtype)
    yield page.case("a step, which has no slope", step, mean, std, draw.normal(7))


page.must_equal(
    "exact",
    "For f(z) = z², mean 1, std 2 and noise −1, 0, 2 the estimates are −½, 0, 25. Yours are not.",
)


@page.must
def be_unbiased(value, average, node_weights):
    """Averaged over the noise, by quadrature, the estimates must give ∂/∂mean E f(z). Yours do
    not.
    """
    return is_exact((node_weights @ value.double().cpu()).to(value.dtype), average)


@page.formula
def _(f, mean, std, noise):
    z = mean + std * noise
    return f(z) * (z - mean) / std**2


page.but(
    "averaged over the samples",
    "You average over the samples; return the estimate of each, shape (S,), so that their "
    "variance can be seen.",
    torch.mean,
)
page.but(
    "divided by the variance",
    "You divide the noise by std²: {got}; (z − mean)/std² is noise/std, {expected}.",
    lambda estimates, std: estimates / std,
)


@page.wrong("not divided by std")
def _(f, mean, std, noise):
    """You multiply f(z) by the noise itself, (z − mean)/std: {got}; the score divides by the
    variance, (z − mean)/std² = noise/std, {expected}.
    """
    return f(mean + std * noise) * noise


page.but(
    "wrong sign",
    "Your score has the sign of ∂/∂z: {got}; ∂/∂mean of −½ (z − mean)²/std² is +(z − mean)/std², "
    "{expected}.",
    torch.neg,
)


@page.wrong("baseline subtracted")
def _(f, mean, std, noise):
    """You subtract the average of f as a baseline: {got}; this estimate is asked without one,
    {expected}.
    """
    value = f(mean + std * noise)
    return (value - value.mean()) * noise / std


@page.wrong("z for z − mean")
def _(f, mean, std, noise):
    """You use z/std² as the score: {got}; the mean is subtracted first, {expected}."""
    z = mean + std * noise
    return f(z) * z / std**2


@page.wrong("f at the noise")
def _(f, mean, std, noise):
    """You evaluate f at the noise: {got}; at z = mean + std · noise it gives {expected}."""
    return f(noise) * noise / std


@page.wrong("pathwise")
def _(f, mean, std, noise):
    """You differentiate f, which is the pathwise estimate: {got}; the score-function estimate
    needs only its values, {expected}.
    """
    z = (mean + std * noise).detach().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z, create_graph=True)[0]


@page.wrong("log-density for its gradient")
def _(f, mean, std, noise):
    """You multiply f(z) by log N(z; mean, std²), the surrogate that is still to be
    differentiated: {got}; its derivative with respect to the mean gives {expected}.
    """
    log_prob = -0.5 * (noise**2 + math.log(2 * math.pi)) - torch.log(std)
    return f(mean + std * noise) * log_prob


@page.wrong("gradient of the density")
def _(f, mean, std, noise):
    """You multiply by the gradient of the density, and the samples are already drawn from it:
    {got}; the gradient of its log gives {expected}.
    """
    density = torch.exp(-0.5 * noise**2) / (std * math.sqrt(2 * math.pi))
    return f(mean + std * noise) * density * noise / std


@page.wrong("derivative with respect to std")
def _(f, mean, std, noise):
    """You use the score of std, (noise² − 1)/std: {got}; the score of the mean gives
    {expected}.
    """
    return f(mean + std * noise) * (noise**2 - 1) / std


@page.wrong("sample detached")
def _(f, mean, std, noise):
    """Your numbers are right, but z is detached; return the estimates differentiable in mean and
    std, and let whoever uses them decide.
    """
    return f((mean + std * noise).detach()) * noise / std
