"""`planar_transform`: a planar map of latent space, and its log-determinant."""

import math

import torch
import torch.nn.functional as F

from dgm_utils import nf_as_vae
from dgm_utils.exercises.nf_as_vae._shared import COARSE
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    nf_as_vae.planar_transform,
    "z' = z + û tanh(w·z + b), (B, L), and log|det ∂z'/∂z|, (B,)",
    points=3,
    minutes=25,
    difficulty=2,
    axes="B L, L, L, () -> B L, B",
    wrt="z u w b",
    # 1 + (1 − tanh²) w·û is a right answer and cancels where the map is nearly flat.
    rtol=COARSE,
    hints=(
        "First û, then tanh(w·z + b) for every point, then z' and the determinant. w·z is a number "
        "for each point: `z @ w`.",
        "The Jacobian is I + û (1 − tanh²) wᵀ, and det(I + a bᵀ) = 1 + b·a. Use û in both results.",
        "`u_hat = u + (F.softplus(w @ u) - 1 - w @ u) * w / (w @ w)`, `h = torch.tanh(z @ w + b)`; "
        "z' adds `h[:, None] * u_hat`, the log-det is the log of `1 + (1 - h**2) * (w @ u_hat)`.",
    ),
)


@page.cases
def _(draw):
    # w·u = 0, so û = u + (log 2 − 1) w/4; tanh(atanh ½) = ½.
    half = math.atanh(0.5)
    args = [[0.0, 0.0], [half / 2, 2.0]], [0.0, 1.0], [2.0, 0.0], 0.0
    along = math.log(2) - 1
    facts = {
        "moved": [[0.0, 0.0], [half / 2 + along / 4, 2.5]],
        "log_det": [math.log(math.log(2)), math.log1p(0.75 * along)],
    }
    yield page.case("u across w", *map(draw.tensor, args), **facts)

    # One dimension, and u against w: without the constraint the map folds.
    w = 0.8 + 0.4 * float(draw.uniform())
    line = torch.linspace(-20, 20, 401, dtype=torch.float64)[:, None]
    args = (line, [-3 / w], [w], 0.5 * float(draw.normal()))
    yield page.case("a line of z, w·u = −3", *map(draw.tensor, args), cell=40 / 400)

    def random(name, b, latents, **about):
        w = draw.normal(latents)
        w = w * (0.7 + float(draw.uniform())) / w.norm()
        u = draw.normal(latents)
        u = u * min(1.0, 4 / float(u.norm()))
        return page.case(name, draw.normal(b, latents), u, w, draw.normal(), **about)

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
    yield random("300 latents", 2, 300, extreme=True)
    args = stretched(-10.0, [0.3, -0.4, 1.0])
    yield page.case("w·u = −10, a map that is nearly flat", *args, extreme=True)
    yield page.case("w·u = 1000", *stretched(1000.0, [0.3, -0.4, 1.0]), extreme=True)
    yield page.case(
        "points where tanh is flat", *stretched(-0.5, [100.0, -200.0, 0.5]), extreme=True
    )
    z, u, w, b = stretched(-1.5, [0.5, 1.0, -0.2, 0.1])
    args = (z.T.contiguous().T, torch.stack([u, w], 1)[:, 0], w, b)
    yield page.case("arguments that are not contiguous in memory", *args)


@page.must
def move_as_known(value, moved, log_det):
    """With w·u = 0 and ‖w‖ = 2, û = u + (log 2 − 1) w/4: at w·z + b = 0 nothing moves and the
    log|det| is log log 2. Yours is not.
    """
    return is_exact(value[0], moved) and is_exact(value[1], log_det)


@page.must
def never_turn_back(value, cell):
    """In one dimension z' must rise with z, or it cannot be inverted. Yours turns back."""
    return bool((value[0].diff(dim=0) > 0).all())


@page.must
def stretch_as_it_moves(value, cell):
    """In one dimension |det| is dz'/dz, so its integral over a line of z must be the difference of
    z' at the ends. Yours is not: value and log-det do not belong together.
    """
    moved, log_det = value
    slope = log_det.double().exp()
    total = (slope.sum() - 0.5 * (slope[0] + slope[-1])) * cell
    ends = (moved[-1, 0] - moved[0, 0]).item()
    return is_exact(total.to(moved.dtype), ends, double=1e-6, single=1e-3)


