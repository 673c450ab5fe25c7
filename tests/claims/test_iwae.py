"""Importance weighted autoencoders: the claims of lecture 5, held against exact answers.

Two kinds of tolerance. Closed forms and quadrature: ROUNDING, some thousand float64 eps (2e-16),
which is what sums of thousands of terms of size one lose. Monte Carlo: SIGMAS standard errors of
the very average under test; a correct estimate is off by more once in two million draws, and the
seeds are fixed.
"""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from statements import generator, normal
from torch.distributions import Bernoulli, Normal

from dgm_utils.data import digits
from dgm_utils.iwae import (
    active_units,
    gradient_snr,
    iwae_bound,
    iwae_gradient_weights,
    log_importance_weights,
    multi_sample_elbo,
    q_iw_log_prob,
    subset_bound,
)
from dgm_utils.oracles import (
    LinearGaussian,
    exact_iwae_bound,
    exact_q_ew_log_ratio,
    gauss_hermite,
    grid,
    log_integral,
)

ROUNDING = 1e-12
SIGMAS = 5

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ),
]


def gaussian(mean, std):
    """A normal distribution in float64: from two plain numbers torch makes it in float32."""
    return Normal(torch.tensor(mean, dtype=torch.float64), std)


def assert_close(actual, expected, tolerance=ROUNDING):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)


def assert_mean(samples, expected):
    """The average over the first axis is `expected`, to SIGMAS standard errors."""
    standard_error = samples.std(0) / len(samples) ** 0.5
    distance = (samples.mean(0) - expected).abs()
    assert (distance <= SIGMAS * standard_error).all(), distance / standard_error


# The two-mode problem of the syllabus: the posterior has two modes and q = N(0, 1.5²) has one.
# Spacing 0.05 against a narrowest standard deviation of 0.5: the trapezoid rule is at float eps.
# At ±12 = 8 standard deviations q has 1e-15 of its mass left.
LOG_EVIDENCE = math.log(0.3)
Q = gaussian(0.0, 1.5)


def two_modes_log_joint(z):
    left = math.log(0.4) + gaussian(-1.5, 0.6).log_prob(z)
    right = math.log(0.6) + gaussian(2.0, 0.5).log_prob(z)
    return LOG_EVIDENCE + torch.logaddexp(left, right)


def two_modes(num=481):
    z, log_step = grid(-12, 12, num)
    z = z[:, 0]
    log_q = Q.log_prob(z)
    return SimpleNamespace(
        z=z,
        log_step=log_step,
        log_q=log_q,
        log_mass=log_q + log_step,
        log_w=two_modes_log_joint(z) - log_q,
    )


def sample_two_modes(seed, *shape):
    """Samples of q and their log-weights."""
    z = 1.5 * normal(generator(seed), *shape)
    return z, two_modes_log_joint(z) - Q.log_prob(z)


def exact_bounds(problem, sizes):
    bounds = [exact_iwae_bound(problem.log_w, problem.log_mass, size) for size in sizes]
    return torch.stack(bounds)


def q_ew(problem, num_samples):
    """Log-density of q_EW at the nodes, its masses, and its ELBO."""
    log_ratio = exact_q_ew_log_ratio(problem.log_w, problem.log_mass, num_samples)
    mass = (log_ratio + problem.log_mass).exp()
    return problem.log_q + log_ratio, mass, mass @ (problem.log_w - log_ratio)


def linear_gaussian():
    """A one-dimensional latent, three data points, and a q that is not the posterior."""
    model = LinearGaussian([[1.0], [-0.5]], [0.3, 0.1], 0.8)
    x = torch.tensor([[1.0, 0.2], [-0.7, 0.9], [0.4, -1.6]], dtype=torch.float64)
    mean, covariance = model.posterior(x)
    mean = mean + 0.3
    std = 1.1 * covariance.sqrt()[0, 0]

    def log_weights(noise):
        """`(n,)` standard normal nodes → `(n, B)` log-weights of `z = mean + std·noise`."""
        z = mean + std * noise[:, None, None]
        return model.log_joint(x, z) - Normal(mean[:, 0], std).log_prob(z[..., 0])

    return model, x, mean, std, log_weights


def product_nodes(log_w, log_weights, num_samples):
    """All K-tuples of nodes: `(n, B), (n,) → (K, n^K·B), (n^K, B)`-shaped averaging weights."""
    tuples = torch.cartesian_prod(*[torch.arange(len(log_w))] * num_samples)
    tuples = tuples.reshape(len(tuples), num_samples)
    log_tuple = log_w[tuples].transpose(0, 1)
    return log_tuple.flatten(1), log_weights[tuples].sum(1), log_tuple.shape[1:]


# 5.1


