"""What is asked in the assignment `elbo_surgery`: cases, exact answers, wrong answers, hints.

The wrong implementations use `torch`, `F`, `math` and `itertools` and nothing else of this module,
because their sources are pasted into notebooks that have the same imports.
"""

import itertools
import math

import torch

from dgm_utils import elbo_surgery
from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import Exercise, Misconceptions, Property
from nbjudge.asking.statements import is_exact, is_fact
from nbjudge.check import Checker
from nbjudge.inside.case import Case

# The expanded square z² − 2zμ + μ² is a right answer. In float32 it cancels: where the squares are
# 2000 times the variance, as in some cases below, the result is off by some 10⁻⁴.
_SINGLE = 1e-3
_COARSE = {torch.float64: 1e-8, torch.float32: _SINGLE}


def _posteriors(draw, n, latents):
    """Means and log-variances of n overlapping posteriors."""
    return draw.normal(n, latents), 0.7 * draw.normal(n, latents) - 0.5


def _sample(draw, mean, log_var):
    return mean + torch.exp(0.5 * log_var) * draw.normal(*mean.shape)


def _tiny(draw, n, latents):
    """Posteriors with standard deviations near 0.001, no further apart than that."""
    return 1e-3 * draw.normal(n, latents), -13.8 + 0.3 * draw.normal(n, latents)


def _far(draw, n):
    """Samples 45 standard deviations out, each claimed by one of n posteriors.

    Where two share a sample the gradient is large and hangs on the difference of two log-densities
    near −1000, which float32 does not hold to the digits that a right answer needs.
    """
    while True:
        mean, log_var = draw.normal(n, 1), -0.3 * draw.uniform(n, 1)
        z = 45 * (2 * draw.bernoulli(n, 1) - 1) + draw.normal(n, 1)
        log_q = -0.5 * ((z - mean.T) ** 2 * torch.exp(-log_var.T) + log_var.T)
        first, second = log_q.topk(2).values.unbind(1)
        if (first - second).min() > 20:
            return z, mean, log_var


# --- pairwise_log_prob ----------------------------------------------------------------------------


def _pair_cases(draw):
    # (1 − 0)/2 = ½ and (1 − 3)/2 = −1 standard deviations.
    args = (draw.tensor([[1.0]]), draw.tensor([[0.0], [3.0]]), draw.tensor([[4.0], [4.0]]).log())
    constant = -0.5 * math.log(2 * math.pi) - math.log(2)
    facts = {"log_prob": [[constant - 0.125, constant - 0.5]]}
    yield Case("z = 1 under N(0, 2²) and N(3, 2²)", args, (0, 1, 2), facts)
    m, n, latents = draw.integer(4, 5), draw.integer(6, 8), draw.integer(2, 3)
    args = (1.5 * draw.normal(m, latents), *_posteriors(draw, n, latents))
    yield Case("all axes of different length", args, (0, 1, 2))
    args = (draw.normal(n, latents), *_posteriors(draw, 1, latents))
    yield Case("one posterior", args, (0, 1, 2))
    args = (draw.normal(m, m), *_posteriors(draw, m, m))
    yield Case("as many samples as posteriors and latents", args, (0, 1, 2))
    mean, log_var = draw.normal(n, latents), -5 + 0.5 * draw.normal(n, latents)
    yield Case("narrow posteriors", (_sample(draw, mean, log_var)[:m], mean, log_var), (0, 1, 2))
    mean, log_var = _tiny(draw, n, 2)
    z = _sample(draw, mean, log_var)[:m]
    yield Case("standard deviations near 0.001", (z, mean, log_var), (0, 1, 2))
    z = 45 * (2 * draw.bernoulli(m, 1) - 1) + draw.normal(m, 1)
    yield Case("samples far from every posterior", (z, *_posteriors(draw, n, 1)), (0, 1, 2))
    args = (draw.normal(m, 300), *_posteriors(draw, 3, 300))
    yield Case("300 latents", args, (0, 1, 2))
    args = (draw.normal(2, m).T, draw.normal(2, n).T, draw.normal(2, n).T - 1)
    yield Case("arguments that are not contiguous in memory", args, (0, 1, 2))
    yield _line_case(draw, "samples on a grid, one latent")


def _line_case(draw, name):
    """A grid of samples that holds every posterior: the densities add to one."""
    n = draw.integer(3, 4)
    mean = 2 * draw.uniform(n, 1) - 1 + draw.tensor([-2.5, 0.0, 2.5, 1.0])[:n, None]
    log_var = 2 * torch.log(0.5 + 0.5 * draw.uniform(n, 1))
    grid = torch.linspace(-12, 12, 97, dtype=torch.float64)
    return Case(name, (draw.tensor(grid[:, None]), mean, log_var), (0, 1, 2), {"cell": 24 / 96})


def _adds_to_one(case, value):
    if "cell" not in case.facts:
        return True
    mass = value.double().exp().sum(0) * case.facts["cell"]
    return is_exact(mass.to(value.dtype), torch.ones(mass.shape), single=_SINGLE)


pairwise_log_prob_wrong = Misconceptions()


@pairwise_log_prob_wrong("½ missing")
def _(z, mean, log_var):
    """Your Gaussian log-density lacks the factor ½: {got}; with −½ ((z − μ)²/σ² + log σ² +
    log 2π) it is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return -(squares + log_var + math.log(2 * math.pi)).sum(-1)


@pairwise_log_prob_wrong("variance taken for the standard deviation")
def _(z, mean, log_var):
    """You use exp(log_var) as the standard deviation: {got}; it is the variance, and the
    standard deviation is exp(log_var / 2), which gives {expected}.
    """
    std = torch.exp(log_var)
    squares = ((z[:, None] - mean) / std) ** 2
    return (-0.5 * squares - log_var - 0.5 * math.log(2 * math.pi)).sum(-1)


@pairwise_log_prob_wrong("log σ² forgotten")
def _(z, mean, log_var):
    """You leave the normalizer −½ log σ² out: {got}; a narrow Gaussian is higher, and with it
    the log-density is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + math.log(2 * math.pi)).sum(-1)


@pairwise_log_prob_wrong("log 2π forgotten")
def _(z, mean, log_var):
    """You leave ½ log 2π out of each dimension: {got}; a log-density has it, {expected}."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var).sum(-1)


@pairwise_log_prob_wrong("log 2π once for all dimensions")
def _(z, mean, log_var):
    """You subtract ½ log 2π once: {got}; each of the L dimensions has its own, {expected}."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var).sum(-1) - 0.5 * math.log(2 * math.pi)


@pairwise_log_prob_wrong("multiplied by the variance")
def _(z, mean, log_var):
    """You multiply the squares by the variance: {got}; they are divided by it, {expected}."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)


@pairwise_log_prob_wrong("small number added to the variance")
def _(z, mean, log_var):
    """You add a small number to the variance: {got}; a variance may be as small as it, exp never
    gives 0 here, and without it the log-density is {expected}.
    """
    var = torch.exp(log_var) + 1e-6
    squares = (z[:, None] - mean) ** 2 / var
    return -0.5 * (squares + torch.log(var) + math.log(2 * math.pi)).sum(-1)


@pairwise_log_prob_wrong("mean over the latents")
def _(z, mean, log_var):
    """You average over the latent dimensions: {got}; they are independent under q, so their
    log-densities add up, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).mean(-1)