@page.formula
def _(z, u, w, b):
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    h = torch.tanh(z @ w + b)
    slope = 1 + (1 - h**2) * (w @ u_hat)
    return z + u_hat * h[:, None], torch.log(slope.abs())


@page.piece
def constrained(u, w):
    """û, with w·û = softplus(w·u) − 1."""
    along = w @ u
    return u + (F.softplus(along) - 1 - along) * w / (w @ w)


@page.piece
def moved_along(z, u_hat, w, b):
    """The map with this û, and its log|det|."""
    h = torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)))


@page.wrong("u without its constraint")
def _(z, u, w, b):
    """You use u as it is: {got}; where w·u < −1 the map folds and has no inverse, so û takes its
    place, {expected}.
    """
    return moved_along(z, u, w, b)


@page.wrong("constraint only where it is broken")
def _(z, u, w, b):
    """You change u only where w·u < −1: {got}; û takes its place always, so that the map depends
    smoothly on u, {expected}.
    """
    return moved_along(z, torch.where(w @ u < -1, constrained(u, w), u), w, b)


@page.wrong("u in the determinant")
def _(z, u, w, b):
    """You move z with û and take the determinant with u: {got}; it is that of the map you
    applied, 1 + (1 − tanh²) w·û, {expected}.
    """
    u_hat, h = constrained(u, w), torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * (w @ u)))


@page.wrong("‖w‖ for ‖w‖²")
def _(z, u, w, b):
    """You divide by ‖w‖: {got}; w/‖w‖² is what makes w·û = softplus(w·u) − 1, {expected}."""
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / torch.norm(w)
    return moved_along(z, u_hat, w, b)


@page.wrong("not divided by ‖w‖²")
def _(z, u, w, b):
    """You do not divide w by ‖w‖²: {got}; divided, w·û is softplus(w·u) − 1 and the result
    {expected}.
    """
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w
    return moved_along(z, u_hat, w, b)


@page.wrong("softplus without −1")
def _(z, u, w, b):
    """You leave the −1 out, so that w·û is always positive and the map can only stretch: {got};
    with softplus(w·u) − 1 it may shrink too, {expected}.
    """
    along = w @ u
    u_hat = u + (F.softplus(along) - along) * w / (w @ w)
    return moved_along(z, u_hat, w, b)


@page.wrong("derivative 1 − tanh")
def _(z, u, w, b):
    """You take 1 − tanh for the derivative of tanh: {got}; it is 1 − tanh², {expected}."""
    u_hat, h = constrained(u, w), torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h) * (w @ u_hat)))


@page.wrong("derivative left out")
def _(z, u, w, b):
    """You leave the derivative of tanh out of the determinant: {got}; det(I + û tanh' wᵀ) =
    1 + tanh' w·û, {expected}.
    """
    u_hat, h = constrained(u, w), torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + h * (w @ u_hat)))


@page.wrong("identity left out of the Jacobian")
def _(z, u, w, b):
    """You forget that z itself is part of z': {got}; its derivative is the identity, and the
    determinant 1 + tanh' w·û, {expected}.
    """
    u_hat, h = constrained(u, w), torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs((1 - h**2) * (w @ u_hat)))


@page.wrong("log-det of the inverse")
def _(z, u, w, b):
    """You return −log|det|, that of the way back: {got}; asked is the map that was applied,
    {expected}.
    """
    moved, log_det = moved_along(z, constrained(u, w), w, b)
    return moved, -log_det


@page.wrong("determinant for its log")
def _(z, u, w, b):
    """You return the determinant: {got}; its log is {expected}."""
    moved, log_det = moved_along(z, constrained(u, w), w, b)
    return moved, torch.exp(log_det)


@page.wrong("epsilon in the log")
def _(z, u, w, b):
    """You add a small number to the determinant: {got}; û already keeps it positive, and without
    the number the log is {expected}.
    """
    u_hat, h = constrained(u, w), torch.tanh(z @ w + b)
    return z + h[:, None] * u_hat, torch.log(torch.abs(1 + (1 - h**2) * (w @ u_hat)) + 1e-4)


@page.wrong("softplus that overflows")
def _(z, u, w, b):
    """You write softplus as log(1 + eˣ), and e¹⁰⁰⁰ is infinite in floating point: {got};
    `F.softplus` gives {expected}.
    """
    along = w @ u
    u_hat = u + (torch.log(1 + torch.exp(along)) - 1 - along) * w / (w @ w)
    return moved_along(z, u_hat, w, b)


@page.wrong("û without gradient")
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
