"""`noisy_encoder`: a sample of the encoder around f(x), and its log-density."""

import math

import torch

from dgm_utils import nf_as_vae
from dgm_utils.exercises.nf_as_vae import _networks
from dgm_utils.exercises.nf_as_vae._networks import Affine, Curved, random_affine, scaling
from dgm_utils.exercises.nf_as_vae._shared import COARSE, LOG_2PI, random_sigma
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    nf_as_vae.noisy_encoder,
    "z = f(x) + σ J_f(x) ε, (B, D), and log q(z|x) = log N(z; f(x), σ² J_f J_fᵀ), (B,)",
    points=4,
    minutes=30,
    difficulty=3,
    axes="B D, _, _, B D -> B D, B",
    wrt="x forward noise",
    rtol=COARSE,
    may_use=(_networks,),
    hints=(
        "J_f(x) ε is the derivative of f at x in the direction ε. Rows of the batch do not meet "
        "inside f, so one directional derivative of the batch gives all rows.",
        "`torch.autograd.functional.jvp(forward, x, noise, create_graph=True)` returns f's two "
        "outputs and their two directional derivatives. z is a linear map of ε, so log q is the "
        "density of ε, less the log of how much that map stretches.",
        "`(mean, log_det), (direction, _) = …`; z is `mean + sigma * direction`; log q is "
        "log N(ε; 0, I), minus D · log σ, minus `log_det`.",
    ),
)


@page.cases
def _(draw):
    # f(x) = (x₁ + x₂, 2x₂): with ε = (0, 1) the sample moves along the second column, (1, 2).
    flow = Affine(draw, [[1.0, 1.0], [0.0, 2.0]], [0.0, 0.0])
    args = (draw.tensor([[1.0, 1.0]]), flow, 0.5, draw.tensor([[0.0, 1.0]]))
    # N(ε; 0, I), less 2 log ½ for σ and log 2 for the determinant.
    log_q = [-LOG_2PI - 0.5 - 2 * math.log(0.5) - math.log(2)]
    yield page.case("f(x) = (x₁ + x₂, 2x₂)", *args, z=[[2.5, 3.0]], log_q=log_q)

    def random(name, b, d, **options):
        x, flow, sigma = 0.8 * draw.normal(b, d), Curved(draw, d), random_sigma(draw, 0.3, 0.8)
        return page.case(name, x, flow, sigma, draw.normal(b, d), **options)

    b, d = draw.integer(4, 5), 3
    yield random("a curved flow", b, d)
    yield random("one data point, one dimension", 1, 1)

    flow, sigma = random_affine(draw, d), random_sigma(draw, 1.5, 2.5)
    x, noise = draw.normal(b, d), draw.normal(b, d)
    matrix = flow.matrix.detach().double().cpu()
    mean = (x.double().cpu() - flow.centre.detach().double().cpu()) @ matrix.T
    z = mean + sigma * noise.double().cpu() @ matrix.T
    q = torch.distributions.MultivariateNormal(mean, sigma**2 * matrix @ matrix.T)
    args = (x, flow, sigma, noise)
    yield page.case("an affine flow, a large σ", *args, z=z, log_q=q.log_prob(z))

    # q(z|x) of one x on a line of z.
    noise = draw.tensor(torch.linspace(-8, 8, 81, dtype=torch.float64))[:, None]
    x = draw.tensor([[0.4]] * 81)
    args = (x, Curved(draw, 1), random_sigma(draw, 0.3, 0.8), noise)
    yield page.case("a line of noise, one dimension", *args, line=True)
    yield random("x without gradient, as in training", b, d, wrt="forward")
    yield random("as many data points as dimensions", d, d)
    args = (draw.normal(1, 60), scaling(draw, 60, 1.5), 1e-6, draw.normal(1, 60))
    yield page.case("60 dimensions, σ = 10⁻⁶", *args, extreme=True)
    args = (draw.normal(d, b).T, Curved(draw, d), 0.4, draw.normal(d, b).T)
    yield page.case("arguments that are not contiguous in memory", *args)


@page.must
def encode_as_known(value, z, log_q):
    """The Jacobian of an affine f is its matrix, and q(z|x) a Gaussian with a covariance that is
    known. Yours is not.
    """
    return is_exact(value[0], z) and is_exact(value[1], log_q)


@page.must
def add_to_one(value, line):
    """Over a line of samples z of one x, q(z|x) must integrate to one. Yours does not: sample and
    density do not belong together.
    """
    z, log_q = value
    total = log_q.double().exp().sum() * (z[1:, 0] - z[:-1, 0]).double().abs().mean()
    return is_exact(total.to(z.dtype), 1.0, double=1e-6, single=1e-3)


@page.formula
def _(x, forward, sigma, noise):
    z, log_det = forward(x)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: forward(x)[0].sum(0), x, create_graph=True
    )
    step = torch.einsum("ibj,bj->bi", jacobian, noise)
    log_noise = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1)
    return z + sigma * step, log_noise - x.shape[1] * math.log(sigma) - log_det


@page.piece
def along_the_noise(x, forward, noise):
    """f(x), log|det J_f| and J_f ε."""
    (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
        forward, x, noise, create_graph=True
    )
    return mean, log_det, direction


@page.piece
def log_normal(noise):
    """log N(ε; 0, I)."""
    return -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1)