@pytest.mark.parametrize("num_samples", [1, 2, 3])
def test_average_weight_is_unbiased(num_samples):
    """5.1 E f(x, z_1…z_K) = p(x): all K-tuples of Gauss-Hermite nodes, against the evidence."""
    model, x, _, _, log_weights = linear_gaussian()
    nodes, log_mass = gauss_hermite(40)
    log_w, log_tuple_mass, shape = product_nodes(log_weights(nodes[:, 0]), log_mass, num_samples)
    log_mean = log_integral(iwae_bound(log_w).reshape(shape), log_tuple_mass)
    # exp of a quadratic of small curvature: 40 nodes leave the rule's error below float eps.
    assert_close(log_mean, model.log_evidence(x))


def test_average_weight_is_unbiased_in_four_dimensions():
    """5.1 E f(x, z_1…z_K) = p(x), K = 10, by Monte Carlo where quadrature cannot go."""
    rng = generator(0)
    model = LinearGaussian(normal(rng, 5, 4), normal(rng, 5), 1.0)
    x = normal(rng, 3, 5)
    mean, covariance = model.posterior(x)
    factor = torch.linalg.cholesky(1.2 * covariance)
    noise = normal(rng, 10, 20_000, 1, 4)
    z = mean + noise @ factor.T
    log_q = gaussian(0.0, 1.0).log_prob(noise).sum(-1) - factor.diagonal().log().sum()
    estimate = iwae_bound((model.log_joint(x, z) - log_q).flatten(1)).reshape(20_000, 3).exp()
    assert_mean(estimate, model.log_evidence(x).exp())


@pytest.mark.parametrize("num_samples", [1, 2, 3])
def test_average_of_logs_is_the_elbo_whatever_k(num_samples):
    """5.1 The K-sample ELBO has the ELBO's value: log w is quadratic, so Gauss-Hermite is exact."""
    model, x, mean, std, log_weights = linear_gaussian()
    nodes, log_mass = gauss_hermite(8)
    log_w, log_tuple_mass, shape = product_nodes(log_weights(nodes[:, 0]), log_mass, num_samples)
    average = log_tuple_mass.exp() @ multi_sample_elbo(log_w).reshape(shape)
    assert_close(average, model.elbo(x, mean, std[None, None] ** 2))


def test_one_sample_bound_is_the_elbo():
    """5.1 L_1 = ELBO: the closed form, the quadrature of L_1, and iwae_bound on one sample."""
    model, x, mean, std, log_weights = linear_gaussian()
    elbo = model.elbo(x, mean, std[None, None] ** 2)
    nodes, log_mass = gauss_hermite(40)
    log_w = log_weights(nodes[:, 0])
    exact = torch.stack([exact_iwae_bound(column, log_mass, 1) for column in log_w.T])
    # The oracle's own rounding, K · 1e-14, in units of a bound of size ten.
    assert_close(exact, elbo, 1e-11)
    torch.testing.assert_close(iwae_bound(log_w[:1]), log_w[0])
    torch.testing.assert_close(multi_sample_elbo(log_w[:1]), log_w[0])


@pytest.mark.parametrize("num_samples", [1, 2, 5, 50])
def test_estimate_agrees_with_quadrature(num_samples):
    """5.1 The average of iwae_bound over draws is L_K of the two-mode problem, by quadrature."""
    exact = exact_bounds(two_modes(), [num_samples])
    _, log_w = sample_two_modes(num_samples, num_samples, 20_000)
    assert_mean(iwae_bound(log_w), exact)


def test_bound_grows_to_the_evidence():
    """5.1 L_1 < L_2 < … < log p(x), and the gap closes."""
    bounds = exact_bounds(two_modes(), [1, 2, 3, 5, 10, 50, 100, 1000, 10_000])
    assert (bounds.diff() > 0).all()
    assert (bounds < LOG_EVIDENCE).all()
    # gap·2K → Var(w/p(x)) = 1.52, so at K = 10⁴ the gap is 7.6e-5.
    assert LOG_EVIDENCE - bounds[-1] < 1e-4


def test_bound_lies_above_the_average_log():
    """5.1 Jensen, draw by draw: log of the average ≥ average of the logs; equal if all agree."""
    _, log_w = sample_two_modes(1, 7, 1000)
    assert (iwae_bound(log_w) > multi_sample_elbo(log_w)).all()
    equal = log_w[:1].expand(7, -1)
    assert_close(iwae_bound(equal), log_w[0])
    assert_close(multi_sample_elbo(equal), log_w[0])


