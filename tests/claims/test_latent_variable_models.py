"""Latent variable models: the claims of lecture 1, held against exact answers."""

import itertools
import math

import pytest
import torch
from statements import (
    DEVICES,
    assert_close,
    assert_mean,
    binary,
    double,
    gradients,
    keeps_dtype_device_and_gradients,
    normal,
    uniform,
)
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    kl_divergence,
)

from dgm_utils.latent_variable_models import (
    bernoulli_log_likelihood,
    e_step,
    gaussian_elbo,
    gaussian_kl,
    m_step,
    naive_log_likelihood,
    pathwise_gradient,
    reparameterize,
    score_function_gradient,
)
from dgm_utils.oracles import (
    LinearGaussian,
    exact_iwae_bound,
    gauss_hermite,
    grid,
    mixture_kl,
    probabilistic_pca,
)
from dgm_utils.vampprior import mixture_log_prob, monte_carlo_kl


def corners(dims):
    """All vectors of ±1: equal weights, and exact for E f(z), z ~ N(0, I), of a quadratic f."""
    return double(list(itertools.product([-1.0, 1.0], repeat=dims)))


# 1.1


def one_pixel_a_latent(dims):
    """`dims` independent copies of a model with one latent and one pixel, and one data point."""
    identity = torch.eye(dims, dtype=torch.float64)
    model = LinearGaussian(1.5 * identity, torch.zeros(dims), 0.8)
    return model, torch.full((1, dims), 0.6, dtype=torch.float64)


def relative_second_moment(model, x):
    """`E w²/p(x)²` for w = p(x|z), z ~ p(z): a Gaussian squared is a narrower Gaussian.

    `N(x; m, s²I)² = (4πs²)^(−D/2) N(x; m, s²/2 I)`.
    """
    narrower = LinearGaussian(model.weight, model.bias, model.noise_std / 2**0.5)
    factor = -0.5 * x.shape[1] * torch.log(4 * math.pi * model.noise_std**2)
    return (factor + narrower.log_evidence(x) - 2 * model.log_evidence(x)).exp()


def naive_weights(model, x, seed, num_samples, repeats):
    z = normal(seed, num_samples, repeats, x.shape[1])
    return model.log_joint(x, z) + 0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)


@pytest.mark.parametrize("dims", [1, 3])
def test_the_naive_estimate_is_unbiased(dims):
    """1.1 E 1/K Σ p(x|z_k) = p(x), for any K: 20 000 estimates of ten samples each."""
    model, x = one_pixel_a_latent(dims)
    estimates = naive_log_likelihood(naive_weights(model, x, 1, 10, 20_000)).exp()
    assert_mean(estimates, model.log_evidence(x).exp())


def test_the_log_of_the_naive_estimate_is_too_low():
    """1.1 Its mean is the bound L_K with q = p(z), by quadrature, and strictly below log p(x)."""
    model, x = one_pixel_a_latent(1)
    nodes, log_step = grid(-9, 9, 361)
    log_mass = Normal(double(0.0), 1.0).log_prob(nodes[:, 0]) + log_step
    log_w = model.log_joint(x, nodes[:, None])[:, 0] - (log_mass - log_step)
    for num_samples in (1, 5):
        exact = exact_iwae_bound(log_w, log_mass, num_samples)
        assert exact < model.log_evidence(x) - 0.05
        assert_mean(naive_log_likelihood(naive_weights(model, x, 2, num_samples, 20_000)), exact)


def test_the_naive_variance_explodes_with_the_latents():
    """1.1 The relative second moment of p(x|z) is r^L; weights from the posterior do not vary."""
    r = relative_second_moment(*one_pixel_a_latent(1))
    assert r > 1.5
    for dims in (2, 8, 64):
        model, x = one_pixel_a_latent(dims)
        assert_close(relative_second_moment(model, x), r**dims, 1e-11)
        mean, covariance = model.posterior(x)
        z = mean + normal(3, 100, 1, dims) @ torch.linalg.cholesky(covariance).T
        log_q = Normal(mean, covariance.diagonal().sqrt()).log_prob(z).sum(-1)
        assert_close(model.log_joint(x, z) - log_q, model.log_evidence(x).expand(100, 1), 1e-11)
    model, x = one_pixel_a_latent(2)
    squares = (naive_weights(model, x, 4, 1, 50_000)[0] - model.log_evidence(x)).exp() ** 2
    assert_mean(squares, r**2)