@page.wrong("Jacobian left out")
def _(x, forward, sigma, noise):
    """You add σε to f(x) and score that: {got}; the encoder's noise is σ J_f ε, with the
    covariance σ² J_f J_fᵀ, {expected}.
    """
    z, _ = forward(x)
    log_q = log_normal(noise) - x.shape[1] * math.log(sigma)
    return z + sigma * noise, log_q


@page.wrong("Jacobian left out of the sample")
def _(x, forward, sigma, noise):
    """Your log q is that of N(f(x), σ² J_f J_fᵀ), but you draw z = f(x) + σε: {got}; the noise
    goes through the Jacobian, {expected}.
    """
    z, log_det = forward(x)
    log_q = log_normal(noise) - x.shape[1] * math.log(sigma)
    return z + sigma * noise, log_q - log_det


@page.wrong("log-det left out")
def _(x, forward, sigma, noise):
    """You leave log|det J_f| out of log q: {got}; the density of σ J_f ε has it, {expected}."""
    mean, _, direction = along_the_noise(x, forward, noise)
    log_q = log_normal(noise) - x.shape[1] * math.log(sigma)
    return mean + sigma * direction, log_q


@page.wrong("log-det added")
def _(x, forward, sigma, noise):
    """You add log|det J_f| to log q: {got}; J_f stretches the noise and thins its density, so it
    is subtracted, {expected}.
    """
    mean, log_det, direction = along_the_noise(x, forward, noise)
    log_q = log_normal(noise) - x.shape[1] * math.log(sigma)
    return mean + sigma * direction, log_q + log_det


@page.wrong("log-det twice")
def _(x, forward, sigma, noise):
    """You subtract log|det J_f J_fᵀ| whole: {got}; a Gaussian has ½ log|det Σ|, which is
    log|det J_f| once, {expected}.
    """
    mean, log_det, direction = along_the_noise(x, forward, noise)
    log_q = log_normal(noise) - x.shape[1] * math.log(sigma)
    return mean + sigma * direction, log_q - 2 * log_det


@page.wrong("Jacobian transposed")
def _(x, forward, sigma, noise):
    """You multiply with the transposed Jacobian, as backpropagation does: {got}; J_f ε is the
    derivative of f along ε, {expected}.
    """
    start = x if x.requires_grad else x.detach().requires_grad_()
    mean, log_det = forward(start)
    direction = torch.autograd.grad(mean, start, noise, create_graph=True)[0]
    log_q = log_normal(noise) - x.shape[1] * math.log(sigma)
    return mean + sigma * direction, log_q - log_det


@page.wrong("Jacobian's diagonal")
def _(x, forward, sigma, noise):
    """You multiply each coordinate of ε with its own derivative only: {got}; J_f has entries
    beside its diagonal, {expected}.
    """
    start = x if x.requires_grad else x.detach().requires_grad_()
    mean, log_det = forward(start)
    diagonal = torch.stack(
        [
            torch.autograd.grad(mean[:, d].sum(), start, create_graph=True)[0][:, d]
            for d in range(x.shape[1])
        ],
        1,
    )
    log_q = log_normal(noise) - x.shape[1] * math.log(sigma)
    return mean + sigma * diagonal * noise, log_q - log_det


@page.wrong("noise added to the data")
def _(x, forward, sigma, noise):
    """You send x + σε through the flow: {got}; the encoder is Gaussian around f(x), so f is
    replaced by its tangent at x, {expected}.
    """
    _, log_det = forward(x)
    z, _ = forward(x + sigma * noise)
    log_q = log_normal(noise) - x.shape[1] * math.log(sigma)
    return z, log_q - log_det


@page.wrong("log σ once instead of D times")
def _(x, forward, sigma, noise):
    """You subtract log σ once: {got}; the noise is scaled in all D dimensions, {expected}."""
    mean, log_det, direction = along_the_noise(x, forward, noise)
    log_q = log_normal(noise) - math.log(sigma)
    return mean + sigma * direction, log_q - log_det


@page.wrong("density of ε")
def _(x, forward, sigma, noise):
    """You return the log-density of ε: {got}; z has another scale, and log q also subtracts
    D log σ and log|det J_f|, {expected}.
    """
    mean, _, direction = along_the_noise(x, forward, noise)
    return mean + sigma * direction, log_normal(noise)


@page.wrong("σ² for σ")
def _(x, forward, sigma, noise):
    """You scale the noise with the variance σ²: {got}; with the standard deviation σ it is
    {expected}.
    """
    mean, log_det, direction = along_the_noise(x, forward, noise)
    log_q = log_normal(noise) - 2 * x.shape[1] * math.log(sigma)
    return mean + sigma**2 * direction, log_q - log_det


@page.wrong("½ log 2π left out")
def _(x, forward, sigma, noise):
    """You leave ½ log 2π out of log q: {got}; it stands there once for each dimension,
    {expected}.
    """
    mean, log_det, direction = along_the_noise(x, forward, noise)
    log_q = -0.5 * (noise**2).sum(1) - x.shape[1] * math.log(sigma) - log_det
    return mean + sigma * direction, log_q


@page.wrong("Jacobian without gradient")
def _(x, forward, sigma, noise):
    """Your numbers are right, but J_f ε is cut off from the graph, so that the flow does not
    learn how its Jacobian moves z; build it with `create_graph=True`.
    """
    mean, log_det = forward(x)
    direction = torch.autograd.functional.jvp(lambda v: forward(v)[0], x, noise)[1].detach()
    log_q = log_normal(noise) - x.shape[1] * math.log(sigma)
    return mean + sigma * direction, log_q - log_det
