"""Dequantization: the claims of lecture 4, held against exact answers."""

import math

import pytest
import torch
from statements import (
    DEVICES,
    SIGMAS,
    assert_close,
    assert_mean,
    double,
    generator,
    gradients,
    keeps_dtype_device_and_gradients,
    normal,
    uniform,
)
from torch.distributions import Normal, SigmoidTransform, TransformedDistribution

from dgm_utils.data import digits
from dgm_utils.dequantization import (
    bits_per_dim,
    exact_log_pmf,
    importance_weighted_dequantization,
    logit_preprocess,
    sigmoid_noise,
    uniform_bound,
    uniform_dequantize,
    variational_bound,
)
from dgm_utils.models.autoregressive import MAF
from dgm_utils.models.dequantize import UniformDequantizer, VariationalDequantizer
from dgm_utils.oracles import exact_iwae_bound, grid, log_cell_mass, quadrature_kl, unit_cell

# A density on the line with two modes, and its distribution function.
MODES = Normal(double([1.2, 3.1]), double([0.5, 0.9]))
WEIGHTS = double([0.4, 0.6])


def log_density(y):
    """`(..., 1) → (...)`."""
    return torch.logsumexp(MODES.log_prob(y) + WEIGHTS.log(), -1)


def cdf(y):
    return MODES.cdf(y.double()[..., None]) @ WEIGHTS


LEVELS = torch.arange(5)[:, None]


def within_cells(num=60):
    """Nodes u of the cell, the rule's log-weights, and log p(u|x) `(n, 5)` for all levels."""
    u, log_weights = unit_cell(num)
    log_p = log_density(LEVELS + u[:, None])
    return u, log_weights, log_p - log_cell_mass(log_density, LEVELS, num)


# 4.1


def test_without_dequantization_the_likelihood_has_no_bound():
    """4.1 Spikes of width σ on the levels: log p grows by log 10 for each tenth of σ, for ever.

    The same densities on dequantized data stay below the entropy bound, Σ π log π.
    """
    frequencies = double([0.5, 0.3, 0.2])
    x = torch.arange(3)[:, None]
    highest = (frequencies * frequencies.log()).sum()

    def spikes(std):
        return lambda y: torch.logsumexp(
            frequencies.log() + Normal(torch.arange(3).double(), std).log_prob(y), -1
        )

    stds = [0.1, 0.01, 0.001, 1e-6]
    raw = torch.stack([frequencies @ spikes(std)(x.double()) for std in stds])
    # At distance 1 = 10 standard deviations, other spikes add e⁻⁵⁰.
    assert_close(raw.diff(), [math.log(10), math.log(10), math.log(1000)])
    assert raw[-1] > 10
    noise = uniform(1, 2000, 3, 1)
    for std in [3.0, 1.0, 0.3, *stds]:
        bound = frequencies @ uniform_bound(spikes(std), x, noise)
        assert bound < highest
    assert frequencies @ uniform_bound(spikes(0.001), x, noise) < -1000


# 4.2


def test_exact_probabilities_of_the_levels():
    """4.2 Differences of the distribution function are the integral over each cell."""
    x = torch.arange(-2, 8)
    exact = log_cell_mass(log_density, x[:, None], 60)
    assert_close(exact_log_pmf(cdf, x), exact, 1e-11)
    assert_close(exact_log_pmf(cdf, torch.arange(-20, 30)).exp().sum(), 1.0)


def test_gap_of_the_uniform_bound():
    """4.2 log P(x) − E_u log p(x+u) = KL(U ‖ p(u|x)), level by level, by quadrature."""
    u, log_weights, log_p_given_x = within_cells()
    each = torch.stack([uniform_bound(log_density, LEVELS, e.expand(1, 5, 1)) for e in u])
    bound = log_weights.exp() @ each
    gap = quadrature_kl(torch.zeros_like(log_p_given_x), log_p_given_x, log_weights)
    assert_close(exact_log_pmf(cdf, LEVELS[:, 0]) - bound, gap, 1e-11)
    assert (gap > 1e-3).all()