def test_gap_is_half_the_variance_over_k():
    """5.1 gap·2K → V = Var(w/p(x)), with the next term of the expansion as the tolerance.

    log(1+δ) = δ − δ²/2 + δ³/3 − δ⁴/4, with E δ² = V/K, E δ³ = μ₃/K², E δ⁴ = 3V²/K² + O(K⁻³),
    gives gap·2K = V + (3V²/2 − 2μ₃/3)/K + O(K⁻²).
    """
    problem = two_modes()
    excess = (problem.log_w - LOG_EVIDENCE).exp() - 1
    variance = problem.log_mass.exp() @ excess**2
    third = problem.log_mass.exp() @ excess**3
    slope = 1.5 * variance**2 - 2 / 3 * third
    sizes = torch.tensor([50.0, 100.0], dtype=torch.float64)
    scaled = 2 * sizes * (LOG_EVIDENCE - exact_bounds(problem, [50, 100]))
    assert ((scaled - variance).abs() < 1.1 * slope / sizes).all()
    remainder = (scaled - variance - slope / sizes).abs()
    # Order 2, up to the next term: a few times 1/K of itself.
    assert abs((remainder[0] / remainder[1]).log2() - 2) < 0.1


def test_gap_closes_slower_when_the_variance_is_infinite():
    """5.1 The gap's 1/K needs Var(w) < ∞; L_K → log p(x) does not.

    Posterior N(0, 1/2). With q = N(0, s²) the weight's tail is P(w > t) ~ t^(−1/(1 − 2s²)), of
    finite variance only for s² > 1/4. The local slope of the gap is −1 there, and above −0.6 for
    s² = 1/6, where the tail's index 3/2 allows no better than −1/2 up to a logarithm.
    """
    posterior = gaussian(0.0, 0.5**0.5)
    slopes = []
    for variance in (2 / 3, 1 / 6):
        q = gaussian(0.0, variance**0.5)
        # Out to 12 standard deviations: 1e-33 of q's mass is left.
        z, log_step = grid(-12 * variance**0.5, 12 * variance**0.5, 2401)
        log_q = q.log_prob(z[:, 0])
        log_w = posterior.log_prob(z[:, 0]) - log_q
        gaps = torch.stack([-exact_iwae_bound(log_w, log_q + log_step, k) for k in (256, 1024)])
        slopes.append((gaps[1] / gaps[0]).log() / math.log(4))
    assert -1.01 < slopes[0] < -0.99
    assert -0.6 < slopes[1] < -0.5


# 5.2


@pytest.mark.parametrize("size", range(1, 7))
def test_subsets_average_to_the_average(size):
    """5.2 The identity of the proof: averages over all subsets of size m average to the average."""
    values = normal(generator(0), 6).exp()
    subsets = list(itertools.combinations(values.tolist(), size))
    average = sum(sum(subset) / size for subset in subsets) / len(subsets)
    assert_close(values.mean(), average)


@pytest.mark.parametrize("size", range(1, 7))
def test_subset_bound_visits_every_subset_once(size):
    """5.2 subset_bound is the average over `itertools.combinations`, K = 6."""
    _, log_w = sample_two_modes(2, 6, 4)
    bounds = [iwae_bound(torch.stack(rows)) for rows in itertools.combinations(log_w, size)]
    assert_close(subset_bound(log_w, size), sum(bounds) / len(bounds))


def test_subset_bound_ends():
    """5.2 Subsets of one give the average of the logs, the whole set the bound."""
    _, log_w = sample_two_modes(3, 6, 1000)
    assert_close(subset_bound(log_w, 1), multi_sample_elbo(log_w))
    assert_close(subset_bound(log_w, 6), iwae_bound(log_w))


def test_subset_bound_grows_draw_by_draw():
    """5.2 Jensen over subsets: for every draw the bound grows with the subsets' size."""
    _, log_w = sample_two_modes(4, 6, 1000)
    bounds = torch.stack([subset_bound(log_w, size) for size in range(1, 7)])
    assert (bounds.diff(dim=0) > 0).all()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_subset_bound_has_the_mean_of_the_smaller_bound(size):
    """5.2 E subset_bound(m) = L_m, whatever K: here K = 6, against quadrature."""
    _, log_w = sample_two_modes(5, 6, 20_000)
    assert_mean(subset_bound(log_w, size), exact_bounds(two_modes(), [size]))


def test_the_indices_must_be_distinct():
    """5.2 Slip: indices drawn with replacement keep the identity and lose L_m.

    For K = m = 2 half of the pairs repeat an index, so the mean is (L_1 + L_2)/2 < L_2.
    """
    _, log_w = sample_two_modes(6, 2, 20_000)
    pairs = [iwae_bound(log_w[[i, j]]) for i, j in itertools.product(range(2), repeat=2)]
    with_replacement = sum(pairs) / 4
    one, two = exact_bounds(two_modes(), [1, 2])
    assert_mean(with_replacement, (one + two) / 2)
    assert_mean(subset_bound(log_w, 2), two)
    assert (one + two) / 2 < two - 0.2


# The log-weights of a VAE