def test_the_naive_estimate_does_not_underflow():
    """1.1 Log-likelihoods near −10⁴, and entries 10⁴ apart."""
    log_px = double([[-1e4, 3.0], [-1e4 + math.log(3), -1e4]])
    assert_close(naive_log_likelihood(log_px), [-1e4 + math.log(2), 3 - math.log(2)])


# 1.2


def test_three_ways_of_writing_the_elbo():
    """1.2 Evidence less KL, energy plus entropy, reconstruction less KL to the prior: one number.

    Every term is quadratic in z, so z at the corners of a cube gives exact expectations.
    """
    model = LinearGaussian(normal(1, 5, 3), normal(2, 5), 0.7)
    x, mean, log_var = normal(3, 4, 5), normal(4, 4, 3), normal(5, 4, 3)
    std = torch.exp(0.5 * log_var)
    noise = corners(3)[:, None]
    z = torch.stack([reparameterize(mean, torch.diag_embed(std), e.expand(4, 3)) for e in noise])

    evidence_less_kl = model.log_evidence(x) - model.posterior_kl(x, mean, torch.diag_embed(std**2))
    entropy = Normal(mean, std).entropy().sum(-1)
    energy_plus_entropy = model.log_joint(x, z).mean(0) + entropy
    log_prior = Normal(double(0.0), 1.0).log_prob(z).sum(-1)
    reconstruction = (model.log_joint(x, z) - log_prior).mean(0)
    assert_close(energy_plus_entropy, evidence_less_kl, 1e-10)
    assert_close(reconstruction - gaussian_kl(mean, log_var), evidence_less_kl, 1e-10)
    assert (evidence_less_kl < model.log_evidence(x) - 0.1).all()


def test_kl_to_the_standard_normal():
    """1.2 The closed form is torch's, is never negative, and keeps its digits near zero."""
    mean, log_var = normal(1, 6, 4), normal(2, 6, 4)
    prior = Normal(torch.zeros(4, dtype=torch.float64), 1.0)
    exact = kl_divergence(Normal(mean, torch.exp(0.5 * log_var)), prior).sum(-1)
    assert_close(gaussian_kl(mean, log_var), exact)
    # exp(v) − 1 − v = v²/2 + v³/6 + …: 1e-18 here, where the plain formula rounds to 1e-16.
    assert_close(1e18 * gaussian_kl(double([[0.0]]), double([[1e-9]])), [0.25], 1e-6)


def test_elbo_of_a_vae_is_below_the_log_likelihood_on_average():
    """1.2 Bernoulli decoder, one latent: quadrature over z gives E ELBO = log p(x) − KL."""
    nodes, log_weights = gauss_hermite(60)
    x, mean, log_var = binary(1, 1, 6), double([[0.4]]), double([[-0.7]])
    slope, offset = normal(2, 6), normal(3, 6)

    def expectation(f, mean, std):
        z = mean + std * nodes
        return log_weights.exp() @ f(z)

    def log_px_given_z(z):
        return Bernoulli(logits=z * slope + offset).log_prob(x).sum(-1)

    std = torch.exp(0.5 * log_var)
    elbo = expectation(
        lambda z: gaussian_elbo(
            x.expand(60, 6), z * slope + offset, mean.expand(60, 1), log_var.expand(60, 1)
        ),
        mean,
        std,
    )
    log_evidence = expectation(lambda z: log_px_given_z(z).exp(), 0.0, 1.0).log()

    def log_ratio(z):
        log_posterior = log_px_given_z(z) + Normal(double(0.0), 1.0).log_prob(z)[:, 0]
        return Normal(mean, std).log_prob(z)[:, 0] - (log_posterior - log_evidence)

    kl = expectation(log_ratio, mean, std)
    assert kl > 0.01
    # 60 Gauss-Hermite nodes: the integrands are entire, what is left is rounding.
    assert_close(elbo, log_evidence - kl, 1e-10)


