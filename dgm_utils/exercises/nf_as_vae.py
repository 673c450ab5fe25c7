"""What is asked in the assignment `nf_as_vae`: cases, exact answers, wrong answers, hints.

The wrong implementations use `torch`, `F`, `math` and `itertools` and nothing else of this module,
because their sources are pasted into notebooks that have the same imports.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from dgm_utils import nf_as_vae
from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import Exercise, Misconceptions, Property
from nbjudge.asking.statements import is_exact, is_fact
from nbjudge.check import Checker
from nbjudge.inside.case import Case

# The flows and bases handed to the functions are defined here.
_MAY_USE = ("dgm_utils.exercises.nf_as_vae",)
# A density of N(f(x), σ²JJᵀ) by Cholesky or of a residual divided by σ is a right answer, and each
# loses a few digits of float32.
_COARSE = {torch.float64: 1e-8, torch.float32: 1e-3}
_LOG_2PI = math.log(2 * math.pi)


# --- Flows and bases ------------------------------------------------------------------------------


class Affine(nn.Module):
    """The flow f(x) = W (x − c), whose Jacobian is W everywhere."""

    def __init__(self, draw, matrix, centre):
        super().__init__()
        self.matrix = nn.Parameter(draw.tensor(matrix))
        self.centre = nn.Parameter(draw.tensor(centre))

    def forward(self, x):
        """Data → base, `(..., D) → (..., D), (...)`."""
        log_det = torch.linalg.slogdet(self.matrix).logabsdet
        return (x - self.centre) @ self.matrix.T, x.new_zeros(x.shape[:-1]) + log_det

    def inverse(self, z):
        """Base → data, the value alone."""
        return z @ torch.linalg.inv(self.matrix).T + self.centre


class Curved(nn.Module):
    """An affine map, 2 sinh(y/2) of each coordinate, then a coupling: a full Jacobian."""

    def __init__(self, draw, num_dims):
        super().__init__()
        self.affine = _affine(draw, num_dims)
        self.split = num_dims // 2
        outputs = 2 * (num_dims - self.split)
        slope = draw.normal(self.split, outputs) / max(1, self.split) ** 0.5
        self.slope = nn.Parameter(slope)
        self.offset = nn.Parameter(draw.normal(outputs) / 2)

    def forward(self, x):
        """Data → base, `(..., D) → (..., D), (...)`."""
        y, log_det = self.affine(x)
        y, log_det = 2 * torch.sinh(y / 2), log_det + torch.log(torch.cosh(y / 2)).sum(-1)
        first, rest = y[..., : self.split], y[..., self.split :]
        shift, log_scale = self._coupling(first)
        z = torch.cat([first, rest * torch.exp(log_scale) + shift], -1)
        return z, log_det + log_scale.sum(-1)

    def inverse(self, z):
        """Base → data, the value alone."""
        first, rest = z[..., : self.split], z[..., self.split :]
        shift, log_scale = self._coupling(first)
        y = torch.cat([first, (rest - shift) * torch.exp(-log_scale)], -1)
        return self.affine.inverse(2 * torch.asinh(y / 2))

    def _coupling(self, first):
        shift, log_scale = torch.tanh(first @ self.slope + self.offset).chunk(2, -1)
        return shift, log_scale / 2


class Inverse(nn.Module):
    """The direction base → data of a flow, as a module of its own."""

    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self, z):
        """Base → data, the value alone."""
        return self.flow.inverse(z)


class Gaussian(nn.Module):
    """The log-density of independent Gaussians with parameters of their own."""

    def __init__(self, mean, log_std):
        super().__init__()
        self.mean, self.log_std = nn.Parameter(mean), nn.Parameter(log_std)

    def forward(self, z):
        """Log-density in nats, `(..., D) → (...)`."""
        scaled = (z - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * scaled**2 - self.log_std - 0.5 * _LOG_2PI).sum(-1)


class Logistic(nn.Module):
    """The log-density of independent logistic variables with parameters of their own."""

    def __init__(self, mean, log_scale):
        super().__init__()
        self.mean, self.log_scale = nn.Parameter(mean), nn.Parameter(log_scale)

    def forward(self, z):
        """Log-density in nats, `(..., D) → (...)`."""
        scaled = (z - self.mean) * torch.exp(-self.log_scale)
        log_sides = F.logsigmoid(scaled) + F.logsigmoid(-scaled)
        return (log_sides - self.log_scale).sum(-1)


def _affine(draw, num_dims):
    """W with singular values between 0.6 and 1.6, its determinant of either sign."""
    left, right = (torch.linalg.qr(draw.normal(num_dims, num_dims).double())[0] for _ in range(2))
    values = 0.6 + draw.uniform(num_dims).double()
    return Affine(draw, left * values @ right, draw.normal(num_dims) / 2)


def _scaling(draw, num_dims, factor):
    """f(x) = factor · x."""
    return Affine(draw, factor * torch.eye(num_dims, dtype=torch.float64), [0.0] * num_dims)


def _standard(draw, num_dims):
    return Gaussian(draw.tensor(torch.zeros(num_dims)), draw.tensor(torch.zeros(num_dims)))


def _gaussian(draw, num_dims):
    return Gaussian(draw.normal(num_dims) / 2, draw.normal(num_dims) / 4)


def _logistic(draw, num_dims):
    return Logistic(draw.normal(num_dims) / 2, draw.normal(num_dims) / 4)


def _sigma(draw, low, high):
    return round(low + (high - low) * float(draw.uniform()), 3)


# --- Properties -----------------------------------------------------------------------------------


def _adds_to_one(case, value):
    """The density on a grid of evenly spaced points, where the case knows their distance."""
    if "cell" not in case.facts:
        return True
    total = value.double().exp().sum() * case.facts["cell"]
    return is_exact(total.to(value.dtype), 1.0, double=1e-6, single=1e-3)


# --- flow_log_likelihood --------------------------------------------------------------------------


def _likelihood_cases(draw):
    # z = 2x with z ~ N(1, 1): x ~ N(½, ¼).
    exact = [math.log(2) - 0.5 * _LOG_2PI, math.log(2) - 0.5 * _LOG_2PI - 2]
    base = Gaussian(draw.tensor([1.0]), draw.tensor([0.0]))
    args = (draw.tensor([[0.5], [1.5]]), _scaling(draw, 1, 2.0), base)
    yield Case("the flow z = 2x", args, (0, 1, 2), {"log_px": exact})

    def random(name, b, d, base):
        args = (0.8 * draw.normal(b, d), Curved(draw, d), base(draw, d))
        return Case(name, args, (0, 1, 2))

    b, d = draw.integer(5, 6), draw.integer(3, 4)
    yield random("a curved flow, a Gaussian base with parameters", b, d, _gaussian)
    yield random("a logistic base", b, d, _logistic)
    args = (draw.normal(b, d), _scaling(draw, d, 0.5), _gaussian(draw, d))
    yield Case("a flow that shrinks", args, (0, 1, 2))
    x = draw.tensor(torch.linspace(-14, 14, 201, dtype=torch.float64))[:, None]
    args = (x, Curved(draw, 1), _gaussian(draw, 1))
    yield Case("a line of data, one dimension", args, (0, 1, 2), {"cell": 28 / 200})
    yield random("one data point, one dimension", 1, 1, _logistic)
    yield random("as many data points as dimensions", b, b, _gaussian)
    yield random("300 dimensions", 2, 300, _gaussian)
    args = (draw.normal(b, d) * 100, _affine(draw, d), _gaussian(draw, d))
    yield Case("data far from the centre", args, (0, 1, 2))
    args = (draw.normal(d, b).T, Curved(draw, d), _logistic(draw, d))
    yield Case("data that are not contiguous in memory", args, (0, 1, 2))


flow_log_likelihood_wrong = Misconceptions()


@flow_log_likelihood_wrong("log-det subtracted")
def _(x, forward, base_log_prob):
    """You subtract log|det|: {got}; where f stretches, the data are denser than the base, so the
    log|det| of data → base is added, {expected}.
    """
    z, log_det = forward(x)
    return base_log_prob(z) - log_det


@flow_log_likelihood_wrong("log-det left out")
def _(x, forward, base_log_prob):
    """You return the density of z, as if f did not change volumes: {got}; with log|det ∂f/∂x| it
    is {expected}.
    """
    z, _ = forward(x)
    return base_log_prob(z)


@flow_log_likelihood_wrong("base at x")
def _(x, forward, base_log_prob):
    """You evaluate the base density at x: {got}; the base is a density of z = f(x), which gives
    {expected}.
    """
    _, log_det = forward(x)
    return base_log_prob(x) + log_det


@flow_log_likelihood_wrong("log-det once for each dimension")
def _(x, forward, base_log_prob):
    """You add log|det| once for each dimension: {got}; the determinant is of the whole Jacobian
    and counts once, {expected}.
    """
    z, log_det = forward(x)
    return base_log_prob(z) + x.shape[1] * log_det


@flow_log_likelihood_wrong("log-det averaged over the batch")
def _(x, forward, base_log_prob):
    """You average log|det| over the batch: {got}; each data point has its own Jacobian,
    {expected}.
    """
    z, log_det = forward(x)
    return base_log_prob(z) + log_det.mean()


@flow_log_likelihood_wrong("standard normal for the base")
def _(x, forward, base_log_prob):
    """You take a standard normal for the base: {got}; with the `base_log_prob` that was passed it
    is {expected}.
    """
    z, log_det = forward(x)
    return -0.5 * (z**2 + math.log(2 * math.pi)).sum(1) + log_det


@flow_log_likelihood_wrong("log taken twice")
def _(x, forward, base_log_prob):
    """You take the log of `log_det`: {got}; it is a log already, {expected}."""
    z, log_det = forward(x)
    return base_log_prob(z) + torch.log(torch.abs(log_det))


@flow_log_likelihood_wrong("absolute value of log-det")
def _(x, forward, base_log_prob):
    """You take the absolute value of `log_det`: {got}; the bars belong to the determinant, and
    its log is negative where f shrinks, {expected}.
    """
    z, log_det = forward(x)
    return base_log_prob(z) + log_det.abs()


@flow_log_likelihood_wrong("average over the batch")
def _(x, forward, base_log_prob):
    """You average over the batch; each data point has its own log-likelihood, shape (B,)."""
    z, log_det = forward(x)
    return (base_log_prob(z) + log_det).mean()


@flow_log_likelihood_wrong("log-det detached")
def _(x, forward, base_log_prob):
    """Your numbers are right, but you detach log|det|: trained like that, the flow would shrink
    all data to the base's mode.
    """
    z, log_det = forward(x)
    return base_log_prob(z) + log_det.detach()


_flow_log_likelihood = Exercise(
    name="flow_log_likelihood",
    question="log p(x) of a flow by the change of variables, shape (B,)",
    reference=nf_as_vae.flow_log_likelihood,
    cases=_likelihood_cases,
    properties=(
        Property(
            "exact",
            "If z = 2x has the mean 1 and the standard deviation 1, x has ½ and ½, and log p(½) = "
            "log 2 − ½ log 2π. Yours is not.",
            is_fact("log_px"),
        ),
        Property(
            "adds to one",
            "Over a line of data the density must integrate to one. Yours does not.",
            _adds_to_one,
        ),
    ),
    misconceptions=tuple(flow_log_likelihood_wrong),
    may_use=_MAY_USE,
    hints=(
        "`forward(x)` gives the point z = f(x) in the base and how much f stretches volumes "
        "there, log|det ∂f/∂x|.",
        "p(x) dx = p(z) dz, so p(x) = p(f(x)) · |det ∂f/∂x|. Take logs.",
        "`z, log_det = forward(x)`, then `base_log_prob(z)` and `log_det` in one sum.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


# --- planar_transform -----------------------------------------------------------------------------


def _planar_cases(draw):
    # w·u = 0, so û = u + (log 2 − 1) w/4; tanh(atanh ½) = ½.
    half = math.atanh(0.5)
    args = [[0.0, 0.0], [half / 2, 2.0]], [0.0, 1.0], [2.0, 0.0], 0.0
    along = math.log(2) - 1
    facts = {
        "moved": [[0.0, 0.0], [half / 2 + along / 4, 2.5]],
        "log_det": [math.log(math.log(2)), math.log1p(0.75 * along)],
    }
    yield Case("u across w", tuple(draw.tensor(arg) for arg in args), (0, 1, 2, 3), facts)

    # One dimension, and u against w: without the constraint the map folds.
    w = 0.8 + 0.4 * float(draw.uniform())
    line = torch.linspace(-20, 20, 401, dtype=torch.float64)[:, None]
    args = tuple(draw.tensor(arg) for arg in (line, [-3 / w], [w], 0.5 * float(draw.normal())))
    yield Case("a line of z, w·u = −3", args, (0, 1, 2, 3), {"cell": 40 / 400})

    def random(name, b, latents):
        w = draw.normal(latents)
        w = w * (0.7 + float(draw.uniform())) / w.norm()
        u = draw.normal(latents)
        u = u * min(1.0, 4 / float(u.norm()))
        return Case(name, (draw.normal(b, latents), u, w, draw.normal()), (0, 1, 2, 3))

    def stretched(along, at):
        """Arguments with this w·u, and points where w·z + b has these values."""
        u, w, b = draw.normal(3), draw.normal(3), draw.normal()
        w = 1.3 * w / w.norm()
        unit = w / (w @ w)
        u = u + (along - w @ u) * unit
        z = draw.normal(len(at), 3)
        z = z + (draw.tensor(at) - b - z @ w)[:, None] * unit
        return z, u, w, b

    b, latents = draw.integer(5, 6), draw.integer(3, 4)
    yield random("several latents", b, latents)
    yield random("one point, one latent", 1, 1)
    yield random("as many points as latents", b, b)
    yield random("one point", 1, latents)
    yield random("300 latents", 2, 300)
    args = stretched(-10.0, [0.3, -0.4, 1.0])
    yield Case("w·u = −10, a map that is nearly flat", args, (0, 1, 2, 3))
    args = stretched(1000.0, [0.3, -0.4, 1.0])
    yield Case("w·u = 1000", args, (0, 1, 2, 3))
    args = stretched(-0.5, [100.0, -200.0, 0.5])
    yield Case("points where tanh is flat", args, (0, 1, 2, 3))
    z, u, w, b = stretched(-1.5, [0.5, 1.0, -0.2, 0.1])
    args = (z.T.contiguous().T, torch.stack([u, w], 1)[:, 0], w, b)
    yield Case("arguments that are not contiguous in memory", args, (0, 1, 2, 3))


def _moves_as_known(case, value):
    if "moved" not in case.facts:
        return True
    return is_exact(value[0], case.facts["moved"]) and is_exact(value[1], case.facts["log_det"])


def _stretches_as_it_moves(case, value):
    """In one dimension the integral of dz'/dz over a line is the difference of its ends."""
    if "cell" not in case.facts:
        return True
    moved, log_det = value
    slope = log_det.double().exp()
    total = (slope.sum() - 0.5 * (slope[0] + slope[-1])) * case.facts["cell"]
    ends = (moved[-1, 0] - moved[0, 0]).item()
    return is_exact(total.to(moved.dtype), ends, double=1e-6, single=1e-3)


