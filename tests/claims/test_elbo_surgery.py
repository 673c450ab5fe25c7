"""ELBO surgery: the claims of lecture 6, held against exact answers."""

import math

import pytest
import torch
from statements import (
    DEVICES,
    assert_close,
    assert_mean,
    double,
    gradients,
    keeps_dtype_device_and_gradients,
    makes_no_tensor_of,
    normal,
)
from torch.distributions import Normal

from dgm_utils.elbo_surgery import (
    average_kl,
    elbo_surgery,
    log_aggregated_posterior,
    marginal_kl,
    mutual_information,
    mutual_information_from_index,
    pairwise_log_prob,
)
from dgm_utils.models import densities
from dgm_utils.oracles import LinearGaussian, grid, quadrature_kl

# Five posteriors over one latent, some of which overlap.
MEAN = double([[-2.0], [-0.5], [0.0], [1.8], [2.4]])
LOG_VAR = double([[-1.0], [-3.0], [0.2], [-0.5], [-2.0]])


def direct(z, mean, log_var):
    """Broadcasting in float64: slow, obvious, (M, N, L) numbers."""
    z, mean, log_var = z.double(), mean.double(), log_var.double()
    return Normal(mean, torch.exp(0.5 * log_var)).log_prob(z[:, None]).sum(-1)


def exact_parts():
    """Mutual information and marginal KL of the five posteriors, by quadrature."""
    nodes, log_weights = grid(-12, 12, 1201)
    log_each = direct(nodes, MEAN, LOG_VAR)
    log_aggregate = torch.logsumexp(log_each, 1) - math.log(5)
    information = quadrature_kl(log_each, log_aggregate[:, None].expand(-1, 5), log_weights).mean()
    log_prior = Normal(double(0.0), 1.0).log_prob(nodes[:, 0])
    return information, quadrature_kl(log_aggregate, log_prior, log_weights)


def expectation(function):
    """E of `function(z, mean, log_var)` over z_i ~ q(z|x_i).

    The functions are sums over i, so the same standard normal node may serve every posterior.
    """
    noise, log_step = grid(-10, 10, 401)
    mass = (Normal(double(0.0), 1.0).log_prob(noise[:, 0]) + log_step).exp()
    std = torch.exp(0.5 * LOG_VAR)
    return mass @ torch.stack([function(MEAN + std * e, MEAN, LOG_VAR) for e in noise])


# 6.1


def test_average_kl_is_mutual_information_plus_marginal_kl():
    """6.1 The theorem, both parts by quadrature and the average in closed form."""
    information, marginal = exact_parts()
    assert information > 0.5
    assert marginal > 0.1
    assert_close(average_kl(MEAN, LOG_VAR), information + marginal, 1e-11)


@pytest.mark.parametrize("function", [mutual_information, mutual_information_from_index])
def test_two_forms_of_the_mutual_information(function):
    """6.1 KL to the aggregate, and log n less the entropy of q(i|z), have one expectation."""
    assert_close(expectation(function), exact_parts()[0], 1e-11)


def test_expectation_of_the_marginal_kl():
    """6.1 mean log q(z_i) − log p(z_i) has the marginal KL as its expectation."""
    assert_close(expectation(marginal_kl), exact_parts()[1], 1e-11)


def test_estimates_from_one_draw_each():
    """6.1 20 000 data points that share five posteriors: to five standard errors."""
    repeats = 4000
    mean, log_var = MEAN.repeat(repeats, 1), LOG_VAR.repeat(repeats, 1)
    z = mean + torch.exp(0.5 * log_var) * normal(1, *mean.shape)
    log_each = direct(z, MEAN, LOG_VAR)
    log_aggregate = torch.logsumexp(log_each, 1) - math.log(5)
    own = Normal(mean, torch.exp(0.5 * log_var)).log_prob(z)[:, 0]
    information, marginal = exact_parts()
    # Averages over the five posteriors are independent draws of the same thing.
    assert_mean((own - log_aggregate).reshape(repeats, 5).mean(1), information)
    prior = Normal(double(0.0), 1.0).log_prob(z)[:, 0]
    assert_mean((log_aggregate - prior).reshape(repeats, 5).mean(1), marginal)
    # The same z, through the functions: copies of a posterior do not change the aggregate.
    few = slice(0, 2000)
    found = mutual_information(z[few], mean[few], log_var[few])
    assert_close(found, (own - log_aggregate)[few].mean(), 1e-11)
    found = marginal_kl(z[few], mean[few], log_var[few])
    assert_close(found, (log_aggregate - prior)[few].mean(), 1e-11)


