"""The exact answers, each held against a second road to the same number."""

import math

import pytest
import torch
from statements import close, normal
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from dgm_utils.oracles import (
    LinearGaussian,
    exact_iwae_bound,
    exact_q_ew_log_ratio,
    gauss_hermite,
    grid,
    log_integral,
)

EPS = torch.finfo(torch.float64).eps


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def linear_gaussian(data_dims, latent_dims, noise_std=0.7):
    return LinearGaussian(normal(1, data_dims, latent_dims), normal(2, data_dims), noise_std)


def random_covariance(seed, *batch, dims):
    factor = normal(seed, *batch, dims, dims)
    return factor @ factor.mT + 0.1 * torch.eye(dims, dtype=torch.float64)


# The linear-Gaussian model


@pytest.mark.parametrize("batch", [(), (5,)], ids=["one covariance", "a covariance each"])
def test_log_evidence_is_elbo_plus_kl(batch):
    model, x = linear_gaussian(6, 3), normal(3, 5, 6)
    mean, covariance = normal(4, 5, 3), random_covariance(5, *batch, dims=3)
    gap = model.posterior_kl(x, mean, covariance)
    assert (gap > 0.1).all()  # or the sum below would say nothing
    close(model.elbo(x, mean, covariance) + gap, model.log_evidence(x), 1e-10)


def test_elbo_is_expected_log_joint_plus_entropy():
    model, x = linear_gaussian(4, 2), normal(3, 5, 4)
    mean, covariance = normal(4, 5, 2), random_covariance(5, 5, dims=2)
    # log p(x, z) is quadratic in z, so two nodes in each dimension are exact.
    nodes, log_weights = gauss_hermite(2, dims=2)
    z = mean + (torch.linalg.cholesky(covariance) @ nodes.T[None]).permute(2, 0, 1)
    expected_log_joint = log_weights.exp() @ model.log_joint(x, z)
    entropy = MultivariateNormal(mean, covariance).entropy()
    close(expected_log_joint + entropy, model.elbo(x, mean, covariance), 1e-11)


def test_bound_touches_evidence_at_the_posterior():
    model, x = linear_gaussian(6, 3), normal(3, 5, 6)
    close(model.elbo(x, *model.posterior(x)), model.log_evidence(x), 1e-11)


@pytest.mark.parametrize("dims", [1, 2])
def test_evidence_and_posterior_by_quadrature(dims):
    model, x = linear_gaussian(3, dims), normal(3, 4, 3)
    mean, covariance = model.posterior(x)
    # The narrowest direction of the posterior is at least 3 spacings wide: error 2·exp(−18π²).
    nodes, log_weights = grid(-12, 12, 301, dims)
    assert torch.linalg.eigvalsh(covariance).min().sqrt() > 3 * 24 / 300
    log_joint = model.log_joint(x, nodes[:, None].expand(-1, 4, dims))
    log_evidence = log_integral(log_joint, log_weights)
    close(log_evidence, model.log_evidence(x), 1e-11)
    mass = (log_joint - log_evidence + log_weights[:, None]).exp()
    close(mass.T @ nodes, mean, 1e-11)
    centred = nodes[:, None] - mean
    close(torch.einsum("nb,nbi,nbj->bij", mass, centred, centred)[0], covariance, 1e-11)


def test_aggregated_posterior_is_the_average_posterior():
    model, x = linear_gaussian(3, 2), normal(3, 6, 3)
    nodes, log_weights = grid(-12, 12, 301, dims=2)
    log_prob = model.aggregated_posterior(x).log_prob(nodes)
    close(log_integral(log_prob, log_weights), double(0.0)[0], 1e-11)
    log_joint = model.log_joint(x, nodes[:, None].expand(-1, 6, 2))
    average = (log_joint - model.log_evidence(x)).exp().mean(1)
    close(log_prob.exp(), average, 1e-11)