@pairwise_log_prob_wrong("one number for each dimension")
def _(z, mean, log_var):
    """You keep the axis of the latents; the log-density of a vector is the sum over its
    dimensions, and the result has one number for each pair, shape (M, N).
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi))


@pairwise_log_prob_wrong("samples in columns")
def _(z, mean, log_var):
    """Your result has one row for each posterior; it should have one for each sample: entry
    (m, n) is log q(z_m|x_n), shape (M, N).
    """
    squares = (z - mean[:, None]) ** 2 * torch.exp(-log_var)[:, None]
    return -0.5 * (squares + log_var[:, None] + math.log(2 * math.pi)).sum(-1)


@pairwise_log_prob_wrong("each sample under one posterior")
def _(z, mean, log_var):
    """You subtract `mean` from `z` row by row, which pairs z_m with x_m only, if it runs at all;
    every sample meets every posterior, which takes one axis for each, shape (M, N).
    """
    squares = (z - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)


@pairwise_log_prob_wrong("density for log-density")
def _(z, mean, log_var):
    """You return the density: {got}; its log is {expected}."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return torch.exp(-0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1))


_pairwise_log_prob = Exercise(
    name="pairwise_log_prob",
    question="log q(z_m|x_n) of every sample under every posterior, shape (M, N)",
    reference=elbo_surgery.pairwise_log_prob,
    cases=_pair_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "adds to one",
            "Each posterior is a density: summed over a fine grid of z, exp(log q(z|x_n)) times "
            "the size of a cell must give 1 for every n. Yours does not.",
            _adds_to_one,
        ),
        Property(
            "exact",
            "z = 1 is ½ standard deviation from the mean of N(0, 2²), so its log-density there is "
            "−½ log 2π − log 2 − 1/8. Yours is not.",
            is_fact("log_prob", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(pairwise_log_prob_wrong),
    hints=(
        "The log-density of a Gaussian with a diagonal covariance is a sum over the latents of "
        "−½ ((z − μ)²/σ² + log σ² + log 2π).",
        "`z[:, None]` has shape (M, 1, L); combined with `mean`, (N, L), it gives one entry for "
        "each sample, posterior and latent.",
        "`-0.5 * ((z[:, None] - mean)**2 / log_var.exp() + log_var + math.log(2 * math.pi))`, "
        "summed over the last axis.",
    ),
    points=2,
    minutes=15,
    difficulty=2,
)


# --- log_aggregated_posterior ---------------------------------------------------------------------


def _aggregate_cases(draw):
    # z is one and no standard deviations from the means.
    args = (draw.tensor([[1.0]]), draw.tensor([[-1.0], [1.0]]), draw.tensor([[4.0], [4.0]]).log())
    exact = math.log((1 + math.exp(-0.5)) / 2) - math.log(2) - 0.5 * math.log(2 * math.pi)
    yield Case("z = 1 under N(−1, 2²) and N(1, 2²)", args, (0, 1, 2), {"log_q": [exact]})
    m, n, latents = draw.integer(4, 5), draw.integer(6, 8), draw.integer(2, 3)
    args = (1.5 * draw.normal(m, latents), *_posteriors(draw, n, latents))
    yield Case("all axes of different length", args, (0, 1, 2))
    args = (draw.normal(m, latents), *_posteriors(draw, 1, latents))
    yield Case("one posterior", args, (0, 1, 2))
    args = (draw.normal(m, m), *_posteriors(draw, m, m))
    yield Case("as many samples as posteriors and latents", args, (0, 1, 2))

    noise = torch.randn(m, 2, generator=draw.generator, dtype=torch.float64)
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi) + math.log(0.25)).sum(1)
    args = (3 + 0.5 * noise, [[3.0, 3.0]] * n, [[math.log(0.25)] * 2] * n)
    args = tuple(draw.tensor(arg) for arg in args)
    yield Case("posteriors that are all N(3, ½² I)", args, (0, 1, 2), {"log_q": log_q})

    mean, log_var = draw.normal(n, latents), -5 + 0.5 * draw.normal(n, latents)
    yield Case("narrow posteriors", (_sample(draw, mean, log_var)[:m], mean, log_var), (0, 1, 2))
    z = 45 * (2 * draw.bernoulli(m, 1) - 1) + draw.normal(m, 1)
    args = (z, draw.normal(n, 1), -0.3 * draw.uniform(n, 1))
    yield Case("samples far from every posterior", args, (0, 1, 2))
    mean = _corners(draw, n)
    log_var = 0.3 * draw.normal(n, 3)
    args = (_sample(draw, mean, log_var)[:m], mean, log_var)
    yield Case("posteriors 40 standard deviations apart", args, (0, 1, 2))
    args = (draw.normal(m, 300), *_posteriors(draw, 3, 300))
    yield Case("300 latents", args, (0, 1, 2))
    args = (draw.normal(2, m).T, draw.normal(2, n).T, draw.normal(2, n).T - 1)
    yield Case("arguments that are not contiguous in memory", args, (0, 1, 2))
    yield _line_case(draw, "samples on a grid, one latent")

    axis = torch.linspace(-8, 8, 33, dtype=torch.float64)
    mean, log_var = draw.normal(3, 2).clamp(-2, 2), 2 * torch.log(0.7 + 0.2 * draw.uniform(3, 2))
    args = (draw.tensor(torch.cartesian_prod(axis, axis)), mean, log_var)
    yield Case("samples on a grid, two latents", args, (0, 1, 2), {"cell": 0.25})

    # Gradients were compared above. Nine latents leave room for two (M, N) tensors in one.
    m, n, latents = draw.integer(900, 940), draw.integer(960, 1000), 9
    args = (draw.normal(m, latents), *_posteriors(draw, n, latents))
    limit = m * n * latents // 4 - 1
    yield Case("a thousand samples, a thousand posteriors", args, max_numel=limit)


def _corners(draw, n):
    """Means near n different corners of a cube, at least 40 apart but for their noise."""
    signs = torch.tensor(list(itertools.product([-20.0, 20.0], repeat=3)), dtype=torch.float64)
    chosen = torch.randperm(8, generator=draw.generator)[:n]
    return draw.tensor(signs[chosen]) + 0.5 * draw.normal(n, 3)


def _draw_aggregate(axis, triples):
    """The aggregated posterior on a grid, the student's beside the right one."""
    axis.set(xlabel="z", ylabel="density", title="The aggregated posterior")
    known = [t for t in triples if "cell" in t[0].facts and t[0].args[0].shape[1] == 1]
    if not known:
        return "The aggregated posterior: no values to draw."
    case, value, expected = known[0]
    z = case.args[0][:, 0].double().cpu()
    right = expected.double().exp().cpu()
    axis.plot(z, right, color="#0072B2", linewidth=3, label="q(z)")
    said = "The aggregated posterior on a grid. The right density has its peak, "
    said += f"{right.max():.3f}, at z = {z[right.argmax()]:.2f}"
    if value.shape == expected.shape and value.isfinite().all():
        yours = value.double().clamp(max=5).exp().cpu()
        axis.plot(z, yours, "--", color="#D55E00", label="yours")
        axis.set_ylim(0, 2.5 * float(right.max()))
        said += f"; yours has {yours.max():.3f} at z = {z[yours.argmax()]:.2f}."
    else:
        said += "; yours cannot be drawn."
    axis.legend()
    return said


