"""The claims of `nf_as_vae`, against exact answers."""

import itertools
import math

import pytest
import torch
from statements import DEVICES, close, normal
from torch.distributions import MultivariateNormal, Normal

from dgm_utils.models.autoregressive import IAFLayer
from dgm_utils.models.coupling import RealNVP
from dgm_utils.models.flow import FlowPosterior, StandardNormal
from dgm_utils.models.planar import PlanarLayer, SylvesterLayer
from dgm_utils.nf_as_vae import (
    flow_elbo,
    flow_log_likelihood,
    flow_posterior_log_prob,
    noisy_decoder_log_prob,
    noisy_encoder,
    planar_transform,
    relaxed_elbo,
)
from dgm_utils.oracles import gauss_hermite, grid, log_integral


def smooth_flow(num_dims=2, seed=0):
    torch.manual_seed(seed)
    flow = RealNVP(num_dims, 3, hidden_sizes=(8,), activation=torch.tanh).double()
    for parameter in flow.parameters():
        parameter.data *= 1.5
    return flow


def data_of(flow):
    """The flow's base → data map as the topic's functions want it: the value alone."""
    return lambda z: flow.inverse(z)[0]


# Decoder and encoder of the relaxed model

SIGMAS = [0.08, 0.04, 0.02, 0.01]


def exact_elbo(flow, x, sigma, num=10):
    """The ELBO with its expectation over the noise by quadrature, `(B,)`."""
    nodes, log_weights = gauss_hermite(num, dims=2)
    values = []
    for row in x:
        repeated = row.expand(len(nodes), 2)
        values.append(
            log_weights.exp()
            @ relaxed_elbo(
                repeated, flow.forward, data_of(flow), flow.base.log_prob, sigma, nodes[None]
            )
        )
    return torch.stack(values)


def is_second_order(errors):
    """Whether errors at σ, σ/2, σ/4, σ/8 are `a σ² + b σ⁴ + O(σ⁶)`: log-log slope 2 in the limit.

    The slope between σ and σ/2 is then 2 + ¾ b σ² / (a ln 2), so it closes in on 2 by a factor of
    4 in each step. The bound takes b/a from the two largest σ, and twice that for the next term.
    """
    slopes = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    start = abs(slopes[0] - 2)
    return start < 0.5 and all(
        abs(slope - 2) < 2 * start / 4**step + 1e-3 for step, slope in enumerate(slopes)
    )


def test_elbo_tends_to_the_flow_likelihood():
    """2.1 ELBO(σ) → log p(f(x)) + log|det J_f| with an error O(σ²), expectations by quadrature."""
    flow, x = smooth_flow(), normal(1, 4, 2)
    with torch.no_grad():
        truth = flow_log_likelihood(x, flow.forward, flow.base.log_prob)
        errors = torch.stack([truth - exact_elbo(flow, x, sigma) for sigma in SIGMAS])
    for row in errors.abs().T.tolist():
        assert is_second_order(row)
    assert errors[-1].abs().max() < 1e-2


def test_encoder_becomes_the_posterior():
    """2.2 KL(q‖posterior) = log p_σ(x) − ELBO(σ) is positive and vanishes as O(σ²).

    The marginal of the relaxed model is the flow's density blurred by N(0, σ²I):
    `p_σ(x) = E p(x − σε)`, by quadrature.
    """
    flow, x = smooth_flow(), normal(1, 4, 2)
    nodes, log_weights = gauss_hermite(30, dims=2)
    kls = []
    with torch.no_grad():
        for sigma in SIGMAS:
            blurred = flow.log_prob((x[None] - sigma * nodes[:, None]).flatten(0, 1))
            log_evidence = log_integral(blurred.reshape(len(nodes), len(x)), log_weights)
            kls.append(log_evidence - exact_elbo(flow, x, sigma))
    kls = torch.stack(kls)
    assert (kls > 0).all()
    for row in kls.T.tolist():
        assert is_second_order(row)


def test_one_set_of_parameters_gets_the_flows_gradient():
    """2.2 θ ≡ φ: the ELBO's gradient through encoder and decoder tends to the likelihood's."""
    flow, x = smooth_flow(), normal(1, 2, 2)
    parameters = list(flow.parameters())
    truth = torch.autograd.grad(flow.log_prob(x).sum(), parameters)
    truth = torch.cat([gradient.flatten() for gradient in truth])
    errors = []
    for sigma in SIGMAS:
        gradient = torch.autograd.grad(exact_elbo(flow, x, sigma).sum(), parameters)
        gradient = torch.cat([part.flatten() for part in gradient])
        errors.append(((gradient - truth).norm() / truth.norm()).item())
    assert is_second_order(errors)