def vae_arguments(seed, num_samples=3, batch=4, pixels=5, latents=2, scale=1.0):
    rng = generator(seed)
    x = torch.randint(2, (batch, pixels), generator=rng).double()
    mean, log_var = normal(rng, batch, latents), normal(rng, batch, latents)
    z = mean + torch.exp(0.5 * log_var) * normal(rng, num_samples, batch, latents)
    return x, scale * normal(rng, num_samples, batch, pixels), z, mean, log_var


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_log_weights_agree_with_distributions(scale):
    """5.1 log w = log p(x|z) + log p(z) − log q(z|x), each term from torch.distributions."""
    x, logits, z, mean, log_var = vae_arguments(0, scale=scale)
    expected = (
        Bernoulli(logits=logits).log_prob(x).sum(-1)
        + gaussian(0.0, 1.0).log_prob(z).sum(-1)
        - Normal(mean, torch.exp(0.5 * log_var)).log_prob(z).sum(-1)
    )
    # F.softplus returns its argument from 20 on, which leaves out log(1 + e⁻²⁰) a pixel.
    tolerance = ROUNDING if scale == 1 else 5 * math.log1p(math.exp(-20))
    assert_close(log_importance_weights(x, logits, z, mean, log_var), expected, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [-1000.0, -100.0, 100.0, 1000.0])
def test_log_weights_of_a_certain_decoder(logit, dtype):
    """5.1 With q = p(z) the weight is the likelihood: 0 nats where certain and right, −|logit| not.

    What is left out, log(1 + exp(−100)), is 4e-44.
    """
    x = torch.tensor([[1.0], [0.0]], dtype=dtype)
    logits = torch.full((3, 2, 1), logit, dtype=dtype)
    zeros = torch.zeros(2, 2, dtype=dtype)
    z = normal(generator(0), 3, 2, 2).to(dtype)
    log_w = log_importance_weights(x, logits, z, zeros, zeros)
    right, wrong = (0, 1) if logit > 0 else (1, 0)
    # log p(z) − log q(z) cancels to some eps of its size, below ten.
    tolerance = 100 * torch.finfo(dtype).eps
    assert_close(log_w[:, right], torch.zeros(3), tolerance)
    assert_close(log_w[:, wrong], torch.full((3,), -abs(logit)), tolerance)


def test_log_weights_average_to_the_enumerated_evidence():
    """5.1 E_q w = p(x) for each of the 8 images of 3 pixels, and the 8 probabilities sum to one.

    Reference: p(x) as the average of the likelihood over the prior, no q and no weights.
    """
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)
    slopes = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    z, log_step = grid(-12, 12, 961)
    log_prior = gaussian(0.0, 1.0).log_prob(z[:, 0])
    log_likelihood = Bernoulli(logits=(0.3 + slopes * z)[:, None]).log_prob(images).sum(-1)
    log_evidence = log_integral(log_likelihood + log_prior[:, None], log_step)
    assert_close(log_evidence.logsumexp(0), 0.0)

    # Another q for each image, none of them narrower than 24 steps.
    mean = torch.linspace(-0.7, 0.7, 8, dtype=torch.float64)[:, None]
    log_var = torch.linspace(-1.0, 0.5, 8, dtype=torch.float64)[:, None]
    nodes = z[:, None].expand(-1, 8, -1)
    log_w = log_importance_weights(images, 0.3 + slopes * nodes, nodes, mean, log_var)
    log_q = Normal(mean, torch.exp(0.5 * log_var)).log_prob(nodes)[..., 0]
    assert_close(log_integral(log_w + log_q, log_step), log_evidence)


# 5.3


def test_q_iw_of_one_sample_is_q():
    """5.3 For K = 1 there is nothing to weigh against: q_IW = q."""
    z, log_w = sample_two_modes(7, 100)
    log_q = Q.log_prob(z)
    assert_close(q_iw_log_prob(log_w, log_w.new_zeros(0, 100), log_q), log_q)


def test_q_iw_is_its_definition():
    """5.3 q_IW = p(x, z) / (1/K (w(z) + Σ w(z_k))), the second form on the slide, K = 5."""
    z, log_w = sample_two_modes(8, 5, 100)
    joint = two_modes_log_joint(z[0]).exp()
    expected = (joint / log_w.exp().mean(0)).log()
    assert_close(q_iw_log_prob(log_w[0], log_w[1:], Q.log_prob(z[0])), expected)


def coarse_two_modes():
    """The two-mode problem with q replaced by 61 weighted nodes.

    Sums over all K-tuples of nodes and the oracle then speak of the same finite q, and agree to
    rounding however coarse the nodes are.
    """
    problem = two_modes(61)
    problem.log_mass = problem.log_mass - problem.log_mass.logsumexp(0)
    return problem


def q_iw_given_every_rest(problem, num_samples):
    """`(n, n^(K−1))` log q_IW/q at every node for every choice of the others, and its log-mass."""
    rest, log_rest_mass, _ = product_nodes(
        problem.log_w[:, None], problem.log_mass, num_samples - 1
    )
    shape = len(problem.z), rest.shape[1]
    first = problem.log_w[:, None].expand(shape).flatten()
    log_q = problem.log_q[:, None].expand(shape).flatten()
    log_q_iw = q_iw_log_prob(first, rest.repeat(1, shape[0]), log_q)
    return (log_q_iw - log_q).reshape(shape), log_rest_mass


