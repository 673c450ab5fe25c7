"""`coupling_forward`: a coupling layer from data to base."""

import torch

from dgm_utils import maf_vs_iaf
from dgm_utils.exercises.maf_vs_iaf import _networks
from dgm_utils.exercises.maf_vs_iaf._networks import CouplingNet
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    maf_vs_iaf.coupling_forward,
    "a coupling layer from data to base: z and log|det ∂z/∂x|",
    points=1,
    minutes=10,
    difficulty=1,
    axes="B D, _, _ -> B D, B",
    wrt="x net",
    may_use=(_networks,),
    hints=(
        "Cut x into the first `split` coordinates and the rest. Only the first part goes into "
        "`net`, only the rest is changed.",
        "The Jacobian is triangular: ones for the coordinates that stay, exp(s) for the others.",
        "`t, s = net(x[:, :split])`; z is `torch.cat` of `x[:, :split]` and "
        "`x[:, split:] * torch.exp(s) + t` along axis 1; the log-determinant is s summed over "
        "axis 1.",
    ),
)


@page.cases
def _(draw):
    def random(name, b, d, split, x=None, level=0.0, **about):
        net = CouplingNet(draw, split, d - split, level)
        x = draw.normal(b, d) if x is None else x
        first = x[:, :split]
        _, log_scale = net(first)
        # Block triangular, with ones and the scales on the diagonal.
        log_det = log_scale.detach().double().sum(1)
        return page.case(name, x, net, split, first=first, log_det=log_det, **about)

    yield random("one data point in two dimensions", 1, 2, 1)
    yield random("half of four coordinates", draw.integer(3, 5), 4, 2)
    d = draw.integer(5, 7)
    yield random("one coordinate stays", 3, d, 1)
    yield random("one coordinate changes", 4, d, d - 1)
    yield random("more stay than change", draw.integer(3, 4), d, d - 2)
    yield random("scales from e⁻²⁰ to e²⁰", 3, 5, 2, level=[-20.0, 20.0, 0.0], extreme=True)
    yield random("an argument that is not contiguous in memory", 3, d, 2, draw.normal(d, 3).T)


@page.must
def let_the_first_stay(value, split, first):
    """The first `split` coordinates of z are those of x. Yours are not."""
    return is_exact(value[0][:, :split], first)


page.must_equal(
    "log_det",
    "The map z(x) that is asked for, differentiated, has another log-determinant than the one you "
    "return.",
    part=1,
)


@page.right
def _(x, net, split):
    t, s = net(x[:, :split])
    return torch.cat([x[:, :split], x[:, split:] * torch.exp(s) + t], 1), s.sum(1)


@page.wrong("t and s swapped")
def _(x, net, split):
    """You take the first output of `net` for the log-scale: {got}; it returns (t, s), the shift
    first, {expected}.
    """
    s, t = net(x[:, :split])
    return torch.cat([x[:, :split], x[:, split:] * torch.exp(s) + t], 1), s.sum(1)


page.but(
    "log-det with the wrong sign",
    "You return −Σ s: {got}; this direction multiplies by exp(s), so the log-determinant is +Σ s, "
    "{expected}.",
    lambda both: (both[0], -both[1]),
)


@page.wrong("the inverse direction")
def _(x, net, split):
    """You subtract t and divide by exp(s), the way from base to data: {got}; from data to base
    it is x ⊙ exp(s) + t, {expected}.
    """
    t, s = net(x[:, :split])
    return torch.cat([x[:, :split], (x[:, split:] - t) * torch.exp(-s)], 1), -s.sum(1)


@page.wrong("t scaled too")
def _(x, net, split):
    """You add t before multiplying by exp(s): {got}; x ⊙ exp(s) + t is {expected}."""
    t, s = net(x[:, :split])
    return torch.cat([x[:, :split], (x[:, split:] + t) * torch.exp(s)], 1), s.sum(1)


@page.wrong("s taken for the scale")
def _(x, net, split):
    """You multiply by s itself: {got}; s is the log of the scale, so multiply by exp(s), which
    is never zero, {expected}.
    """
    t, s = net(x[:, :split])
    return torch.cat([x[:, :split], x[:, split:] * s + t], 1), torch.log(s.abs()).sum(1)


@page.wrong("always half of the coordinates")
def _(x, net, split):
    """You cut x in the middle; `split` says how many coordinates stay, and it need not be half
    of them.
    """
    half = x.shape[1] // 2
    t, s = net(x[:, :half])
    return torch.cat([x[:, :half], x[:, half:] * torch.exp(s) + t], 1), s.sum(1)


page.but(
    "the changed part first",
    "You put the changed coordinates in front of those that stay: {got}; they keep their places, "
    "{expected}.",
    lambda both, split: (both[0].roll(-split, 1), both[1]),
)
page.but(
    "only the changed part",
    "You return the changed coordinates only; z has all D of them, the first `split` as they are "
    "in x.",
    lambda both, split: (both[0][:, split:], both[1]),
)


@page.wrong("the network detached")
def _(x, net, split):
    """Your numbers are right, but you call `net` under no_grad, so that no gradient reaches its
    parameters and none goes through t and s; nothing can be trained with it.
    """
    with torch.no_grad():
        t, s = net(x[:, :split])
    return torch.cat([x[:, :split], x[:, split:] * torch.exp(s) + t], 1), s.sum(1)