def test_encoder_is_gaussian_with_covariance_of_the_jacobian():
    """2.1 q(z|x) = N(f(x), σ² J_f J_fᵀ), as torch.distributions has it, for every sample."""
    flow, x, noise, sigma = smooth_flow(3), normal(1, 4, 3), normal(2, 4, 3), 0.3
    z, log_q = noisy_encoder(x, flow.forward, sigma, noise)
    for b in range(4):
        matrix = torch.func.jacfwd(lambda row: flow.forward(row[None])[0][0])(x[b])
        mean = flow.forward(x[b : b + 1])[0][0]
        close(z[b], mean + sigma * matrix @ noise[b], 1e-12)
        expected = MultivariateNormal(mean, sigma**2 * matrix @ matrix.T).log_prob(z[b])
        close(log_q[b], expected, 1e-10)


def test_encoder_is_differentiable():
    """2.1 In x, in the noise and in the flow's parameters; also where nothing else needs it."""
    flow = smooth_flow()
    x, noise = normal(1, 2, 2).requires_grad_(), normal(2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, noise: noisy_encoder(x, flow.forward, 0.3, noise), (x, noise)
    )
    z, log_q = noisy_encoder(x.detach(), flow.forward, 0.3, noise.detach())
    (z.sum() + log_q.sum()).backward()
    assert all((parameter.grad != 0).any() for parameter in flow.parameters())


def test_encoder_without_gradients():
    flow, x, noise = smooth_flow(), normal(1, 2, 2), normal(2, 2, 2)
    expected = noisy_encoder(x, flow.forward, 0.3, noise)
    with torch.no_grad():
        found = noisy_encoder(x, flow.forward, 0.3, noise)
    for value, truth in zip(found, expected, strict=True):
        assert not value.requires_grad
        close(value, truth, 1e-14)


def test_encoder_of_an_affine_flow():
    """2.1 A flow whose log_det does not depend on x: f(x) = 2x."""
    x, noise = normal(1, 3, 2), normal(2, 3, 2)
    z, log_q = noisy_encoder(
        x, lambda x: (2 * x, torch.full_like(x[:, 0], 2 * math.log(2))), 0.5, noise
    )
    close(z, 2 * x + noise, 1e-14)
    close(log_q, Normal(2 * x, 1).log_prob(z).sum(1), 1e-14)


def test_decoder_is_gaussian_around_the_generated_point():
    flow, x, z = smooth_flow(), normal(1, 4, 2), normal(2, 4, 2)
    expected = Normal(flow.inverse(z)[0], 0.3).log_prob(x).sum(1)
    close(noisy_decoder_log_prob(x, z, data_of(flow), 0.3), expected, 1e-12)


def test_relaxed_elbo_averages_over_the_samples():
    flow, x, noise = smooth_flow(), normal(1, 4, 2), normal(2, 3, 4, 2)
    args = flow.forward, data_of(flow), flow.base.log_prob, 0.2
    alone = torch.stack([relaxed_elbo(x, *args, part[None]) for part in noise])
    close(relaxed_elbo(x, *args, noise), alone.mean(0), 1e-12)


def test_relaxed_elbo_has_the_same_number_of_each_term():
    """2.1 One sample is log p(x|z) + log p(z) − log q(z|x)."""
    flow, x, noise = smooth_flow(), normal(1, 4, 2), normal(2, 4, 2)
    z, log_q = noisy_encoder(x, flow.forward, 0.2, noise)
    expected = Normal(flow.inverse(z)[0], 0.2).log_prob(x).sum(1)
    expected = expected + flow.base.log_prob(z) - log_q
    args = flow.forward, data_of(flow), flow.base.log_prob, 0.2
    close(relaxed_elbo(x, *args, noise[None]), expected, 1e-12)


# Flows in latent space


def sylvester():
    return [SylvesterLayer(2, 2) for _ in range(8)]


def planar():
    return [PlanarLayer(2) for _ in range(8)]


def inverse_autoregressive():
    options = {"hidden_sizes": (16, 16), "activation": torch.tanh}
    return [IAFLayer(2, order=[i % 2, 1 - i % 2], **options) for i in range(4)]


LAYERS = {"planar": planar, "sylvester": sylvester, "iaf": inverse_autoregressive}