@pytest.mark.parametrize("num_samples", [2, 3])
def test_q_ew_is_the_average_of_q_iw(num_samples):
    """5.3 q_EW = E_{z_2…z_K} q_IW, summed over every choice, and its total mass is one."""
    problem = coarse_two_modes()
    log_ratio, log_rest_mass = q_iw_given_every_rest(problem, num_samples)
    average = torch.logsumexp(log_ratio + log_rest_mass, 1)
    exact = exact_q_ew_log_ratio(problem.log_w, problem.log_mass, num_samples)
    # Where q_EW/q is 1e-40 the oracle itself may fail (its docstring); compare the ratios there.
    assert_close(average.exp(), exact.exp())
    assert_close(torch.logsumexp(average + problem.log_mass, 0), 0.0)


@pytest.mark.parametrize("num_samples", [2, 3])
def test_the_average_elbo_of_q_iw_is_the_bound(num_samples):
    """5.3 E_{z_2…z_K} L(q_IW) = L_K exactly, and L(q_EW) is strictly above both."""
    problem = coarse_two_modes()
    log_ratio, log_rest_mass = q_iw_given_every_rest(problem, num_samples)
    mass = (log_ratio + problem.log_mass[:, None]).exp()
    elbo = (mass * (problem.log_w[:, None] - log_ratio)).sum(0)
    exact = exact_iwae_bound(problem.log_w, problem.log_mass, num_samples)
    assert_close(log_rest_mass.exp() @ elbo, exact)
    assert q_ew(problem, num_samples)[2] > exact + 0.1


def test_the_syllabus_numbers():
    """5.3 log p = −1.2040, L_1 = −2.2659, L_2 = −1.7254, L(q_EW, K=2) = −1.5638."""
    problem = two_modes()
    log_evidence = log_integral(two_modes_log_joint(problem.z), problem.log_step)
    assert_close(log_evidence, LOG_EVIDENCE)
    values = [
        log_evidence,
        *exact_bounds(problem, [1, 2]),
        q_ew(problem, 2)[2],
    ]
    assert [round(value.item(), 4) for value in values] == [-1.2040, -2.2659, -1.7254, -1.5638]


@pytest.mark.parametrize("num_samples", [2, 5, 50])
def test_q_ew_is_better_than_the_printed_equality(num_samples):
    """5.3 L_K < L(q_EW) < log p(x) strictly for 1 < K < ∞: the slides print L(q_EW) = L_K."""
    problem = two_modes()
    bound = exact_iwae_bound(problem.log_w, problem.log_mass, num_samples)
    elbo = q_ew(problem, num_samples)[2]
    # The smallest of the differences, at K = 50: gap of L_K 1.5e-2, of L(q_EW) 4.6e-4.
    assert bound + 0.01 < elbo < LOG_EVIDENCE - 1e-4


@pytest.mark.parametrize("num_samples", [1, 2, 5, 50])
def test_q_ew_integrates_to_one(num_samples):
    """5.3 ∫ q_EW = 1, and for K = 1 it is q with L(q) = L_1."""
    problem = two_modes()
    log_q_ew, mass, elbo = q_ew(problem, num_samples)
    assert_close(mass.sum(), 1.0)
    if num_samples == 1:
        assert_close(log_q_ew, problem.log_q)
        assert_close(elbo, exact_bounds(problem, [1])[0])


def test_q_ew_tends_to_the_posterior():
    """5.3 KL(q_EW‖p(z|x)) falls with K, in the limit as Var_post(w/p(x))/(2K²).

    With v = w/p(x) and V its variance under q, expanding 1/S̄ gives
    q_EW/p(z|x) = 1 + (1 + V − v)/K + O(K⁻²), whose variance under the posterior is twice the KL.
    """
    problem = two_modes()
    sizes = [1, 2, 5, 10, 100, 200]
    kl = LOG_EVIDENCE - torch.stack([q_ew(problem, size)[2] for size in sizes])
    assert (kl.diff() < 0).all()
    posterior = (problem.log_mass + problem.log_w - LOG_EVIDENCE).exp()
    ratio = (problem.log_w - LOG_EVIDENCE).exp()
    limit = (posterior @ ratio**2 - (posterior @ ratio) ** 2) / 2
    # Relative error c/K: one extrapolation from K = 100 and 200 leaves O(K⁻²), 1e-4.
    scaled = kl[-2:] * torch.tensor([100.0**2, 200.0**2], dtype=torch.float64)
    assert_close(2 * scaled[1] - scaled[0], limit, 1e-3)