def _never_turns_back(case, value):
    return "cell" not in case.facts or bool((value[0].diff(dim=0) > 0).all())


planar_transform_wrong = Misconceptions()


@planar_transform_wrong("u without its constraint")
def _(z, u, w, b):
    """You use u as it is: {got}; where w·u < −1 the map folds and has no inverse, so û takes its
    place, {expected}.
    """
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u, torch.log(torch.abs(1 + (1 - h**2) * (w @ u)))


@planar_transform_wrong("constraint only where it is broken")
def _(z, u, w, b):
    """You change u only where w·u < −1: {got}; û takes its place always, so that the map depends
    smoothly on u, {expected}.
    """
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    u_hat = torch.where(along < -1, u_hat, u)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)))


@planar_transform_wrong("u in the determinant")
def _(z, u, w, b):
    """You move z with û and take the determinant with u: {got}; it is that of the map you
    applied, 1 + (1 − tanh²) w·û, {expected}.
    """
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * along))


@planar_transform_wrong("‖w‖ for ‖w‖²")
def _(z, u, w, b):
    """You divide by ‖w‖: {got}; w/‖w‖² is what makes w·û = softplus(w·u) − 1, {expected}."""
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / torch.norm(w)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)))


@planar_transform_wrong("not divided by ‖w‖²")
def _(z, u, w, b):
    """You do not divide w by ‖w‖²: {got}; divided, w·û is softplus(w·u) − 1 and the result
    {expected}.
    """
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)))