@pytest.mark.parametrize("logit", [-100.0, -20.0, 0.0, 20.0, 100.0])
def test_bernoulli_at_large_logits(logit):
    """1.2 log σ(l) = −log(1 + e^{−l}) up to ±100, where probabilities have become 0 and 1."""
    exact = -math.log1p(math.exp(-abs(logit))) + min(logit, 0.0)
    for dtype in (torch.float32, torch.float64):
        logits = torch.full((1, 1), logit, dtype=dtype)
        # torch's softplus is linear above 20: 2e-9.
        one = bernoulli_log_likelihood(torch.ones_like(logits), logits)
        assert_close(one, [exact], 1e-8 if dtype == torch.float64 else 1e-6)
        zero = bernoulli_log_likelihood(torch.zeros_like(logits), -logits)
        assert_close(zero, [exact], 1e-8 if dtype == torch.float64 else 1e-6)


# 1.3


def gaussian_mixture(weights, means, variances):
    components = Independent(Normal(means, variances.sqrt()), 1)
    return MixtureSameFamily(Categorical(weights), components)


def three_clusters(dims):
    centres = double([-4.0, 0.0, 3.0])[torch.arange(90) % 3, None]
    return centres + normal(1, 90, dims)


@pytest.mark.parametrize("dims", [1, 2])
def test_em_never_lowers_the_likelihood(dims):
    """1.3 Forty steps from a bad start: every one raises Σ log p(x_n), until nothing changes."""
    x = three_clusters(dims)
    means = double([[-1.0], [0.0], [1.0]]).expand(3, dims)
    parameters = (double([0.6, 0.3, 0.1]), means, torch.full_like(means, 9.0))
    likelihoods = []
    for _ in range(40):
        likelihoods.append(gaussian_mixture(*parameters).log_prob(x).sum())
        parameters = m_step(x, e_step(x, *parameters))
    rises = torch.stack(likelihoods).diff()
    assert (rises > -1e-10).all()
    assert likelihoods[-1] > likelihoods[0] + 3


def test_the_bound_touches_the_likelihood_after_the_e_step():
    """1.3 With q = p(c|x) the ELBO is log p(x); with any other q it is lower by KL(q‖p(c|x))."""
    x = three_clusters(1)
    weights, means, variances = (
        double([0.5, 0.3, 0.2]),
        double([[-3.0], [0.5], [2.0]]),
        uniform(2, 3, 1),
    )
    log_joint = weights.log() + Normal(means[:, 0], variances[:, 0].sqrt()).log_prob(x)
    log_evidence = gaussian_mixture(weights, means, variances).log_prob(x)

    def elbo(q):
        return (q * (log_joint - torch.log(q))).nan_to_num(0).sum(1)

    posterior = e_step(x, weights, means, variances)
    assert_close(elbo(posterior), log_evidence)
    other = torch.softmax(normal(3, 90, 3), 1)
    kl = (other * (other.log() - (log_joint - log_evidence[:, None]))).sum(1)
    assert_close(elbo(other), log_evidence - kl)
    assert (kl > 0).all()


def test_the_m_step_is_the_maximum():
    """1.3 Where the gradient of Σ r log(weight · N) vanishes, weights by a softmax."""
    x, responsibilities = three_clusters(2), torch.softmax(2 * normal(4, 90, 3), 1)
    weights, means, variances = m_step(x, responsibilities)
    assert_close(weights.sum(), 1.0)
    leaves = [p.clone().requires_grad_() for p in (weights.log(), means, variances.log())]
    log_weights, means, log_vars = leaves
    log_px = Normal(means, torch.exp(0.5 * log_vars)).log_prob(x[:, None]).sum(-1)
    objective = (responsibilities * (log_weights.log_softmax(0) + log_px)).sum()
    for gradient in torch.autograd.grad(objective, leaves):
        assert_close(gradient, torch.zeros_like(gradient), 1e-11)