def test_uniform_bound_from_draws():
    """4.2 Its average over draws is what quadrature finds, and S draws are averaged."""
    u, log_weights, _ = within_cells()
    exact = log_weights.exp() @ log_density(LEVELS + u[:, None])
    noise = uniform(2, 20_000, 5, 1)
    assert_mean(log_density(uniform_dequantize(LEVELS, noise)), exact)
    each = [uniform_bound(log_density, LEVELS, noise[s : s + 1]) for s in range(7)]
    assert_close(uniform_bound(log_density, LEVELS, noise[:7]), torch.stack(each).mean(0))


def test_the_uniform_bound_is_exact_for_a_flat_density():
    """4.2 Where p is constant on each cell the gap is zero, with any noise."""
    log_heights = double([0.1, 0.2, 0.3, 0.25, 0.15]).log()

    def flat(y):
        return log_heights[y[..., 0].floor().long()]

    assert_close(uniform_bound(flat, LEVELS, uniform(3, 4, 5, 1)), log_heights)


def test_gap_of_the_uniform_bound_against_the_width_of_a_cell():
    """4.2 Average gap δ²/24 · E(∂ log p)², 1/24 for N(0, 1); an exponential's in closed form."""
    u, log_weights = unit_cell(40)
    ratios = []
    for width in (0.5, 0.25, 0.125):
        x = torch.arange(round(-9 / width), round(9 / width))[:, None]
        log_prob = Normal(double(0.0), 1.0).log_prob(width * (x + u[:, None]))[..., 0]
        log_prob = log_prob + math.log(width)
        log_pmf = torch.logsumexp(log_prob + log_weights[:, None], 0)
        gap = log_pmf.exp() @ (log_pmf - log_weights.exp() @ log_prob)
        ratios.append(24 * gap / width**2)
    errors = (1 - torch.stack(ratios)).abs()
    assert errors[-1] < 1e-3
    assert (errors.diff() < 0).all()

    rate = 1.5
    log_pmf = exact_log_pmf(lambda y: -torch.exp(-rate * y.double()), LEVELS)[:, 0]
    bound = math.log(rate) - rate * (LEVELS[:, 0].double() + 0.5)
    assert_close(log_pmf - bound, [math.log(math.sinh(rate / 2) / (rate / 2))] * 5)


# 4.3


def variational_noise(num=801):
    """Nodes eps, log-mass of N(0, 1) there, and Flow++ noise with a shift and scale a level."""
    eps, log_step = grid(-10, 10, num)
    log_mass = Normal(double(0.0), 1.0).log_prob(eps[:, 0]) + log_step
    shift, log_scale = normal(4, 5, 1), 0.3 * normal(5, 5, 1)
    noise = [sigmoid_noise(e.expand(5, 1), shift, log_scale) for e in eps]
    u, log_q = (torch.stack(parts) for parts in zip(*noise, strict=True))
    return shift, log_scale, log_mass, u, log_q


def test_gap_of_the_variational_bound():
    """4.3 log P(x) − L(q) = KL(q(u|x) ‖ p(u|x)): the bound over eps, the KL over u.

    Two different rules: a trapezoid in eps, Gauss-Legendre in u, where q is torch's sigmoid of a
    Gaussian. What limits the second are q's tails at the ends of the cell.
    """
    shift, log_scale, log_mass, u, log_q = variational_noise()
    each = [
        variational_bound(log_density, LEVELS, u[i : i + 1], log_q[i : i + 1])
        for i in range(len(u))
    ]
    bound = log_mass.exp() @ torch.stack(each)
    nodes, log_weights, log_p_given_x = within_cells(300)
    base = Normal(shift[:, 0], log_scale[:, 0].exp())
    q = TransformedDistribution(base, [SigmoidTransform()])
    gap = quadrature_kl(q.log_prob(nodes), log_p_given_x, log_weights)
    assert_close(exact_log_pmf(cdf, LEVELS[:, 0]) - bound, gap, 1e-7)


def test_the_uniform_bound_is_a_variational_one():
    """4.3 With q = U, log q = 0, both are the same number."""
    noise = uniform(6, 9, 5, 1)
    found = variational_bound(log_density, LEVELS, noise, torch.zeros(9, 5))
    assert_close(found, uniform_bound(log_density, LEVELS, noise), 0)