def test_variance_of_the_posterior_mean():
    model = linear_gaussian(5, 3)
    # mean = A (x − b) with x ~ N(b, W Wᵀ + s² I), so its covariance is A (W Wᵀ + s² I) Aᵀ.
    unit_vectors = model.bias + torch.eye(5, dtype=torch.float64)
    a = model.posterior(unit_vectors)[0].T
    covariance_x = model.weight @ model.weight.T + 0.7**2 * torch.eye(5, dtype=torch.float64)
    close(model.posterior_mean_variance(), (a @ covariance_x @ a.T).diagonal(), 1e-13)


def test_unused_latent_is_not_active():
    model = LinearGaussian(double([1.0, 0.0], [2.0, 0.0]), double(0.0, 0.0), 0.5)
    # One unit of weight (1, 2) and noise 1/4: its posterior variance is 1/(1 + 5·4).
    close(model.posterior_mean_variance(), double(20 / 21, 0.0), 4 * EPS)


def test_gradients_of_the_closed_forms():
    x, mean, covariance = normal(3, 2, 3), normal(4, 2, 2), random_covariance(5, dims=2)
    parameters = [normal(1, 3, 2), normal(2, 3), double(0.7)[0], mean, covariance]

    def closed_forms(weight, bias, noise_std, mean, covariance):
        model = LinearGaussian(weight, bias, noise_std)
        covariance = (covariance + covariance.T) / 2  # finite differences move one entry alone
        return (
            model.log_evidence(x),
            model.elbo(x, mean, covariance),
            model.posterior_kl(x, mean, covariance),
            model.aggregated_posterior(x).log_prob(mean),
            model.log_joint(x, mean),
            model.posterior_mean_variance(),
        )

    parameters = [p.requires_grad_() for p in parameters]
    assert torch.autograd.gradcheck(closed_forms, parameters, fast_mode=True)


def test_float32_parameters_are_computed_in_double_and_get_gradients():
    weight = torch.nn.Parameter(torch.ones(3, 2))
    value = LinearGaussian(weight, torch.zeros(3), 1.0).log_evidence(torch.ones(1, 3)).sum()
    assert value.dtype == torch.float64
    value.backward()
    assert weight.grad.dtype == torch.float32
    assert weight.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("weight", "bias", "noise_std", "words"),
    [
        (torch.ones(3, 2), torch.ones(2), 1.0, "bias"),
        (torch.ones(3), torch.ones(3), 1.0, "weight"),
        (torch.ones(3, 2), torch.ones(3), 0.0, "noise_std"),
        (torch.ones(3, 2), torch.ones(3), torch.ones(3), "noise_std"),
    ],
)
def test_linear_gaussian_refuses_what_does_not_fit(weight, bias, noise_std, words):
    with pytest.raises(ValueError, match=words):
        LinearGaussian(weight, bias, noise_std)


# Quadrature


@pytest.mark.parametrize("num", [1, 2, 5, 10])
def test_gauss_hermite_is_exact_to_degree_2n_minus_1(num):
    nodes, log_weights = gauss_hermite(num)
    for degree in range(0, 2 * num + 1, 2):
        moment = math.prod(range(1, degree, 2))  # (degree − 1)!!
        value = (log_weights.exp() @ nodes**degree).item()
        if degree < 2 * num:
            assert abs(value / moment - 1) < 1000 * EPS
        else:
            assert abs(value / moment - 1) > 1e-6  # the rule has no more to give


def test_gauss_hermite_in_two_dimensions():
    nodes, log_weights = gauss_hermite(4, dims=2)
    assert nodes.shape == (16, 2)
    value = log_weights.exp() @ (nodes[:, 0] ** 2 * nodes[:, 1] ** 4)
    close(value, double(3.0)[0], 100 * EPS)  # 1 · 3


def test_gauss_hermite_stays_finite_at_the_largest_rule():
    nodes, log_weights = gauss_hermite(300)
    assert log_weights.isfinite().all()
    close(log_weights.exp() @ torch.exp(nodes[:, 0]), double(math.exp(0.5))[0], 100 * EPS)
    for num in (0, 301):
        with pytest.raises(ValueError, match="between 1 and 300"):
            gauss_hermite(num)