@planar_transform_wrong("softplus without −1")
def _(z, u, w, b):
    """You leave the −1 out, so that w·û is always positive and the map can only stretch: {got};
    with softplus(w·u) − 1 it may shrink too, {expected}.
    """
    along = w @ u
    u_hat = u + (F.softplus(along) - along) * w / (w @ w)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)))


@planar_transform_wrong("derivative 1 − tanh")
def _(z, u, w, b):
    """You take 1 − tanh for the derivative of tanh: {got}; it is 1 − tanh², {expected}."""
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h) * (w @ u_hat)))


@planar_transform_wrong("derivative left out")
def _(z, u, w, b):
    """You leave the derivative of tanh out of the determinant: {got}; det(I + û tanh' wᵀ) =
    1 + tanh' w·û, {expected}.
    """
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + h * (w @ u_hat)))


@planar_transform_wrong("identity left out of the Jacobian")
def _(z, u, w, b):
    """You forget that z itself is part of z': {got}; its derivative is the identity, and the
    determinant 1 + tanh' w·û, {expected}.
    """
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs((1 - h**2) * (w @ u_hat)))


@planar_transform_wrong("log-det of the inverse")
def _(z, u, w, b):
    """You return −log|det|, that of the way back: {got}; asked is the map that was applied,
    {expected}.
    """
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, -torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)))


@planar_transform_wrong("determinant for its log")
def _(z, u, w, b):
    """You return the determinant: {got}; its log is {expected}."""
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.abs(1 + (1 - h**2) * (w @ u_hat))


@planar_transform_wrong("epsilon in the log")
def _(z, u, w, b):
    """You add a small number to the determinant: {got}; û already keeps it positive, and without
    the number the log is {expected}.
    """
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)) + 1e-4)


@planar_transform_wrong("softplus that overflows")
def _(z, u, w, b):
    """You write softplus as log(1 + eˣ), and e¹⁰⁰⁰ is infinite in floating point: {got};
    `F.softplus` gives {expected}.
    """
    along = w @ u
    u_hat = u + (torch.log(1 + torch.exp(along)) - 1 - along) * w / (w @ w)
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)))


@planar_transform_wrong("û without gradient")
def _(z, u, w, b):
    """Your numbers are right, but û is computed without gradient (`.data`, detach or no_grad), so
    that u and w are trained as if there were no constraint.
    """
    with torch.no_grad():
        along = w @ u
        change = (F.softplus(along) - 1 - along) * w / (w @ w)
    u_hat = u + change
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)))


_planar_transform = Exercise(
    name="planar_transform",
    question="z' = z + û tanh(w·z + b), (B, L), and log|det ∂z'/∂z|, (B,)",
    reference=nf_as_vae.planar_transform,
    cases=_planar_cases,
    # 1 + (1 − tanh²) w·û is a right answer and cancels where the map is nearly flat.
    rtol=_COARSE,
    properties=(
        Property(
            "exact",
            "With w·u = 0 and ‖w‖ = 2, û = u + (log 2 − 1) w/4: at w·z + b = 0 nothing moves and "
            "the log|det| is log log 2. Yours is not.",
            _moves_as_known,
        ),
        Property(
            "rises",
            "In one dimension z' must rise with z, or it cannot be inverted. Yours turns back.",
            _never_turns_back,
        ),
        Property(
            "its own derivative",
            "In one dimension |det| is dz'/dz, so its integral over a line of z must be the "
            "difference of z' at the ends. Yours is not: value and log-det do not belong together.",
            _stretches_as_it_moves,
        ),
    ),
    misconceptions=tuple(planar_transform_wrong),
    hints=(
        "First û, then tanh(w·z + b) for every point, then z' and the determinant. w·z is a number "
        "for each point: `z @ w`.",
        "The Jacobian is I + û (1 − tanh²) wᵀ, and det(I + a bᵀ) = 1 + b·a. Use û in both results.",
        "`u_hat = u + (F.softplus(w @ u) - 1 - w @ u) * w / (w @ w)`, `h = torch.tanh(z @ w + b)`; "
        "z' adds `h[:, None] * u_hat`, the log-det is the log of `1 + (1 - h**2) * (w @ u_hat)`.",
    ),
    points=3,
    minutes=25,
    difficulty=2,
)


# --- flow_posterior_log_prob ----------------------------------------------------------------------


def _posterior_cases(draw):
    z0 = torch.tensor([0.0, 1.0], dtype=torch.float64)
    log_q0 = -0.5 * (z0**2 + _LOG_2PI)
    log_dets = [draw.tensor([math.log(2)] * 2) for _ in range(3)]
    # N(0, 1) stretched by 2 three times is N(0, 8²).
    exact = -0.5 * (z0**2 + _LOG_2PI) - math.log(8)
    facts = {"log_qk": exact}
    yield Case("three layers z → 2z", (draw.tensor(log_q0), log_dets), (0, 1), facts)

    def random(name, layers, b):
        log_dets = [draw.normal(b) for _ in range(layers)]
        return Case(name, (draw.normal(b) - 3, log_dets), (0, 1))

    layers, b = draw.integer(3, 4), draw.integer(5, 7)
    yield random("several layers", layers, b)
    yield random("one layer", 1, b)
    yield random("one data point", layers, 1)
    yield random("as many layers as data points", b, b)
    yield random("80 layers", 80, 2)
    scale = draw.tensor([0.0, -1e4, 1e4])
    log_dets = [draw.normal(3) - scale / layers for _ in range(layers)]
    yield Case("log-dets 10⁴ apart", (draw.normal(3), log_dets), (0, 1))
    columns = draw.normal(b, layers + 1)
    args = (columns[:, 0], list(columns[:, 1:].unbind(1)))
    yield Case("columns of one matrix", args, (0, 1))