def test_the_variational_bound_is_exact_for_the_density_within_the_cell():
    """4.3 q(u|x) = p(u|x) has gap zero, and every weight is P(x)."""
    noise = uniform(7, 3, 5, 1)
    log_pmf = exact_log_pmf(cdf, LEVELS[:, 0])
    log_q = log_density(LEVELS + noise) - log_pmf
    for bound in (variational_bound, importance_weighted_dequantization):
        assert_close(bound(log_density, LEVELS, noise, log_q), log_pmf)


def test_importance_weighting_tightens_the_bound():
    """4.3 Draws of S = 1, 5, 20 average to the exact L_S, which grows towards log P(x)."""
    shift, log_scale, log_mass, u, log_q = variational_noise()
    log_w = log_density(LEVELS + u) - log_q
    log_pmf = exact_log_pmf(cdf, LEVELS[:, 0])
    previous = torch.full((5,), -math.inf)
    for num_samples in (1, 5, 20):
        exact = torch.stack(
            [exact_iwae_bound(log_w[:, i], log_mass, num_samples) for i in range(5)]
        )
        assert (previous < exact).all() and (exact < log_pmf).all()
        previous = exact
        eps = normal(8 + num_samples, num_samples, 4000 * 5, 1)
        levels = LEVELS.repeat(4000, 1)
        drawn = [sigmoid_noise(e, shift.repeat(4000, 1), log_scale.repeat(4000, 1)) for e in eps]
        samples, log_density_of_noise = (torch.stack(p) for p in zip(*drawn, strict=True))
        found = importance_weighted_dequantization(
            log_density, levels, samples, log_density_of_noise
        )
        assert_mean(found.reshape(4000, 5), exact)


def test_no_noise_raises_the_ceiling():
    """4.3 E_π E_q [log p(x + u) − log q(u|x)] ≤ Σ π log π, reached by p(x + u) = π(x) q(u|x)."""
    frequencies = double([0.1, 0.3, 0.2, 0.25, 0.15])
    shift, log_scale, log_mass, u, log_q = variational_noise()
    highest = frequencies @ frequencies.log()
    bound = log_mass.exp() @ (log_density(LEVELS + u) - log_q)
    assert frequencies @ bound < highest
    q = TransformedDistribution(Normal(shift[:, 0], log_scale[:, 0].exp()), [SigmoidTransform()])

    def best(y):
        return frequencies.log() + q.log_prob((y - LEVELS)[..., 0])

    nodes = log_mass > -40  # further out x + u is rounded to x + 1
    log_q_found = best(LEVELS + u[nodes]) - log_q[nodes]
    assert_close(log_mass[nodes].exp() @ log_q_found @ frequencies, highest, 1e-9)


def test_weights_of_uniform_noise_have_a_variance_and_those_of_sigmoid_noise_none():
    """4.3 The gap of L_S tends to Var(w/P)/2S for U; E w² grows beyond all for a sigmoid's q."""
    u, log_weights = unit_cell(60)
    log_w = log_density(1 + u)
    log_pmf = exact_log_pmf(cdf, double(1))
    variance = (log_weights + 2 * (log_w - log_pmf)).exp().sum() - 1
    gap = log_pmf - exact_iwae_bound(log_w, log_weights, 1000)
    assert_close(2000 * gap, variance, 0.01)

    for shift, log_scale in [(0.0, 0.5), (1.0, 0.0), (-1.0, 1.0)]:
        seconds = []
        for reach in (10, 20, 40):
            eps, log_step = grid(-reach, reach, 40 * reach + 1)
            ones = torch.ones_like(eps)
            at, log_q = sigmoid_noise(eps, shift * ones, log_scale * ones)
            log_mass = Normal(double(0.0), 1.0).log_prob(eps[:, 0]) + log_step
            seconds.append(torch.logsumexp(log_mass + 2 * (log_density(1 + at) - log_q), 0))
        assert seconds[0] + 20 < seconds[1] < seconds[2] - 100


# 4.4


def test_sigmoid_noise_is_never_uniform():
    """4.4 KL(q ‖ U) over a grid of shifts and scales: lowest at 0 and 1.75, where it is 0.0095."""
    eps, log_step = grid(-9, 9, 361)
    log_mass = Normal(double(0.0), 1.0).log_prob(eps) + log_step[:, None]
    scales, shifts = torch.arange(0.5, 4, 0.05).double(), double([-0.5, 0.0, 0.5])
    kl = []
    for shift in shifts:
        # Each scale is a data point of one dimension.
        args = shift.expand(len(scales), 1), scales.log()[:, None]
        log_q = torch.stack([sigmoid_noise(e.expand(len(scales), 1), *args)[1] for e in eps])
        kl.append((log_mass.exp() * log_q).sum(0))
    kl = torch.stack(kl)
    shift, scale = divmod(kl.argmin().item(), len(scales))
    assert_close(kl.min(), 0.0095, 1e-4)
    assert_close(scales[scale], 1.75, 1e-9)
    assert shift == 1


