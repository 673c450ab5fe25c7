"""Tolerances, posteriors and the cases with them that several exercises share."""

import itertools
import math

import torch

from dgm_utils import elbo_surgery
from dgm_utils.models.densities import standard_normal_log_prob

# The expanded square z² − 2zμ + μ² is a right answer. In float32 it cancels: where the squares are
# 2000 times the variance, as in some cases below, the result is off by some 10⁻⁴.
SINGLE = 1e-3
COARSE = {torch.float64: 1e-8, torch.float32: SINGLE}

# The log-densities of which the two parts of the average KL are differences.
SUMMANDS = {
    "the mean of log q(z|x)": lambda z, mean, log_var: (
        elbo_surgery.pairwise_log_prob(z, mean, log_var).diagonal().mean()
    ),
    "the mean of log q(z)": lambda z, mean, log_var: elbo_surgery.log_aggregated_posterior(
        z, mean, log_var
    ).mean(),
    "the mean of log p(z)": lambda z: standard_normal_log_prob(z).mean(),
}


def posteriors(draw, n, latents):
    """Means and log-variances of n overlapping posteriors."""
    return draw.normal(n, latents), 0.7 * draw.normal(n, latents) - 0.5


def sample(draw, mean, log_var):
    """One sample of each posterior."""
    return mean + torch.exp(0.5 * log_var) * draw.normal(*mean.shape)


def tiny(draw, n, latents):
    """Posteriors with standard deviations near 0.001, no further apart than that."""
    return 1e-3 * draw.normal(n, latents), -13.8 + 0.3 * draw.normal(n, latents)


def far(draw, n):
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


def corners(draw, n):
    """Means near n different corners of a cube, at least 40 apart but for their noise."""
    signs = torch.tensor(list(itertools.product([-20.0, 20.0], repeat=3)), dtype=torch.float64)
    chosen = torch.randperm(8, generator=draw.generator)[:n]
    return draw.tensor(signs[chosen]) + 0.5 * draw.normal(n, 3)


def on_a_line(draw):
    """A grid of samples that holds every posterior: the densities add to one."""
    n = draw.integer(3, 4)
    mean = 2 * draw.uniform(n, 1) - 1 + draw.tensor([-2.5, 0.0, 2.5, 1.0])[:n, None]
    log_var = 2 * torch.log(0.5 + 0.5 * draw.uniform(n, 1))
    grid = torch.linspace(-12, 12, 97, dtype=torch.float64)
    return {"z": draw.tensor(grid[:, None]), "mean": mean, "log_var": log_var, "cell": 24 / 96}


def encoder_cases(draw):
    """`(name, (z, mean, log_var), facts)`; facts are exact for the estimates, not on average.

    `information` is that of both estimates of the mutual information; `extreme` is what
    `page.case` takes.
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
    mean, log_var = posteriors(draw, n, latents)
    yield "more data points than latents", (sample(draw, mean, log_var), mean, log_var), {}
    mean, log_var = posteriors(draw, 1, n)
    args = (sample(draw, mean, log_var), mean, log_var)
    yield "one data point", args, {"information": 0.0}
    mean, log_var = posteriors(draw, n, n)
    yield "as many data points as latents", (sample(draw, mean, log_var), mean, log_var), {}

    # Noise of ±1 has the moments of the standard normal, so the KL comes out exactly.
    center = torch.randn(latents, generator=draw.generator, dtype=torch.float64)
    std = 0.5 + torch.rand(latents, generator=draw.generator, dtype=torch.float64)
    noise = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).repeat(n // 2, latents)
    args = (center + std * noise, center.repeat(len(noise), 1), 2 * std.log().repeat(len(noise), 1))
    kl = 0.5 * (center**2 + std**2 - 1 - 2 * std.log()).sum()
    facts = {"information": 0.0, "marginal": kl}
    yield "posteriors that are all the same", tuple(draw.tensor(arg) for arg in args), facts

    mean, log_var = corners(draw, n), 0.3 * draw.normal(n, 3)
    marginal = 0.5 * (mean.double() ** 2 - log_var.double()).sum(1).mean() - math.log(n)
    facts = {"information": math.log(n), "marginal": marginal.cpu(), "extreme": True}
    yield "posteriors 40 standard deviations apart", (mean.clone(), mean, log_var), facts

    mean = draw.tensor([[-20.0], [20.0], [20.0], [20.0]])
    log_var = draw.tensor(torch.zeros(4, 1))
    facts = {"information": math.log(4) - 0.75 * math.log(3), "extreme": True}
    name = "one posterior, and three that are the same, far apart"
    yield name, (sample(draw, mean, log_var), mean, log_var), facts

    mean, log_var = posteriors(draw, n, latents)
    yield "unlikely samples", (sample(draw, mean, log_var).roll(1, 0), mean, log_var), {}
    yield "samples far from every posterior", far(draw, n), {"extreme": True}
    mean, log_var = draw.normal(n, latents), -5 + 0.5 * draw.normal(n, latents)
    yield "narrow posteriors", (sample(draw, mean, log_var), mean, log_var), {}
    mean, log_var = tiny(draw, n, 2)
    args = (sample(draw, mean, log_var), mean, log_var)
    yield "standard deviations near 0.001", args, {"extreme": True}
    # Close to each other, so that they overlap in 300 dimensions too.
    mean, log_var = 0.1 * draw.normal(3, 300), 0.05 * draw.normal(3, 300) - 1
    args = (sample(draw, mean, log_var), mean, log_var)
    yield "300 latents", args, {"extreme": True}
    args = (draw.normal(2, n).T, draw.normal(2, n).T, 0.5 * draw.normal(2, n).T)
    yield "arguments that are not contiguous in memory", args, {}
