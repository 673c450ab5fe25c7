"""Tolerances, nodes and cases that several exercises share."""

import numpy as np
import torch

from dgm_utils.exercises.latent_variable_models._networks import Network, Polynomial, Wave

# The expanded square x² − 2xμ + μ² and (z − μ)/σ² are right answers and cancel in float32.
CANCELS = {torch.float64: 1e-8, torch.float32: 1e-3}


def gauss_hermite(num):
    """Nodes and weights with `Σ weights f(nodes) = E f(ε)`, ε ~ N(0, 1), in float64."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def along_the_simplex(gradient):
    """The part of a gradient that moves rows which keep their sum."""
    return gradient - gradient.mean(-1, keepdim=True)


def gradient_cases(page, draw, fact):
    """Cases of both estimators; `fact` is what the first of them gives, worked out by hand."""

    def case(name, f, mean, std, noise, **facts):
        args = (f.to(draw.device, draw.dtype), draw.tensor(mean), draw.tensor(std), noise)
        return page.case(name, *args, **facts)

    # z is −1, 1, 5 and z² is 1, 1, 25.
    noise = draw.tensor([-1.0, 0.0, 2.0])
    square = [0.0, 0.0, 1.0]
    yield case("f(z) = z², z = −1, 1, 5", Polynomial(square), 1.0, 2.0, noise, exact=fact)
    s, width = draw.integer(5, 8), draw.integer(3, 6)
    mean, std = draw.normal().item(), 0.5 + draw.uniform().item()
    network = Network(width, draw.generator)
    yield case("f is a small network", network, mean, std, draw.normal(s))
    yield case("one sample", Network(width, draw.generator), mean, std, draw.normal(1))
    # Gauss-Hermite nodes as noise: the weighted average of the estimates is exact for a cubic.
    nodes, node_weights = gauss_hermite(8)
    coefficients = torch.randn(4, generator=draw.generator, dtype=torch.float64)
    z = 0.7 + 1.3 * nodes
    slope = sum(i * coefficients[i] * z ** (i - 1) for i in (1, 2, 3))
    facts = {"average": node_weights @ slope, "node_weights": node_weights}
    cubic = Polynomial(coefficients)
    yield case("noise at the nodes of a quadrature", cubic, 0.7, 1.3, draw.tensor(nodes), **facts)
    yield case("a constant f", Polynomial([3.0]), mean, std, draw.normal(s))
    yield case("f(z) = sin(10 z)", Wave(10.0), mean, 1.0, draw.normal(s))
    yield case("a narrow density", Network(width, draw.generator), mean, 0.05, draw.normal(s))
    noise = draw.normal(s, 2)[:, 1]
    yield case("noise that is not contiguous in memory", cubic, mean, std, noise)