def test_importance_resampling_draws_from_q_ew():
    """5.3 Drawing one of K samples with probability w̃_k draws from q_EW: masses of eight bins."""
    num_samples, repeats = 5, 50_000
    z, log_w = sample_two_modes(9, num_samples, repeats)
    weights = iwae_gradient_weights(log_w)
    chosen = torch.multinomial(weights.T, 1, generator=generator(10))
    drawn = z.gather(0, chosen.T)[0]
    # Bins of whole nodes: each edge half a step off a node.
    problem = two_modes(4801)
    edges = torch.linspace(-3.5, 3.5, 8, dtype=torch.float64) + 0.0025
    mass = q_ew(problem, num_samples)[1]
    bins = torch.bucketize(problem.z, edges)
    exact = torch.zeros(9, dtype=torch.float64).index_add(0, bins, mass)
    hits = torch.nn.functional.one_hot(torch.bucketize(drawn, edges), 9).double()
    # The midpoint rule over a bin is off by h²/24·f', below 1e-6; a standard error is 1e-3.
    assert_mean(hits[:, 1:8], exact[1:8])


# 5.4


@pytest.mark.parametrize("num_samples", [1, 2, 7])
def test_gradient_is_a_weighted_average(num_samples):
    """5.4 ∇ L_K = Σ_k w̃_k ∇ log w_k: autograd of the bound against the weights, w.r.t. θ too."""
    _, log_w = sample_two_modes(11, num_samples, 9)
    log_w.requires_grad_()
    weights = iwae_gradient_weights(log_w)
    (gradient,) = torch.autograd.grad(iwae_bound(log_w).sum(), log_w)
    assert_close(weights, gradient)
    assert_close(weights.sum(0), torch.ones(9))

    theta = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    scores = normal(generator(12), num_samples, 9)
    (gradient,) = torch.autograd.grad(iwae_bound(log_w + theta * scores).sum(), theta)
    expected = (iwae_gradient_weights(log_w + theta * scores) * scores).sum()
    assert_close(gradient, expected.item())


class GradientProblem:
    """Rainforth et al.'s linear-Gaussian model with one latent: where its asymptotics hold early.

    p(z) = N(0, 1), p(x|z) = N(z + θ, 1), q(z|x) = N(φ, 2/3), at x = 1, θ = 0: the posterior is
    N(1/2, 1/2), and φ stands 1/2 off its mean, so that the gradient in φ is not zero by symmetry.
    """

    theta, phi, std = 0.0, 1.0, (2 / 3) ** 0.5

    def log_w(self, noise, theta, phi, phi_density):
        """Log-weights of `z = φ + std·noise`; `phi_density` is the φ inside log q."""
        z = phi + self.std * noise
        return (
            gaussian(0.0, 1.0).log_prob(z)
            + Normal(z + theta, 1.0).log_prob(torch.ones_like(z))
            - Normal(phi_density, self.std).log_prob(z)
        )

    def gradients(self, noise):
        """`(K, S) → (S, 3)`: per draw ∂/∂θ, ∂/∂φ, and ∂/∂φ doubly reparametrized.

        Every draw has its own copy of the parameters, so one backward pass gives S gradients.
        """
        theta = torch.full(noise.shape[1:], self.theta, dtype=torch.float64, requires_grad=True)
        phi = torch.full(noise.shape[1:], self.phi, dtype=torch.float64, requires_grad=True)
        bound = iwae_bound(self.log_w(noise, theta, phi, phi))
        by_theta, by_phi = torch.autograd.grad(bound.sum(), [theta, phi])
        log_w = self.log_w(noise, theta.detach(), phi, phi.detach())
        squared = iwae_gradient_weights(log_w.detach()) ** 2
        (doubly,) = torch.autograd.grad((squared * log_w).sum(), phi)
        return torch.stack([by_theta, by_phi, doubly], 1)

    def exact(self, num_samples):
        """`(3,)` the same expectations, by differentiating the exact bound."""
        theta = torch.tensor(self.theta, dtype=torch.float64, requires_grad=True)
        phi = torch.tensor(self.phi, dtype=torch.float64, requires_grad=True)
        noise, log_mass = self.nodes()
        bound = exact_iwae_bound(self.log_w(noise, theta, phi, phi), log_mass, num_samples)
        by_theta, by_phi = torch.autograd.grad(bound, [theta, phi])
        return torch.stack([by_theta, by_phi, by_phi])

    def nodes(self):
        """Standard normal nodes: spacing 0.1, out to 9 standard deviations (2e-19 is left)."""
        noise, log_step = grid(-9, 9, 181)
        return noise[:, 0], gaussian(0.0, 1.0).log_prob(noise[:, 0]) + log_step


@pytest.mark.parametrize("num_samples", [1, 2])
def test_gradients_are_unbiased(num_samples):
    """5.4 Both gradients in φ have the exact gradient as mean: every K-tuple of nodes."""
    problem = GradientProblem()
    noise, log_mass = problem.nodes()
    noise, log_tuple_mass, _ = product_nodes(noise[:, None], log_mass, num_samples)
    mean = log_tuple_mass.exp() @ problem.gradients(noise)
    # The oracle's rounding, 1e-14, passes through a derivative.
    assert_close(mean, problem.exact(num_samples), 1e-11)