def test_density_of_the_sigmoid_noise():
    """4.4 torch's sigmoid of a Gaussian has the same log-density, summed over dimensions."""
    eps, shift, log_scale = normal(1, 6, 4), normal(2, 6, 4), 0.5 * normal(3, 6, 4)
    u, log_q = sigmoid_noise(eps, shift, log_scale)
    q = TransformedDistribution(Normal(shift, log_scale.exp()), [SigmoidTransform()])
    assert_close(log_q, q.log_prob(u).sum(-1), 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigmoid_noise_far_out(dtype):
    """4.4 At eps = ±40 u is 0 or 1, and log q is still −½ε² − ½ log 2π − log_scale + |a|."""
    eps = torch.tensor([[40.0], [-40.0]], dtype=dtype)
    shift, log_scale = torch.full_like(eps, 0.5), torch.full_like(eps, 0.2)
    (u, log_q), grads = gradients(sigmoid_noise, [eps, shift, log_scale], [0, 1, 2])
    a = 40 * math.exp(0.2) + double([0.5, -0.5])
    exact = -800 - 0.5 * math.log(2 * math.pi) - 0.2 + a
    assert_close(log_q, exact, 1e-5 if dtype == torch.float32 else 1e-12)
    assert ((u >= 0) & (u <= 1)).all()
    assert all(g.isfinite().all() for g in grads)


def trained(dims, couplings):
    """A dequantizer whose networks are no longer the identity they start as."""
    torch.manual_seed(0)
    module = VariationalDequantizer(dims, 8, hidden=16, num_couplings=couplings).double()
    for parameter in module.parameters():
        parameter.data = 0.2 * torch.randn_like(parameter)
    return module


@pytest.mark.parametrize(("dims", "couplings"), [(1, 0), (3, 0), (2, 1), (5, 3)])
def test_density_of_the_flow_plus_plus_noise(dims, couplings):
    """4.4 log q(u|x) = log N(ε) − log|det ∂u/∂ε|, the Jacobian taken by autograd."""
    module = trained(dims, couplings)
    x, noise = torch.randint(8, (3, dims), generator=generator(1)), normal(2, 1, 3, dims)
    _, log_q = module(x, noise)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda e, i=i: module(x[i : i + 1], e[None, None])[0][0, 0], noise[0, i]
        )
        log_normal = Normal(double(0.0), 1.0).log_prob(noise[0, i]).sum()
        assert_close(log_q[0, i], log_normal - torch.linalg.slogdet(jacobian)[1], 1e-11)


def test_flow_plus_plus_noise_integrates_to_one():
    """4.4 In 2-D: ε fills the cell once, ∫ |det ∂u/∂ε| dε = 1, with the determinant in log q.

    A trapezoid in ε; at its ends u is within e⁻⁹ of the sides of the cell, which is what is missed.
    """
    module = trained(2, 2)
    eps, log_weights = grid(-32, 32, 513, dims=2)
    with torch.no_grad():
        u, log_q = module(torch.tensor([[1, 6]]), eps[:, None])
    edge = eps.abs().max(1).values == 32
    missed = torch.minimum(u, 1 - u).min(-1).values[edge].max()
    assert missed < math.exp(-9)
    log_slope = Normal(double(0.0), 1.0).log_prob(eps).sum(1) - log_q[:, 0]
    assert_close((log_slope + log_weights).exp().sum(), 1.0, 4 * missed.item())


