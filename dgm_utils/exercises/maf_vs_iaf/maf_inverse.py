"""`maf_inverse`: a MAF from base to data, one coordinate after the other."""

import torch

from dgm_utils import maf_vs_iaf
from dgm_utils.exercises.maf_vs_iaf import _networks
from dgm_utils.exercises.maf_vs_iaf._shared import SLOW, is_back, slow_cases
from nbjudge.asking.page import Page

page = Page(
    maf_vs_iaf.maf_inverse,
    "x with (x − μ(x)) / σ(x) = z, in at most D calls of the network",
    points=2,
    minutes=15,
    difficulty=2,
    axes="B D, _ -> B D",
    wrt="z net",
    rtol=SLOW,
    may_use=(_networks,),
    hints=(
        "x_1 needs nothing: μ_1 and σ_1 are constants. x_2 needs x_1, x_3 needs x_1 and x_2, …",
        "Start with x = 0 and call `net(x)` D times. The i-th call gives the right μ_i and σ_i, "
        "because the coordinates before i are right by then and the later ones do not matter.",
        "D times: `mu, log_sigma = net(x)`, then `x = z * torch.exp(log_sigma) + mu`, all of x "
        "anew. After i rounds the first i coordinates are right. Do not write into x in place.",
    ),
)


@page.cases
def _(draw):
    yield from slow_cases(page, draw)


@page.must
def come_back(value, z, net):
    """Your x, put into (x − μ(x)) / σ(x), must give z back. It does not."""
    with torch.no_grad():
        mu, log_sigma = net(value)
        return is_back((value - mu) * torch.exp(-log_sigma), z)


@page.formula
def _(z, net):
    x = torch.zeros_like(z)
    for i in range(z.shape[1]):
        mu, log_sigma = net(x)
        x = x.clone()
        x[:, i] = (z * torch.exp(log_sigma) + mu)[:, i]
    return x


@page.piece
def in_turn(z, net, indices):
    """x, whose coordinates are found one after the other, those of these indices."""
    x = torch.zeros_like(z)
    for i in indices:
        mu, log_sigma = net(x)
        new = torch.arange(z.shape[1], device=z.device) == i
        x = torch.where(new, z * torch.exp(log_sigma) + mu, x)
    return x


@page.wrong("one call, at z")
def _(z, net):
    """You call `net` once, at z: {got}. That is an IAF; in a MAF μ_i and σ_i are functions of the
    x before x_i, which have to be found one after the other, {expected}.
    """
    mu, log_sigma = net(z)
    return z * torch.exp(log_sigma) + mu


@page.wrong("stops one short")
def _(z, net):
    """Your loop ends before the last coordinate, which keeps its first value: {got}; there are D
    coordinates to find, `range(D)`, and the last is {expected}.
    """
    return in_turn(z, net, range(z.shape[1] - 1))


@page.wrong("one call too many")
def _(z, net):
    """Your numbers are right, but you call `net` D + 1 times. After D calls the last coordinate
    is known; a first call outside the loop or a last one to clean up is not needed.
    """
    x = torch.zeros_like(z)
    mu, log_sigma = net(x)
    for _ in range(z.shape[1]):
        x = z * torch.exp(log_sigma) + mu
        mu, log_sigma = net(x)
    return x


@page.wrong("from the last to the first")
def _(z, net):
    """You find the last coordinate first: {got}; x_i needs those before it, so the first comes
    first, {expected}.
    """
    return in_turn(z, net, reversed(range(z.shape[1])))


@page.wrong("a loop over the batch")
def _(z, net):
    """Your loop has as many steps as there are data points; it goes over the D coordinates,
    `z.shape[1]`, and takes all data points at once.
    """
    return in_turn(z, net, range(z.shape[0]))


@page.wrong("the forward map again")
def _(z, net):
    """You subtract μ and divide by σ, which is the way from data to base: {got}; back it is
    x_i = σ_i z_i + μ_i, {expected}.
    """
    x = torch.zeros_like(z)
    for i in range(z.shape[1]):
        mu, log_sigma = net(x)
        new = torch.arange(z.shape[1], device=z.device) == i
        x = torch.where(new, (z - mu) * torch.exp(-log_sigma), x)
    return x


@page.wrong("written in place")
def _(z, net):
    """Your numbers are right, but you write each coordinate into the very tensor that `net` was
    called with, and autograd needs it as it was. Write into a copy (`x = x.clone()`), or put the
    columns together with `torch.stack` or `torch.where`.
    """
    x = torch.zeros_like(z)
    for i in range(z.shape[1]):
        mu, log_sigma = net(x)
        x[:, i] = z[:, i] * torch.exp(log_sigma[:, i]) + mu[:, i]
    return x


@page.wrong("found without gradient")
def _(z, net):
    """Your numbers are right, but you compute them under no_grad, so no gradient reaches z or
    the parameters of `net`.
    """
    with torch.no_grad():
        x = torch.zeros_like(z)
        for _ in range(z.shape[1]):
            mu, log_sigma = net(x)
            x = z * torch.exp(log_sigma) + mu
    return x


@page.wrong("gradient of the last pass only")
def _(z, net):
    """Your numbers are right, but you detach x before each call of `net`, so the gradient lacks
    what comes through the coordinates before: μ_i and σ_i depend on them.
    """
    x = torch.zeros_like(z)
    for _ in range(z.shape[1]):
        mu, log_sigma = net(x.detach())
        x = z * torch.exp(log_sigma) + mu
    return x