def test_the_variance_of_a_narrow_component_far_away():
    """1.3 Two points a millionth apart at 10⁴: the mean of squares less the square would cancel."""
    x = double([[1e4 - 1e-6], [1e4 + 1e-6], [-5.0], [5.0]])
    responsibilities = double([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    _, means, variances = m_step(x, responsibilities)
    assert_close(means, [[1e4], [0.0]])
    # 10⁴ ± 10⁻⁶ is rounded to 1e-12: a relative 1e-6 of each distance.
    assert abs(variances[0].item() / 1e-12 - 1) < 1e-5
    assert_close(variances[1], [25.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_responsibilities_where_every_density_underflows(dtype):
    """1.3 At 10³ standard deviations, and with components 10³ apart, rows still add to one."""
    means = torch.tensor([[0.0], [1000.0]], dtype=dtype)
    variances, weights = torch.ones(2, 1, dtype=dtype), torch.tensor([0.3, 0.7], dtype=dtype)
    x = torch.tensor([[-1000.0], [500.0], [1e4]], dtype=dtype)
    found, grads = gradients(e_step, [x, weights, means, variances], [0, 1, 2, 3])
    assert_close(found, [[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]], 1e-6)
    assert all(g.isfinite().all() for g in grads)


def test_em_for_probabilistic_pca_reaches_the_closed_form():
    """1.3 EM on the linear-Gaussian model ends at Tipping and Bishop's W Wᵀ and s.

    Its error shrinks by a constant factor a step; eigenvalues 9, 4 against 1, 1, 1 make it 0.25.
    """
    x = normal(5, 400, 5) * double([3.0, 2.0, 1.0, 1.0, 1.0]) + normal(6, 5)
    exact = probabilistic_pca(x, 2)
    centred, bias = x - x.mean(0), x.mean(0)
    model = LinearGaussian(normal(7, 5, 2), bias, 1.0)
    previous = -math.inf
    for _ in range(120):
        likelihood = model.log_evidence(x).mean()
        assert likelihood > previous - 1e-12
        previous = likelihood
        mean, covariance = model.posterior(x)
        second = len(x) * covariance + mean.T @ mean
        weight = torch.linalg.solve(second, mean.T @ centred).T
        # E |x − b − W z|², in which W satisfies its normal equation.
        error = (centred**2).sum() - (weight * (centred.T @ mean)).sum()
        model = LinearGaussian(weight, bias, (error / x.numel()).sqrt())
    assert_close(model.log_evidence(x).mean(), exact.log_evidence(x).mean())
    assert_close(model.weight @ model.weight.T, exact.weight @ exact.weight.T, 1e-9)
    assert_close(model.noise_std, exact.noise_std, 1e-9)


# 1.4


def maximize(objective, parameters, steps):
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=steps,
        history_size=30,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = -objective()
        loss.backward()
        return loss

    optimizer.step(closure)


def test_an_amortized_q_reaches_the_exact_posterior():
    """1.4 q(z|x) = N(A x + c, LLᵀ), its ELBO climbed for a fixed model: q is the posterior.

    The gap is quadratic around its minimum, so at 1e-10 nats parameters are right to 1e-5.
    """
    model = LinearGaussian(normal(1, 5, 2), normal(2, 5), 0.7)
    x = normal(3, 50, 5)
    slope, offset, factor = (
        torch.zeros(s, dtype=torch.float64, requires_grad=True) for s in ((5, 2), (2,), (2, 2))
    )

    def q(x):
        tril = factor.tril(-1) + torch.diag(factor.diagonal().exp())
        return x @ slope + offset, tril @ tril.T

    maximize(lambda: model.elbo(x, *q(x)).mean(), [slope, offset, factor], 200)
    unseen = normal(4, 10, 5)
    assert_close(model.posterior_kl(unseen, *q(unseen)), torch.zeros(10), 1e-9)
    for found, exact in zip(q(unseen), model.posterior(unseen), strict=True):
        assert_close(found.detach(), exact, 1e-4)


def test_variational_em_reaches_the_highest_likelihood():
    """1.4 Model and amortized diagonal q climbed together end at probabilistic PCA, gap zero.

    A diagonal q costs nothing here: the model can turn its latents until the posterior is diagonal.
    """
    x = normal(5, 200, 4) * double([3.0, 2.0, 1.0, 0.7])
    exact = probabilistic_pca(x, 2)
    shapes = ((4, 2), (4,), (), (4, 2), (2,), (2,))
    parameters = [(0.3 * normal(i, *s)).requires_grad_() for i, s in enumerate(shapes)]
    weight, bias, log_s, slope, offset, log_var = parameters

    def bound():
        model = LinearGaussian(weight, bias, log_s.exp())
        return model, model.elbo(x, x @ slope + offset, torch.diag(log_var.exp())).mean()

    maximize(lambda: bound()[1], parameters, 500)
    model, elbo = bound()
    highest = exact.log_evidence(x).mean()
    assert_close(elbo.detach(), highest, 1e-8)
    assert_close(model.log_evidence(x).mean().detach(), highest, 1e-8)


# 1.5


def nodes_of(num):
    nodes, log_weights = gauss_hermite(num)
    return nodes[:, 0], log_weights.exp()


def test_e_step_gradients_do_not_go_inside_the_expectation():
    """1.5 θ's gradient may be taken at fixed samples; φ's, taken so, is −E ∇ log q = 0: wrong."""
    model, x = LinearGaussian([[1.0], [-0.5]], [0.3, 0.1], 0.8), double([[1.0, 0.2]])
    noise, weights = nodes_of(2)  # exact for quadratics
    theta = double(0.0).requires_grad_()
    mean, std = double(0.7).requires_grad_(), 0.6

    def integrand(z, mean):
        moved = LinearGaussian(model.weight, model.bias + theta, model.noise_std)
        return moved.log_joint(x, z[:, None, None])[:, 0] - Normal(mean, std).log_prob(z)

    exact_model = LinearGaussian(model.weight, model.bias + theta, model.noise_std)
    exact = exact_model.elbo(x, mean[None, None], double([[std**2]])).sum()
    by_theta, by_mean = torch.autograd.grad(exact, [theta, mean])
    frozen = (mean + std * noise).detach()
    inside = torch.autograd.grad(weights @ integrand(frozen, mean), [theta, mean])
    assert_close(inside[0], by_theta)
    assert_close(inside[1], 0.0)
    assert by_mean.abs() > 0.5
    (through,) = torch.autograd.grad(weights @ integrand(mean + std * noise, mean), mean)
    assert_close(through, by_mean)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5])
def test_both_gradients_are_unbiased(degree):
    """1.5 For f = z^d both estimates average to ∂/∂mean E z^d = d E z^(d−1), by quadrature."""
    noise, weights = nodes_of(degree + 2)
    mean, std = double(0.8), double(1.3)
    moment = weights @ (mean + std * noise) ** max(degree - 1, 0)
    for estimate in (score_function_gradient, pathwise_gradient):
        found = estimate(lambda z: z**degree, mean, std, noise)
        assert found.shape == noise.shape
        assert_close(weights @ found, degree * moment)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.4), (-3.0, 0.1)])