def posterior(name, seed=0):
    torch.manual_seed(seed)
    return FlowPosterior(LAYERS[name]()).double()


@pytest.mark.parametrize("name", LAYERS)
def test_flow_posterior_density(name):
    """2.3 log q_K(z_K) = log q_0 − Σ log|det| is the change of variables of the whole map."""
    flow, mean, log_var, noise = posterior(name), normal(1, 3, 2), normal(2, 3, 2), normal(3, 3, 2)
    _, log_q = flow(mean, log_var, noise)
    z0 = mean + torch.exp(0.5 * log_var) * noise
    log_q0 = Normal(mean, torch.exp(0.5 * log_var)).log_prob(z0).sum(1)
    log_dets = []
    for layer in flow.layers:
        maps = [torch.func.jacfwd(lambda row: layer.inverse(row[None])[0][0])(z) for z in z0]  # noqa: B023
        log_dets.append(torch.linalg.slogdet(torch.stack(maps)).logabsdet)
        z0 = layer.inverse(z0)[0]
    close(log_q, log_q0 - sum(log_dets), 1e-10)
    close(flow_posterior_log_prob(log_q0, log_dets), log_q, 1e-10)
    log_joint = normal(4, 3)
    close(flow_elbo(log_joint, log_q0, log_dets), log_joint - log_q, 1e-10)


def test_no_layers_leave_the_gaussian():
    """2.3 K = 0."""
    log_q0 = normal(1, 3)
    assert torch.equal(flow_posterior_log_prob(log_q0, []), log_q0)


STEPS = 300
# log p(x, z) at some x with log p(x) = −1: the posterior has two modes, at ±(1.5, 1).
MODES = torch.tensor([[1.5, 1.0], [-1.5, -1.0]], dtype=torch.float64)
MODE_STD = 0.5
LOG_EVIDENCE = -1.0


def log_joint(z):
    log_modes = Normal(MODES, MODE_STD).log_prob(z[..., None, :]).sum(-1)
    return torch.logsumexp(log_modes, -1) - math.log(2) + LOG_EVIDENCE


def elbo_of_gaussian(mean, log_std, num=40):
    nodes, log_weights = gauss_hermite(num, dims=2)
    z = mean + log_std.exp() * nodes
    log_q = Normal(mean, log_std.exp()).log_prob(z).sum(1)
    return log_weights.exp() @ (log_joint(z) - log_q)


def best_gaussian():
    """The highest ELBO of a diagonal Gaussian, from starts at one mode and at both."""
    best = -math.inf
    for start in (MODES[0], torch.zeros(2, dtype=torch.float64)):
        mean = start.clone().requires_grad_()
        log_std = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([mean, log_std], max_iter=100, line_search_fn="strong_wolfe")

        def loss():
            optimizer.zero_grad()  # noqa: B023
            value = -elbo_of_gaussian(mean, log_std)  # noqa: B023
            value.backward()
            return value

        optimizer.step(loss)
        best = max(best, elbo_of_gaussian(mean, log_std).item())
    return best