flow_posterior_log_prob_wrong = Misconceptions()


@flow_posterior_log_prob_wrong("log-dets added")
def _(log_q0, log_dets):
    """You add the log-dets: {got}; a layer base → data that stretches thins the density, so they
    are subtracted, {expected}.
    """
    return log_q0 + sum(log_dets)


@flow_posterior_log_prob_wrong("last layer only")
def _(log_q0, log_dets):
    """You use the last layer's log-det only: {got}; every layer changes volumes, {expected}."""
    return log_q0 - log_dets[-1]


@flow_posterior_log_prob_wrong("last layer left out")
def _(log_q0, log_dets):
    """You leave the last layer out: {got}; that is the density before it, and that of z_K is
    {expected}.
    """
    return log_q0 - sum(log_dets[:-1])


@flow_posterior_log_prob_wrong("average over the layers")
def _(log_q0, log_dets):
    """You average over the layers: {got}; determinants multiply, so their logs add up,
    {expected}.
    """
    return log_q0 - sum(log_dets) / len(log_dets)


@flow_posterior_log_prob_wrong("sum over the batch")
def _(log_q0, log_dets):
    """You sum the log-dets over the batch as well: {got}; each data point keeps its own,
    {expected}.
    """
    return log_q0 - torch.stack(log_dets).sum()


@flow_posterior_log_prob_wrong("q0 left out")
def _(log_q0, log_dets):
    """You leave log q(z_0) out: {got}; the layers only change it, {expected}."""
    return -sum(log_dets)


@flow_posterior_log_prob_wrong("determinants for their logs")
def _(log_q0, log_dets):
    """You subtract the determinants themselves: {got}; with their logs it is {expected}."""
    return log_q0 - sum(torch.exp(log_det) for log_det in log_dets)


@flow_posterior_log_prob_wrong("log of the summed determinants")
def _(log_q0, log_dets):
    """You take the log of the sum of the determinants: {got}; they multiply, so their logs are
    summed, {expected}.
    """
    return log_q0 - torch.logsumexp(torch.stack(log_dets), 0)


@flow_posterior_log_prob_wrong("determinants multiplied first")
def _(log_q0, log_dets):
    """You multiply the determinants and take the log at the end, and e^(−10⁴) is 0 in floating
    point: {got}; add the logs, {expected}.
    """
    return log_q0 - torch.log(torch.exp(torch.stack(log_dets)).prod(0))


@flow_posterior_log_prob_wrong("log-dets detached")
def _(log_q0, log_dets):
    """Your numbers are right, but you detach the log-dets, so that the layers learn nothing from
    the density they make.
    """
    return log_q0 - sum(log_det.detach() for log_det in log_dets)