def test_grid_converges_as_promised():
    # A node on the mean: the error is Σ_m 2·exp(−2π² m² s²/h²), the first term of which rules.
    for spacing in (1.0, 1.25, 1.5):
        nodes, log_weights = grid(-12 * spacing, 12 * spacing, 25)
        log_total = log_integral(Normal(0.0, 1.0).log_prob(nodes[:, 0]), log_weights)
        promised = 2 * math.exp(-2 * math.pi**2 / spacing**2)
        assert abs(log_total.expm1().item() / promised - 1) < 1e-4


def test_grid_weighs_its_ends_by_half():
    nodes, log_weights = grid(1.0, 4.0, 4, dims=2)
    value = log_weights.exp() @ (nodes[:, 0] * (1 + nodes[:, 1]))
    close(value, double(7.5 * 10.5)[0], 1e-13)  # linear, so exact


def test_grid_refuses_an_empty_range():
    for arguments in [(1.0, 1.0, 5), (0.0, 1.0, 1)]:
        with pytest.raises(ValueError, match="low < high"):
            grid(*arguments)


def test_log_integral_does_not_underflow():
    nodes, log_weights = grid(-10, 10, 81)
    log_f = Normal(0.0, 1.0).log_prob(nodes) + double(-1e4, 1e4)
    close(log_integral(log_f, log_weights), double(-1e4, 1e4), 1e4 * 4 * EPS)


# Importance weighting, for any number of samples


def two_modes(num=401):
    """The syllabus's example: nodes, log-weights of the rule, log q and log p(x, z).

    401 nodes on [−14, 14]: L_2 agrees with 4001 nodes to 1e-13.
    """
    nodes, log_weights = grid(-14, 14, num)
    z = nodes[:, 0]
    log_q = Normal(double(0.0), double(1.5)).log_prob(z)
    modes = Normal(double(-1.5, 2.0), double(0.6, 0.5)).log_prob(nodes)
    log_joint = torch.logsumexp(modes + double(0.3 * 0.4, 0.3 * 0.6).log(), 1)
    return z, log_weights, log_q, log_joint


@pytest.fixture
def example():
    _, log_weights, log_q, log_joint = two_modes()
    return log_joint - log_q, log_q + log_weights


def elbo_of_q_ew(log_w, log_mass, num_samples):
    log_ratio = exact_q_ew_log_ratio(log_w, log_mass, num_samples)
    return ((log_ratio + log_mass).exp() @ (log_w - log_ratio)).item()


def test_values_of_the_syllabus(example):
    log_w, log_mass = example
    assert round(torch.logsumexp(log_w + log_mass, 0).item(), 4) == -1.2040
    assert round(exact_iwae_bound(log_w, log_mass, 1).item(), 4) == -2.2659
    assert round(exact_iwae_bound(log_w, log_mass, 2).item(), 4) == -1.7254
    assert round(elbo_of_q_ew(log_w, log_mass, 2), 4) == -1.5638


def test_l1_is_the_elbo(example):
    log_w, log_mass = example
    close(exact_iwae_bound(log_w, log_mass, 1), log_mass.exp() @ log_w, 1e-13)


def test_l2_by_quadrature_in_two_dimensions(example):
    # Another grid than the example's, so that the nodes' error counts too.
    _, log_weights, log_q, log_joint = two_modes(1001)
    log_w, log_mass = log_joint - log_q, log_q + log_weights
    log_average = torch.logaddexp(log_w[:, None], log_w) - math.log(2)
    direct = log_mass.exp() @ log_average @ log_mass.exp()
    close(exact_iwae_bound(*example, 2), direct, 1e-11)