log_aggregated_posterior_wrong = Misconceptions()


@log_aggregated_posterior_wrong("a tensor for every pair and dimension")
def _(z, mean, log_var):
    """Your numbers are right, but you hold one number for each sample, posterior and latent at
    once, 15 GB for ten thousand of each and 20 latents; take a matrix product, one latent at a
    time, or the samples in blocks.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_q, 1) - math.log(mean.shape[0])


@log_aggregated_posterior_wrong("log-sum-exp over each latent dimension")
def _(z, mean, log_var):
    """You average the densities of each latent dimension by itself and add the logs, which
    scores a product of one-dimensional mixtures: {got}; a mixture of vectors sums over the
    latents first, {expected}.
    """
    total = 0
    for k in range(z.shape[1]):
        squares = (z[:, None, k] - mean[:, k]) ** 2 * torch.exp(-log_var[:, k])
        log_q = -0.5 * (squares + log_var[:, k] + math.log(2 * math.pi))
        total = total + torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    return total


@log_aggregated_posterior_wrong("mean of logs for log of mean")
def _(z, mean, log_var):
    """You average the log-densities: {got}; q(z) averages the densities, and the log comes
    after, {expected}.
    """
    p = torch.exp(-log_var)
    squares = z**2 @ p.T - 2 * z @ (mean * p).T + (mean**2 * p).sum(1)
    log_q = -0.5 * (squares + (log_var + math.log(2 * math.pi)).sum(1))
    return log_q.mean(1)


@log_aggregated_posterior_wrong("log N forgotten")
def _(z, mean, log_var):
    """You sum over the posteriors: {got}; q(z) is their average, so log N is subtracted,
    {expected}.
    """
    p = torch.exp(-log_var)
    squares = z**2 @ p.T - 2 * z @ (mean * p).T + (mean**2 * p).sum(1)
    log_q = -0.5 * (squares + (log_var + math.log(2 * math.pi)).sum(1))
    return torch.logsumexp(log_q, 1)


@log_aggregated_posterior_wrong("log M for log N")
def _(z, mean, log_var):
    """You subtract the log of the number of samples, M: {got}; the average is over the N
    posteriors, {expected}.
    """
    p = torch.exp(-log_var)
    squares = z**2 @ p.T - 2 * z @ (mean * p).T + (mean**2 * p).sum(1)
    log_q = -0.5 * (squares + (log_var + math.log(2 * math.pi)).sum(1))
    return torch.logsumexp(log_q, 1) - math.log(z.shape[0])


@log_aggregated_posterior_wrong("average over the samples")
def _(z, mean, log_var):
    """You average over the samples and get a number for each posterior; average over the
    posteriors, so that each sample has its own, shape (M,).
    """
    p = torch.exp(-log_var)
    squares = z**2 @ p.T - 2 * z @ (mean * p).T + (mean**2 * p).sum(1)
    log_q = -0.5 * (squares + (log_var + math.log(2 * math.pi)).sum(1))
    return torch.logsumexp(log_q, 0) - math.log(z.shape[0])


@log_aggregated_posterior_wrong("one Gaussian with average parameters")
def _(z, mean, log_var):
    """You average the means and the variances and take one Gaussian: {got}; a mixture of N
    Gaussians is not a Gaussian, and averaging the densities gives {expected}.
    """
    center, var = mean.mean(0), torch.exp(log_var).mean(0)
    squares = (z - center) ** 2 / var
    return -0.5 * (squares + torch.log(var) + math.log(2 * math.pi)).sum(-1)


@log_aggregated_posterior_wrong("exponentials that underflow")
def _(z, mean, log_var):
    """You average the densities themselves, and far from every posterior they are all 0 in
    floating point: {got}; with log-sum-exp it is {expected}.
    """
    p = torch.exp(-log_var)
    squares = z**2 @ p.T - 2 * z @ (mean * p).T + (mean**2 * p).sum(1)
    log_q = -0.5 * (squares + (log_var + math.log(2 * math.pi)).sum(1))
    return torch.log(torch.exp(log_q).mean(1))


@log_aggregated_posterior_wrong("epsilon inside the log")
def _(z, mean, log_var):
    """You add a small number inside the log, which hides densities that underflow: {got}; with
    log-sum-exp it needs none, {expected}.
    """
    p = torch.exp(-log_var)
    squares = z**2 @ p.T - 2 * z @ (mean * p).T + (mean**2 * p).sum(1)
    log_q = -0.5 * (squares + (log_var + math.log(2 * math.pi)).sum(1))
    return torch.log(torch.exp(log_q).mean(1) + 1e-8)


@log_aggregated_posterior_wrong("variance taken for the standard deviation")
def _(z, mean, log_var):
    """You use exp(log_var) as the standard deviation: {got}; it is the variance, and the
    standard deviation is exp(log_var / 2), which gives {expected}.
    """
    p = torch.exp(-2 * log_var)
    squares = z**2 @ p.T - 2 * z @ (mean * p).T + (mean**2 * p).sum(1)
    log_q = -0.5 * squares - (log_var + 0.5 * math.log(2 * math.pi)).sum(1)
    return torch.logsumexp(log_q, 1) - math.log(mean.shape[0])


_log_aggregated_posterior = Exercise(
    name="log_aggregated_posterior",
    question="log q(z_m) = log (1/N Σ_n q(z_m|x_n)), shape (M,), no tensor of M·N·L/4 numbers",
    reference=elbo_surgery.log_aggregated_posterior,
    cases=_aggregate_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "adds to one",
            "q(z) is a density: summed over a fine grid of z, times the size of a cell, it must "
            "give 1. Yours does not.",
            _adds_to_one,
        ),
        Property(
            "exact",
            "Where all posteriors are the same, q(z) is any of them; at z = 1 the densities of "
            "N(−1, 2²) and N(1, 2²) average to ½ (1 + e^(−½))/√(8π). Yours do not.",
            is_fact("log_q", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(log_aggregated_posterior_wrong),
    hints=(
        "For one sample: the log-density under each of the N posteriors, summed over the latents, "
        "then the log of the average density, by `torch.logsumexp` and log N.",
        "`z[:, None] - mean` is an (M, N, L) tensor, too large here. Multiply the square out: "
        "Σ_l (z_l − μ_l)²/σ_l² = Σ_l z_l²/σ_l² − 2 Σ_l z_l μ_l/σ_l² + Σ_l μ_l²/σ_l², and the first "
        "two sums are matrix products of (M, L) and (L, N).",
        "With `p = torch.exp(-log_var)` the squares are `z**2 @ p.T - 2 * z @ (mean * p).T + "
        "(mean**2 * p).sum(1)`. Complete them to log-densities, (M, N), and take "
        "`torch.logsumexp` over axis 1, minus the log of `mean.shape[0]`.",
    ),
    points=3,
    minutes=25,
    difficulty=3,
    picture=_draw_aggregate,
)


# --- average_kl -----------------------------------------------------------------------------------


def _kl_cases(draw):
    args = (draw.tensor([[0.0]]), draw.tensor([[4.0]]).log())
    yield Case("N(0, 2²)", args, (0, 1), {"kl": 1.5 - math.log(2)})
    args = (draw.tensor([[1.0, 2.0], [0.0, 3.0]]), draw.tensor([[0.0, 0.0], [0.0, 0.0]]))
    yield Case("means (1, 2) and (0, 3), variances 1", args, (0, 1), {"kl": 3.5})
    n, latents = draw.integer(5, 7), draw.integer(2, 3)
    args = (draw.tensor(torch.zeros(n, latents)), draw.tensor(torch.zeros(n, latents)))
    yield Case("every posterior is the prior", args, (0, 1), {"kl": 0.0})
    yield Case("more data points than latents", _posteriors(draw, n, latents), (0, 1))
    yield Case("one data point", _posteriors(draw, 1, n), (0, 1))
    yield Case("as many data points as latents", _posteriors(draw, n, n), (0, 1))
    log_var = draw.tensor([[-40.0, 2.0], [0.0, -20.0], [5.0, -3.0]])
    yield Case("log-variances from −40 to 5", (draw.normal(3, 2), log_var), (0, 1))
    yield Case("300 latents", _posteriors(draw, 3, 300), (0, 1))
    args = (draw.normal(latents, n).T, draw.normal(latents, n).T)
    yield Case("arguments that are not contiguous in memory", args, (0, 1))

    # ∫ q log q/p dz on a grid.
    mean = torch.rand(n, 1, generator=draw.generator, dtype=torch.float64) - 0.5
    std = 0.6 + 0.6 * torch.rand(n, 1, generator=draw.generator, dtype=torch.float64)
    grid = torch.linspace(-14, 14, 281, dtype=torch.float64)
    log_q = -0.5 * ((grid - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)
    log_p = -0.5 * grid**2 - 0.5 * math.log(2 * math.pi)
    exact = (log_q.exp() * (log_q - log_p)).sum(1).mean() * 0.1
    args = (draw.tensor(mean), draw.tensor(2 * std.log()))
    yield Case("one latent, by quadrature", args, (0, 1), {"kl": exact})


average_kl_wrong = Misconceptions()


@average_kl_wrong("½ missing")
def _(mean, log_var):
    """You leave the factor ½ out: {got}; ½ Σ (μ² + σ² − 1 − log σ²), averaged over the data, is
    {expected}.
    """
    return (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1).mean()


@average_kl_wrong("average over the latents")
def _(mean, log_var):
    """You average over the latents too: {got}; the KL of a vector is the sum over its
    dimensions, and only the data are averaged over, {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).mean()