_flow_posterior_log_prob = Exercise(
    name="flow_posterior_log_prob",
    question="log q_K(z_K) from log q(z_0) and the log-det of each layer, shape (B,)",
    reference=nf_as_vae.flow_posterior_log_prob,
    cases=_posterior_cases,
    properties=(
        Property(
            "exact",
            "N(0, 1) stretched by 2 three times is N(0, 8²). Yours is not.",
            is_fact("log_qk"),
        ),
    ),
    misconceptions=tuple(flow_posterior_log_prob_wrong),
    hints=(
        "One layer: q_1(z_1) |dz_1| = q_0(z_0) |dz_0|.",
        "So log q_1(z_1) = log q_0(z_0) − log|det ∂z_1/∂z_0|, and the same again for each layer.",
        "`log_q0` and `sum(log_dets)`, with the right sign between them.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


# --- flow_elbo ------------------------------------------------------------------------------------


def _flow_elbo_cases(draw):
    args = (draw.tensor([-5.0]), draw.tensor([-1.0]), [draw.tensor([0.5]), draw.tensor([0.25])])
    yield Case("two layers, one data point", args, (0, 1, 2), {"elbo": [-3.25]})

    def random(name, layers, b):
        log_dets = [draw.normal(b) for _ in range(layers)]
        return Case(name, (draw.normal(b) - 90, draw.normal(b) - 3, log_dets), (0, 1, 2))

    layers, b = draw.integer(3, 4), draw.integer(5, 7)
    yield random("several layers", layers, b)
    yield random("one layer", 1, b)
    yield random("as many layers as data points", b, b)
    # When q_K is the posterior, p(x, z_K)/q_K(z_K) is p(x) for every sample.
    log_px, log_q0 = draw.normal(b) - 50, draw.normal(b) - 2
    log_dets = [draw.normal(b) for _ in range(layers)]
    log_joint = log_px + log_q0 - torch.stack(log_dets).sum(0)
    facts = {"log_px": log_px.double().cpu()}
    yield Case("q_K is the posterior", (log_joint, log_q0, log_dets), (0, 1, 2), facts)
    scale = draw.tensor([0.0, -1e4, 1e4])
    args = (draw.normal(3) + scale, draw.normal(3), [draw.normal(3) for _ in range(layers)])
    yield Case("data points 10⁴ apart", args, (0, 1, 2))
    columns = draw.normal(b, layers + 2)
    args = (columns[:, 0], columns[:, 1], list(columns[:, 2:].unbind(1)))
    yield Case("columns of one matrix", args, (0, 1, 2))


flow_elbo_wrong = Misconceptions()


@flow_elbo_wrong("log-dets subtracted")
def _(log_joint, log_q0, log_dets):
    """You subtract the log-dets from the ELBO: {got}; log q_K contains −Σ log|det|, and the ELBO
    subtracts log q_K, so they are added, {expected}.
    """
    return log_joint - log_q0 - sum(log_dets)


@flow_elbo_wrong("log-dets left out")
def _(log_joint, log_q0, log_dets):
    """You subtract the density of z_0 from the joint of z_K: {got}; the sample is z_K, with
    log q_K = log q_0 − Σ log|det|, {expected}.
    """
    return log_joint - log_q0


@flow_elbo_wrong("q0 left out")
def _(log_joint, log_q0, log_dets):
    """You leave log q(z_0) out: {got}; log q_K has it beside the log-dets, {expected}."""
    return log_joint + sum(log_dets)


@flow_elbo_wrong("log q added")
def _(log_joint, log_q0, log_dets):
    """You add log q_K: {got}; the ELBO is E log p(x, z) − E log q(z), {expected}."""
    return log_joint + log_q0 - sum(log_dets)


@flow_elbo_wrong("loss")
def _(log_joint, log_q0, log_dets):
    """You return the negative ELBO, a loss: {got}; the bound itself is {expected}."""
    return log_q0 - sum(log_dets) - log_joint


@flow_elbo_wrong("average over the layers")
def _(log_joint, log_q0, log_dets):
    """You average the log-dets over the layers: {got}; they add up, {expected}."""
    return log_joint - log_q0 + sum(log_dets) / len(log_dets)


@flow_elbo_wrong("last layer only")
def _(log_joint, log_q0, log_dets):
    """You use the last layer's log-det only: {got}; every layer changes volumes, {expected}."""
    return log_joint - log_q0 + log_dets[-1]


@flow_elbo_wrong("average over the batch")
def _(log_joint, log_q0, log_dets):
    """You average over the batch; each data point has its own ELBO, shape (B,)."""
    return (log_joint - log_q0 + sum(log_dets)).mean()


@flow_elbo_wrong("log q detached")
def _(log_joint, log_q0, log_dets):
    """Your numbers are right, but you detach log q_K, so that nothing keeps the posterior from
    shrinking to a point.
    """
    return log_joint - (log_q0 - sum(log_dets)).detach()


_flow_elbo = Exercise(
    name="flow_elbo",
    question="the one-sample ELBO log p(x, z_K) − log q_K(z_K|x) with a flow posterior, shape (B,)",
    reference=nf_as_vae.flow_elbo,
    cases=_flow_elbo_cases,
    properties=(
        Property(
            "exact",
            "With log p(x, z_K) = −5, log q(z_0) = −1 and log-dets ½ and ¼, log q_K is −1.75 and "
            "the ELBO −3.25. Yours is not.",
            is_fact("elbo"),
        ),
        Property(
            "q_K is the posterior",
            "Where q_K is the posterior, every sample's bound is log p(x). Yours is not.",
            is_fact("log_px"),
        ),
    ),
    misconceptions=tuple(flow_elbo_wrong),
    hints=(
        "The ELBO of one sample is log p(x, z) − log q(z|x), at the sample z = z_K.",
        "log q_K(z_K) = log q(z_0) − Σ log|det|: mind the sign when you subtract it.",
        "`log_joint - (log_q0 - …)`, with the sum of the log-dets.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


# --- noisy_decoder_log_prob -----------------------------------------------------------------------


def _decoder_cases(draw):
    flow = _scaling(draw, 2, 0.5)
    z = draw.tensor([[0.5, -1.0], [0.5, -1.0]])
    x = draw.tensor([[1.0, -2.0], [1.5, -2.0]])
    # g(z) = 2z = (1, −2): the first point is met, the second is one σ off.
    met = -2 * math.log(0.5) - _LOG_2PI
    args = (x, z, Inverse(flow), 0.5)
    yield Case("x = g(z), and one σ beside it", args, (0, 1, 2), {"log_px": [met, met - 0.5]})

    def random(name, b, d, sigma):
        args = (draw.normal(b, d), draw.normal(b, d), Inverse(Curved(draw, d)), sigma)
        return Case(name, args, (0, 1, 2))

    b, d = draw.integer(5, 6), draw.integer(3, 4)
    yield random("a curved flow", b, d, _sigma(draw, 0.3, 0.8))
    yield random("a large σ", b, d, _sigma(draw, 3.0, 5.0))
    yield random("one data point, one dimension", 1, 1, _sigma(draw, 0.3, 0.8))
    x = draw.tensor(torch.linspace(-9, 9, 181, dtype=torch.float64))[:, None]
    z = draw.tensor([[0.3]] * 181)
    args = (x, z, Inverse(Curved(draw, 1)), _sigma(draw, 0.5, 0.7))
    yield Case("a line of data", args, (0, 1, 2), {"cell": 18 / 180})
    yield random("as many data points as dimensions", b, b, _sigma(draw, 0.3, 0.8))
    yield random("σ = 10⁻³, far from g(z)", b, d, 1e-3)
    yield random("300 dimensions", 2, 300, 0.05)
    args = (draw.normal(d, b).T, draw.normal(d, b).T, Inverse(Curved(draw, d)), 0.4)
    yield Case("arguments that are not contiguous in memory", args, (0, 1, 2))


noisy_decoder_log_prob_wrong = Misconceptions()


@noisy_decoder_log_prob_wrong("σ taken for the variance")
def _(x, z, inverse, sigma):
    """You take σ for the variance: {got}; σ is the standard deviation and σ² the variance,
    {expected}.
    """
    squares = (x - inverse(z)) ** 2
    return -0.5 * (squares / sigma + math.log(2 * math.pi * sigma)).sum(1)


@noisy_decoder_log_prob_wrong("σ² taken for the standard deviation")
def _(x, z, inverse, sigma):
    """You pass σ² where a standard deviation is asked: {got}; with σ it is {expected}."""
    scaled = (x - inverse(z)) / sigma**2
    return -0.5 * (scaled**2 + math.log(2 * math.pi)).sum(1) - 2 * x.shape[1] * math.log(sigma)


@noisy_decoder_log_prob_wrong("½ missing")
def _(x, z, inverse, sigma):
    """You leave the ½ in front of the squares out: {got}; with −½ ((x − g(z))/σ)² it is
    {expected}.
    """
    scaled = (x - inverse(z)) / sigma
    constant = math.log(sigma) + 0.5 * math.log(2 * math.pi)
    return -(scaled**2).sum(1) - x.shape[1] * constant


@noisy_decoder_log_prob_wrong("squared error only")
def _(x, z, inverse, sigma):
    """You return the scaled squared error alone: {got}; a density has its normalizing constant,
    which depends on σ, {expected}.
    """
    return -0.5 * (((x - inverse(z)) / sigma) ** 2).sum(1)


@noisy_decoder_log_prob_wrong("½ log 2π left out")
def _(x, z, inverse, sigma):
    """You leave ½ log 2π out: {got}; it stands there once for each dimension, {expected}."""
    scaled = (x - inverse(z)) / sigma
    return -0.5 * (scaled**2).sum(1) - x.shape[1] * math.log(sigma)


@noisy_decoder_log_prob_wrong("constant once instead of D times")
def _(x, z, inverse, sigma):
    """You subtract log σ + ½ log 2π once: {got}; each of the D dimensions has its own,
    {expected}.
    """
    scaled = (x - inverse(z)) / sigma
    return -0.5 * (scaled**2).sum(1) - math.log(sigma) - 0.5 * math.log(2 * math.pi)


@noisy_decoder_log_prob_wrong("log σ with the wrong sign")
def _(x, z, inverse, sigma):
    """You add log σ: {got}; the narrower the Gaussian the higher its peak, so it is subtracted,
    {expected}.
    """
    scaled = (x - inverse(z)) / sigma
    constant = 0.5 * math.log(2 * math.pi) - math.log(sigma)
    return -0.5 * (scaled**2).sum(1) - x.shape[1] * constant


@noisy_decoder_log_prob_wrong("mean over the dimensions")
def _(x, z, inverse, sigma):
    """You average over the dimensions: {got}; they are independent given z, so their logs add
    up, {expected}.
    """
    scaled = (x - inverse(z)) / sigma
    return -0.5 * (scaled**2 + math.log(2 * math.pi)).mean(1) - math.log(sigma)


@noisy_decoder_log_prob_wrong("compared with z")
def _(x, z, inverse, sigma):
    """You compare x with z itself: {got}; the decoder's mean is g(z), `inverse(z)`,
    {expected}.
    """
    scaled = (x - z) / sigma
    return -0.5 * (scaled**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)


@noisy_decoder_log_prob_wrong("no sum over the dimensions")
def _(x, z, inverse, sigma):
    """You keep the dimensions apart; the log-density of x is their sum, one number for each data
    point, shape (B,).
    """
    scaled = (x - inverse(z)) / sigma
    return -0.5 * (scaled**2 + math.log(2 * math.pi)) - math.log(sigma)


@noisy_decoder_log_prob_wrong("g(z) detached")
def _(x, z, inverse, sigma):
    """Your numbers are right, but you detach g(z), so that neither z nor the flow learns from the
    reconstruction.
    """
    scaled = (x - inverse(z).detach()) / sigma
    return -0.5 * (scaled**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)


_noisy_decoder_log_prob = Exercise(
    name="noisy_decoder_log_prob",
    question="log N(x; g(z), σ²I), shape (B,)",
    reference=nf_as_vae.noisy_decoder_log_prob,
    cases=_decoder_cases,
    properties=(
        Property(
            "exact",
            "In two dimensions and with σ = ½, log p(x|z) is log 4 − log 2π at x = g(z), and ½ "
            "less one σ beside it. Yours is not.",
            is_fact("log_px"),
        ),
        Property(
            "adds to one",
            "Over a line of data p(x|z) must integrate to one. Yours does not.",
            _adds_to_one,
        ),
    ),
    misconceptions=tuple(noisy_decoder_log_prob_wrong),
    may_use=_MAY_USE,
    hints=(
        "A Gaussian around `inverse(z)` with the same standard deviation σ in each dimension.",
        "Each dimension contributes −½ ((x − g(z))/σ)² − log σ − ½ log 2π; sum them.",
        "`scaled = (x - inverse(z)) / sigma`, then `-0.5 * (scaled**2 + math.log(2 * math.pi))` "
        "summed over axis 1, less D times `math.log(sigma)`.",
    ),
    points=2,
    minutes=10,
    difficulty=1,
)


# --- noisy_encoder --------------------------------------------------------------------------------


def _encoder_cases(draw):
    # f(x) = (x₁ + x₂, 2x₂): with ε = (0, 1) the sample moves along the second column, (1, 2).
    flow = Affine(draw, [[1.0, 1.0], [0.0, 2.0]], [0.0, 0.0])
    args = (draw.tensor([[1.0, 1.0]]), flow, 0.5, draw.tensor([[0.0, 1.0]]))
    # N(ε; 0, I), less 2 log ½ for σ and log 2 for the determinant.
    facts = {"z": [[2.5, 3.0]], "log_q": [-_LOG_2PI - 0.5 - 2 * math.log(0.5) - math.log(2)]}
    yield Case("f(x) = (x₁ + x₂, 2x₂)", args, (0, 1, 3), facts)

    def random(name, b, d, wrt=(0, 1, 3)):
        args = (0.8 * draw.normal(b, d), Curved(draw, d), _sigma(draw, 0.3, 0.8), draw.normal(b, d))
        return Case(name, args, wrt)

    b, d = draw.integer(4, 5), 3
    yield random("a curved flow", b, d)
    yield random("one data point, one dimension", 1, 1)

    flow, sigma = _affine(draw, d), _sigma(draw, 1.5, 2.5)
    x, noise = draw.normal(b, d), draw.normal(b, d)
    matrix = flow.matrix.detach().double().cpu()
    mean = (x.double().cpu() - flow.centre.detach().double().cpu()) @ matrix.T
    z = mean + sigma * noise.double().cpu() @ matrix.T
    q = torch.distributions.MultivariateNormal(mean, sigma**2 * matrix @ matrix.T)
    facts = {"z": z, "log_q": q.log_prob(z)}
    yield Case("an affine flow, a large σ", (x, flow, sigma, noise), (0, 1, 3), facts)

    # q(z|x) of one x on a line of z.
    noise = draw.tensor(torch.linspace(-8, 8, 81, dtype=torch.float64))[:, None]
    x = draw.tensor([[0.4]] * 81)
    args = (x, Curved(draw, 1), _sigma(draw, 0.3, 0.8), noise)
    yield Case("a line of noise, one dimension", args, (0, 1, 3), {"line": True})
    yield random("x without gradient, as in training", b, d, (1,))
    yield random("as many data points as dimensions", d, d)
    args = (draw.normal(1, 60), _scaling(draw, 60, 1.5), 1e-6, draw.normal(1, 60))
    yield Case("60 dimensions, σ = 10⁻⁶", args, (0, 1, 3))
    args = (draw.normal(d, b).T, Curved(draw, d), 0.4, draw.normal(d, b).T)
    yield Case("arguments that are not contiguous in memory", args, (0, 1, 3))


def _encodes_as_known(case, value):
    if "log_q" not in case.facts:
        return True
    return is_exact(value[0], case.facts["z"]) and is_exact(value[1], case.facts["log_q"])


def _q_adds_to_one(case, value):
    if "line" not in case.facts:
        return True
    z, log_q = value
    total = log_q.double().exp().sum() * (z[1:, 0] - z[:-1, 0]).double().abs().mean()
    return is_exact(total.to(z.dtype), 1.0, double=1e-6, single=1e-3)


noisy_encoder_wrong = Misconceptions()


@noisy_encoder_wrong("Jacobian left out")
def _(x, forward, sigma, noise):
    """You add σε to f(x) and score that: {got}; the encoder's noise is σ J_f ε, with the
    covariance σ² J_f J_fᵀ, {expected}.
    """
    z, _ = forward(x)
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)
    return z + sigma * noise, log_q


@noisy_encoder_wrong("Jacobian left out of the sample")
def _(x, forward, sigma, noise):
    """Your log q is that of N(f(x), σ² J_f J_fᵀ), but you draw z = f(x) + σε: {got}; the noise
    goes through the Jacobian, {expected}.
    """
    z, log_det = forward(x)
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)
    return z + sigma * noise, log_q - log_det


@noisy_encoder_wrong("log-det left out")
def _(x, forward, sigma, noise):
    """You leave log|det J_f| out of log q: {got}; the density of σ J_f ε has it, {expected}."""
    (mean, _), (direction, _) = torch.autograd.functional.jvp(forward, x, noise, create_graph=True)
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)
    return mean + sigma * direction, log_q


@noisy_encoder_wrong("log-det added")
def _(x, forward, sigma, noise):
    """You add log|det J_f| to log q: {got}; J_f stretches the noise and thins its density, so it
    is subtracted, {expected}.
    """
    (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
        forward, x, noise, create_graph=True
    )
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)
    return mean + sigma * direction, log_q + log_det