def test_every_bound_of_a_module_is_below_the_log_probability():
    """4.4 On a 2-D density: uniform < Flow++ trained for 150 steps < log P, with the exact log P.

    Means over 20 000 draws; their standard errors are below 0.005.
    """
    torch.manual_seed(1)
    slope = torch.tensor([[1.0, 0.0], [0.9, 0.45]])

    def log_prob(y):
        # Correlated within the cell: what couplings are for.
        log_det = torch.log(torch.det(slope))
        e = torch.linalg.solve_triangular(slope.to(y), (y - 1.0)[..., None], upper=False)[..., 0]
        return Normal(0.0, 1.0).log_prob(4 * e).sum(-1) - log_det.to(y) + 2 * math.log(4)

    x = torch.tensor([[1, 1], [0, 0], [0, 1], [1, 0]])
    exact = log_cell_mass(log_prob, x, 100).mean()
    uniform_q, flow = UniformDequantizer(), VariationalDequantizer(2, 2, hidden=32)
    optimizer = torch.optim.Adam(flow.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = -variational_bound(log_prob, x, *flow.sample(x, 64)).mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        bounds = [
            variational_bound(log_prob, x, *q.sample(x, 20_000)).mean() for q in (uniform_q, flow)
        ]
        weighted = importance_weighted_dequantization(log_prob, x, *flow.sample(x, 20_000)).mean()
    assert bounds[0] < bounds[1] - 0.5
    assert bounds[1] < exact
    assert bounds[1] < weighted < exact + 0.02


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dequantizers_as_modules(dtype, device, tmp_path):
    """4.4 Dtype and device, gradients to every parameter, save and load, batched as looped."""
    torch.manual_seed(2)
    module = VariationalDequantizer(4, 16).to(device, dtype)
    x = torch.randint(16, (3, 4), generator=generator(3)).to(device)
    noise = module.draw((5, 3, 4))
    u, log_q = module(x, noise)
    assert {(t.dtype, t.device.type) for t in (u, log_q)} == {(dtype, device)}
    assert (u.shape, log_q.shape) == ((5, 3, 4), (5, 3))
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # the last layers start at zero
    u, log_q = module(x, noise)
    (u.sum() + log_q.sum()).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in module.parameters())

    torch.save(module.state_dict(), tmp_path / "module.pt")
    other = VariationalDequantizer(4, 16).to(device, dtype)
    other.load_state_dict(torch.load(tmp_path / "module.pt"))
    for value, again in zip((u, log_q), other(x, noise), strict=True):
        assert torch.equal(value, again)
    tolerance = 100 * torch.finfo(dtype).eps
    for i in range(3):
        alone = module(x[i : i + 1], noise[:, i : i + 1])
        assert_close(alone[0].cpu(), u[:, i : i + 1].cpu().double(), tolerance)
        assert_close(alone[1].cpu(), log_q[:, i : i + 1].cpu().double(), tolerance)
    flat, zero = UniformDequantizer()(x, torch.rand(5, 3, 4, dtype=dtype, device=device))
    assert (flat.dtype, zero.shape, zero.any().item()) == (dtype, (5, 3), False)