def test_the_elbo_is_put_together_again():
    """6.1 reconstruction − I − KL is the ELBO with the one-sample KL, whatever z is."""
    mean, log_var, z, reconstruction = (normal(i, 7, 3) for i in range(4))
    reconstruction = reconstruction[:, 0] - 80
    parts = elbo_surgery(reconstruction, z, mean, log_var)
    assert set(parts) == {"reconstruction", "mutual_information", "marginal_kl", "elbo"}
    assert all(part.shape == () for part in parts.values())
    one_sample_kl = direct(z, mean, log_var).diagonal() - Normal(double(0.0), 1.0).log_prob(z).sum(
        1
    )
    assert_close(parts["elbo"], (reconstruction - one_sample_kl).mean())
    assert_close(parts["mutual_information"], mutual_information(z, mean, log_var))
    assert_close(parts["marginal_kl"], marginal_kl(z, mean, log_var))
    assert_close(parts["reconstruction"], reconstruction.mean())


def test_surgery_on_the_linear_gaussian_model():
    """6.1 Exact posteriors: the aggregate is the oracle's, the expected ELBO the evidence."""
    # Orthogonal columns, so that the posterior's covariance is diagonal.
    model = LinearGaussian([[1.0, 0.5], [-1.0, 0.5], [0.0, 1.0]], [0.1, 0.2, 0.3], 0.7)
    x = normal(1, 6, 3)
    mean, covariance = model.posterior(x)
    log_var = covariance.diagonal().log().expand(6, 2)
    assert_close(covariance, torch.diag(covariance.diagonal()))
    z = normal(2, 9, 2)
    exact = model.aggregated_posterior(x).log_prob(z)
    assert_close(log_aggregated_posterior(z, mean, log_var), exact)
    # The posterior has constant weights, so even one draw gives the evidence exactly.
    z = mean + torch.exp(0.5 * log_var) * normal(3, 6, 2)
    log_px_given_z = model.log_joint(x, z) - Normal(double(0.0), 1.0).log_prob(z).sum(1)
    parts = elbo_surgery(log_px_given_z, z, mean, log_var)
    assert_close(parts["elbo"], model.log_evidence(x).mean(), 1e-11)


# 6.2