@noisy_encoder_wrong("log-det twice")
def _(x, forward, sigma, noise):
    """You subtract log|det J_f J_fᵀ| whole: {got}; a Gaussian has ½ log|det Σ|, which is
    log|det J_f| once, {expected}.
    """
    (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
        forward, x, noise, create_graph=True
    )
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)
    return mean + sigma * direction, log_q - 2 * log_det


@noisy_encoder_wrong("Jacobian transposed")
def _(x, forward, sigma, noise):
    """You multiply with the transposed Jacobian, as backpropagation does: {got}; J_f ε is the
    derivative of f along ε, {expected}.
    """
    start = x if x.requires_grad else x.detach().requires_grad_()
    mean, log_det = forward(start)
    direction = torch.autograd.grad(mean, start, noise, create_graph=True)[0]
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)
    return mean + sigma * direction, log_q - log_det


@noisy_encoder_wrong("Jacobian's diagonal")
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
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)
    return mean + sigma * diagonal * noise, log_q - log_det


@noisy_encoder_wrong("noise added to the data")
def _(x, forward, sigma, noise):
    """You send x + σε through the flow: {got}; the encoder is Gaussian around f(x), so f is
    replaced by its tangent at x, {expected}.
    """
    _, log_det = forward(x)
    z, _ = forward(x + sigma * noise)
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)
    return z, log_q - log_det


