"""The exact answers added for the latent-variable topics, each held against a second road."""

import math

import pytest
import torch
from statements import assert_close, double, normal, uniform
from torch.distributions import Normal, kl_divergence

from dgm_utils.oracles import (
    LinearGaussian,
    grid,
    log_cell_mass,
    mixture_kl,
    probabilistic_pca,
    quadrature_kl,
    unit_cell,
)


def gaussian(mean, std):
    return Normal(double(mean), double(std))


def test_kl_between_gaussians_by_quadrature():
    nodes, log_weights = grid(-15, 15, 601)
    q, p = gaussian([0.3, -1.0], [1.0, 0.5]), gaussian([0.0, 1.0], [1.5, 2.0])
    found = quadrature_kl(q.log_prob(nodes), p.log_prob(nodes), log_weights)
    assert_close(found, kl_divergence(q, p))


def test_quadrature_refuses_nodes_that_miss_mass():
    nodes, log_weights = grid(-2, 2, 101)
    log_q = gaussian(0.0, 1.0).log_prob(nodes[:, 0])
    with pytest.raises(ValueError, match="whole mass"):
        quadrature_kl(log_q, log_q, log_weights)


@pytest.mark.parametrize(("latents", "num"), [(1, 2001), (2, 301)])
def test_kl_to_a_mixture_of_one_is_the_closed_form(latents, num):
    mean, log_var = normal(1, latents), normal(2, latents)
    means, log_vars = normal(3, 1, latents), normal(4, 1, latents)
    closed = kl_divergence(
        Normal(mean, (0.5 * log_var).exp()), Normal(means[0], (0.5 * log_vars[0]).exp())
    ).sum()
    assert_close(mixture_kl(mean, log_var, means, log_vars, num), closed)


def test_kl_to_a_mixture_does_not_depend_on_the_nodes():
    mean, log_var = double([0.4]), double([-0.5])
    means, log_vars = double([[-1.0], [2.0], [0.5]]), double([[0.0], [-2.0], [1.0]])
    fine = mixture_kl(mean, log_var, means, log_vars, 4001)
    assert_close(mixture_kl(mean, log_var, means, log_vars, 501), fine)
    # Twice the same component changes nothing, and a mixture's KL is at most the average KL.
    twice = mixture_kl(mean, log_var, means.repeat(2, 1), log_vars.repeat(2, 1))
    assert_close(twice, fine)
    each = [mixture_kl(mean, log_var, means[c : c + 1], log_vars[c : c + 1]) for c in range(3)]
    assert fine < sum(each) / 3


def test_kl_to_a_mixture_in_two_dimensions_is_a_sum_for_a_product():
    """A mixture that varies along one axis only: KL adds up over independent axes."""
    mean, log_var = double([0.4, -0.2]), double([-0.5, 0.3])
    means, log_vars = double([[-1.0, 0.5], [2.0, 0.5]]), double([[0.0, 0.1], [-1.0, 0.1]])
    first = mixture_kl(mean[:1], log_var[:1], means[:, :1], log_vars[:, :1])
    second = mixture_kl(mean[1:], log_var[1:], means[:1, 1:], log_vars[:1, 1:])
    assert_close(mixture_kl(mean, log_var, means, log_vars, 401), first + second)


def test_mixture_kl_refuses_other_shapes():
    with pytest.raises(ValueError, match="means"):
        mixture_kl(double([0.0]), double([0.0]), double([[0.0, 0.0]]), double([[0.0, 0.0]]))


@pytest.mark.parametrize("num", [1, 2, 7])
def test_unit_cell_is_exact_to_degree_2n_minus_1(num):
    nodes, log_weights = unit_cell(num)
    for degree in range(2 * num):
        assert_close(log_weights.exp() @ nodes[:, 0] ** degree, 1 / (degree + 1), 1e-14)
    with pytest.raises(ValueError, match="between 1 and 300"):
        unit_cell(0)


def test_cells_of_a_gaussian_by_its_distribution_function():
    q = gaussian(3.3, 0.8)
    x = torch.arange(-3, 10, dtype=torch.float64)[:, None]
    found = log_cell_mass(lambda y: q.log_prob(y).sum(-1), x)
    assert_close(found.exp(), (q.cdf(x + 1) - q.cdf(x))[:, 0])
    assert_close(found.exp().sum(), 1.0)


def test_cells_of_a_product_in_two_dimensions():
    q = gaussian([0.2, -0.4], [0.6, 1.5])
    x = double([[0.0, 0.0], [-1.0, 2.0], [1.0, -3.0]])
    exact = (q.cdf(x + 1) - q.cdf(x)).log().sum(1)
    assert_close(log_cell_mass(lambda y: q.log_prob(y).sum(-1), x), exact, 1e-11)


def test_probabilistic_pca_is_the_highest_likelihood():
    x = normal(1, 200, 5) @ normal(2, 5, 5) + normal(3, 5)
    model = probabilistic_pca(x, 2)
    highest = model.log_evidence(x).mean()
    parameters = [model.weight, model.bias, model.noise_std]
    leaves = [p.clone().requires_grad_() for p in parameters]
    gradient = torch.autograd.grad(LinearGaussian(*leaves).log_evidence(x).mean(), leaves)
    assert all((g.abs() < 1e-10).all() for g in gradient)  # a stationary point
    for seed in range(20):
        moved = [p + 0.05 * normal(seed + 9 * i, *p.shape) for i, p in enumerate(parameters)]
        assert LinearGaussian(*moved).log_evidence(x).mean() < highest


def test_probabilistic_pca_finds_the_model_that_made_the_data():
    """With the model's own covariance as the data's, the closed form returns W Wᵀ, b and s."""
    weight, bias = normal(1, 4, 2), normal(2, 4)
    covariance = weight @ weight.T + 0.3**2 * torch.eye(4, dtype=torch.float64)
    root = torch.linalg.cholesky(covariance) * math.sqrt(4)
    # 2D points bias ± √D·(columns of the root): their mean is the bias, their covariance this one.
    x = bias + torch.cat([root.T, -root.T])
    model = probabilistic_pca(x, 2)
    assert_close(model.weight @ model.weight.T, weight @ weight.T)
    assert_close(model.bias, bias)
    assert_close(model.noise_std, 0.3)


def test_probabilistic_pca_refuses_what_it_cannot_answer():
    x = uniform(1, 10, 3)
    for latents in (0, 3):
        with pytest.raises(ValueError, match="num_latents"):
            probabilistic_pca(x, latents)
    with pytest.raises(ValueError, match="no variance"):
        probabilistic_pca(x[:, :1] @ torch.ones(1, 3, dtype=torch.float64), 1)