def test_evidence_by_quadrature():
    """2.3 The joint integrates to the evidence that the bounds below are held against."""
    nodes, log_weights = grid(-6, 6, 121, dims=2)
    close(log_integral(log_joint(nodes), log_weights).item(), LOG_EVIDENCE, 1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_flow_posterior_beats_the_diagonal_gaussian(name, monkeypatch):
    """2.3 On two modes, trained with samples and their density only: no inverse is ever called.

    A Gaussian keeps one mode and loses log 2; a flow regains at least half of that. The ELBO is
    exact, by quadrature over z_0. Training sees fresh samples, and at first a flattened joint, or
    it may settle in one mode too (Rezende & Mohamed 2015 anneal in the same way).
    """
    gaussian = best_gaussian()
    assert gaussian == pytest.approx(LOG_EVIDENCE - math.log(2), abs=0.02)
    flow = posterior(name)
    for layer in flow.layers:
        monkeypatch.setattr(layer, "forward", None)
    mean, log_var = torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)

    def elbo(noise, beta=1.0):
        z, log_q = flow(mean, log_var, noise)
        return (beta * log_joint(z) - log_q).squeeze(1)

    optimizer = torch.optim.Adam(flow.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        optimizer.zero_grad()
        noise = torch.randn(256, 1, 2, dtype=torch.float64)
        (-elbo(noise, beta=min(1, 0.1 + 1.8 * step / STEPS)).mean()).backward()
        optimizer.step()
        schedule.step()
    nodes, log_weights = grid(-7, 7, 281, dims=2)
    with torch.no_grad():
        mass = torch.exp(StandardNormal(2).log_prob(nodes) + log_weights)
        value = (mass @ elbo(nodes[:, None])).item()
    assert gaussian + 0.5 * math.log(2) < value < LOG_EVIDENCE


def test_planar_transform_is_its_formula():
    """3.10 z' = z + û tanh(w·z + b), w·û = softplus(w·u) − 1; log_det by the Jacobian."""
    z, u, w, b = normal(1, 4, 3), normal(2, 3), normal(3, 3), normal(4, 1)[0]
    value, log_det = planar_transform(z, u, w, b)
    along = w @ u
    u_hat = u + (torch.nn.functional.softplus(along) - 1 - along) * w / (w @ w)
    close(value, z + u_hat * torch.tanh(z @ w + b)[:, None], 1e-14)
    for row, found in zip(z, log_det, strict=True):
        matrix = torch.func.jacfwd(lambda row: planar_transform(row[None], u, w, b)[0][0])(row)
        close(found, torch.linalg.slogdet(matrix).logabsdet, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_planar_log_det_is_finite_where_the_map_is_nearly_flat(dtype):
    """3.10 w·u = −60: w·û rounds to −1, and 1 + w·û to 0; the truth is log softplus(−60) = −60."""
    w = torch.tensor([1.0, 0.0], dtype=dtype)
    _, log_det = planar_transform(torch.zeros(1, 2, dtype=dtype), -60 * w, w, w[1])
    close(log_det, torch.tensor([-60.0], dtype=dtype), 1e-4)


# Arguments

FLOW = smooth_flow()
FUNCTIONS = {
    "flow_log_likelihood": lambda v: flow_log_likelihood(v, square, StandardNormal(2).log_prob),
    "planar_transform": lambda v: planar_transform(v, v.new_ones(2), v.new_ones(2), v.new_ones(())),
    "noisy_decoder_log_prob": lambda v: noisy_decoder_log_prob(v, v, data, 0.5),
    "noisy_encoder": lambda v: noisy_encoder(v, square, 0.5, v),
    "relaxed_elbo": lambda v: relaxed_elbo(
        v, square, data, StandardNormal(2).log_prob, 0.5, torch.stack([v, 2 * v])
    ),
}


def square(x):
    """An increasing map of each coordinate, x + x³/3, with its log_det."""
    return x + x**3 / 3, torch.log(1 + x**2).sum(1)


def data(z):
    return torch.sinh(z)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_differentiable_and_leave_their_arguments(name):
    v = normal(1, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(FUNCTIONS[name], v)
    before = v.detach().clone()
    FUNCTIONS[name](v)
    assert torch.equal(v.detach(), before)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("device", ["meta", *DEVICES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_keep_dtype_and_device(name, device, dtype):
    results = FUNCTIONS[name](torch.ones(3, 2, dtype=dtype, device=device))
    results = results if isinstance(results, tuple) else (results,)
    assert {(result.dtype, result.device.type) for result in results} == {(dtype, device)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_tensors_are_refused(name):
    with pytest.raises(TypeError, match="float"):
        FUNCTIONS[name](torch.ones(3, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"shape \(B, .\), not \(2,\)"):
        FUNCTIONS[name](torch.ones(2))


def test_shapes_that_do_not_fit_are_refused():
    x = normal(1, 3, 2)
    with pytest.raises(ValueError, match="noise"):
        noisy_encoder(x, square, 0.5, normal(1, 4, 2))
    with pytest.raises(ValueError, match="noise"):
        relaxed_elbo(x, square, data, StandardNormal(2).log_prob, 0.5, x)
    with pytest.raises(ValueError, match="u must"):
        planar_transform(x, x[0, :1], x[0], x[0, 0])
    with pytest.raises(ValueError, match="log_q0"):
        flow_elbo(x[:, 0], x[:2, 0], [])


@pytest.mark.parametrize("sigma", [0, -0.5, math.nan])
def test_sigma_that_is_not_positive_is_refused(sigma):
    x = normal(1, 3, 2)
    with pytest.raises(ValueError, match="sigma"):
        noisy_encoder(x, square, sigma, x)
    with pytest.raises(ValueError, match="sigma"):
        noisy_decoder_log_prob(x, x, data, sigma)
