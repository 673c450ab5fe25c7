"""`relaxed_elbo`: the ELBO of a flow whose encoder and decoder are noisy."""

import math

import torch

from dgm_utils import nf_as_vae
from dgm_utils.exercises.nf_as_vae import _networks
from dgm_utils.exercises.nf_as_vae._networks import (
    Curved,
    Inverse,
    gaussian,
    logistic,
    random_affine,
    scaling,
    standard,
)
from dgm_utils.exercises.nf_as_vae._shared import COARSE, random_sigma
from nbjudge.asking.page import Page

page = Page(
    nf_as_vae.relaxed_elbo,
    "the ELBO log p(x|z) + log p(z) − log q(z|x), averaged over S samples, shape (B,)",
    points=3,
    minutes=25,
    difficulty=3,
    axes="B D, _, _, _, _, S B D -> B",
    wrt="x forward base_log_prob noise",
    rtol=COARSE,
    may_use=(_networks,),
    hints=(
        "For each of the S samples: z of the noisy encoder, then log p(x|z) of the noisy decoder, "
        "log p(z) of the base, and log q(z|x). All three at the same z.",
        "A loop over `noise` gives S terms of shape (B,); average them. Or repeat the batch, "
        "`x.repeat(S, 1)`, with `noise.flatten(0, 1)`, and reshape to (S, B) at the end.",
        "In log p(x|z) − log q(z|x) the constants cancel: what is left is "
        "½ ‖ε‖² − ½ ‖(x − g(z))/σ‖² + log|det J_f|.",
    ),
)


@page.cases
def _(draw):
    # The two directions share their parameters, so those of `forward` are enough.
    def arguments(s, b, d, sigma, base=gaussian):
        flow, x, noise = Curved(draw, d), 0.6 * draw.normal(b, d), draw.normal(s, b, d)
        return (x, flow, Inverse(flow), base(draw, d), sigma, noise)

    def random(name, *shape, **options):
        return page.case(name, *arguments(*shape, random_sigma(draw, 0.3, 0.5), **options))

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
        return page.case(name, x, flow, Inverse(flow), base, sigma, noise, elbo=exact)

    x = draw.tensor([[0.0], [1.0]])
    yield affine("the flow z = 2x", scaling(draw, 1, 2.0), standard(draw, 1), x, 0.5)
    s, b, d = 3, draw.integer(5, 6), 4
    yield random("all axes of different length", s, b, d)
    yield random("one sample of one data point, one dimension", 1, 1, 1)
    yield random("all axes of the same length, a logistic base", 2, 2, 2, base=logistic)
    x, sigma = draw.normal(b, 2), random_sigma(draw, 1.5, 2.5)
    yield affine("an affine flow, a large σ", random_affine(draw, 2), gaussian(draw, 2), x, sigma)

    # For a small σ, and with ε and −ε both, the bound is the flow's likelihood up to O(σ²).
    small = 0.001 if draw.dtype == torch.float64 else 0.03
    x, flow, inverse, base, _, noise = arguments(1, b, 2, small)
    with torch.no_grad():
        z, log_det = flow(x)
        log_px = (base(z) + log_det).double().cpu()
    args = (x, flow, inverse, base, small, torch.cat([noise, -noise]))
    yield page.case("a small σ", *args, log_px=log_px, extreme=True)

    x, flow, inverse, base, sigma, _ = arguments(s, b, 2, 0.4)
    args = (x.T.contiguous().T, flow, inverse, base, sigma, draw.normal(2, b, s).permute(2, 1, 0))
    name = "arguments that are not contiguous in memory"
    yield page.case(name, *args, wrt="forward base_log_prob")


page.must_equal(
    "elbo",
    "For z = W(x − c) with a Gaussian base, the expected bound is the flow's log-likelihood less "
    "½ σ² times the sum of the squares of W, in units of the base's standard deviations. Yours is "
    "not.",
)


@page.must
def tend_to_the_likelihood(value, sigma, log_px):
    """For a small σ the bound must be the flow's log-likelihood up to O(σ²). Yours is not."""
    off = (value.double().cpu() - log_px).abs()
    return bool((off <= 200 * sigma**2).all())


@page.piece
def along_the_noise(x, forward, eps):
    """f(x), log|det J_f| and J_f ε."""
    (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
        forward, x, eps, create_graph=True
    )
    return mean, log_det, direction


@page.piece
def decoded(x, inverse, z, sigma, eps):
    """log p(x|z) − log N(ε; 0, σ²I), in which the constants cancel."""
    error = ((x - inverse(z)) / sigma) ** 2
    return 0.5 * (eps**2 - error).sum(1)


@page.piece
def of_sample(x, forward, inverse, base_log_prob, sigma, eps):
    """The bound with one sample of each data point, `(B,)`."""
    mean, log_det, direction = along_the_noise(x, forward, eps)
    z = mean + sigma * direction
    return base_log_prob(z) + log_det + decoded(x, inverse, z, sigma, eps)