def test_variance_of_the_two_gradients(mean, std):
    """1.5 f = z²: variances μ⁴/σ² + 14μ² + 15σ² and 4σ², a ratio that explodes as σ falls.

    The score is ε/σ and multiplies all of f, its constant part μ² included.
    """
    noise, weights = nodes_of(8)
    square = torch.square

    def variance(estimate):
        found = estimate(square, double(mean), double(std), noise)
        return weights @ found**2 - (weights @ found) ** 2

    score, pathwise = variance(score_function_gradient), variance(pathwise_gradient)
    assert_close(score, mean**4 / std**2 + 14 * mean**2 + 15 * std**2, 1e-10)
    assert_close(pathwise, 4 * std**2, 1e-10)
    assert score > 3 * pathwise


def test_sampled_gradients_agree_with_the_exact_one():
    """1.5 100 000 draws of each: the mean to five standard errors, and the ratio of variances."""
    noise, mean, std = normal(8, 100_000), double(1.0), double(0.5)
    estimates = [
        e(torch.square, mean, std, noise) for e in (score_function_gradient, pathwise_gradient)
    ]
    for estimate in estimates:
        assert_mean(estimate, 2.0)
    exact = (1 / 0.25 + 14 + 15 * 0.25) / (4 * 0.25)
    # The score's fourth moment is large: its variance is known to about 5 %.
    assert abs(estimates[0].var() / estimates[1].var() / exact - 1) < 0.15


def test_a_function_whose_pathwise_gradient_is_the_noisier_one():
    """1.5 f = sin(10 z): the slope swings by ±10 while f stays within ±1."""
    noise, weights = nodes_of(300)

    def variance(estimate):
        found = estimate(lambda z: torch.sin(10 * z), double(0.3), double(1.0), noise)
        return weights @ found**2 - (weights @ found) ** 2

    # E cos² = 1/2 and E sin² ε² = 1/2, but for e^{−200}; cos(20 z) asks for over 200 nodes.
    assert_close(variance(pathwise_gradient), 50.0, 1e-9)
    assert_close(variance(score_function_gradient), 0.5, 1e-9)