def test_no_information_when_all_posteriors_are_one():
    """6.2 I = 0, the lower end: q(z|x) does not depend on x."""
    mean, log_var = normal(1, 1, 3).expand(8, 3), normal(2, 1, 3).expand(8, 3)
    z = mean + torch.exp(0.5 * log_var) * normal(3, 8, 3)
    assert_close(mutual_information(z, mean, log_var), 0.0, 1e-13)
    assert_close(mutual_information_from_index(z, mean, log_var), 0.0, 1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num", [2, 10, 500])
def test_all_information_when_posteriors_are_far_apart(num, dtype):
    """6.2 I = log n, the upper end: 100 standard deviations apart q(i|z) underflows to 0 and 1.

    Multiplied out, squares cancel to eps times the largest.
    """
    mean = 100 * torch.arange(num, dtype=dtype)[:, None]
    z, log_var = mean + 0.5, torch.zeros_like(mean)
    for function in (mutual_information, mutual_information_from_index):
        found, grads = gradients(function, [z, mean, log_var], [0, 1, 2])
        squares = torch.finfo(torch.float64).eps * mean.max().item() ** 2
        assert_close(found, math.log(num), 1e-6 if dtype == torch.float32 else 1e-12 + squares)
        assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("spread", [0.01, 0.3, 1.0, 3.0, 30.0])
def test_information_lies_between_the_ends(spread):
    """6.2 0 ≤ I ≤ log n for every draw of z; only the form by the index keeps the lower end."""
    mean, log_var = spread * normal(1, 50, 2), normal(2, 50, 2)
    for seed in range(5):
        z = mean + torch.exp(0.5 * log_var) * normal(seed, 50, 2)
        assert 0 <= mutual_information_from_index(z, mean, log_var) <= math.log(50)
        assert mutual_information(z, mean, log_var) <= math.log(50)


# 6.3


def test_the_optimal_prior_is_the_aggregated_posterior():
    """6.3 Changing the prior to q(z) gains the marginal KL; a fitted Gaussian gains less.

    The gain of a prior p' over p is E_q(z) [log p' − log p], by quadrature.
    """
    nodes, log_weights = grid(-12, 12, 1201)
    log_aggregate = log_aggregated_posterior(nodes, MEAN, LOG_VAR)
    mass = (log_aggregate + log_weights).exp()
    log_prior = Normal(double(0.0), 1.0).log_prob(nodes[:, 0])

    def gain(log_other):
        return mass @ (log_other - log_prior)

    assert_close(gain(log_aggregate), exact_parts()[1], 1e-11)
    first = mass @ nodes[:, 0]
    second = mass @ (nodes[:, 0] - first) ** 2
    fitted = Normal(first, second.sqrt()).log_prob(nodes[:, 0])
    assert 0 < gain(fitted) < gain(log_aggregate) - 0.01
    # Any other density loses its KL from q(z), mixtures near q(z) included.
    shifted = log_aggregated_posterior(nodes, MEAN + 0.05, LOG_VAR)
    loss = quadrature_kl(log_aggregate, shifted, log_weights)
    assert_close(gain(log_aggregate) - gain(shifted), loss, 1e-11)
    assert loss > 0


# 6.4


def test_the_published_table_adds_up_and_is_near_its_floor():
    """6.4 Average KL = I + marginal KL to the printed digits; I ≤ log n floors the marginal KL."""
    above = []
    for average, information, marginal in [
        (7.41, 7.20, 0.21),
        (19.17, 10.82, 8.35),
        (20.2, 10.67, 9.53),
    ]:
        assert abs(information + marginal - average) < 0.0051
        above.append(marginal - max(0, average - math.log(60_000)))
    assert_close(double(above), double([0.21, 0.18, 0.33]), 0.005)


def test_marginal_kl_falls_with_the_number_of_points():
    """6.4 Over all subsets of m points: from average KL to marginal KL, never below the floor."""
    nodes, log_weights = grid(-12, 12, 1201)
    log_prior = Normal(double(0.0), 1.0).log_prob(nodes[:, 0])
    by_size = []
    for size in range(1, 6):
        found = []
        for rows in torch.combinations(torch.arange(5), size):
            log_q = log_aggregated_posterior(nodes, MEAN[rows], LOG_VAR[rows])
            found.append(quadrature_kl(log_q, log_prior, log_weights))
            floor = average_kl(MEAN[rows], LOG_VAR[rows]) - math.log(size)
            assert found[-1] >= floor - 1e-12
        by_size.append(torch.stack(found).mean())
    assert_close(by_size[0], average_kl(MEAN, LOG_VAR), 1e-11)
    assert_close(by_size[-1], exact_parts()[1], 1e-11)
    assert (torch.stack(by_size).diff() < 0).all()


# The fast log of the mean: right, and small


@pytest.mark.parametrize("std", [1.0, 0.1, 0.01, 0.001])
def test_float32_is_right_for_narrow_posteriors(std):
    """6.3 2000 posteriors at 2000 samples, 20 latents: 1e-5 nats, against float64 broadcasting.

    float32 numbers of size 128 … 256 are 1.5e-5 apart: half of that is the rounding of the result.
    """
    mean = normal(1, 2000, 20).float()
    log_var = torch.full_like(mean, 2 * math.log(std))
    z = mean.flip(0) + std * normal(2, 2000, 20).float()
    rows = torch.arange(0, 2000, 50)
    exact = torch.logsumexp(direct(z[rows], mean, log_var), 1) - math.log(2000)
    found = log_aggregated_posterior(z, mean, log_var)[rows]
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-5
    pairs = pairwise_log_prob(z[rows], mean, log_var)
    exact = direct(z[rows], mean, log_var)
    assert ((pairs - exact).abs() <= 1e-6 * exact.abs() + 1e-5).all()


def test_means_far_from_the_origin():
    """6.3 What all means share is subtracted first: at 10⁴, std 0.01, squares are 10¹² σ²."""
    mean = 1e4 + normal(1, 30, 3)
    z, log_var = mean.flip(0) + 0.01, torch.full_like(mean, 2 * math.log(0.01))
    exact = torch.logsumexp(direct(z, mean, log_var), 1) - math.log(30)
    assert_close(log_aggregated_posterior(z, mean, log_var), exact, 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_far_from_every_posterior(dtype):
    """6.3 Densities such as e⁻¹⁰⁰⁰⁰⁰ keep their logarithm, and a gradient that points home."""
    mean = torch.tensor([[0.0, 0.0], [1.0, -1.0], [3e3, 0.0]], dtype=dtype)
    z = torch.tensor([[-1e3, 5.0], [1e4, 1e4]], dtype=dtype)
    log_var = torch.tensor([[0.0, 1.0], [-3.0, 2.0], [-1.0, 0.0]], dtype=dtype)
    found, grads = gradients(log_aggregated_posterior, [z, mean, log_var], [0, 1, 2])
    exact = torch.logsumexp(direct(z, mean, log_var), 1) - math.log(3)
    assert_close(found, exact, 1e-6 if dtype == torch.float32 else 1e-12)
    assert all(g.isfinite().all() for g in grads)
    assert grads[0][0, 0] > 0 > grads[0][1, 1]


def test_three_hundred_dimensions():
    """6.3 The sum over dimensions comes before the exponential: products underflow at 300."""
    mean, log_var, z = normal(1, 5, 300), 0.3 * normal(2, 5, 300), normal(3, 4, 300)
    exact = torch.logsumexp(direct(z, mean, log_var), 1) - math.log(5)
    assert_close(log_aggregated_posterior(z, mean, log_var), exact)
    assert_close(pairwise_log_prob(z, mean, log_var), direct(z, mean, log_var))


@pytest.mark.parametrize("latents", [1, 8])
def test_no_large_tensor_is_made(latents):
    """6.3 M = N = 1000: forward and backward stay below M·N·L/4 numbers, and below M·N/4 here."""
    mean, log_var, z = (normal(i, 1000, latents).requires_grad_() for i in range(3))

    def run():
        log_aggregated_posterior(z, mean, log_var).sum().backward()
        mutual_information_from_index(z, mean, log_var).backward()

    makes_no_tensor_of(1000 * 1000 / 4, run)
    assert all(t.grad.isfinite().all() for t in (z, mean, log_var))


def test_blocks_of_any_size_give_one_result(monkeypatch):
    """6.3 Blocks are how the sum is done, not what is summed; twice differentiable besides."""
    arguments = [normal(i, 7, 2).requires_grad_() for i in range(3)]
    whole, whole_grads = gradients(log_aggregated_posterior, arguments, [0, 1, 2])
    whole_index = mutual_information_from_index(*arguments)
    monkeypatch.setattr(densities, "BLOCK", 14)
    found, grads = gradients(log_aggregated_posterior, arguments, [0, 1, 2])
    assert_close(found, whole)
    assert_close(mutual_information_from_index(*arguments), whole_index)
    for gradient, expected in zip(grads, whole_grads, strict=True):
        assert_close(gradient, expected)
    assert torch.autograd.gradcheck(log_aggregated_posterior, arguments)
    assert torch.autograd.gradgradcheck(log_aggregated_posterior, arguments)
    assert torch.autograd.gradcheck(mutual_information_from_index, arguments)


# What holds for all of them


def calls():
    """Every function: arguments, and the positions that gradients must reach."""
    mean, log_var, z = normal(1, 6, 3), 0.5 * normal(2, 6, 3), normal(3, 6, 3)
    points = normal(4, 4, 3)
    return {
        "pairwise_log_prob": (pairwise_log_prob, (points, mean, log_var), [0, 1, 2]),
        "log_aggregated_posterior": (log_aggregated_posterior, (points, mean, log_var), [0, 1, 2]),
        "average_kl": (average_kl, (mean, log_var), [0, 1]),
        "mutual_information": (mutual_information, (z, mean, log_var), [0, 1, 2]),
        "mutual_information_from_index": (
            mutual_information_from_index, (z, mean, log_var), [0, 1, 2]
        ),
        "marginal_kl": (marginal_kl, (z, mean, log_var), [0, 1, 2]),
        "elbo_surgery": (elbo_surgery, (normal(5, 6), z, mean, log_var), [0, 1, 2, 3]),
    }  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", calls())
def test_dtype_device_and_gradients(name, dtype, device):
    """6.1–6.3 The result keeps dtype and device; finite gradients reach every argument."""
    keeps_dtype_device_and_gradients(*calls()[name], dtype, device)


def test_points_one_by_one():
    """6.3 M points are M single points."""
    for name in ("pairwise_log_prob", "log_aggregated_posterior"):
        function, (z, mean, log_var), _ = calls()[name]
        one_by_one = torch.cat([function(row[None], mean, log_var) for row in z])
        assert_close(function(z, mean, log_var), one_by_one)


BAD = [
    (pairwise_log_prob, (torch.ones(4, 2), torch.ones(5, 3), torch.ones(5, 3)), ValueError,
     r"mean must have the shape \(N, L\) with L = 2 as in z, not \(5, 3\)"),
    (log_aggregated_posterior, (torch.ones(4, 2), torch.ones(0, 2), torch.ones(0, 2)), ValueError,
     "mean must not be empty"),
    (average_kl, (torch.ones(4, 2), torch.ones(4)), ValueError, "log_var"),
    (mutual_information, (torch.ones(3, 2), torch.ones(4, 2), torch.ones(4, 2)), ValueError,
     "mean .* with N = 3"),
    (mutual_information_from_index, (torch.ones(3, 2).long(), torch.ones(3, 2), torch.ones(3, 2)),
     TypeError, "z must be floating point, not torch.int64"),
    (marginal_kl, (torch.ones(3, 2), torch.ones(3, 2, device="meta"), torch.ones(3, 2)), ValueError,
     "mean is on meta, z on cpu"),
    (elbo_surgery, (torch.ones(3, 1), torch.ones(3, 2), torch.ones(3, 2), torch.ones(3, 2)),
     ValueError, "reconstruction"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "error", "words"), BAD)
def test_bad_input_is_refused_by_name(function, arguments, error, words):
    """6.1–6.3 The message names the argument, what came and what was expected."""
    with pytest.raises(error, match=words):
        function(*arguments)