@average_kl_wrong("sum over the data")
def _(mean, log_var):
    """You sum over the data points: {got}; their average is {expected}."""
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum()


@average_kl_wrong("one number for each data point")
def _(mean, log_var):
    """You return the KL of each data point; their average is asked for, a tensor of shape ()."""
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)


@average_kl_wrong("variance taken for the standard deviation")
def _(mean, log_var):
    """You use exp(log_var) as the standard deviation: {got}; it is the variance, {expected}."""
    std = torch.exp(log_var)
    return (0.5 * (mean**2 + std**2 - 1) - torch.log(std)).sum(-1).mean()


@average_kl_wrong("sign")
def _(mean, log_var):
    """You return the negative KL, as it stands in the ELBO: {got}; the divergence itself is not
    negative, {expected}.
    """
    return 0.5 * (1 + log_var - mean**2 - torch.exp(log_var)).sum(-1).mean()


@average_kl_wrong("the other direction")
def _(mean, log_var):
    """You compute KL(p ‖ q): {got}; the expectation is under q, and KL(q ‖ p) is {expected}."""
    return 0.5 * ((1 + mean**2) * torch.exp(-log_var) - 1 + log_var).sum(-1).mean()


@average_kl_wrong("−1 forgotten")
def _(mean, log_var):
    """You forget the −1 of each dimension: {got}; the KL of the prior to itself is 0, and here it
    is {expected}.
    """
    return 0.5 * (mean**2 + torch.exp(log_var) - log_var).sum(-1).mean()


@average_kl_wrong("KL of an average Gaussian")
def _(mean, log_var):
    """You average the means and log-variances first, then take one KL: {got}; the KL is not
    linear in them, and the average of the N divergences is {expected}.
    """
    mean, log_var = mean.mean(0), log_var.mean(0)
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum()


