"""`hierarchical_elbo`: the ELBO of two layers of latents, from its five factors."""

import itertools

import torch

from dgm_utils import vampprior
from nbjudge.asking.page import Page

page = Page(
    vampprior.hierarchical_elbo,
    "log p(x, z1, z2) − log q(z1, z2|x) from its five factors, shape (B,)",
    points=1,
    minutes=5,
    difficulty=1,
    axes="B, B, B, B, B -> B",
    wrt="log_px log_pz1 log_pz2 log_qz1 log_qz2",
    hints=(
        "The ELBO is E_q [log p(x, z1, z2) − log q(z1, z2|x)]; write both densities as products.",
        "p(x, z1, z2) = p(x|z1, z2) p(z1|z2) p(z2), and q(z1, z2|x) = q(z1|x, z2) q(z2|x).",
        "Three terms with a plus, two with a minus.",
    ),
)

page.terms(
    {
        "log p(x)": lambda log_px: log_px,
        "log p(z₁)": lambda log_pz1: log_pz1,
        "log p(z₂)": lambda log_pz2: log_pz2,
        "log q(z₁)": lambda log_qz1: log_qz1,
        "log q(z₂)": lambda log_qz2: log_qz2,
    }
)


@page.cases
def _(draw):
    args = tuple(draw.tensor([value]) for value in (-7.0, -1.0, -2.0, -0.5, -0.25))
    yield page.case("one data point", *args, elbo=[-9.25])
    b = draw.integer(4, 8)
    args = tuple(scale * draw.normal(b) - scale for scale in (20, 3, 2, 3, 2))
    yield page.case("several data points", *args)

    # x, z1 and z2 are 0 or 1 here, and every one of the eight combinations is a row.
    def table(*shape):
        p = 0.1 + 0.8 * torch.rand(*shape, 1, generator=draw.generator, dtype=torch.float64)
        return torch.log(torch.cat([p, 1 - p], -1))

    p_z2, p_z1, p_x, q_z2, q_z1 = table(), table(2), table(2, 2), table(2), table(2, 2)
    rows = [
        (p_x[z1, z2, x], p_z1[z2, z1], p_z2[z2], q_z1[x, z2, z1], q_z2[x, z2])
        for x, z1, z2 in itertools.product([0, 1], repeat=3)
    ]
    columns = torch.tensor(rows, dtype=torch.float64).T
    args, log_q = tuple(draw.tensor(column) for column in columns), columns[3] + columns[4]
    yield page.case("every x, z1 and z2 of a binary model", *args, log_q=log_q)

    # q is the posterior: what the five terms leave is log p(x).
    log_px, log_pz1, log_pz2, log_qz1 = (draw.normal(b) for _ in range(4))
    evidence = draw.normal(b)
    args = (log_px, log_pz1, log_pz2, log_qz1, log_px + log_pz1 + log_pz2 - log_qz1 - evidence)
    yield page.case("q is the posterior", *args, elbo=evidence.double().cpu())

    args = (1e4 * draw.normal(b) - 3e4, *(draw.normal(b) for _ in range(4)))
    yield page.case("data points 10⁴ apart", *args, extreme=True)
    args = tuple(draw.normal(b, 5).unbind(1))
    yield page.case("arguments that are not contiguous in memory", *args)


page.must_equal(
    "elbo",
    "Where q is the posterior, log p(x, z1, z2) − log q(z1, z2|x) is log p(x). Yours is not.",
    single=1e-4,
)
page.must_add_to_one(
    "log_q",
    "q times the exponential of your result is p(x, z1, z2), which adds to 1 over every x, z1 and "
    "z2 of a binary model. Yours does not.",
    single=1e-5,
)


@page.right
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    return log_px + log_pz1 + log_pz2 - log_qz1 - log_qz2


@page.wrong("log q added")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You add the log-densities of q: {got}; the joint is divided by q, so they are subtracted,
    {expected}.
    """
    return log_px + log_pz1 + log_pz2 + log_qz1 + log_qz2


@page.wrong("prior and posterior exchanged")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You add log q − log p, so the KL terms are rewarded: {got}; the ELBO pays for them,
    {expected}.
    """
    return log_px - log_pz1 - log_pz2 + log_qz1 + log_qz2


@page.wrong("q(z1|x, z2) left out")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You leave q(z1|x, z2) out: {got}; both layers are sampled from q, and both densities are
    subtracted, {expected}.
    """
    return log_px + log_pz1 + log_pz2 - log_qz2


@page.wrong("q(z2|x) left out")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You leave q(z2|x) out: {got}; both layers are sampled from q, and both densities are
    subtracted, {expected}.
    """
    return log_px + log_pz1 + log_pz2 - log_qz1


@page.wrong("p(z1|z2) left out")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You leave p(z1|z2) out: {got}; the joint is p(x|z1, z2) p(z1|z2) p(z2), {expected}."""
    return log_px + log_pz2 - log_qz1 - log_qz2


@page.wrong("p(z2) left out")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You leave p(z2) out, the very factor that the VampPrior replaces: {got}; the joint is
    p(x|z1, z2) p(z1|z2) p(z2), {expected}.
    """
    return log_px + log_pz1 - log_qz1 - log_qz2


@page.wrong("upper layer only")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You compare prior and posterior of z2 only: {got}; z1 has a prior p(z1|z2) and a posterior
    of its own, {expected}.
    """
    return log_px + log_pz2 - log_qz2


@page.wrong("KL terms cut off at 0")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """You cut log q − log p off at 0, as if it were a KL: {got}. One sample of it may be
    negative, and it averages to the KL only if it is left alone, {expected}.
    """
    return log_px - (log_qz1 - log_pz1).clamp(min=0) - (log_qz2 - log_pz2).clamp(min=0)


page.but(
    "mean over the batch",
    "You average over the data points; each has its own bound, shape (B,).",
    torch.mean,
)


@page.wrong("q detached")
def _(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    """Your numbers are right, but you detach the densities of q, so the gradient lacks their
    part; differentiate all five.
    """
    return log_px + log_pz1 + log_pz2 - log_qz1.detach() - log_qz2.detach()