def test_pathwise_gradient_of_functions_that_ignore_z():
    """1.5 A constant has slope 0, with gradients switched off outside, and in float32."""
    with torch.no_grad():
        found = pathwise_gradient(lambda z: torch.full_like(z, 3.0), 0.5, 1.0, torch.ones(4))
    assert torch.equal(found, torch.zeros(4))


# 1.6


def test_covariance_of_the_reparametrized_sample():
    """1.6 z = μ + Lε: over the corners of a cube, mean and covariance are μ and LLᵀ exactly."""
    mean, scale_tril = normal(1, 1, 3), normal(2, 1, 3, 3).tril()
    noise = corners(3)
    z = reparameterize(mean.expand(8, 3), scale_tril.expand(8, 3, 3), noise)
    assert_close(z.mean(0), mean[0])
    assert_close((z - mean).T @ (z - mean) / 8, scale_tril[0] @ scale_tril[0].T)


# 1.8


MIXTURE = (double([[-1.5], [0.5], [2.0]]), double([[-1.0], [0.3], [-2.0]]))


def test_one_sample_kl_to_a_mixture_is_unbiased():
    """1.8 The mean of log q(z) − log p(z) over z ~ q is the KL that quadrature finds."""
    mean, log_var = double([0.4]), double([-0.5])
    exact = mixture_kl(mean, log_var, *MIXTURE)
    # By quadrature over the single sample …
    noise, log_step = grid(-12, 12, 2001)
    z = mean + torch.exp(0.5 * log_var) * noise
    log_q = Normal(mean, torch.exp(0.5 * log_var)).log_prob(z).sum(1)
    log_p = mixture_log_prob(z, *MIXTURE)
    mass = (Normal(double(0.0), 1.0).log_prob(noise[:, 0]) + log_step).exp()
    assert_close(mass @ monte_carlo_kl(log_q[None], log_p[None]), exact, 1e-11)
    # … and by drawing it.
    z = mean + torch.exp(0.5 * log_var) * normal(9, 100_000, 1)
    log_q = Normal(mean, torch.exp(0.5 * log_var)).log_prob(z).sum(1)
    found = monte_carlo_kl(log_q[None], mixture_log_prob(z, *MIXTURE)[None])
    assert_mean(found, exact)
    assert (found < 0).any()  # one estimate may be negative, the KL is not


# 1.9


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.95])
def test_the_gap_of_the_best_diagonal_posterior(rho):
    """1.9 Posterior: correlated latents cost −½ log(1 − ρ²), with variances short by 1 − ρ²."""
    covariance = 0.1 * double([[1.0, rho], [rho, 1.0]])
    values, vectors = torch.linalg.eigh(torch.linalg.inv(covariance) - torch.eye(2))
    model = LinearGaussian((vectors * values.sqrt()).T, torch.zeros(2), 1.0)
    x, mean, log_var = double([[0.3, -1.0]]), double([[0.0, 0.0]]), double([0.0, 0.0])
    leaves = [mean.requires_grad_(), log_var.requires_grad_()]
    maximize(lambda: model.elbo(x, mean, torch.diag(log_var.exp())).sum(), leaves, 200)
    q = mean.detach(), torch.diag(log_var.detach().exp())
    assert_close(model.posterior_kl(x, *q), [-0.5 * math.log(1 - rho**2)], 1e-9)
    assert_close(q[1].diagonal(), 0.1 * double([1.0, 1.0]) * (1 - rho**2), 1e-5)


def test_the_gap_of_a_gaussian_posterior_on_two_modes():
    """1.9 Posterior: p(x|z) = N(z², s²) has two modes; the best Gaussian loses log 2 as s falls."""
    nodes, log_step = grid(-3, 3, 6001)
    z = nodes[:, 0]

    def gap(mean, std, s):
        log_joint = Normal(double(0.0), 1.0).log_prob(z) + Normal(z**2, s).log_prob(double(1.5))
        log_posterior = log_joint - torch.logsumexp(log_joint + log_step, 0)
        log_q = Normal(mean, std).log_prob(z)
        return (log_q + log_step).exp() @ (log_q - log_posterior)

    for s, tolerance in ((0.2, 1e-2), (0.05, 1e-3)):
        mean, log_std = double(1.2).requires_grad_(), double(-2.0).requires_grad_()
        leaves = [mean, log_std]
        maximize(lambda s=s, q=leaves: -gap(q[0], q[1].exp(), s), leaves, 200)
        assert_close(gap(mean, log_std.exp(), s).detach(), math.log(2), tolerance)