def test_signal_to_noise_slopes():
    """5.4 SNR of θ grows as K^(1/2), of φ falls as K^(−1/2); doubly reparametrized φ grows again.

    K = 4 … 128, log-log least squares. The relative standard error of an SNR from S draws is
    sqrt((1/SNR² + 1/2)/S); it puts 0.02 on the slope in φ, a fifth of the 0.1 allowed.
    """
    problem, draws = GradientProblem(), 60_000
    sizes = [4, 8, 16, 32, 64, 128]
    rng = generator(13)
    snr = []
    for size in sizes:
        parts = normal(rng, size, draws).split(draws // 4, 1)
        gradients = torch.cat([problem.gradients(part) for part in parts])
        assert_mean(gradients, problem.exact(size))
        snr.append(gradient_snr(gradients))
    log_k = torch.tensor(sizes, dtype=torch.float64).log()
    centred = (log_k - log_k.mean()) / ((log_k - log_k.mean()) ** 2).sum()
    slopes = centred @ torch.stack(snr).log()
    expected = torch.tensor([0.5, -0.5, 0.5], dtype=torch.float64)
    assert ((slopes - expected).abs() < 0.1).all(), slopes


def test_snr_of_two_estimates():
    """5.4 For S = 2 mean and deviation are (a + b)/2 and |a − b|/√2."""
    first, second = normal(generator(14), 2, 20)
    expected = (first + second).abs() / (2**0.5 * (first - second).abs())
    assert_close(gradient_snr(torch.stack([first, second])), expected)


def test_snr_ignores_sign_and_scale():
    """5.4 SNR is |mean|/deviation: the same for a gradient, its negative and its thousandfold."""
    gradients = normal(generator(15), 100, 3) - 1
    assert (gradient_snr(gradients) > 0).all()
    assert_close(gradient_snr(-gradients), gradient_snr(gradients))
    assert_close(gradient_snr(1000 * gradients), gradient_snr(gradients))


# 5.5


def test_active_units_of_probabilistic_pca():
    """5.5 Exact posterior means of 20 000 draws: their variances are the closed form's.

    Orthogonal columns make the variance of unit l equal to |w_l|²/(|w_l|² + s²). The standard
    error of a Gaussian's sample variance v is v·sqrt(2/N).
    """
    variances = torch.tensor([0.9, 0.5, 0.05, 0.02, 0.005, 0.001, 0.0], dtype=torch.float64)
    rng, count = generator(16), 20_000
    directions = torch.linalg.qr(normal(rng, 9, 7)).Q
    weight = directions * (variances / (1 - variances)).sqrt()
    model = LinearGaussian(weight, normal(rng, 9), 1.0)
    assert_close(model.posterior_mean_variance(), variances)

    x = normal(rng, count, 7) @ weight.T + model.bias + normal(rng, count, 9)
    means, _ = model.posterior(x)
    error = (means.var(0) - variances).abs()
    assert (error <= SIGMAS * variances * (2 / count) ** 0.5 + ROUNDING).all()
    assert active_units(means).tolist() == [True] * 4 + [False] * 3
    assert active_units(means, threshold=0.1).tolist() == [True] * 2 + [False] * 5


def test_active_is_above_a_hundredth():
    """5.5 The threshold is 0.01 on the variance, strictly; a mean far from 0 does not help."""
    alternating = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)[:, None]
    unit_variance = alternating * (99 / 100) ** 0.5
    variances = torch.tensor([0.0099, 0.0101, 0.5], dtype=torch.float64)
    means = unit_variance * variances.sqrt()
    assert active_units(means).tolist() == [False, True, True]
    assert active_units(means + 7).tolist() == [False, True, True]
    # −1, 0, 1 has variance exactly 1: not above 1.
    assert not active_units(torch.tensor([[-1.0], [0.0], [1.0]]), threshold=1.0)
    # Two points at ±a have variance 2a² with the divisor N − 1: 0.0128 here.
    assert active_units(torch.tensor([[0.08], [-0.08]])).tolist() == [True]


# What holds for all of them