@noisy_encoder_wrong("log σ once instead of D times")
def _(x, forward, sigma, noise):
    """You subtract log σ once: {got}; the noise is scaled in all D dimensions, {expected}."""
    (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
        forward, x, noise, create_graph=True
    )
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - math.log(sigma)
    return mean + sigma * direction, log_q - log_det


@noisy_encoder_wrong("density of ε")
def _(x, forward, sigma, noise):
    """You return the log-density of ε: {got}; z has another scale, and log q also subtracts
    D log σ and log|det J_f|, {expected}.
    """
    (mean, _), (direction, _) = torch.autograd.functional.jvp(forward, x, noise, create_graph=True)
    return mean + sigma * direction, -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1)


@noisy_encoder_wrong("σ² for σ")
def _(x, forward, sigma, noise):
    """You scale the noise with the variance σ²: {got}; with the standard deviation σ it is
    {expected}.
    """
    (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
        forward, x, noise, create_graph=True
    )
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - 2 * x.shape[1] * math.log(sigma)
    return mean + sigma**2 * direction, log_q - log_det


@noisy_encoder_wrong("½ log 2π left out")
def _(x, forward, sigma, noise):
    """You leave ½ log 2π out of log q: {got}; it stands there once for each dimension,
    {expected}.
    """
    (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
        forward, x, noise, create_graph=True
    )
    log_q = -0.5 * (noise**2).sum(1) - x.shape[1] * math.log(sigma) - log_det
    return mean + sigma * direction, log_q


@noisy_encoder_wrong("Jacobian without gradient")
def _(x, forward, sigma, noise):
    """Your numbers are right, but J_f ε is cut off from the graph, so that the flow does not
    learn how its Jacobian moves z; build it with `create_graph=True`.
    """
    mean, log_det = forward(x)
    direction = torch.autograd.functional.jvp(lambda v: forward(v)[0], x, noise)[1].detach()
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(1) - x.shape[1] * math.log(sigma)
    return mean + sigma * direction, log_q - log_det


_noisy_encoder = Exercise(
    name="noisy_encoder",
    question="z = f(x) + σ J_f(x) ε, (B, D), and log q(z|x) = log N(z; f(x), σ² J_f J_fᵀ), (B,)",
    reference=nf_as_vae.noisy_encoder,
    cases=_encoder_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "exact",
            "The Jacobian of an affine f is its matrix, and q(z|x) a Gaussian with a covariance "
            "that is known. Yours is not.",
            _encodes_as_known,
        ),
        Property(
            "adds to one",
            "Over a line of samples z of one x, q(z|x) must integrate to one. Yours does not: "
            "sample and density do not belong together.",
            _q_adds_to_one,
        ),
    ),
    misconceptions=tuple(noisy_encoder_wrong),
    may_use=_MAY_USE,
    hints=(
        "J_f(x) ε is the derivative of f at x in the direction ε. Rows of the batch do not meet "
        "inside f, so one directional derivative of the batch gives all rows.",
        "`torch.autograd.functional.jvp(forward, x, noise, create_graph=True)` returns f's two "
        "outputs and their two directional derivatives. z is a linear map of ε, so log q is the "
        "density of ε, less the log of how much that map stretches.",
        "`(mean, log_det), (direction, _) = …`; z is `mean + sigma * direction`; log q is "
        "log N(ε; 0, I), minus D · log σ, minus `log_det`.",
    ),
    points=4,
    minutes=30,
    difficulty=3,
)


# --- relaxed_elbo ---------------------------------------------------------------------------------


def _relaxed_cases(draw):
    def arguments(s, b, d, sigma, base=_gaussian):
        flow, x, noise = Curved(draw, d), 0.6 * draw.normal(b, d), draw.normal(s, b, d)
        return (x, flow, Inverse(flow), base(draw, d), sigma, noise)

    # The two directions share their parameters, so those of `forward` are enough.
    def random(name, *shape, **options):
        return Case(name, arguments(*shape, _sigma(draw, 0.3, 0.5), **options), (0, 1, 3, 5))

    # The noise ±√D e_d has mean 0 and covariance I. For an affine flow and a Gaussian base the
    # bound is quadratic in it, so that its average over these 2D samples is the expectation.
    def affine(name, flow, base, x, sigma):
        d = x.shape[1]
        axes = math.sqrt(d) * torch.eye(d, dtype=torch.float64)
        noise = torch.cat([axes, -axes])
        noise = draw.tensor(noise[:, None].expand(-1, len(x), -1))
        with torch.no_grad():
            z, log_det = flow(x)
            loss = 0.5 * sigma**2 * (torch.exp(-base.log_std)[:, None] * flow.matrix).square().sum()
            exact = (base(z) + log_det - loss).double().cpu()
        args = (x, flow, Inverse(flow), base, sigma, noise)
        return Case(name, args, (0, 1, 3, 5), {"elbo": exact})

    x = draw.tensor([[0.0], [1.0]])
    yield affine("the flow z = 2x", _scaling(draw, 1, 2.0), _standard(draw, 1), x, 0.5)
    s, b, d = 3, draw.integer(5, 6), 4
    yield random("all axes of different length", s, b, d)
    yield random("one sample of one data point, one dimension", 1, 1, 1)
    yield random("all axes of the same length, a logistic base", 2, 2, 2, base=_logistic)
    x, sigma = draw.normal(b, 2), _sigma(draw, 1.5, 2.5)
    yield affine("an affine flow, a large σ", _affine(draw, 2), _gaussian(draw, 2), x, sigma)

    # For a small σ, and with ε and −ε both, the bound is the flow's likelihood up to O(σ²).
    small = 0.001 if draw.dtype == torch.float64 else 0.03
    x, flow, inverse, base, _, noise = arguments(1, b, 2, small)
    with torch.no_grad():
        z, log_det = flow(x)
        log_px = (base(z) + log_det).double().cpu()
    args = (x, flow, inverse, base, small, torch.cat([noise, -noise]))
    yield Case("a small σ", args, (0, 1, 3, 5), {"log_px": log_px})

    x, flow, inverse, base, sigma, _ = arguments(s, b, 2, 0.4)
    args = (x.T.contiguous().T, flow, inverse, base, sigma, draw.normal(2, b, s).permute(2, 1, 0))
    yield Case("arguments that are not contiguous in memory", args, (1, 3))


def _is_near_the_likelihood(case, value):
    if "log_px" not in case.facts:
        return True
    off = (value.double().cpu() - case.facts["log_px"]).abs()
    return bool((off <= 200 * case.args[4] ** 2).all())


relaxed_elbo_wrong = Misconceptions()


@relaxed_elbo_wrong("sum over the samples")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You sum over the samples: {got}; an expectation is estimated by their average,
    {expected}.
    """
    total = 0.0
    for eps in noise:
        (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
            forward, x, eps, create_graph=True
        )
        z = mean + sigma * direction
        error = ((x - inverse(z)) / sigma) ** 2
        total = total + base_log_prob(z) + log_det + 0.5 * (eps**2 - error).sum(1)
    return total


@relaxed_elbo_wrong("log of mean for mean of logs")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You take the log of the average weight, the importance weighted bound: {got}; the ELBO
    averages the logs, {expected}.
    """
    terms = []
    for eps in noise:
        (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
            forward, x, eps, create_graph=True
        )
        z = mean + sigma * direction
        error = ((x - inverse(z)) / sigma) ** 2
        terms.append(base_log_prob(z) + log_det + 0.5 * (eps**2 - error).sum(1))
    return torch.logsumexp(torch.stack(terms), 0) - math.log(len(noise))