def test_what_a_normal_prior_loses_on_two_clusters():
    """1.9 Prior: a linear decoder of N(0, 1) loses KL(π ‖ N), that of the right prior nothing."""
    nodes, log_step = grid(-12, 12, 1201)
    x = nodes[:, 0]

    def clusters(std):
        parts = torch.stack([Normal(double(m), std).log_prob(x) for m in (-2.0, 2.0)])
        return torch.logsumexp(parts, 0) - math.log(2)

    mass = (clusters(0.5) + log_step).exp()

    def loss(log_px):
        return mass @ (clusters(0.5) - log_px)

    best = LinearGaussian([[(4.25 - 0.09) ** 0.5]], [0.0], 0.3)  # variance 4 + 0.25, as the data
    lowest = loss(best.log_evidence(nodes))
    assert lowest > 0.7
    for weight, bias in ((1.8, 0.0), (2.2, 0.0), (2.04, 0.2)):
        assert loss(LinearGaussian([[weight]], [bias], 0.3).log_evidence(nodes)) > lowest
    log_px_given_z = Normal(x, 0.3).log_prob(x[:, None])
    assert_close(loss(torch.logsumexp(log_px_given_z + clusters(0.4) + log_step, 1)), 0.0, 1e-10)


def test_what_a_decoder_with_round_noise_loses():
    """1.9 Decoder: ½[(D − L) log of the mean eigenvalue − Σ log eigenvalue], and 0 when L fits."""
    raw = normal(1, 100, 3)
    raw = raw - raw.mean(0)
    x = raw @ torch.linalg.inv(torch.linalg.cholesky(raw.T @ raw / 100)).T * double([3.0, 2.0, 1.0])
    truth = Normal(torch.zeros(3, dtype=torch.float64), double([3.0, 2.0, 1.0]))
    for num_latents, exact in ((1, 0.5 * math.log(2.5**2 / 4)), (2, 0.0)):
        fitted = probabilistic_pca(x, num_latents).log_evidence(x)
        assert_close((truth.log_prob(x).sum(1) - fitted).mean(), exact, 1e-10)


def test_a_loose_bound_has_its_maximum_elsewhere():
    """1.9 Bound: x = √a (z₁ + z₂) + noise, variance 5: best a is 2, the bound's (1 + √65)/8."""
    x = normal(2, 50, 1)
    x = (x - x.mean()) / x.std(correction=0) * 5**0.5

    def model(log_a):
        weight = (0.5 * log_a).exp() * torch.ones(1, 2, dtype=torch.float64)
        return LinearGaussian(weight, torch.zeros(1), 1.0)

    def bound(log_a):
        mean, covariance = model(log_a).posterior(x)
        diagonal = torch.diag(1 / torch.linalg.inv(covariance).diagonal())
        return model(log_a).elbo(x, mean, diagonal).mean()

    for objective, exact in (
        (lambda log_a: model(log_a).log_evidence(x).mean(), 2.0),
        (bound, (1 + 65**0.5) / 8),
    ):
        log_a = double(0.0).requires_grad_()
        maximize(lambda f=objective, log_a=log_a: f(log_a), [log_a], 100)
        assert_close(log_a.exp().detach(), exact, 1e-6)


# What holds for all of them


def calls():
    """Every function: arguments, and the positions that gradients must reach."""
    x, logits, mean, log_var = binary(1, 4, 6), normal(2, 4, 6), normal(3, 4, 3), normal(4, 4, 3)
    data, responsibilities = normal(5, 8, 2), torch.softmax(normal(6, 8, 3), 1)
    mixture = (double([0.2, 0.5, 0.3]), normal(7, 3, 2), uniform(8, 3, 2) + 0.3)
    scalars = (double(0.4), double(1.2), normal(9, 7))
    return {
        "naive_log_likelihood": (naive_log_likelihood, (5 * normal(10, 4, 3),), [0]),
        "e_step": (e_step, (data, *mixture), [0, 1, 2, 3]),
        "m_step": (m_step, (data, responsibilities), [0, 1]),
        "reparameterize": (
            reparameterize, (mean, normal(11, 4, 3, 3).tril(), normal(12, 4, 3)), [0, 1, 2]
        ),
        "gaussian_kl": (gaussian_kl, (mean, log_var), [0, 1]),
        "bernoulli_log_likelihood": (bernoulli_log_likelihood, (x, logits), [1]),
        "gaussian_elbo": (gaussian_elbo, (x, logits, mean, log_var), [1, 2, 3]),
        "score_function_gradient": (score_function_gradient, (torch.sin, *scalars), [1, 2, 3]),
    }  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", calls())
