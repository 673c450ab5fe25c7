"""Levels, noise and mixtures that cases of several exercises are made of."""

import math

import torch

from dgm_utils.exercises.dequantization._densities import GaussianMixture

LOG_2PI = math.log(2 * math.pi)

# Log-weights of 10⁴ are a thousandth apart in float32, and a right answer may round a few times.
COARSE = {torch.float64: 1e-8, torch.float32: 5e-3}


def mixture(draw, components, dims, centre=3.0):
    """A mixture with standard deviations around 1 and means around `centre`."""
    means, log_stds = centre + draw.normal(components, dims), 0.3 * draw.normal(components, dims)
    return GaussianMixture(means, log_stds, draw.normal(components))


def on_the_line(draw, mean, log_std=0.0):
    """One Gaussian in one dimension."""
    return GaussianMixture(draw.tensor([[mean]]), draw.tensor([[log_std]]), draw.tensor([0.0]))


def gaussian(draw, dims):
    """One Gaussian, and its means and standard deviations in float64."""
    density = mixture(draw, 1, dims)
    mean, std = density.means.detach().cpu().double(), density.log_stds.detach().cpu().double()
    return density, mean[0], torch.exp(std[0])


def log_mass(mixture, x):
    """Exact log P(x) of a mixture of Gaussians, from distribution functions, in float64."""
    means, log_stds, logits = (p.detach().cpu().double() for p in mixture.parameters())
    x = x.cpu().double()[..., None, :]
    low, high = ((e - means) * torch.exp(-log_stds) for e in (x, x + 1))
    # The same mass on the other side: above the mean the difference is one of numbers near 1.
    low, high = torch.where(low + high > 0, -high, low), torch.where(low + high > 0, -low, high)
    # torch's ndtr is 0 below −9.
    mass = (torch.erfc(-high / math.sqrt(2)) - torch.erfc(-low / math.sqrt(2))) / 2
    return torch.logsumexp(torch.log(mass).sum(-1) + torch.log_softmax(logits, 0), -1)


def levels(draw, high, *shape, dtype=torch.int64):
    """Levels 0 … high."""
    x = torch.randint(high + 1, shape, generator=draw.generator)
    return x.to(draw.device, dtype)


def noise(draw, *shape):
    """Noise of U[0, 1) that stays below the next level when float32 rounds x + u."""
    return 0.999 * draw.uniform(*shape)


def two_nodes(draw, dims):
    """Two draws of noise that average every quadratic in u exactly, for each dimension."""
    node = 0.5 / math.sqrt(3)
    return draw.tensor([0.5 - node, 0.5 + node])[:, None, None].repeat(1, 1, dims)


def posterior_noise(draw, density, x, s):
    """Noise, and log q that makes it the density within the cell: every log-weight is log P(x)."""
    u = noise(draw, s, *x.shape)
    log_pmf = log_mass(density, x)
    with torch.no_grad():
        log_q = density(x + u) - log_pmf.to(u)
    return u, log_q, log_pmf