def calls(dtype, device):
    """Every function with its floating arguments, by name."""
    x, logits, z, mean, log_var = vae_arguments(17)
    log_w = 5 * normal(generator(18), 4, 3)
    every = {
        "log_importance_weights": (log_importance_weights, (x, logits, z, mean, log_var)),
        "multi_sample_elbo": (multi_sample_elbo, (log_w,)),
        "iwae_bound": (iwae_bound, (log_w,)),
        "subset_bound": (lambda log_w: subset_bound(log_w, 2), (log_w,)),
        "iwae_gradient_weights": (iwae_gradient_weights, (log_w,)),
        "q_iw_log_prob": (q_iw_log_prob, (log_w[0], log_w[1:], log_w[0] - 1)),
        "gradient_snr": (gradient_snr, (log_w,)),
    }
    return {
        name: (function, tuple(argument.to(device, dtype) for argument in arguments))
        for name, (function, arguments) in every.items()
    }


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", calls(torch.float64, "cpu"))
def test_dtype_device_and_gradients(name, dtype, device):
    """5.1–5.4 The result keeps dtype and device, and a finite gradient reaches every argument."""
    function, arguments = calls(dtype, device)[name]
    arguments = [argument.requires_grad_() for argument in arguments]
    result = function(*arguments)
    assert (result.dtype, result.device.type) == (dtype, device)
    reference_function, reference_arguments = calls(torch.float64, "cpu")[name]
    # A dozen operations on numbers of size 100, and the factor 100 that SNR can amplify.
    tolerance = 1e4 * torch.finfo(dtype).eps
    assert_close(result.detach().cpu(), reference_function(*reference_arguments), tolerance)
    # Weighted, so that sums to one have a gradient too.
    weights = torch.linspace(0.5, 2.0, result.numel(), dtype=dtype, device=device)
    gradients = torch.autograd.grad((result.flatten() * weights).sum(), arguments)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_active_units_are_booleans(dtype, device):
    """5.5 One truth value a unit, on the device of the means."""
    active = active_units(normal(generator(19), 10, 4).to(device, dtype))
    assert (active.dtype, active.shape, active.device.type) == (torch.bool, (4,), device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_an_image_do_not_underflow(dtype, device):
    """5.1 Log-weights near −10⁴: their exp is 0, yet the bounds are the shifted bounds."""
    log_w = normal(generator(20), 4, 3).to(device, dtype)
    far = log_w - 10_000
    # One rounding of a number of size 10⁴.
    tolerance = 1e4 * torch.finfo(dtype).eps
    for bound in (iwae_bound, multi_sample_elbo, lambda log_w: subset_bound(log_w, 2)):
        assert_close((bound(far) + 10_000).cpu(), bound(log_w).cpu().double(), tolerance)
    weights = iwae_gradient_weights(far)
    assert_close(weights.cpu(), iwae_gradient_weights(log_w).cpu().double(), tolerance)
    log_q_iw = q_iw_log_prob(far[0], far[1:], log_w[0])
    expected = q_iw_log_prob(log_w[0], log_w[1:], log_w[0])
    assert_close(log_q_iw.cpu(), expected.cpu().double(), tolerance)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda w: iwae_bound(w[0]), ValueError, r"log_w must have the shape \(K, B\), not \(3,\)"),
        (
            lambda w: iwae_bound(w.long()),
            TypeError,
            "log_w must be floating point, not torch.int64",
        ),
        (lambda w: iwae_bound(w[:0]), ValueError, "log_w must not be empty"),
        (lambda w: multi_sample_elbo(w.tolist()), TypeError, "log_w must be a tensor, not list"),
        (lambda w: subset_bound(w, 0), ValueError, "m must be between 1 and 5, not 0"),
        (lambda w: subset_bound(w, 2.0), TypeError, "m must be a whole number, not 2.0"),
        (lambda w: q_iw_log_prob(w[0], w[1:, :2], w[0]), ValueError, r"\(K − 1, 3\), not \(4, 2\)"),
        (
            lambda w: gradient_snr(w[:1]),
            ValueError,
            "number of gradients must be at least 2, not 1",
        ),
        (lambda w: active_units(w[:1]), ValueError, "number of means must be at least 2, not 1"),
        (
            lambda w: log_importance_weights(w[:3], w[None], w[None], w, w),
            ValueError,
            r"logits .* \(K, B, D\) with B = 3 as in x, D = 3 as in x, not \(1, 5, 3\)",
        ),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call(torch.zeros(5, 3))


# 5.6


def test_iwae_keeps_more_units_active_on_the_digits():
    """5.6 The published pattern, small: with the same five samples, IWAE uses more latent units."""
    grey = digits("train").flat()
    active = {}
    for objective in (multi_sample_elbo, iwae_bound):
        torch.manual_seed(0)
        encoder = torch.nn.Sequential(
            torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32)
        )
        decoder = torch.nn.Sequential(
            torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64)
        )
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 5e-3)
        for _ in range(600):
            x = torch.bernoulli(grey[torch.randint(len(grey), (100,))])
            mean, log_var = encoder(x).chunk(2, -1)
            z = mean + torch.exp(0.5 * log_var) * torch.randn(5, *mean.shape)
            log_w = log_importance_weights(x, decoder(z), z, mean, log_var)
            optimizer.zero_grad()
            (-objective(log_w).mean()).backward()
            optimizer.step()
        with torch.no_grad():
            means, _ = encoder(grey).chunk(2, -1)
        active[objective] = int(active_units(means).sum())
    assert active[iwae_bound] >= active[multi_sample_elbo] + 2