def test_dtype_device_and_gradients(name, dtype, device):
    """1.1–1.6 The result keeps dtype and device; finite gradients reach every argument."""
    keeps_dtype_device_and_gradients(*calls()[name], dtype, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pathwise_gradient_keeps_dtype_and_device(dtype, device):
    """1.5 Gradients are taken where the noise lives."""
    noise = normal(13, 7).to(device, dtype)
    found = pathwise_gradient(torch.sin, 0.4, 1.2, noise)
    assert (found.dtype, found.device.type) == (dtype, device)
    assert_close(found.cpu(), torch.cos(0.4 + 1.2 * normal(13, 7)), 1e3 * torch.finfo(dtype).eps)


def test_a_batch_is_its_data_points_one_by_one():
    """1.1–1.6 No function mixes the entries of a batch."""
    for name in ("gaussian_kl", "bernoulli_log_likelihood", "gaussian_elbo", "reparameterize"):
        function, arguments, _ = calls()[name]
        one_by_one = [function(*(a[i : i + 1] for a in arguments)) for i in range(4)]
        assert_close(function(*arguments), torch.cat(one_by_one))
    function, (x, *mixture), _ = calls()["e_step"]
    assert_close(e_step(x, *mixture), torch.cat([e_step(row[None], *mixture) for row in x]))


BAD = [
    (naive_log_likelihood, ([[1.0]],), TypeError, "log_px_given_z must be a tensor, not list"),
    (naive_log_likelihood, (torch.zeros(0, 3),), ValueError, "log_px_given_z must not be empty"),
    (e_step, (torch.ones(5, 2), torch.ones(3), torch.ones(3, 1), torch.ones(3, 2)),
     ValueError, r"\(C, D\) with C = 3 as in weights, D = 2 as in x, not \(3, 1\)"),
    (m_step, (torch.ones(5), torch.ones(5, 2)), ValueError, r"x must have the shape \(N, D\), not"),
    (m_step, (torch.ones(5, 1), torch.ones(4, 2)), ValueError, "responsibilities .* with N = 5"),
    (reparameterize, (torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3)),
     ValueError, "scale_tril"),
    (reparameterize, (torch.ones(2, 3), torch.ones(2, 4, 3), torch.ones(2, 3)),
     ValueError, r"scale_tril .* \(B, L, L\) with B = 2 as in mean, L = 3 as in mean, not \(2, 4"),
    (gaussian_kl, (torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3)), TypeError,
     "mean must be floating point, not torch.int64"),
    (gaussian_kl, (torch.ones(2, 3), torch.ones(2, 3, device="meta")), ValueError,
     "log_var is on meta, mean on cpu"),
    (bernoulli_log_likelihood, (torch.ones(2, 3), torch.ones(3)), ValueError, "logits"),
    (gaussian_elbo, (torch.ones(2, 3), torch.ones(2, 3), torch.ones(1, 2), torch.ones(1, 2)),
     ValueError, "mean .* with B = 2"),
    (score_function_gradient, (torch.sin, 0.0, 1.0, torch.ones(2, 2)), ValueError, "noise"),
    (pathwise_gradient, (torch.sin, 0.0, 1.0, 3), TypeError, "noise must be a tensor, not int"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "error", "words"), BAD)
def test_bad_input_is_refused_by_name(function, arguments, error, words):
    """1.1–1.6 The message names the argument, what came and what was expected."""
    with pytest.raises(error, match=words):
        function(*arguments)


def test_checks_look_at_no_numbers():
    """1.2 They work on the meta device, and wait for no GPU."""
    on_meta = [torch.empty(2, 3, device="meta") for _ in range(4)]
    assert gaussian_elbo(*on_meta).shape == (2,)