_average_kl = Exercise(
    name="average_kl",
    question="1/N Σ_n KL(q(z|x_n) ‖ N(0, I)) in closed form, a 0-d tensor",
    reference=elbo_surgery.average_kl,
    cases=_kl_cases,
    properties=(
        Property(
            "not negative",
            "A KL divergence is not negative, and neither is an average of some. Yours is.",
            lambda case, value: bool(value >= -1e-6),
        ),
        Property(
            "exact",
            "KL(N(0, 2²) ‖ N(0, 1)) is 3/2 − log 2. For means (1, 2) and (0, 3) and variances 1 "
            "the divergences are 5/2 and 9/2, and average to 7/2. Where q is the prior it is 0. "
            "Yours is not.",
            is_fact("kl", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(average_kl_wrong),
    hints=(
        "The KL of a Gaussian with a diagonal covariance to N(0, I) is a sum over the latents. No "
        "sample is needed.",
        "Each latent gives ½ (μ² + σ² − 1 − log σ²), where σ² is exp(log_var). Sum over the "
        "latents, average over the data.",
        "`0.5 * (mean**2 + log_var.exp() - 1 - log_var)`, then `.sum(…)` over the latents and "
        "`.mean()` over the data.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


# --- mutual_information ---------------------------------------------------------------------------


def _encoder_cases(draw):
    """`(name, (z, mean, log_var), facts)`; facts are exact for the estimates, not on average.

    `information` is that of both estimates of the mutual information.
    """
    # A sample is one standard deviation from its own mean and two from the other, so the two
    # densities are as 1 to e^(−3/2).
    p = 1 / (1 + math.exp(-1.5))
    facts = {
        "by_density": math.log(2 * p),
        "by_index": math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p),
        "marginal": 4 - 2 * math.log(2) - math.log(p),
    }
    args = (draw.tensor([[-3.0], [3.0]]), draw.tensor([[-1.0], [1.0]]))
    args = (*args, draw.tensor([[4.0], [4.0]]).log())
    yield "N(−1, 2²) and N(1, 2²), samples −3 and 3", args, facts

    n, latents = draw.integer(6, 8), draw.integer(2, 3)
    mean, log_var = _posteriors(draw, n, latents)
    yield "more data points than latents", (_sample(draw, mean, log_var), mean, log_var), {}
    mean, log_var = _posteriors(draw, 1, n)
    args = (_sample(draw, mean, log_var), mean, log_var)
    yield "one data point", args, {"information": 0.0}
    mean, log_var = _posteriors(draw, n, n)
    yield "as many data points as latents", (_sample(draw, mean, log_var), mean, log_var), {}

    # Noise of ±1 has the moments of the standard normal, so the KL comes out exactly.
    center = torch.randn(latents, generator=draw.generator, dtype=torch.float64)
    std = 0.5 + torch.rand(latents, generator=draw.generator, dtype=torch.float64)
    noise = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).repeat(n // 2, latents)
    args = (center + std * noise, center.repeat(len(noise), 1), 2 * std.log().repeat(len(noise), 1))
    kl = 0.5 * (center**2 + std**2 - 1 - 2 * std.log()).sum()
    facts = {"information": 0.0, "marginal": kl}
    yield "posteriors that are all the same", tuple(draw.tensor(arg) for arg in args), facts

    mean, log_var = _corners(draw, n), 0.3 * draw.normal(n, 3)
    marginal = 0.5 * (mean.double() ** 2 - log_var.double()).sum(1).mean() - math.log(n)
    facts = {"information": math.log(n), "marginal": marginal.cpu()}
    yield "posteriors 40 standard deviations apart", (mean.clone(), mean, log_var), facts

    mean = draw.tensor([[-20.0], [20.0], [20.0], [20.0]])
    log_var = draw.tensor(torch.zeros(4, 1))
    facts = {"information": math.log(4) - 0.75 * math.log(3)}
    name = "one posterior, and three that are the same, far apart"
    yield name, (_sample(draw, mean, log_var), mean, log_var), facts

    mean, log_var = _posteriors(draw, n, latents)
    yield "unlikely samples", (_sample(draw, mean, log_var).roll(1, 0), mean, log_var), {}
    yield "samples far from every posterior", _far(draw, n), {}
    mean, log_var = draw.normal(n, latents), -5 + 0.5 * draw.normal(n, latents)
    yield "narrow posteriors", (_sample(draw, mean, log_var), mean, log_var), {}
    mean, log_var = _tiny(draw, n, 2)
    yield "standard deviations near 0.001", (_sample(draw, mean, log_var), mean, log_var), {}
    # Close to each other, so that they overlap in 300 dimensions too.
    mean, log_var = 0.1 * draw.normal(3, 300), 0.05 * draw.normal(3, 300) - 1
    yield "300 latents", (_sample(draw, mean, log_var), mean, log_var), {}
    args = (draw.normal(2, n).T, draw.normal(2, n).T, 0.5 * draw.normal(2, n).T)
    yield "arguments that are not contiguous in memory", args, {}


def _information_cases(draw):
    for name, args, facts in _encoder_cases(draw):
        yield Case(name, args, (0, 1, 2), facts)


def _at_most_log_n(case, value):
    return bool(value <= math.log(len(case.args[0])) + _COARSE[value.dtype])


mutual_information_wrong = Misconceptions()


@mutual_information_wrong("log N forgotten")
def _(z, mean, log_var):
    """You divide by the sum of the N densities: {got}; q(z) is their average, so log N is added,
    {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    return (log_q.diagonal() - torch.logsumexp(log_q, 1)).mean()


@mutual_information_wrong("own posterior left out of q(z)")
def _(z, mean, log_var):
    """You leave q(z_i|x_i) out of the average q(z_i), and the result may exceed log N: {got};
    x_i is one of the N data points, and with it the result is {expected}.
    """
    n = mean.shape[0]
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    others = log_q.masked_fill(torch.eye(n, dtype=torch.bool, device=z.device), -math.inf)
    return (log_q.diagonal() - torch.logsumexp(others, 1) + math.log(max(n - 1, 1))).mean()


@mutual_information_wrong("prior in place of q(z)")
def _(z, mean, log_var):
    """You compare with the prior p(z), which gives the average KL, marginal KL included: {got};
    mutual information compares with the aggregated posterior q(z), {expected}.
    """
    log_own = -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return (log_own + 0.5 * (z**2).sum(-1)).mean()


@mutual_information_wrong("sign")
def _(z, mean, log_var):
    """You subtract the wrong way round: {got}; it is log q(z_i|x_i) less log q(z_i), {expected}."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    return (torch.logsumexp(log_q, 1) - math.log(mean.shape[0]) - log_q.diagonal()).mean()


@mutual_information_wrong("every sample under every posterior")
def _(z, mean, log_var):
    """You average log q(z_i|x_n) over all pairs: {got}; z_i was drawn from q(z|x_i), and the
    first log is under that posterior alone, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    return log_q.mean() - (torch.logsumexp(log_q, 1) - math.log(mean.shape[0])).mean()


@mutual_information_wrong("average over the samples")
def _(z, mean, log_var):
    """You average q(z_m|x_i) over the samples z_m, axis 0: {got}; q(z_i) averages over the
    posteriors, axis 1, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    return (log_q.diagonal() - torch.logsumexp(log_q, 0) + math.log(mean.shape[0])).mean()


@mutual_information_wrong("log-sum-exp over each latent dimension")
def _(z, mean, log_var):
    """You form q(z) for each latent by itself and add up: {got}; the latents are independent
    given x, not in q(z), so sum over them before the log-sum-exp, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var)
    log_own = log_q.sum(-1).diagonal()
    return (log_own - (torch.logsumexp(log_q, 1) - math.log(mean.shape[0])).sum(-1)).mean()


@mutual_information_wrong("mean of logs for log of mean")
def _(z, mean, log_var):
    """You average log q(z_i|x_n) over n: {got}; q(z_i) averages the densities, and its log is
    taken after, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    return (log_q.diagonal() - log_q.mean(1)).mean()


@mutual_information_wrong("exponentials that underflow")
def _(z, mean, log_var):
    """You divide densities by their average, and both may be 0 in floating point: {got}; in logs
    it is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    q = torch.exp(-0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1))
    return torch.log(q.diagonal() / q.mean(1)).mean()


@mutual_information_wrong("closed-form KL less marginal KL")
def _(z, mean, log_var):
    """You subtract an estimate of the marginal KL from the closed-form average KL: {got}, which
    has the same expectation; asked is the average of log q(z_i|x_i) − log q(z_i) at the samples,
    {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1).mean()
    return kl - (log_aggregate + 0.5 * (z**2).sum(-1)).mean()


@mutual_information_wrong("clamped at 0")
def _(z, mean, log_var):
    """You cut the estimate off at 0: {got}; the mutual information is not negative, an unbiased
    estimate of it may be, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    return (log_q.diagonal() - log_aggregate).mean().clamp(min=0)


@mutual_information_wrong("one number for each data point")
def _(z, mean, log_var):
    """You return one number for each data point; their average is asked for, a tensor of shape
    ().
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    return log_q.diagonal() - torch.logsumexp(log_q, 1) + math.log(mean.shape[0])


_mutual_information = Exercise(
    name="mutual_information",
    question="the average of log q(z_i|x_i) − log q(z_i), a 0-d tensor",
    reference=elbo_surgery.mutual_information,
    cases=_information_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "at most log N",
            "q(z_i) ≥ q(z_i|x_i)/N, because x_i is one of the N data points, so no sample can give "
            "more than log N. Yours does.",
            _at_most_log_n,
        ),
        Property(
            "exact",
            "Where all posteriors are the same, or there is one, z says nothing of x: 0. Where "
            "none overlap it says all: log N. Where three of four are the same it is "
            "log 4 − ¾ log 3. Yours is not.",
            is_fact("information", single=_SINGLE),
        ),
        Property(
            "two posteriors",
            "For N(−1, 2²) and N(1, 2²), at the samples −3 and 3, the log-ratio of a sample's own "
            "density to the average of both is log 2 − log(1 + e^(−3/2)). Yours is not.",
            is_fact("by_density", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(mutual_information_wrong),
    hints=(
        "Two log-densities of the same sample: under its own posterior, and under the average of "
        "all N posteriors.",
        "In the (N, N) matrix of log q(z_i|x_n) the first is the diagonal, the second a "
        "log-sum-exp over the columns minus log N.",
        "With `log_q` that matrix: `log_q.diagonal() - (torch.logsumexp(log_q, 1) - "
        "math.log(N))`, and its mean.",
    ),
    points=2,
    minutes=15,
    difficulty=2,
)


# --- mutual_information_from_index ----------------------------------------------------------------


def _in_range(case, value):
    slack = _COARSE[value.dtype]
    return bool(-slack <= value <= math.log(len(case.args[0])) + slack)


mutual_information_from_index_wrong = Misconceptions()


@mutual_information_from_index_wrong("own index only")
def _(z, mean, log_var):
    """You average log q(i|z_i) of the right index, which is the other estimate of the mutual
    information: {got}; the entropy sums over all N indices, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * (squares + log_var).sum(-1), 1)
    return math.log(mean.shape[0]) + log_index.diagonal().mean()


@mutual_information_from_index_wrong("entropy for information")
def _(z, mean, log_var):
    """You return the average entropy of q(i|z_i), what z leaves open: {got}; what it tells is
    log N minus that, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * (squares + log_var).sum(-1), 1)
    return -(log_index.exp() * log_index).sum(1).mean()


@mutual_information_from_index_wrong("log N forgotten")
def _(z, mean, log_var):
    """You return the negative entropy: {got}; before z is seen the index has the entropy log N,
    which is to be added, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * (squares + log_var).sum(-1), 1)
    return (log_index.exp() * log_index).sum(1).mean()


@mutual_information_from_index_wrong("entropy added")
def _(z, mean, log_var):
    """You add the entropy to log N: {got}; what z leaves open is subtracted, {expected}."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * (squares + log_var).sum(-1), 1)
    return math.log(mean.shape[0]) - (log_index.exp() * log_index).sum(1).mean()


@mutual_information_from_index_wrong("normalized over the samples")
def _(z, mean, log_var):
    """You normalize over the samples: {got}; q(n|z_i) is a distribution over the N posteriors
    for each sample, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * (squares + log_var).sum(-1), 0)
    return math.log(mean.shape[0]) + (log_index.exp() * log_index).sum(0).mean()


@mutual_information_from_index_wrong("entropy of the average")
def _(z, mean, log_var):
    """You average q(i|z) over the samples and take one entropy, which is near log N always:
    {got}; each sample has its own entropy, and these are averaged, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    index = torch.softmax(-0.5 * (squares + log_var).sum(-1), 1).mean(0)
    return math.log(mean.shape[0]) + torch.xlogy(index, index).sum()


@mutual_information_from_index_wrong("log of an underflow")
def _(z, mean, log_var):
    """You multiply q(i|z) by its log where it has underflowed, and 0 times −∞ is not a number:
    {got}; there the product is 0, log_softmax stays finite, and the result is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    index = torch.softmax(-0.5 * (squares + log_var).sum(-1), 1)
    return math.log(mean.shape[0]) + (index * torch.log(index)).sum(1).mean()


@mutual_information_from_index_wrong("densities that underflow")
def _(z, mean, log_var):
    """You divide densities by their sum, and far from every posterior that is 0 divided by 0:
    {got}; a softmax of the log-densities gives {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    q = torch.exp(-0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1))
    index = q / q.sum(1, keepdim=True)
    return math.log(mean.shape[0]) + torch.xlogy(index, index).sum(1).mean()


@mutual_information_from_index_wrong("average over all pairs")
def _(z, mean, log_var):
    """You average q log q over the indices too, which divides by N once more: {got}; an entropy
    is a sum over the indices, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * (squares + log_var).sum(-1), 1)
    return math.log(mean.shape[0]) + (log_index.exp() * log_index).mean()


@mutual_information_from_index_wrong("sum over the data")
def _(z, mean, log_var):
    """You sum the entropies of all samples: {got}; their average is subtracted, {expected}."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * (squares + log_var).sum(-1), 1)
    return math.log(mean.shape[0]) + (log_index.exp() * log_index).sum()


@mutual_information_from_index_wrong("log σ² forgotten")
def _(z, mean, log_var):
    """You normalize exp(−½ Σ (z − μ_n)²/σ_n²) without the factor 1/σ_n: {got}; it differs from
    posterior to posterior and does not cancel, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * squares.sum(-1), 1)
    return math.log(mean.shape[0]) + (log_index.exp() * log_index).sum(1).mean()


@mutual_information_from_index_wrong("bits for nats")
def _(z, mean, log_var):
    """You take logs to the base 2: {got}; in nats it is {expected}."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * (squares + log_var).sum(-1), 1)
    nats = math.log(mean.shape[0]) + (log_index.exp() * log_index).sum(1).mean()
    return nats / math.log(2)


_mutual_information_from_index = Exercise(
    name="mutual_information_from_index",
    question="log N minus the average entropy of q(n|z_i) ∝ q(z_i|x_n), a 0-d tensor",
    reference=elbo_surgery.mutual_information_from_index,
    cases=_information_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "between 0 and log N",
            "The entropy of a distribution over N indices lies between 0 and log N, and so does "
            "what is left of log N. Yours does not.",
            _in_range,
        ),
        Property(
            "exact",
            "Where all posteriors are the same, or there is one, z says nothing of the index: 0. "
            "Where none overlap it says all: log N. Where three of four are the same it is "
            "log 4 − ¾ log 3. Yours is not.",
            is_fact("information", single=_SINGLE),
        ),
        Property(
            "two posteriors",
            "For N(−1, 2²) and N(1, 2²), at the samples −3 and 3, the index has the probabilities "
            "p and 1 − p with p = 1/(1 + e^(−3/2)), so the result is log 2 + p log p + "
            "(1 − p) log(1 − p). Yours is not.",
            is_fact("by_index", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(mutual_information_from_index_wrong),
    hints=(
        "Pick n uniformly, then z ~ q(z|x_n). Seeing z, Bayes' rule gives the probability of each "
        "n: q(n|z) = q(z|x_n) / Σ_j q(z|x_j). Its entropy is what z leaves open.",
        "q(n|z_i) is a softmax over n of log q(z_i|x_n). The entropy −Σ_n q log q needs log q from "
        "`torch.log_softmax`: log of a softmax is −∞ where it underflows.",
        "With `log_index = torch.log_softmax(log_q, 1)`, where `log_q` is the (N, N) matrix of "
        "log q(z_i|x_n): `math.log(N) + (log_index.exp() * log_index).sum(1).mean()`.",
    ),
    points=2,
    minutes=15,
    difficulty=2,
)


# --- marginal_kl ----------------------------------------------------------------------------------

marginal_kl_wrong = Misconceptions()


@marginal_kl_wrong("closed-form KL less mutual information")
def _(z, mean, log_var):
    """You subtract the mutual information from the closed-form average KL: {got}, which has the
    same expectation; asked is the average of log q(z_i) − log p(z_i) at the samples, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1).mean()
    return kl - (log_q.diagonal() - log_aggregate).mean()


@marginal_kl_wrong("own posterior in place of q(z)")
def _(z, mean, log_var):
    """You compare q(z_i|x_i) with the prior, which gives the average KL, mutual information
    included: {got}; the marginal KL has the average q(z_i) of all posteriors, {expected}.
    """
    log_own = -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return (log_own + 0.5 * (z**2).sum(-1)).mean()


@marginal_kl_wrong("log N forgotten")
def _(z, mean, log_var):
    """You sum the N densities: {got}; q(z) is their average, so log N is subtracted,
    {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    return (torch.logsumexp(log_q, 1) + 0.5 * (z**2).sum(-1)).mean()


@marginal_kl_wrong("sign")
def _(z, mean, log_var):
    """You subtract the wrong way round: {got}; a KL is E_q [log q − log p], {expected}."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    return (-0.5 * (z**2).sum(-1) - log_aggregate).mean()


@marginal_kl_wrong("prior left out")
def _(z, mean, log_var):
    """You leave log p(z) out, so this estimates the negative entropy of q(z): {got}; with it the KL
    is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return (torch.logsumexp(log_q, 1) - math.log(mean.shape[0])).mean()


@marginal_kl_wrong("½ log 2π on one side")
def _(z, mean, log_var):
    """You keep ½ log 2π in one of the two densities and drop it in the other: {got}; it stands
    in both and cancels, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    return (log_aggregate + 0.5 * (z**2).sum(-1)).mean()


@marginal_kl_wrong("log-sum-exp over each latent dimension")
def _(z, mean, log_var):
    """You form q(z) for each latent by itself and add up: {got}; the latents are independent
    given x, not in q(z), so sum over them before the log-sum-exp, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var)
    log_aggregate = (torch.logsumexp(log_q, 1) - math.log(mean.shape[0])).sum(-1)
    return (log_aggregate + 0.5 * (z**2).sum(-1)).mean()


@marginal_kl_wrong("mean of logs for log of mean")
def _(z, mean, log_var):
    """You average log q(z_i|x_n) over n: {got}; q(z_i) averages the densities, and its log is
    taken after, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    return (log_q.mean(1) + 0.5 * (z**2).sum(-1)).mean()


@marginal_kl_wrong("one Gaussian for q(z)")
def _(z, mean, log_var):
    """You take the closed-form KL of one Gaussian with the mean and variance of q(z): {got}; q(z)
    is a mixture, and its log at the samples gives {expected}.
    """
    center = mean.mean(0)
    var = torch.exp(log_var).mean(0) + ((mean - center) ** 2).mean(0)
    return 0.5 * (center**2 + var - 1 - torch.log(var)).sum() + 0 * z.sum()


@marginal_kl_wrong("prior at the means")
def _(z, mean, log_var):
    """You take the prior at the posterior means: {got}; both densities are of the same sample
    z_i, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    return (log_aggregate + 0.5 * (mean**2).sum(-1)).mean()


@marginal_kl_wrong("exponentials that underflow")
def _(z, mean, log_var):
    """You average the densities themselves, and far from every posterior they are all 0 in
    floating point: {got}; with log-sum-exp it is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    q = torch.exp(-0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)).mean(1)
    log_p = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    return (torch.log(q) - log_p).mean()


@marginal_kl_wrong("weighted by the density")
def _(z, mean, log_var):
    """You weigh each log-ratio by q(z_i): {got}; the z_i are samples of q already, so each counts
    the same, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    log_p = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    return (torch.exp(log_aggregate) * (log_aggregate - log_p)).sum()


_marginal_kl = Exercise(
    name="marginal_kl",
    question="the average of log q(z_i) − log p(z_i), a 0-d tensor",
    reference=elbo_surgery.marginal_kl,
    cases=_information_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "exact",
            "For N(−1, 2²) and N(1, 2²), at the samples −3 and 3, log q − log p is "
            "4 − log 4 + log(1 + e^(−3/2)). Where all posteriors are one Gaussian the "
            "marginal KL is its KL to the prior. Where none overlap it is the average of "
            "log q(z_i|x_i) − log p(z_i), less log N. Yours is not.",
            is_fact("marginal", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(marginal_kl_wrong),
    hints=(
        "Two log-densities of the same sample: under q(z), the average of all N posteriors, and "
        "under the prior N(0, I).",
        "log q(z_i) is the log-sum-exp over n of log q(z_i|x_n), minus log N; log p(z_i) is "
        "−½ Σ (z² + log 2π). Average their difference over the samples.",
        "With `log_q` the (N, N) matrix of log q(z_i|x_n): `torch.logsumexp(log_q, 1) - "
        "math.log(N)`, plus `0.5 * (z**2 + math.log(2 * math.pi)).sum(1)`, and the mean of it.",
    ),
    points=2,
    minutes=10,
    difficulty=2,
)


# --- elbo_surgery ---------------------------------------------------------------------------------


def _surgery_cases(draw):
    for name, (z, mean, log_var), known in _encoder_cases(draw):
        facts = {name: value for name, value in known.items() if name != "by_index"}
        # The two names of one estimate.
        if "by_density" in facts:
            facts["information"] = facts.pop("by_density")
        args = (2 * draw.normal(len(z)) - 9, z, mean, log_var)
        yield Case(name, args, (0, 1, 2, 3), facts)

    # p(z) = N(0, 1), p(x|z) = N(z, s²): with the exact posterior every sample gives log p(x).
    n = draw.integer(5, 7)
    s = 0.7
    x = 2 * torch.randn(n, generator=draw.generator, dtype=torch.float64)
    variance = s**2 / (1 + s**2)
    noise = torch.randn(n, generator=draw.generator, dtype=torch.float64)
    mean = x / (1 + s**2)
    z = mean + math.sqrt(variance) * noise
    log_px_given_z = -0.5 * ((x - z) / s) ** 2 - 0.5 * math.log(2 * math.pi * s**2)
    log_px = -0.5 * x**2 / (1 + s**2) - 0.5 * math.log(2 * math.pi * (1 + s**2))
    log_var = [[math.log(variance)]] * n
    args = (log_px_given_z, z[:, None], mean[:, None], log_var)
    args = tuple(draw.tensor(arg) for arg in args)
    yield Case("q is the posterior", args, (0, 1, 2, 3), {"elbo": log_px.mean()})


def _adds_up(case, value):
    total = value["reconstruction"] - value["mutual_information"] - value["marginal_kl"]
    return is_exact(value["elbo"], total.double().cpu(), single=_SINGLE)


elbo_surgery_wrong = Misconceptions()


@elbo_surgery_wrong("KL added")
def _(reconstruction, z, mean, log_var):
    """You add the two parts of the KL to the reconstruction: {got}; the ELBO subtracts both,
    {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    parts = {
        "reconstruction": reconstruction.mean(),
        "mutual_information": (log_q.diagonal() - log_aggregate).mean(),
        "marginal_kl": (log_aggregate + 0.5 * (z**2).sum(-1)).mean(),
    }
    return {**parts, "elbo": sum(parts.values())}


@elbo_surgery_wrong("mutual information rewarded")
def _(reconstruction, z, mean, log_var):
    """You add the mutual information: {got}; the ELBO pays for information in z as well as for
    the marginal KL, and subtracts both, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    information = (log_q.diagonal() - log_aggregate).mean()
    marginal = (log_aggregate + 0.5 * (z**2).sum(-1)).mean()
    return {
        "reconstruction": reconstruction.mean(),
        "mutual_information": information,
        "marginal_kl": marginal,
        "elbo": reconstruction.mean() + information - marginal,
    }


@elbo_surgery_wrong("mutual information left out of the ELBO")
def _(reconstruction, z, mean, log_var):
    """You subtract the marginal KL alone: {got}; that would be the ELBO with a free code, and
    with the mutual information it is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    marginal = (log_aggregate + 0.5 * (z**2).sum(-1)).mean()
    return {
        "reconstruction": reconstruction.mean(),
        "mutual_information": (log_q.diagonal() - log_aggregate).mean(),
        "marginal_kl": marginal,
        "elbo": reconstruction.mean() - marginal,
    }


@elbo_surgery_wrong("closed-form KL in the ELBO")
def _(reconstruction, z, mean, log_var):
    """You take the closed-form KL in the ELBO and samples in its parts: {got}; on the same
    samples the parts add up exactly, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    return {
        "reconstruction": reconstruction.mean(),
        "mutual_information": (log_q.diagonal() - log_aggregate).mean(),
        "marginal_kl": (log_aggregate + 0.5 * (z**2).sum(-1)).mean(),
        "elbo": (reconstruction - kl).mean(),
    }


@elbo_surgery_wrong("average KL for the marginal KL")
def _(reconstruction, z, mean, log_var):
    """Your marginal KL compares q(z_i|x_i) with the prior, so the mutual information is in it
    already and counts twice: {got}; with the aggregated posterior q(z_i) it is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    information = (log_q.diagonal() - log_aggregate).mean()
    marginal = (log_q.diagonal() + 0.5 * (z**2).sum(-1)).mean()
    return {
        "reconstruction": reconstruction.mean(),
        "mutual_information": information,
        "marginal_kl": marginal,
        "elbo": reconstruction.mean() - information - marginal,
    }


@elbo_surgery_wrong("average KL for the mutual information")
def _(reconstruction, z, mean, log_var):
    """Your mutual information compares q(z_i|x_i) with the prior, so the marginal KL is in it
    already and counts twice: {got}; with the aggregated posterior q(z_i) it is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    information = (log_q.diagonal() + 0.5 * (z**2).sum(-1)).mean()
    marginal = (log_aggregate + 0.5 * (z**2).sum(-1)).mean()
    return {
        "reconstruction": reconstruction.mean(),
        "mutual_information": information,
        "marginal_kl": marginal,
        "elbo": reconstruction.mean() - information - marginal,
    }


@elbo_surgery_wrong("log N forgotten")
def _(reconstruction, z, mean, log_var):
    """You sum the N posteriors in place of averaging them, which moves log N from one part to
    the other and leaves the ELBO as it is: {got}; with log N it is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_total = torch.logsumexp(log_q, 1)
    information = (log_q.diagonal() - log_total).mean()
    marginal = (log_total + 0.5 * (z**2).sum(-1)).mean()
    return {
        "reconstruction": reconstruction.mean(),
        "mutual_information": information,
        "marginal_kl": marginal,
        "elbo": reconstruction.mean() - information - marginal,
    }


@elbo_surgery_wrong("sums over the data")
def _(reconstruction, z, mean, log_var):
    """You sum over the data points: {got}; all four numbers are averages, {expected}."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    information = (log_q.diagonal() - log_aggregate).sum()
    marginal = (log_aggregate + 0.5 * (z**2).sum(-1)).sum()
    return {
        "reconstruction": reconstruction.sum(),
        "mutual_information": information,
        "marginal_kl": marginal,
        "elbo": reconstruction.sum() - information - marginal,
    }


@elbo_surgery_wrong("one number for each data point")
def _(reconstruction, z, mean, log_var):
    """Your four entries have one number for each data point; average each over the data, shape
    ().
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    information = log_q.diagonal() - log_aggregate
    marginal = log_aggregate + 0.5 * (z**2).sum(-1)
    return {
        "reconstruction": reconstruction,
        "mutual_information": information,
        "marginal_kl": marginal,
        "elbo": reconstruction - information - marginal,
    }


@elbo_surgery_wrong("reconstruction taken for a loss")
def _(reconstruction, z, mean, log_var):
    """You turn the sign of the reconstruction: {got}; it is log p(x_i|z_i) already, not a loss,
    {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    information = (log_q.diagonal() - log_aggregate).mean()
    marginal = (log_aggregate + 0.5 * (z**2).sum(-1)).mean()
    return {
        "reconstruction": -reconstruction.mean(),
        "mutual_information": information,
        "marginal_kl": marginal,
        "elbo": -reconstruction.mean() - information - marginal,
    }


@elbo_surgery_wrong("numbers for tensors")
def _(reconstruction, z, mean, log_var):
    """You return Python numbers, as `.item()` makes them, and no gradient flows through those;
    return the 0-d tensors.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    information = (log_q.diagonal() - log_aggregate).mean()
    marginal = (log_aggregate + 0.5 * (z**2).sum(-1)).mean()
    return {
        "reconstruction": reconstruction.mean().item(),
        "mutual_information": information.item(),
        "marginal_kl": marginal.item(),
        "elbo": (reconstruction.mean() - information - marginal).item(),
    }


_elbo_surgery = Exercise(
    name="elbo_surgery",
    question="a dict of reconstruction, mutual_information, marginal_kl and elbo, 0-d tensors",
    reference=elbo_surgery.elbo_surgery,
    cases=_surgery_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "adds up",
            "On the same samples the ELBO is the reconstruction less the mutual information less "
            "the marginal KL, exactly. Yours is not.",
            _adds_up,
        ),
        Property(
            "q is the posterior",
            "Where q(z|x) is the posterior, log p(x|z) + log p(z) − log q(z|x) is log p(x) for "
            "every z, so the ELBO is the average of log p(x_i), which is known here. Yours is not.",
            is_fact("elbo", "elbo", single=_SINGLE),
        ),
        Property(
            "exact information",
            "The mutual information is 0 where all posteriors are the same and log N where none "
            "overlap. Yours is not.",
            is_fact("information", "mutual_information", single=_SINGLE),
        ),
        Property(
            "exact marginal KL",
            "Where all posteriors are one Gaussian the marginal KL is its KL to the prior; where "
            "none overlap it is the average of log q(z_i|x_i) − log p(z_i), less log N. Yours is "
            "not.",
            is_fact("marginal", "marginal_kl", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(elbo_surgery_wrong),
    hints=(
        "Three log-densities of each sample: log q(z_i|x_i), log q(z_i) and log p(z_i). The first "
        "less the second is mutual information, the second less the third marginal KL.",
        "log q(z_i|x_i) − log p(z_i) = [log q(z_i|x_i) − log q(z_i)] + [log q(z_i) − log p(z_i)]. "
        "Average each over the data; the ELBO is the reconstruction less both.",
        "With the (N, N) matrix `log_q` of log q(z_i|x_n): `log_q.diagonal()`, "
        "`torch.logsumexp(log_q, 1) - math.log(N)` and `-0.5 * (z**2 + math.log(2 * "
        "math.pi)).sum(1)` are the three; put the means into "
        '`{"reconstruction": …, "mutual_information": …, "marginal_kl": …, "elbo": …}`.',
    ),
    points=3,
    minutes=15,
    difficulty=2,
)


EXERCISES = (
    _pairwise_log_prob,
    _log_aggregated_posterior,
    _average_kl,
    _mutual_information,
    _mutual_information_from_index,
    _marginal_kl,
    _elbo_surgery,
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