@relaxed_elbo_wrong("first sample only")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You use the first sample and drop the others: {got}; the average of all S is
    {expected}.
    """
    eps = noise[0]
    (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
        forward, x, eps, create_graph=True
    )
    z = mean + sigma * direction
    error = ((x - inverse(z)) / sigma) ** 2
    return base_log_prob(z) + log_det + 0.5 * (eps**2 - error).sum(1)


@relaxed_elbo_wrong("samples and data points mixed up")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You repeat each data point S times in a row, but the noise has the samples on its first
    axis, so that results of different data points are averaged: {got}; with the whole batch
    repeated it is {expected}.
    """
    repeated, eps = x.repeat_interleave(len(noise), 0), noise.reshape(-1, x.shape[1])
    (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
        forward, repeated, eps, create_graph=True
    )
    z = mean + sigma * direction
    error = ((repeated - inverse(z)) / sigma) ** 2
    terms = base_log_prob(z) + log_det + 0.5 * (eps**2 - error).sum(1)
    return terms.reshape(len(noise), len(x)).mean(0)


@relaxed_elbo_wrong("prior left out")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You leave log p(z) out: {got}; the ELBO is log p(x|z) + log p(z) − log q(z|x),
    {expected}.
    """
    terms = []
    for eps in noise:
        (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
            forward, x, eps, create_graph=True
        )
        error = ((x - inverse(mean + sigma * direction)) / sigma) ** 2
        terms.append(log_det + 0.5 * (eps**2 - error).sum(1))
    return torch.stack(terms).mean(0)


@relaxed_elbo_wrong("log q left out")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You return the average of log p(x, z): {got}; the ELBO subtracts log q(z|x),
    {expected}.
    """
    terms = []
    for eps in noise:
        (mean, _), (direction, _) = torch.autograd.functional.jvp(
            forward, x, eps, create_graph=True
        )
        z = mean + sigma * direction
        scaled = (x - inverse(z)) / sigma
        log_px_given_z = -0.5 * (scaled**2 + math.log(2 * math.pi * sigma**2)).sum(1)
        terms.append(log_px_given_z + base_log_prob(z))
    return torch.stack(terms).mean(0)


@relaxed_elbo_wrong("log-det with the wrong sign")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You subtract log|det J_f|: {got}; log q contains −log|det J_f|, and the ELBO subtracts
    log q, so it is added, {expected}.
    """
    terms = []
    for eps in noise:
        (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
            forward, x, eps, create_graph=True
        )
        z = mean + sigma * direction
        error = ((x - inverse(z)) / sigma) ** 2
        terms.append(base_log_prob(z) - log_det + 0.5 * (eps**2 - error).sum(1))
    return torch.stack(terms).mean(0)


@relaxed_elbo_wrong("prior at f(x)")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You evaluate the prior at f(x): {got}; every term of the ELBO is at the sample z of the
    encoder, {expected}.
    """
    terms = []
    for eps in noise:
        (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
            forward, x, eps, create_graph=True
        )
        error = ((x - inverse(mean + sigma * direction)) / sigma) ** 2
        terms.append(base_log_prob(mean) + log_det + 0.5 * (eps**2 - error).sum(1))
    return torch.stack(terms).mean(0)


@relaxed_elbo_wrong("decoder at f(x)")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You decode f(x), which gives x back without an error: {got}; decode the sample z,
    {expected}.
    """
    terms = []
    for eps in noise:
        (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
            forward, x, eps, create_graph=True
        )
        error = ((x - inverse(mean)) / sigma) ** 2
        log_pz = base_log_prob(mean + sigma * direction)
        terms.append(log_pz + log_det + 0.5 * (eps**2 - error).sum(1))
    return torch.stack(terms).mean(0)


@relaxed_elbo_wrong("encoder without the Jacobian")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """Your encoder is N(f(x), σ²I): {got}; only with the covariance σ² J_f J_fᵀ does it follow the
    posterior for small σ, {expected}.
    """
    terms = []
    for eps in noise:
        mean, _ = forward(x)
        z = mean + sigma * eps
        error = ((x - inverse(z)) / sigma) ** 2
        terms.append(base_log_prob(z) + 0.5 * (eps**2 - error).sum(1))
    return torch.stack(terms).mean(0)


@relaxed_elbo_wrong("flow likelihood")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You return the flow's log-likelihood, the limit for σ → 0: {got}; at this σ the ELBO is
    {expected}.
    """
    z, log_det = forward(x)
    return base_log_prob(z) + log_det


@relaxed_elbo_wrong("average over the batch")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You average over samples and data points together; each data point has its own ELBO,
    shape (B,).
    """
    total = 0.0
    for eps in noise:
        (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
            forward, x, eps, create_graph=True
        )
        z = mean + sigma * direction
        error = ((x - inverse(z)) / sigma) ** 2
        total = total + base_log_prob(z) + log_det + 0.5 * (eps**2 - error).sum(1)
    return (total / len(noise)).mean()


@relaxed_elbo_wrong("Jacobian without gradient")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """Your numbers are right, but J_f ε is cut off from the graph, so that the flow does not
    learn how its Jacobian moves z; build it with `create_graph=True`.
    """
    terms = []
    for eps in noise:
        mean, log_det = forward(x)
        direction = torch.autograd.functional.jvp(lambda v: forward(v)[0], x, eps)[1].detach()
        z = mean + sigma * direction
        error = ((x - inverse(z)) / sigma) ** 2
        terms.append(base_log_prob(z) + log_det + 0.5 * (eps**2 - error).sum(1))
    return torch.stack(terms).mean(0)


_relaxed_elbo = Exercise(
    name="relaxed_elbo",
    question="the ELBO log p(x|z) + log p(z) − log q(z|x), averaged over S samples, shape (B,)",
    reference=nf_as_vae.relaxed_elbo,
    cases=_relaxed_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "exact",
            "For z = W(x − c) with a Gaussian base, the expected bound is the flow's "
            "log-likelihood less ½ σ² times the sum of the squares of W, in units of the base's "
            "standard deviations. Yours is not.",
            is_fact("elbo"),
        ),
        Property(
            "tends to the likelihood",
            "For a small σ the bound must be the flow's log-likelihood up to O(σ²). Yours is not.",
            _is_near_the_likelihood,
        ),
    ),
    misconceptions=tuple(relaxed_elbo_wrong),
    may_use=_MAY_USE,
    hints=(
        "For each of the S samples: z of the noisy encoder, then log p(x|z) of the noisy decoder, "
        "log p(z) of the base, and log q(z|x). All three at the same z.",
        "A loop over `noise` gives S terms of shape (B,); average them. Or repeat the batch, "
        "`x.repeat(S, 1)`, with `noise.flatten(0, 1)`, and reshape to (S, B) at the end.",
        "In log p(x|z) − log q(z|x) the constants cancel: what is left is "
        "½ ‖ε‖² − ½ ‖(x − g(z))/σ‖² + log|det J_f|.",
    ),
    points=3,
    minutes=25,
    difficulty=3,
)


EXERCISES = (
    _flow_log_likelihood,
    _planar_transform,
    _flow_posterior_log_prob,
    _flow_elbo,
    _noisy_decoder_log_prob,
    _noisy_encoder,
    _relaxed_elbo,
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