@pytest.mark.parametrize(
    ("num", "lowest", "tolerance"), [(1001, -100, 1e-12), (1601, -40, 1e-11)], ids=["same", "other"]
)
def test_q_ew_of_two_samples_by_quadrature(num, lowest, tolerance):
    _, log_weights, log_q, log_joint = two_modes(1001)
    log_w, log_mass = log_joint - log_q, log_q + log_weights
    found = log_q + exact_q_ew_log_ratio(log_w, log_mass, 2)
    # q_EW(z) = E_{z_2} p(x, z) / ((w(z) + w(z_2)) / 2), z_2 on the same nodes or on others.
    _, log_weights, log_q, other_log_joint = two_modes(num)
    log_average = torch.logaddexp(log_w[:, None], other_log_joint - log_q) - math.log(2)
    direct = log_joint + torch.logsumexp(log_q + log_weights - log_average, 1)
    # On the same nodes all log-densities agree. On others the far tails keep the nodes' error,
    # since they live on what q finds further out still.
    assert direct.min() < -90
    close(found[direct > lowest], direct[direct > lowest], tolerance)


@pytest.mark.parametrize("num_samples", [1, 2, 7, 100, 5000])
@pytest.mark.parametrize("log_small", [-0.5, -30.0, -2000.0])
def test_two_weights_by_the_binomial_distribution(num_samples, log_small):
    log_w, log_mass = double(-1e4, log_small - 1e4), double(0.3, 0.7).log()

    def binomial(num):
        large = torch.arange(num + 1, dtype=torch.float64)
        counts = torch.stack([large, num - large], 1)
        # The softmax divides by Σ = (0.3 + 0.7)^num, which lgamma leaves at 1 ± 1e-12.
        return counts, (counts @ log_mass - torch.lgamma(counts + 1).sum(1)).log_softmax(0)

    counts, log_prob = binomial(num_samples)
    direct = log_prob.exp() @ torch.logsumexp(counts.log() + log_w, 1) - math.log(num_samples)
    # lgamma(5000) is 4e4, to a relative eps: 1e-11 in log_prob; log_w is −1e4, to 2e-12.
    tolerance = 1e-10
    close(exact_iwae_bound(log_w, log_mass, num_samples), direct, tolerance)

    counts, log_prob = binomial(num_samples - 1)
    counts = counts[:, None] + torch.eye(2, dtype=torch.float64)
    log_average = torch.logsumexp(counts.log() + log_w, 2) - math.log(num_samples)
    direct = torch.logsumexp(log_prob[:, None] + log_w - log_average, 0)
    found = exact_q_ew_log_ratio(log_w, log_mass, num_samples)
    if direct.min() > math.log(1e-40):
        close(found, direct, tolerance)
    else:
        # Only at K = 5000: the ratio of the small weight is exp(−1783), 0.7^4999.
        assert num_samples == 5000
        close(found.exp(), direct.exp(), tolerance)


def test_weight_that_q_hardly_ever_meets():
    # One draw in exp(40) has a weight of exp(30); two samples, so three sums in all.
    log_w, log_mass = double(30.0, 0.0), double(-40.0, math.log1p(-math.exp(-40)))
    log_average = torch.logaddexp(log_w[:, None], log_w) - math.log(2)
    direct = log_w + torch.logsumexp(log_mass - log_average, 1)
    close(exact_q_ew_log_ratio(log_w, log_mass, 2), direct, 1e-12)
    # The bound is 1e-16 above zero. A rule that missed the heavy weight's scale would show here.
    close(exact_iwae_bound(log_w, log_mass, 2), double(0.0)[0], 1e-13)


def test_mass_is_normalized(example):
    log_w, log_mass = example
    bound = exact_iwae_bound(log_w, log_mass, 5)
    close(exact_iwae_bound(log_w, log_mass + 5e-7, 5), bound, 1e-13)


def test_bound_grows_with_samples(example):
    bounds = [exact_iwae_bound(*example, k).item() for k in (1, 2, 3, 5, 10, 100, 1000)]
    assert bounds == sorted(bounds)
    assert len(set(bounds)) == len(bounds)
    assert bounds[-1] < math.log(0.3)


