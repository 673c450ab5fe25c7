"""`mutual_information_from_index`: what z tells about x, from the entropy of the index."""

import math

import torch

from dgm_utils import elbo_surgery
from dgm_utils.exercises.elbo_surgery._shared import COARSE, SINGLE, encoder_cases
from nbjudge.asking.page import Page

page = Page(
    elbo_surgery.mutual_information_from_index,
    "log N minus the average entropy of q(n|z_i) ∝ q(z_i|x_n), a 0-d tensor",
    points=2,
    minutes=15,
    difficulty=2,
    axes="N L, N L, N L -> ()",
    wrt="z mean log_var",
    rtol=COARSE,
    hints=(
        "Pick n uniformly, then z ~ q(z|x_n). Seeing z, Bayes' rule gives the probability of each "
        "n: q(n|z) = q(z|x_n) / Σ_j q(z|x_j). Its entropy is what z leaves open.",
        "q(n|z_i) is a softmax over n of log q(z_i|x_n). The entropy −Σ_n q log q needs log q from "
        "`torch.log_softmax`: log of a softmax is −∞ where it underflows.",
        "With `log_index = torch.log_softmax(log_q, 1)`, where `log_q` is the (N, N) matrix of "
        "log q(z_i|x_n): `math.log(N) + (log_index.exp() * log_index).sum(1).mean()`.",
    ),
)


@page.cases
def _(draw):
    for name, args, facts in encoder_cases(draw):
        yield page.case(name, *args, **facts)


@page.must
def lie_between(value, z):
    """The entropy of a distribution over N indices lies between 0 and log N, and so does what is
    left of log N. Yours does not.
    """
    slack = COARSE[value.dtype]
    return bool(-slack <= value <= math.log(len(z)) + slack)


page.must_equal(
    "information",
    "Where all posteriors are the same, or there is one, z says nothing of the index: 0. Where "
    "none overlap it says all: log N. Where three of four are the same it is log 4 − ¾ log 3. "
    "Yours is not.",
    single=SINGLE,
)
page.must_equal(
    "by_index",
    "For N(−1, 2²) and N(1, 2²), at the samples −3 and 3, the index has the probabilities p and "
    "1 − p with p = 1/(1 + e^(−3/2)), so the result is log 2 + p log p + (1 − p) log(1 − p). "
    "Yours is not.",
    single=SINGLE,
)


@page.formula
def _(z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 / log_var.exp()
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(2)
    log_index = log_q.log_softmax(1)
    entropies = -(log_index.exp() * log_index).sum(1)
    return math.log(len(mean)) - entropies.mean()


@page.right
def _(z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * (squares + log_var).sum(-1), 1)
    return math.log(mean.shape[0]) + (log_index.exp() * log_index).sum(1).mean()


@page.piece
def log_density(z, mean, log_var):
    """Log-density of every sample under every posterior, `(N, N)`, without ½ log 2π."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var).sum(-1)


@page.piece
def log_index(z, mean, log_var):
    """Log-probability of each index given each sample, `(N, N)`."""
    return torch.log_softmax(log_density(z, mean, log_var), 1)


@page.wrong("own index only")
def _(z, mean, log_var):
    """You average log q(i|z_i) of the right index, which is the other estimate of the mutual
    information: {got}; the entropy sums over all N indices, {expected}.
    """
    return math.log(mean.shape[0]) + log_index(z, mean, log_var).diagonal().mean()


@page.wrong("entropy for information")
def _(z, mean, log_var):
    """You return the average entropy of q(i|z_i), what z leaves open: {got}; what it tells is
    log N minus that, {expected}.
    """
    log_p = log_index(z, mean, log_var)
    return -(log_p.exp() * log_p).sum(1).mean()


@page.wrong("log N forgotten")
def _(z, mean, log_var):
    """You return the negative entropy: {got}; before z is seen the index has the entropy log N,
    which is to be added, {expected}.
    """
    log_p = log_index(z, mean, log_var)
    return (log_p.exp() * log_p).sum(1).mean()


@page.wrong("entropy added")
def _(z, mean, log_var):
    """You add the entropy to log N: {got}; what z leaves open is subtracted, {expected}."""
    log_p = log_index(z, mean, log_var)
    return math.log(mean.shape[0]) - (log_p.exp() * log_p).sum(1).mean()


@page.wrong("normalized over the samples")
def _(z, mean, log_var):
    """You normalize over the samples: {got}; q(n|z_i) is a distribution over the N posteriors
    for each sample, {expected}.
    """
    log_p = torch.log_softmax(log_density(z, mean, log_var), 0)
    return math.log(mean.shape[0]) + (log_p.exp() * log_p).sum(0).mean()


@page.wrong("entropy of the average")
def _(z, mean, log_var):
    """You average q(i|z) over the samples and take one entropy, which is near log N always:
    {got}; each sample has its own entropy, and these are averaged, {expected}.
    """
    index = torch.softmax(log_density(z, mean, log_var), 1).mean(0)
    return math.log(mean.shape[0]) + torch.xlogy(index, index).sum()


@page.wrong("log of an underflow")
def _(z, mean, log_var):
    """You multiply q(i|z) by its log where it has underflowed, and 0 times −∞ is not a number:
    {got}; there the product is 0, log_softmax stays finite, and the result is {expected}.
    """
    index = torch.softmax(log_density(z, mean, log_var), 1)
    return math.log(mean.shape[0]) + (index * torch.log(index)).sum(1).mean()


@page.wrong("densities that underflow")
def _(z, mean, log_var):
    """You divide densities by their sum, and far from every posterior that is 0 divided by 0:
    {got}; a softmax of the log-densities gives {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    q = torch.exp(-0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1))
    index = q / q.sum(1, keepdim=True)
    return math.log(mean.shape[0]) + torch.xlogy(index, index).sum(1).mean()


@page.wrong("average over all pairs")
def _(z, mean, log_var):
    """You average q log q over the indices too, which divides by N once more: {got}; an entropy
    is a sum over the indices, {expected}.
    """
    log_p = log_index(z, mean, log_var)
    return math.log(mean.shape[0]) + (log_p.exp() * log_p).mean()


@page.wrong("sum over the data")
def _(z, mean, log_var):
    """You sum the entropies of all samples: {got}; their average is subtracted, {expected}."""
    log_p = log_index(z, mean, log_var)
    return math.log(mean.shape[0]) + (log_p.exp() * log_p).sum()


@page.wrong("log σ² forgotten")
def _(z, mean, log_var):
    """You normalize exp(−½ Σ (z − μ_n)²/σ_n²) without the factor 1/σ_n: {got}; it differs from
    posterior to posterior and does not cancel, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_p = torch.log_softmax(-0.5 * squares.sum(-1), 1)
    return math.log(mean.shape[0]) + (log_p.exp() * log_p).sum(1).mean()


page.but(
    "bits for nats",
    "You take logs to the base 2: {got}; in nats it is {expected}.",
    lambda nats: nats / math.log(2),
)