@page.wrong("sum over the samples")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You sum over the samples: {got}; an expectation is estimated by their average,
    {expected}.
    """
    return sum(of_sample(x, forward, inverse, base_log_prob, sigma, eps) for eps in noise)


@page.wrong("log of mean for mean of logs")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You take the log of the average weight, the importance weighted bound: {got}; the ELBO
    averages the logs, {expected}.
    """
    terms = [of_sample(x, forward, inverse, base_log_prob, sigma, eps) for eps in noise]
    return torch.logsumexp(torch.stack(terms), 0) - math.log(len(noise))


@page.wrong("first sample only")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You use the first sample and drop the others: {got}; the average of all S is
    {expected}.
    """
    return of_sample(x, forward, inverse, base_log_prob, sigma, noise[0])


@page.wrong("samples and data points mixed up")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You repeat each data point S times in a row, but the noise has the samples on its first
    axis, so that results of different data points are averaged: {got}; with the whole batch
    repeated it is {expected}.
    """
    repeated, eps = x.repeat_interleave(len(noise), 0), noise.reshape(-1, x.shape[1])
    terms = of_sample(repeated, forward, inverse, base_log_prob, sigma, eps)
    return terms.reshape(len(noise), len(x)).mean(0)


@page.wrong("prior left out")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You leave log p(z) out: {got}; the ELBO is log p(x|z) + log p(z) − log q(z|x),
    {expected}.
    """
    terms = []
    for eps in noise:
        mean, log_det, direction = along_the_noise(x, forward, eps)
        terms.append(log_det + decoded(x, inverse, mean + sigma * direction, sigma, eps))
    return torch.stack(terms).mean(0)


@page.wrong("log q left out")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You return the average of log p(x, z): {got}; the ELBO subtracts log q(z|x),
    {expected}.
    """
    terms = []
    for eps in noise:
        mean, _, direction = along_the_noise(x, forward, eps)
        z = mean + sigma * direction
        scaled = (x - inverse(z)) / sigma
        log_px_given_z = -0.5 * (scaled**2 + math.log(2 * math.pi * sigma**2)).sum(1)
        terms.append(log_px_given_z + base_log_prob(z))
    return torch.stack(terms).mean(0)


@page.wrong("log-det with the wrong sign")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You subtract log|det J_f|: {got}; log q contains −log|det J_f|, and the ELBO subtracts
    log q, so it is added, {expected}.
    """
    terms = []
    for eps in noise:
        mean, log_det, direction = along_the_noise(x, forward, eps)
        z = mean + sigma * direction
        terms.append(base_log_prob(z) - log_det + decoded(x, inverse, z, sigma, eps))
    return torch.stack(terms).mean(0)


@page.wrong("prior at f(x)")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You evaluate the prior at f(x): {got}; every term of the ELBO is at the sample z of the
    encoder, {expected}.
    """
    terms = []
    for eps in noise:
        mean, log_det, direction = along_the_noise(x, forward, eps)
        fit = decoded(x, inverse, mean + sigma * direction, sigma, eps)
        terms.append(base_log_prob(mean) + log_det + fit)
    return torch.stack(terms).mean(0)


@page.wrong("decoder at f(x)")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You decode f(x), which gives x back without an error: {got}; decode the sample z,
    {expected}.
    """
    terms = []
    for eps in noise:
        mean, log_det, direction = along_the_noise(x, forward, eps)
        log_pz = base_log_prob(mean + sigma * direction)
        terms.append(log_pz + log_det + decoded(x, inverse, mean, sigma, eps))
    return torch.stack(terms).mean(0)


@page.wrong("encoder without the Jacobian")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """Your encoder is N(f(x), σ²I): {got}; only with the covariance σ² J_f J_fᵀ does it follow the
    posterior for small σ, {expected}.
    """
    terms = []
    for eps in noise:
        z = forward(x)[0] + sigma * eps
        terms.append(base_log_prob(z) + decoded(x, inverse, z, sigma, eps))
    return torch.stack(terms).mean(0)


@page.wrong("flow likelihood")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You return the flow's log-likelihood, the limit for σ → 0: {got}; at this σ the ELBO is
    {expected}.
    """
    z, log_det = forward(x)
    return base_log_prob(z) + log_det


@page.wrong("average over the batch")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """You average over samples and data points together; each data point has its own ELBO,
    shape (B,).
    """
    terms = [of_sample(x, forward, inverse, base_log_prob, sigma, eps) for eps in noise]
    return torch.stack(terms).mean()


@page.wrong("Jacobian without gradient")
def _(x, forward, inverse, base_log_prob, sigma, noise):
    """Your numbers are right, but J_f ε is cut off from the graph, so that the flow does not
    learn how its Jacobian moves z; build it with `create_graph=True`.
    """
    terms = []
    for eps in noise:
        mean, log_det = forward(x)
        direction = torch.autograd.functional.jvp(lambda v: forward(v)[0], x, eps)[1].detach()
        z = mean + sigma * direction
        terms.append(base_log_prob(z) + log_det + decoded(x, inverse, z, sigma, eps))
    return torch.stack(terms).mean(0)