def test_gap_is_half_the_variance_over_samples(example):
    log_w, log_mass = example
    mass, w = log_mass.exp(), (log_w - math.log(0.3)).exp()
    second, third = (mass @ (w - 1) ** 2).item(), (mass @ (w - 1) ** 3).item()

    def rest(k):
        gap = math.log(0.3) - exact_iwae_bound(log_w, log_mass, k).item()
        # E log(1 + e) with E e² = v/K, E e³ = m/K², E e⁴ = 3v²/K² + O(1/K³)
        return gap - (second / (2 * k) - third / (3 * k**2) + 3 * second**2 / (4 * k**2))

    # What is left falls as 1/K³, with a relative correction of order 1/K.
    assert abs(rest(200) / rest(400) / 8 - 1) < 0.05


@pytest.mark.parametrize("num_samples", [1, 2, 10, 1000])
def test_q_ew_integrates_to_one(example, num_samples):
    log_w, log_mass = example
    log_ratio = exact_q_ew_log_ratio(log_w, log_mass, num_samples)
    close(torch.logsumexp(log_ratio + log_mass, 0), double(0.0)[0], num_samples * 1e-14)


def test_q_ew_of_one_sample_is_q(example):
    log_w, log_mass = example
    close(exact_q_ew_log_ratio(log_w, log_mass, 1), torch.zeros_like(log_w), 1e-13)


@pytest.mark.parametrize("num_samples", [2, 10, 100])
def test_elbo_of_q_ew_lies_strictly_between_bound_and_evidence(example, num_samples):
    bound = exact_iwae_bound(*example, num_samples).item()
    assert bound + 1e-4 < elbo_of_q_ew(*example, num_samples) < math.log(0.3) - 1e-6


def test_q_ew_tends_to_the_posterior(example):
    log_w, log_mass = example
    posterior = (log_w + log_mass - math.log(0.3)).exp()

    def distance(k):
        q_ew = (exact_q_ew_log_ratio(log_w, log_mass, k) + log_mass).exp()
        return 0.5 * (q_ew - posterior).abs().sum().item()

    # Self-normalized importance sampling is biased by O(1/K).
    assert abs(distance(1000) / distance(2000) / 2 - 1) < 0.01


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_weights_far_from_one(example, shift):
    log_w, log_mass = example
    # log_w + shift is rounded to eps · 1e4.
    tolerance = 10 * 1e4 * EPS
    shifted = exact_iwae_bound(log_w + shift, log_mass, 7)
    close(shifted, exact_iwae_bound(log_w, log_mass, 7) + shift, tolerance)
    shifted = exact_q_ew_log_ratio(log_w + shift, log_mass, 7)
    close(shifted, exact_q_ew_log_ratio(log_w, log_mass, 7), tolerance)


def test_two_latents_agree_with_the_linear_gaussian_model():
    model, x = linear_gaussian(3, 2), normal(3, 1, 3)
    mean, covariance = double([0.3, -0.2]), double([0.5, 0.0], [0.0, 0.4])
    nodes, log_weights = grid(-9, 9, 200, dims=2)  # 40,000 nodes: evaluated in pieces
    log_joint = model.log_joint(x, nodes[:, None])[:, 0]
    log_q = MultivariateNormal(mean[0], covariance).log_prob(nodes)
    log_w, log_mass = log_joint - log_q, log_q + log_weights
    elbo = model.elbo(x, mean, covariance)[0]
    close(exact_iwae_bound(log_w, log_mass, 1), elbo, 1e-10)
    # The exact posterior has constant weights: every bound is the evidence, q_EW is q.
    log_q = MultivariateNormal(*[p.squeeze(0) for p in model.posterior(x)]).log_prob(nodes)
    log_w, log_mass = log_joint - log_q, log_q + log_weights
    close(exact_iwae_bound(log_w, log_mass, 3), model.log_evidence(x)[0], 1e-11)
    close(exact_q_ew_log_ratio(log_w, log_mass, 3), torch.zeros_like(log_w), 1e-11)


