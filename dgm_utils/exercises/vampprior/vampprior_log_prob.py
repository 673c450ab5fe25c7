"""`vampprior_log_prob`: the VampPrior's log-density, from pseudo-inputs and an encoder."""

import math

import torch

from dgm_utils import vampprior
from dgm_utils.exercises.vampprior import _networks
from dgm_utils.exercises.vampprior._shared import EXPANDED, plane
from nbjudge.asking.page import Page

page = Page(
    vampprior.vampprior_log_prob,
    "log of the average posterior of the C pseudo-inputs at z, shape (B,)",
    points=2,
    minutes=15,
    difficulty=2,
    axes="B L, C D, _ -> B",
    wrt="z pseudo encoder",
    rtol=EXPANDED,
    may_use=(_networks,),
    hints=(
        "The encoder turns each pseudo-input into a Gaussian over z; the prior is the mixture of "
        "these C Gaussians with equal weights.",
        "`mean, log_var = encoder(pseudo)` are `(C, L)`. Then it is the mixture of the first "
        "exercise.",
        "`log_q = -0.5 * ((z.unsqueeze(1) - mean)**2 / log_var.exp() + log_var + math.log(2 * "
        "math.pi)).sum(-1)`, then log-sum-exp over axis 1 less log C.",
    ),
)


@page.cases
def _(draw):
    def random(b, c, d, latents, spread=3.0):
        encoder = _networks.Encoder(draw, d, latents, spread)
        return 0.8 * spread * draw.normal(b, latents), draw.uniform(c, d), encoder

    def exact(z, pseudo, encoder):
        with torch.no_grad():
            mean, log_var = (t.double().cpu() for t in encoder(pseudo))
        normal = torch.distributions.Normal(mean, torch.exp(0.5 * log_var))
        log_q = normal.log_prob(z.double().cpu()[:, None]).sum(-1)
        return torch.logsumexp(log_q, 1) - math.log(len(pseudo))

    args = random(2, 1, 2, 1)
    yield page.case("one pseudo-input of two pixels, one latent", *args, log_prob=exact(*args))
    b, c, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    latents = draw.integer(8, 9)
    yield page.case("all axes of different length", *random(b, c, d, latents))
    yield page.case("one pixel and one point", *random(1, c, 1, 2))
    yield page.case("as many points, pseudo-inputs, pixels and latents", *random(3, 3, 3, 3))

    # The data as pseudo-inputs: the aggregated posterior of these data.
    args = random(b, 12, d, 2)
    yield page.case("data as pseudo-inputs: the aggregated posterior", *args, log_prob=exact(*args))

    points, log_cell = plane(draw)
    args = (points, draw.uniform(2, d), _networks.Encoder(draw, d, 2, spread=2.0))
    yield page.case("a grid over two latents", *args, log_cell=log_cell)
    args = (
        draw.tensor([[90.0, -90.0], [0.0, 0.0]]),
        draw.uniform(c, d),
        _networks.Encoder(draw, d, 2),
    )
    yield page.case("a point far from every component", *args, extreme=True)
    yield page.case("posteriors far apart", *random(b, c, d, 2, spread=60.0), extreme=True)
    yield page.case("300 latents", *random(b, c, d, 300), extreme=True)
    args = (draw.normal(2, b).T, draw.uniform(d, c).T, _networks.Encoder(draw, d, 2))
    yield page.case("arguments that are not contiguous in memory", *args)


page.must_equal(
    "log_prob",
    "With the data as pseudo-inputs, the VampPrior is the aggregated posterior, 1/N Σ_n q(z|x_n). "
    "Yours is not.",
    single=1e-3,
)
page.must_add_to_one(
    "log_cell",
    "A prior integrates to 1: over a grid of two latents the densities times the area of a cell "
    "must add to 1. Yours do not.",
    double=1e-6,
)


@page.formula
def _(z, pseudo, encoder):
    mean, log_var = encoder(pseudo)
    squares = (z[:, None] - mean) ** 2 / log_var.exp()
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(2)
    return torch.logsumexp(log_q, 1) - math.log(len(pseudo))