def test_learned_noise_needs_fewer_bits_on_images():
    """4.4 The 8×8 digits, the same flow and steps: bits/dim of the bound, five standard errors."""
    data, test = (digits(split).x.flatten(1) for split in ("train", "test"))
    bits = []
    for learned in (False, True):
        torch.manual_seed(0)
        flow = MAF(64, 2, hidden_sizes=(64,))
        q = VariationalDequantizer(64, 17, hidden=64) if learned else UniformDequantizer()

        def log_prob(y, flow=flow):
            z, log_det = logit_preprocess(y.reshape(-1, 64), 17, 0.02)
            return (flow.log_prob(z) + log_det).reshape(y.shape[:-1])

        optimizer = torch.optim.Adam([*flow.parameters(), *q.parameters()], 5e-3)
        for _ in range(120):
            x = data[torch.randint(len(data), (50,))]
            loss = -variational_bound(log_prob, x, *q.sample(x)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            bound = variational_bound(log_prob, test, *q.sample(test, 16))
        bits.append(bits_per_dim(bound, 64))
    gain = bits[0] - bits[1]
    assert bits[0].mean() < math.log2(17)
    assert gain.mean() > SIGMAS * gain.std() / len(gain) ** 0.5


def test_dequantizer_under_stress():
    """4.4 Weights a thousand times too large and noise at ±40: log q stays finite."""
    module = trained(4, 2)
    for parameter in module.parameters():
        parameter.data *= 1000
    noise = 40 * (2 * torch.randint(2, (2, 3, 4), generator=generator(4)) - 1).double()
    u, log_q = module(torch.zeros(3, 4), noise)
    log_q.sum().backward()
    assert u.isfinite().all()
    assert log_q.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


# 4.5


def test_bits_of_a_uniform_model():
    """4.5 All of 256 levels equally likely: eight bits a dimension, whatever their number."""
    for dims in (1, 3, 784):
        log_prob = torch.full((2,), -dims * math.log(256), dtype=torch.float64)
        assert_close(bits_per_dim(log_prob, dims), [8.0, 8.0])


def test_rescaled_data_owe_the_logarithm_of_the_levels():
    """4.5 A density of y/256 gives log p(y) = log p(y/256) − D log 256: the same bits."""
    y, std = 256 * uniform(1, 4, 3), double(40.0)
    direct = Normal(128.0, std).log_prob(y).sum(-1)
    rescaled = Normal(0.5, std / 256).log_prob(y / 256).sum(-1) - 3 * math.log(256)
    assert_close(bits_per_dim(rescaled, 3), bits_per_dim(direct, 3))


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.3])
def test_log_determinant_of_the_preprocessing(alpha):
    """4.5 log|det| of the Jacobian that autograd finds, and the value is torch's logit."""
    y = 256 * uniform(2, 3, 4)
    value, log_det = logit_preprocess(y, 256, alpha)
    assert_close(value, torch.logit(alpha + (1 - 2 * alpha) * y / 256), 1e-11)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda row: logit_preprocess(row[None], 256, alpha)[0][0], y[i]
        )
        assert_close(log_det[i], torch.linalg.slogdet(jacobian)[1], 1e-11)


