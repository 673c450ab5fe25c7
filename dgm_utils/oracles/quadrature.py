"""Quadrature over one or two dimensions, and what follows from it.

Source: Trefethen, Weideman, "The Exponentially Convergent Trapezoidal Rule" (2014).
"""

import math

import numpy as np
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal


def gauss_hermite(num, dims=1):
    """Nodes and weights of `Σ_i exp(log_weights_i) f(nodes_i) ≈ E f(z)`, `z ~ N(0, I)`.

    Exact for polynomials of degree up to 2·num − 1 in each coordinate.

    Args:
        num: nodes in each dimension, 1 to 300 (beyond, the weights underflow).
        dims: dimensions of z; the number of nodes is num**dims, so 1 or 2 in practice.

    Returns:
        nodes `(num**dims, dims)` and log_weights `(num**dims,)`; the last coordinate runs fastest.

    Raises:
        ValueError: when num is out of range.

    """
    if not 1 <= num <= 300:
        raise ValueError(f"num must lie between 1 and 300, not {num}")
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    log_weights = np.log(weights) - np.log(weights.sum())
    return _product(torch.from_numpy(nodes), torch.from_numpy(log_weights), dims)


def grid(low, high, num, dims=1):
    """Nodes and weights of `Σ_i exp(log_weights_i) f(nodes_i) ≈ ∫ f(z) dz` over `[low, high]^dims`.

    Equally spaced nodes, the trapezoid rule. For a smooth f that has vanished at both ends its
    error falls faster than any power of the spacing h: for a Gaussian of standard deviation s it
    is 2·exp(−2π² s²/h²), so h = s/2 is at float eps and h = s is at 5e-9.

    Args:
        low: lower end of each coordinate.
        high: upper end of each coordinate.
        num: nodes in each dimension, at least 2.
        dims: dimensions of z; the number of nodes is num**dims, so 1 or 2 in practice.

    Returns:
        nodes `(num**dims, dims)` and log_weights `(num**dims,)`; the last coordinate runs fastest.

    Raises:
        ValueError: when low < high or num ≥ 2 fails.

    """
    if not low < high or num < 2:
        raise ValueError(f"need low < high and num ≥ 2, not {low}, {high}, {num}")
    nodes = torch.linspace(low, high, num, dtype=torch.float64)
    log_weights = torch.full_like(nodes, math.log((high - low) / (num - 1)))
    log_weights[[0, -1]] -= math.log(2)
    return _product(nodes, log_weights, dims)


def log_integral(log_f, log_weights):
    """`log Σ_i exp(log_weights_i) f_i` over the first axis, `(n, ...), (n,) → (...)`, stable."""
    shape = (-1,) + (1,) * (log_f.ndim - 1)
    return torch.logsumexp(log_f.double() + log_weights.reshape(shape), 0)


def quadrature_kl(log_q, log_p, log_weights):
    """`KL(q ‖ p) = ∫ q (log q − log p)` on given nodes, `(n, ...) ×2, (n,) → (...)`.

    Args:
        log_q: `(n, ...)` log-density of q at the nodes.
        log_p: `(n, ...)` log-density of p there, finite where q has mass.
        log_weights: `(n,)` of the rule, from `grid` or `unit_cell`.

    Raises:
        ValueError: when the nodes miss more than 1e-6 of q's mass.

    """
    log_q, log_p = log_q.double(), log_p.double()
    shape = (-1,) + (1,) * (log_q.ndim - 1)
    mass = (log_q + log_weights.reshape(shape)).exp()
    error = (mass.sum(0) - 1).abs().max().item()
    if not error < 1e-6:
        raise ValueError(f"the nodes must hold the whole mass of q: they miss {error:.1e} of it")
    return (mass * (log_q - log_p)).sum(0)


def mixture_kl(mean, log_var, means, log_vars, num=2001):
    """KL from a Gaussian to an equal mixture of Gaussians, for which there is no closed form.

    The nodes lie within 12 standard deviations of q, spaced by 24/(num − 1) of them: 0.012 unless
    told otherwise. The error is at rounding as long as no component is narrower than two spacings.

    Args:
        mean: `(L,)` of q, L = 1 or 2.
        log_var: `(L,)` of q.
        means: `(C, L)` of the mixture.
        log_vars: `(C, L)` of the mixture.
        num: nodes in each dimension; num² in two.

    Returns:
        `()` the KL in nats.

    Raises:
        ValueError: when the shapes do not fit.

    """
    if mean.ndim != 1 or len(mean) > 2 or means.ndim != 2 or means.shape[1:] != mean.shape:
        shapes = f"{tuple(mean.shape)} and {tuple(means.shape)}"
        raise ValueError(f"mean must be (L,) with L = 1 or 2 and means (C, L), not {shapes}")
    nodes, log_weights = grid(-12, 12, num, len(mean))
    std = torch.exp(0.5 * log_var.double())
    log_q = Normal(0.0, 1.0).log_prob(nodes).sum(1)
    components = Independent(Normal(means.double(), torch.exp(0.5 * log_vars.double())), 1)
    weights = Categorical(logits=torch.zeros_like(components.mean[:, 0]))
    log_p = MixtureSameFamily(weights, components).log_prob(mean.double() + std * nodes)
    # Both densities in units of q's standard deviations.
    return quadrature_kl(log_q, log_p + torch.log(std).sum(), log_weights)


def unit_cell(num, dims=1):
    """Gauss-Legendre nodes and weights of `Σ_i exp(log_weights_i) f(nodes_i) ≈ ∫_[0,1]^dims f`.

    Exact for polynomials of degree up to 2·num − 1 in each coordinate.

    Args:
        num: nodes in each dimension, 1 to 300.
        dims: the number of nodes is num**dims, so 1 or 2 in practice.

    Returns:
        nodes `(num**dims, dims)` and log_weights `(num**dims,)`; the last coordinate runs fastest.

    Raises:
        ValueError: when num is out of range.

    """
    if not 1 <= num <= 300:
        raise ValueError(f"num must lie between 1 and 300, not {num}")
    nodes, weights = np.polynomial.legendre.leggauss(num)
    return _product(torch.from_numpy(nodes + 1) / 2, torch.from_numpy(weights / 2).log(), dims)


def log_cell_mass(log_prob, x, num=40):
    """Exact `log P(x) = log ∫_[0,1]^D p(x + u) du` of a density cut into unit cells.

    For an entire log-density the error falls faster than any power: 40 nodes are at rounding for a
    Gaussian of standard deviation 1/15 within the cell.

    Args:
        log_prob: density `(..., D) → (...)`, in float64.
        x: `(B, D)` lower corners of the cells, D = 1 or 2.
        num: nodes in each dimension.

    Returns:
        `(B,)` log-probabilities in nats.

    """
    nodes, log_weights = unit_cell(num, x.shape[1])
    return log_integral(log_prob(x.double() + nodes[:, None]), log_weights)


def _product(nodes, log_weights, dims):
    """Tensor product of a one-dimensional rule with itself."""
    nodes = torch.stack(torch.meshgrid(*[nodes] * dims, indexing="ij"), -1)
    log_weights = sum(torch.meshgrid(*[log_weights] * dims, indexing="ij"))
    return nodes.reshape(-1, dims), log_weights.reshape(-1)