@page.piece
def log_normal(z, mean, log_var):
    """Log-density of each point under each posterior, `(B, C)`."""
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)


@page.piece
def log_average(log_q):
    """Log of the average over the posteriors, `(B,)`."""
    return torch.logsumexp(log_q, 1) - math.log(log_q.shape[1])


@page.wrong("product of one-dimensional mixtures")
def _(z, pseudo, encoder):
    """You take the log-sum-exp over the pseudo-inputs in each latent dimension and add the
    dimensions afterwards: {got}, a product of one-dimensional mixtures; q(z|u) is one density of
    the whole vector z, so sum over its dimensions first, {expected}.
    """
    mean, log_var = encoder(pseudo)
    squares = (z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi))
    return (torch.logsumexp(log_q, 1) - math.log(pseudo.shape[0])).sum(-1)


@page.wrong("log C forgotten")
def _(z, pseudo, encoder):
    """You add the C posteriors and do not divide by C: {got}, a prior that integrates to C; less
    log C it is {expected}.
    """
    return torch.logsumexp(log_normal(z, *encoder(pseudo)), 1)


@page.wrong("mean of logs for log of mean")
def _(z, pseudo, encoder):
    """You average log q(z|u) over the pseudo-inputs: {got}; the prior is the average of the
    densities, and its log is {expected}.
    """
    return log_normal(z, *encoder(pseudo)).mean(1)


@page.wrong("the average pseudo-input encoded")
def _(z, pseudo, encoder):
    """You average the pseudo-inputs and encode the average, which gives one Gaussian: {got};
    encode each and average the densities, {expected}.
    """
    return log_normal(z, *encoder(pseudo.mean(0, keepdim=True)))[:, 0]


@page.wrong("squashed once more")
def _(z, pseudo, encoder):
    """You put the pseudo-inputs through a sigmoid: {got}; they are pixels in [0, 1] already, and
    encoded as they are they give {expected}.
    """
    return log_average(log_normal(z, *encoder(torch.sigmoid(pseudo))))


@page.wrong("variance taken for the standard deviation")
def _(z, pseudo, encoder):
    """You use exp(log_var) as the standard deviation of q(z|u): {got}; it is the variance, and
    the standard deviation is exp(log_var / 2), which gives {expected}.
    """
    mean, log_var = encoder(pseudo)
    return log_average(log_normal(z, mean, 2 * log_var))


@page.wrong("densities that underflow")
def _(z, pseudo, encoder):
    """You leave the log for the densities themselves, which are 0 in floating point where z is
    far from every posterior: {got}; with log-sum-exp it is {expected}.
    """
    return torch.log(torch.exp(log_normal(z, *encoder(pseudo))).mean(1))


@page.wrong("nearest posterior only")
def _(z, pseudo, encoder):
    """You keep the pseudo-input that explains z best and drop the others: {got}; all of them add
    to the prior, {expected}.
    """
    return log_normal(z, *encoder(pseudo)).max(1).values - math.log(pseudo.shape[0])


@page.wrong("sum over the points")
def _(z, pseudo, encoder):
    """You add up the points of the batch; each has its own log-density, shape (B,)."""
    return log_average(log_normal(z, *encoder(pseudo))).sum()


@page.wrong("encoder cut off")
def _(z, pseudo, encoder):
    """Your numbers are right, but you detach what the encoder returns, so neither the encoder
    nor the pseudo-inputs learn from the prior; differentiate through both.
    """
    mean, log_var = (t.detach() for t in encoder(pseudo))
    return log_average(log_normal(z, mean, log_var))


@page.wrong("pseudo-inputs cut off")
def _(z, pseudo, encoder):
    """Your numbers are right, but you detach the pseudo-inputs, so they stay where they started
    however long one trains; the prior learns them.
    """
    return log_average(log_normal(z, *encoder(pseudo.detach())))