def test_a_density_after_the_preprocessing_is_a_density_of_the_levels():
    """4.5 ∫ N(logit(…)) exp(log_det) dy over [0, 16] is the Gaussian's mass between the ends."""
    alpha, q = 0.02, Normal(double(0.3), 1.1)
    nodes, log_weights = unit_cell(300)
    value, log_det = logit_preprocess(16 * nodes, 16, alpha)
    log_mass = q.log_prob(value[:, 0]) + log_det + log_weights + math.log(16)
    ends = torch.logit(double([alpha, 1 - alpha]))
    assert_close(log_mass.exp().sum(), q.cdf(ends[1]) - q.cdf(ends[0]), 1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_preprocessing_at_the_ends(dtype):
    """4.5 y = 0 and the last number below 256, where 1 − p has few digits, at α = 1e-6."""
    last = torch.nextafter(torch.tensor(256.0, dtype=dtype), torch.tensor(0.0, dtype=dtype))
    y = torch.stack([torch.zeros_like(last), last])[:, None]
    value, log_det = logit_preprocess(y, 256, 1e-6)
    step = (256 - last.item()) / 256
    p = 1e-6, 1e-6 + (1 - 2e-6) * step
    exact = [math.log(p[0] / (1 - p[0])), -math.log(p[1] / (1 - p[1]))]
    assert_close(value[:, 0], exact, 1e-6 if dtype == torch.float32 else 1e-12)
    slopes = [math.log((1 - 2e-6) / 256 / (r * (1 - r))) for r in p]
    assert_close(log_det, slopes, 1e-6 if dtype == torch.float32 else 1e-12)


# What holds for all of them


def log_normal(y):
    return -0.5 * ((y - 2) ** 2 + math.log(2 * math.pi)).sum(-1)


def calls():
    """Every function: arguments, and the positions that gradients must reach."""
    x = torch.randint(4, (3, 2), generator=generator(1))
    noise, log_q = uniform(2, 5, 3, 2), normal(3, 5, 3)
    return {
        "uniform_dequantize": (uniform_dequantize, (x.expand(5, 3, 2), noise), [1]),
        "exact_log_pmf": (lambda y: exact_log_pmf(torch.sigmoid, y), (normal(4, 3, 2),), [0]),
        "uniform_bound": (lambda *a: uniform_bound(log_normal, *a), (x, noise), [1]),
        "sigmoid_noise": (
            sigmoid_noise, (normal(5, 3, 2), normal(6, 3, 2), normal(7, 3, 2)), [0, 1, 2]
        ),
        "variational_bound": (
            lambda *a: variational_bound(log_normal, *a), (x, noise, log_q), [1, 2]
        ),
        "importance_weighted_dequantization": (
            lambda *a: importance_weighted_dequantization(log_normal, *a), (x, noise, log_q), [1, 2]
        ),
        "logit_preprocess": (lambda y: logit_preprocess(y, 4, 0.1), (3.9 * uniform(8, 3, 2),), [0]),
        "bits_per_dim": (lambda v: bits_per_dim(v, 7), (normal(9, 3),), [0]),
    }  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", calls())
def test_dtype_device_and_gradients(name, dtype, device):
    """4.1–4.5 The result keeps dtype and device; finite gradients reach every argument."""
    keeps_dtype_device_and_gradients(*calls()[name], dtype, device)


def test_levels_may_have_any_dtype():
    """4.2 Bytes, integers and whole floats give one result, in the noise's dtype."""
    noise = uniform(10, 3, 2)
    for dtype in (torch.uint8, torch.int64, torch.float32):
        x = torch.tensor([[0, 255], [3, 7], [1, 1]]).to(dtype)
        assert_close(uniform_dequantize(x, noise), x.double() + noise, 0)


BAD = [
    (uniform_dequantize, (torch.tensor([0.5]), torch.zeros(1)), ValueError, "rescaled"),
    (uniform_dequantize, (torch.tensor([-1]), torch.zeros(1)), ValueError, "x must be at least 0"),
    (uniform_dequantize, (torch.tensor([1]), torch.tensor([1.5])), ValueError,
     "noise must lie between 0 and 1, but it reaches from 1.5 to 1.5"),
    (uniform_dequantize, (torch.tensor([1]), torch.tensor([1])),
     TypeError, "noise must be floating"),
    (uniform_bound, (log_normal, torch.ones(2), torch.ones(1, 2)), ValueError, "x must have"),
    (uniform_bound, (log_normal, torch.ones(2, 3), torch.ones(1, 2, 2)), ValueError,
     r"noise must have the shape \(S, B, D\) with B = 2 as in x, D = 3 as in x, not \(1, 2, 2\)"),
    (variational_bound, (log_normal, torch.ones(2, 3), torch.ones(4, 2, 3), torch.ones(3, 2)),
     ValueError, "log_q .* S = 4"),
    (importance_weighted_dequantization,
     (log_normal, torch.ones(2, 3), torch.ones(0, 2, 3), torch.ones(0, 2)),
     ValueError, "u must not"),
    (sigmoid_noise, (torch.ones(2, 3), torch.ones(2, 3), torch.ones(3)), ValueError, "log_scale"),
    (logit_preprocess, (torch.tensor([[256.5]]), 256, 0.05), ValueError, "y must lie .* 0 and 256"),
    (logit_preprocess, (torch.tensor([[1]]), 256, 0.05), TypeError, "y must be floating"),
    (logit_preprocess, (torch.tensor([[1.0]]), 256, 0.5), ValueError, "alpha .* 0.5"),
    (logit_preprocess, (torch.tensor([[1.0]]), 25.6, 0.05),
     TypeError, "num_levels must be a whole"),
    (bits_per_dim, (torch.ones(2), 0), ValueError, "num_dims must be at least 1, not 0"),
    (VariationalDequantizer, (3, 1), ValueError, "num_levels must be at least 2"),
    (VariationalDequantizer(3, 4), (torch.full((1, 3), 4), torch.zeros(1, 1, 3)), ValueError,
     "x must be between 0 and 3, not 4"),
    (VariationalDequantizer(3, 4), (torch.ones(1, 2), torch.zeros(1, 1, 2)), ValueError,
     "num_dims = 3"),
    (UniformDequantizer().sample, (torch.ones(1, 2), 0),
     ValueError, "num_samples must be at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "error", "words"), BAD)
def test_bad_input_is_refused_by_name(function, arguments, error, words):
    """4.1–4.5 The message names the argument, what came and what was expected."""
    with pytest.raises(error, match=words):
        function(*arguments)


def test_the_last_level_of_a_byte_has_its_probability():
    """One above 255 does not fit into a byte."""
    x = torch.tensor([255])

    def cdf(x):
        return torch.sigmoid((x.double() - 250) / 3)

    assert torch.equal(exact_log_pmf(cdf, x.to(torch.uint8)), exact_log_pmf(cdf, x))