def test_gradients_of_the_exact_bounds():
    log_w = normal(6, 5).requires_grad_()
    logits = normal(7, 5).requires_grad_()

    def exact(log_w, logits):
        log_mass = logits.log_softmax(0)
        return exact_iwae_bound(log_w, log_mass, 3), exact_q_ew_log_ratio(log_w, log_mass, 3)

    assert torch.autograd.gradcheck(exact, [log_w, logits])


def test_gradients_stay_finite_when_weights_span_thousands_of_nats():
    log_w = double(0.0, -1.0, -2000.0).requires_grad_()
    log_mass = double(0.3, 0.3, 0.4).log()
    for exact in (exact_iwae_bound, exact_q_ew_log_ratio):
        (gradient,) = torch.autograd.grad(exact(log_w, log_mass, 2).sum(), log_w)
        assert gradient.isfinite().all()


def test_gradient_of_l2_by_quadrature_in_two_dimensions(example):
    log_w, log_mass = example
    log_w.requires_grad_()
    log_average = torch.logaddexp(log_w[:, None], log_w) - math.log(2)
    (direct,) = torch.autograd.grad(log_mass.exp() @ log_average @ log_mass.exp(), log_w)
    (found,) = torch.autograd.grad(exact_iwae_bound(log_w, log_mass, 2), log_w)
    close(found, direct, 1e-12)


def test_gradient_flows_from_the_bound_to_a_model():
    """A road a course takes: nodes placed by q, gradient with respect to the decoder."""
    x = normal(3, 1, 2)
    weight = normal(1, 2, 1).requires_grad_()
    nodes, log_weights = grid(-9, 9, 301)
    model = LinearGaussian(weight, double(0.0, 0.0), 0.7)
    mean, covariance = (p.detach() for p in model.posterior(x))
    log_q = MultivariateNormal(mean[0], covariance).log_prob(nodes)
    log_w = model.log_joint(x, nodes[:, None])[:, 0] - log_q
    # With the exact posterior ∇ L_K = ∇ log p(x): the gap is quadratic in the weights' spread.
    (found,) = torch.autograd.grad(exact_iwae_bound(log_w, log_q + log_weights, 4), weight)
    (exact,) = torch.autograd.grad(model.log_evidence(x).sum(), weight)
    close(found, exact, 1e-11)


def test_exact_bounds_refuse_what_they_cannot_answer(example):
    log_w, log_mass = example
    for function in (exact_iwae_bound, exact_q_ew_log_ratio):
        with pytest.raises(ValueError, match="whole mass of q"):
            function(log_w, log_mass + 1e-5, 2)
        with pytest.raises(ValueError, match="at least 1"):
            function(log_w, log_mass, 0)
        with pytest.raises(ValueError, match="infinite or NaN"):
            function(torch.where(log_w > 0, log_w, -torch.inf), log_mass, 2)


def test_marginal_kl_of_the_aggregated_posterior_is_what_quadrature_finds():
    """Average KL − mutual information = marginal KL, the use the oracle is made for."""
    model, x = linear_gaussian(3, 1), normal(3, 6, 3)
    nodes, log_weights = grid(-12, 12, 401)
    mean, covariance = model.posterior(x)
    prior = MultivariateNormal(double(0.0), double([1.0]))
    average_kl = kl_divergence(MultivariateNormal(mean, covariance), prior).mean()
    log_aggregate = model.aggregated_posterior(x).log_prob(nodes)
    log_each = MultivariateNormal(mean, covariance).log_prob(nodes[:, None])
    mass = log_weights.exp()
    information = (mass @ (log_each.exp() * (log_each - log_aggregate[:, None]))).mean()
    marginal_kl = mass @ (log_aggregate.exp() * (log_aggregate - prior.log_prob(nodes)))
    assert marginal_kl > 0.01
    close(average_kl - information, marginal_kl, 1e-11)
