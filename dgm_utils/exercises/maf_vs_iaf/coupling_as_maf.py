"""`coupling_as_maf`: the conditioner that makes a MAF of a coupling layer."""

import torch

from dgm_utils import maf_vs_iaf
from dgm_utils.exercises.maf_vs_iaf import _networks
from dgm_utils.exercises.maf_vs_iaf._networks import CouplingNet, conditioner_at
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    maf_vs_iaf.coupling_as_maf,
    "a function x → (mu, log_sigma), each (B, D), that makes a MAF of a coupling layer",
    points=2,
    minutes=15,
    difficulty=2,
    axes="_, _ -> _",
    wrt="net",
    may_use=(_networks,),
    hints=(
        "Write down what the coupling layer does to a coordinate, x exp(s) + t, and what the MAF "
        "does, (x − μ)/σ. For which μ and σ are they equal for every x?",
        "1/σ = exp(s) and −μ/σ = t. For the coordinates that stay, z = x: μ = 0 and log σ = 0. "
        "The result is a function: define it inside with `def conditioner(x):` and return it.",
        "In `conditioner(x)`: `t, s = net(x[:, :split])`, `zero = torch.zeros_like(x[:, :split])`, "
        "then `torch.cat` of zero and `-t * torch.exp(-s)` is mu, of zero and `-s` log_sigma.",
    ),
)


@page.cases
def _(draw):
    def random(name, b, d, split, x=None, level=0.0, **about):
        net = CouplingNet(draw, split, d - split, level)
        x = draw.normal(b, d) if x is None else x
        return page.case(name, net, split, x=x, probe=conditioner_at(x), **about)

    yield random("one data point in two dimensions", 1, 2, 1)
    yield random("half of four coordinates", draw.integer(3, 5), 4, 2)
    d = draw.integer(5, 7)
    yield random("one coordinate stays", 3, d, 1)
    yield random("one coordinate changes", 4, d, d - 1)
    yield random("more stay than change", draw.integer(3, 4), d, d - 2)
    yield random("scales from e⁻¹⁰ to e¹⁰", 3, 5, 2, level=[-10.0, 10.0, 0.0], extreme=True)
    yield random("data that is not contiguous in memory", 3, d, 2, draw.normal(d, 3).T)


@page.must
def be_the_coupling_layer(value, net, split, x):
    """With your (mu, log_sigma), the MAF's z = (x − μ)/σ and −Σ log σ must be what the coupling
    layer gives. They are not.
    """
    (mu, log_sigma), _ = value
    with torch.no_grad():
        shift, log_scale = net(x[:, :split])
    z = torch.cat([x[:, :split], x[:, split:] * torch.exp(log_scale) + shift], 1)
    scale = torch.exp(-log_sigma)
    # μ/σ and x/σ may be large and cancel.
    size = scale * (x.abs() + mu.abs()) + 1
    tolerance = 1e-4 if x.dtype == torch.float32 else 1e-8
    same = ((x - mu) * scale - z).abs() <= tolerance * size
    return bool(same.all()) and is_exact(-log_sigma.sum(1), log_scale.sum(1))


@page.formula
def _(net, split):
    def conditioner(x):
        t, s = net(x[:, :split])
        stays = torch.zeros_like(x[:, :split])
        mu = torch.cat([stays, -t * torch.exp(-s)], 1)
        return mu, torch.cat([stays, -s], 1)

    return conditioner


@page.piece
def behind_zeros(net, split, solved):
    """A conditioner with zeros where x stays and `solved(t, s)` = (μ, log σ) where it changes."""

    def conditioner(x):
        zero = torch.zeros_like(x[:, :split])
        mu, log_sigma = solved(*net(x[:, :split]))
        return torch.cat([zero, mu], 1), torch.cat([zero, log_sigma], 1)

    return conditioner


@page.wrong("t and s as they are")
def _(net, split):
    """You use t as μ and s as log σ: {got}. A MAF subtracts μ and divides by σ, so solve
    (x − μ)/σ = x exp(s) + t for both, which gives {expected}.
    """
    return behind_zeros(net, split, lambda t, s: (t, s))


@page.wrong("μ = −t")
def _(net, split):
    """You use μ = −t: {got}. In (x − μ)/σ the shift is divided by σ too: −μ/σ = t with
    1/σ = exp(s) gives {expected}.
    """
    return behind_zeros(net, split, lambda t, s: (-t, -s))


@page.wrong("sign of μ")
def _(net, split):
    """Your μ has the wrong sign, t exp(−s): {got}; a MAF subtracts it, so μ = −t exp(−s),
    {expected}.
    """
    return behind_zeros(net, split, lambda t, s: (t * torch.exp(-s), -s))


@page.wrong("log σ = s")
def _(net, split):
    """You use log σ = s: {got}; a MAF divides by σ and the coupling layer multiplies by exp(s),
    so σ = exp(−s), {expected}.
    """
    return behind_zeros(net, split, lambda t, s: (-t * torch.exp(-s), s))


@page.wrong("one for log σ")
def _(net, split):
    """You return log σ = 1 for the coordinates that stay: {got}; they have σ = 1, so log σ is
    {expected}.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        first = x[:, :split]
        mu = torch.cat([torch.zeros_like(first), -t * torch.exp(-s)], 1)
        return mu, torch.cat([torch.ones_like(first), -s], 1)

    return conditioner


@page.wrong("the coordinates that stay left out")
def _(net, split):
    """Your conditioner returns μ and log σ of the changed coordinates only; it returns all D,
    with μ = 0 and log σ = 0 for those that stay.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        return -t * torch.exp(-s), -s

    return conditioner


@page.wrong("zeros at the end")
def _(net, split):
    """You put the zeros behind: {got}; the coordinates that stay are the first ones,
    {expected}.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        zero = torch.zeros_like(x[:, :split])
        return torch.cat([-t * torch.exp(-s), zero], 1), torch.cat([-s, zero], 1)

    return conditioner


@page.wrong("x as μ where it stays")
def _(net, split):
    """You return μ = x for the coordinates that stay: {got}; then z = (x − μ)/σ is 0 there.
    It is x itself where μ = 0 and σ = 1, {expected}.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        first = x[:, :split]
        mu = torch.cat([first, -t * torch.exp(-s)], 1)
        return mu, torch.cat([torch.zeros_like(first), -s], 1)

    return conditioner


@page.wrong("x detached")
def _(net, split):
    """Your numbers are right, but you detach x before it goes into `net`; μ and σ are functions
    of x, and their gradient with respect to x is part of the flow.
    """

    def conditioner(x):
        t, s = net(x[:, :split].detach())
        zero = torch.zeros_like(x[:, :split])
        return torch.cat([zero, -t * torch.exp(-s)], 1), torch.cat([zero, -s], 1)

    return conditioner
