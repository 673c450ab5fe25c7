"""`iaf_forward`: an IAF from data to base, one coordinate after the other."""

import torch

from dgm_utils import maf_vs_iaf
from dgm_utils.exercises.maf_vs_iaf import _networks
from dgm_utils.exercises.maf_vs_iaf._shared import SLOW, is_back, slow_cases
from nbjudge.asking.page import Page

page = Page(
    maf_vs_iaf.iaf_forward,
    "z with σ(z) ⊙ z + μ(z) = x, in at most D calls of the network",
    points=1,
    minutes=5,
    difficulty=2,
    axes="B D, _ -> B D",
    wrt="x net",
    rtol=SLOW,
    may_use=(_networks,),
    hints=(
        "z_1 needs nothing: μ_1 and σ_1 are constants. z_2 needs z_1, z_3 needs z_1 and z_2, …",
        "As in `maf_inverse`, with the parts swapped: the i-th call `net(z)` gives the right μ_i "
        "and σ_i because the z before it are right by then.",
        "D times: `mu, log_sigma = net(z)`, then `z = (x - mu) * torch.exp(-log_sigma)`, all of z "
        "anew. After i rounds the first i coordinates are right. Do not write into z in place.",
    ),
)


@page.cases
def _(draw):
    yield from slow_cases(page, draw)


@page.must
def come_back(value, x, net):
    """Your z, put into σ(z) ⊙ z + μ(z), must give x back. It does not."""
    with torch.no_grad():
        mu, log_sigma = net(value)
        return is_back(value * torch.exp(log_sigma) + mu, x)


@page.formula
def _(x, net):
    z = torch.zeros_like(x)
    for i in range(x.shape[1]):
        mu, log_sigma = net(z)
        z = z.clone()
        z[:, i] = ((x - mu) / torch.exp(log_sigma))[:, i]
    return z


@page.piece
def in_turn(x, net, indices):
    """z, whose coordinates are found one after the other, those of these indices."""
    z = torch.zeros_like(x)
    for i in indices:
        mu, log_sigma = net(z)
        new = torch.arange(x.shape[1], device=x.device) == i
        z = torch.where(new, (x - mu) * torch.exp(-log_sigma), z)
    return z


@page.wrong("one call, at x")
def _(x, net):
    """You call `net` once, at x: {got}. That is a MAF; in an IAF μ_i and σ_i are functions of the
    z before z_i, which have to be found one after the other, {expected}.
    """
    mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-log_sigma)


@page.wrong("stops one short")
def _(x, net):
    """Your loop ends before the last coordinate, which keeps its first value: {got}; there are D
    coordinates to find, `range(D)`, and the last is {expected}.
    """
    return in_turn(x, net, range(x.shape[1] - 1))


@page.wrong("one call too many")
def _(x, net):
    """Your numbers are right, but you call `net` D + 1 times. After D calls the last coordinate
    is known; a first call outside the loop or a last one to clean up is not needed.
    """
    z = torch.zeros_like(x)
    mu, log_sigma = net(z)
    for _ in range(x.shape[1]):
        z = (x - mu) * torch.exp(-log_sigma)
        mu, log_sigma = net(z)
    return z


@page.wrong("the map of sampling again")
def _(x, net):
    """You multiply by σ and add μ, which is the way from base to data: {got}; back it is
    z_i = (x_i − μ_i) / σ_i, {expected}.
    """
    z = torch.zeros_like(x)
    for i in range(x.shape[1]):
        mu, log_sigma = net(z)
        new = torch.arange(x.shape[1], device=x.device) == i
        z = torch.where(new, x * torch.exp(log_sigma) + mu, z)
    return z


@page.wrong("started at x, two rounds")
def _(x, net):
    """You repeat z = (x − μ(z)) / σ(z) a fixed number of times: {got}; each round makes one more
    coordinate right, so it takes D of them, {expected}.
    """
    z = x
    for _ in range(2):
        mu, log_sigma = net(z)
        z = (x - mu) * torch.exp(-log_sigma)
    return z


@page.wrong("a loop over the batch")
def _(x, net):
    """Your loop has as many steps as there are data points; it goes over the D coordinates,
    `x.shape[1]`, and takes all data points at once.
    """
    return in_turn(x, net, range(x.shape[0]))


@page.wrong("written in place")
def _(x, net):
    """Your numbers are right, but you write each coordinate into the very tensor that `net` was
    called with, and autograd needs it as it was. Write into a copy (`z = z.clone()`), or put the
    columns together with `torch.stack` or `torch.where`.
    """
    z = torch.zeros_like(x)
    for i in range(x.shape[1]):
        mu, log_sigma = net(z)
        z[:, i] = (x[:, i] - mu[:, i]) * torch.exp(-log_sigma[:, i])
    return z


@page.wrong("found without gradient")
def _(x, net):
    """Your numbers are right, but you compute them under no_grad, so no gradient reaches x or
    the parameters of `net`.
    """
    with torch.no_grad():
        z = torch.zeros_like(x)
        for _ in range(x.shape[1]):
            mu, log_sigma = net(z)
            z = (x - mu) * torch.exp(-log_sigma)
    return z
