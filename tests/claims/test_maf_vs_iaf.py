"""The claims of `maf_vs_iaf`, against exact answers."""

import math

import pytest
import torch
from statements import DEVICES, close, normal

from dgm_utils.data import banana, banana_log_prob
from dgm_utils.maf_vs_iaf import (
    coupling_as_maf,
    coupling_forward,
    distillation_loss,
    iaf_forward,
    iaf_inverse,
    made_masks,
    maf_forward,
    maf_inverse,
    reverse_kl,
)
from dgm_utils.models.autoregressive import IAF, MAF, MAFLayer
from dgm_utils.models.flow import Flow, StandardNormal
from dgm_utils.models.made import MADE
from dgm_utils.oracles import gauss_hermite, grid

D = 4


def conditioner(num_dims=D, seed=0):
    """A smooth autoregressive net that counts its calls in `conditioner.calls`."""
    torch.manual_seed(seed)
    made = MADE(num_dims, (16, 16), activation=torch.tanh).double()

    def net(v):
        net.calls += 1
        mu, log_sigma = made(v)
        return 2 * mu, 2 * log_sigma

    net.calls = 0
    net.parameters = list(made.parameters())
    return net


def coupling_net(split, num_dims=D, seed=0):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(split, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2 * (num_dims - split))
    ).double()
    return lambda first: (2 * net(first)).chunk(2, 1)


def jacobian(function, row):
    return torch.func.jacfwd(lambda row: function(row[None])[0][0])(row)


def smooth_flow(cls, num_dims=2, num_layers=2, seed=0):
    torch.manual_seed(seed)
    flow = cls(num_dims, num_layers, hidden_sizes=(8,), activation=torch.tanh).double()
    for parameter in flow.parameters():
        parameter.data *= 1.5
    return flow


def normal_log_prob(x, mean, variance):
    return -0.5 * ((x - mean) ** 2 / variance + math.log(2 * math.pi * variance))


def test_gaussian_autoregressive_model_is_a_flow():
    """3.1 log p(x) = Σ log N(x_i; μ_i(x_<i), σ_i²) is log N(z; 0, I) + log|det ∂z/∂x|."""
    net, x = conditioner(), normal(1, 5, D)
    mu, log_sigma = net(x)
    expected = torch.distributions.Normal(mu, log_sigma.exp()).log_prob(x).sum(1)
    z, log_det = maf_forward(x, net)
    close(StandardNormal(D).log_prob(z) + log_det, expected, 1e-12)


def test_jacobian_is_triangular():
    """3.1 ∂z/∂x is lower triangular with 1/σ_i on its diagonal: log|det| = −Σ log σ_i."""
    net, x = conditioner(), normal(1, 5, D)
    _, log_sigma = net(x)
    _, log_det = maf_forward(x, net)
    for b in range(5):
        matrix = jacobian(lambda rows: maf_forward(rows, net), x[b])
        assert torch.equal(matrix, matrix.tril())
        assert (matrix.tril(-1) != 0).sum() == D * (D - 1) / 2
        close(matrix.diagonal(), torch.exp(-log_sigma[b]), 1e-12)
        close(log_det[b], torch.linalg.slogdet(matrix).logabsdet, 1e-12)
    close(log_det, -log_sigma.sum(1), 1e-12)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_made_is_autoregressive_for_any_ordering(order):
    """3.2 A network with these masks has the Jacobian's pattern of that order, and no less."""
    value = jacobian_of_masked_net(made_masks(D, (9, 7), order), normal(1, D))
    ordered = value[order][:, order]
    assert torch.equal(ordered != 0, torch.ones(D, D).tril(-1).bool())


def jacobian_of_masked_net(masks, row):
    weights = [
        mask.double() * normal(i, *mask.shape) / math.sqrt(mask.shape[1])
        for i, mask in enumerate(masks)
    ]

    def net(v):
        for weight in weights[:-1]:
            v = torch.tanh(v @ weight.T)
        return v @ weights[-1].T

    return torch.func.jacfwd(net)(row)


def test_network_passes():
    """3.3 MAF: density 1, sampling m; IAF: density m, sampling 1; RealNVP 1 and 1."""
    net, v = conditioner(), normal(1, 5, D)
    passes = {}
    for function in (maf_forward, maf_inverse, iaf_forward, iaf_inverse):
        net.calls = 0
        function(v, net)
        passes[function.__name__] = net.calls
    assert passes == {"maf_forward": 1, "maf_inverse": D, "iaf_forward": D, "iaf_inverse": 1}
    calls = []
    coupling_forward(v, lambda first: calls.append(1) or coupling_net(2)(first), 2)
    assert len(calls) == 1


def test_slow_direction_undoes_the_fast_one():
    """3.3 … and gives the value alone."""
    net, v = conditioner(), normal(1, 5, D)
    close(maf_inverse(maf_forward(v, net)[0], net), v, 1e-12)
    close(iaf_forward(iaf_inverse(v, net)[0], net), v, 1e-12)


def test_iaf_is_maf_with_x_and_z_swapped():
    """3.4 An IAF with σ̃ = 1/σ, μ̃ = −μ/σ maps z as the MAF with μ, σ maps x; its inverse too."""
    net, v = conditioner(), normal(1, 5, D)

    def swapped(v):
        mu, log_sigma = net(v)
        return -mu * torch.exp(-log_sigma), -log_sigma

    value, log_det = iaf_inverse(v, swapped)
    expected, expected_log_det = maf_forward(v, net)
    close(value, expected, 1e-12)
    close(log_det, expected_log_det, 1e-12)
    close(iaf_forward(v, swapped), maf_inverse(v, net), 1e-12)


@pytest.mark.parametrize("split", [1, 2, 3])
def test_realnvp_is_a_special_case_of_maf(split):
    """3.5 μ = 0, σ = 1 for the coordinates that stay: the same z, log_det and Jacobian."""
    net, x = coupling_net(split), normal(1, 5, D)
    as_maf = coupling_as_maf(net, split)
    expected = coupling_forward(x, net, split)
    for value, truth in zip(maf_forward(x, as_maf), expected, strict=True):
        close(value, truth, 1e-12)
    mu, log_sigma = as_maf(x)
    assert (mu[:, :split] == 0).all() and (log_sigma[:, :split] == 0).all()
    outputs = torch.func.jacfwd(lambda row: torch.cat(as_maf(row[None]), 0))(x[0])
    assert all(torch.equal(output, output.tril(-1)) for output in outputs)  # autoregressive


@pytest.mark.parametrize("split", [1, 2, 3])
def test_realnvp_is_a_special_case_of_iaf(split):
    """3.5 The same coupling, read base → data, is an IAF with μ̃ = t and σ̃ = exp(s)."""
    net, z = coupling_net(split), normal(1, 5, D)

    def as_iaf(z):
        shift, log_scale = net(z[:, :split])
        stays = torch.zeros_like(z[:, :split])
        return torch.cat([stays, shift], 1), torch.cat([stays, log_scale], 1)

    expected = coupling_forward(z, net, split)
    for value, truth in zip(iaf_inverse(z, as_iaf), expected, strict=True):
        close(value, truth, 1e-12)


def test_forward_kl_in_x_is_reverse_kl_in_z():
    """3.6 KL(π(x)‖p(x|θ)) = KL(p(z|θ)‖p(z)), and their gradients in θ agree, by quadrature.

    π is a two-dimensional Gaussian with correlation; p(z|θ) = π(g(z)) |det ∂g/∂z| is integrated
    over its own grid, so the two sides share no node. Both integrands have vanished at the ends:
    the error is the grid's, below 1e-9.
    """
    flow = smooth_flow(MAF)
    target = torch.distributions.MultivariateNormal(
        torch.tensor([0.5, -0.3], dtype=torch.float64),
        torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64),
    )
    nodes, log_weights = grid(-24, 24, 481, dims=2)

    log_target = target.log_prob(nodes)
    mass = torch.exp(log_target + log_weights)
    in_x = mass @ (log_target - flow.log_prob(nodes))

    x, log_det = flow.inverse(nodes)
    log_pz = target.log_prob(x) + log_det
    in_z = torch.exp(log_pz + log_weights) @ (log_pz - flow.base.log_prob(nodes))

    close(torch.exp(log_pz + log_weights).sum().item(), 1.0, 1e-9)
    close(in_z, in_x, 1e-9)
    assert in_x > 0.1
    parameters = list(flow.parameters())
    gradients = [torch.autograd.grad(value, parameters) for value in (in_x, in_z)]
    for left, right in zip(*gradients, strict=True):
        close(right, left, 1e-8)
    assert max(gradient.abs().max() for gradient in gradients[0]) > 0.1


def kl_to_banana(flow, num=40):
    """KL(p‖flow) by quadrature over p = N(x₂; 0, 4) N(x₁; x₂²/4, 1)."""
    noise, log_weights = gauss_hermite(num, dims=2)
    second = 2 * noise[:, 1]
    x = torch.stack([second**2 / 4 + noise[:, 0], second], 1)
    return log_weights.exp() @ (banana_log_prob(x) - flow.log_prob(x))


def best_wrong_order():
    """The least KL of any Gaussian autoregressive model of the banana with x₁ first.

    KL = KL(p(x₁)‖N) + E KL(p(x₂|x₁)‖N): each is least where the Gaussian has p's mean and variance,
    and then its cross-entropy is ½ log(2πe·variance).
    """
    first = torch.linspace(-9, 60, 2761, dtype=torch.float64)
    second = torch.linspace(-18, 18, 1441, dtype=torch.float64)
    pairs = torch.stack(torch.meshgrid(first, second, indexing="ij"), -1)
    joint = banana_log_prob(pairs).exp() * (second[1] - second[0])
    marginal = joint.sum(1)
    mass = marginal * (first[1] - first[0])
    assert abs(mass.sum() - 1) < 1e-6
    first_variance = mass @ first**2 - (mass @ first) ** 2
    # x₂ is symmetric given x₁, so its mean is 0.
    second_variance = (joint @ second**2) / marginal
    cross_entropy = 0.5 * torch.log(2 * math.pi * math.e * first_variance)
    cross_entropy += mass @ (0.5 * torch.log(2 * math.pi * math.e * second_variance))
    # −H(p): x₂ and x₁ given x₂ are Gaussians of variance 4 and 1.
    return cross_entropy - math.log(2 * math.pi * math.e * 2)


def fit(orders, steps=400):
    """Maximum likelihood on fresh samples in every step: there is nothing to overfit to."""
    torch.manual_seed(0)
    options = {"hidden_sizes": (24, 24), "activation": torch.tanh}
    layers = [MAFLayer(2, order=order, **options) for order in orders]
    flow = Flow(layers, StandardNormal(2)).double()
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (-flow.log_prob(banana(256).double()).mean()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return kl_to_banana(flow).item()


def test_order_of_the_variables_matters():
    """3.7 One MADE in the wrong order stays above a floor; the right order and a stack do not.

    The floor is exact: no network, however large, gets below it with x₁ first.
    """
    floor = best_wrong_order().item()
    assert floor > 0.3
    wrong = fit([[0, 1]])
    assert wrong > floor - 1e-3  # the two quadratures' error
    right = fit([[1, 0]])
    assert right < floor / 5
    stack = fit([[0, 1], [1, 0]] * 2 + [[0, 1]])
    assert stack < floor / 5


def forbid(*args):
    raise AssertionError("this direction must not be called")


def test_reverse_kl_with_iaf_needs_no_f(monkeypatch):
    """3.8 KL(p‖π) and its gradient from samples and g alone; at the nodes of z it is exact.

    The other way to the number integrates p(x) (log p(x) − log π(x)) over a grid in x, with f.
    """
    flow = smooth_flow(IAF)
    nodes, log_weights = gauss_hermite(60, dims=2)
    grid_nodes, grid_log_weights = grid(-14, 14, 281, dims=2)
    with torch.no_grad():
        log_p = flow.log_prob(grid_nodes)
        expected = torch.exp(log_p + grid_log_weights) @ (log_p - banana_log_prob(grid_nodes))
    monkeypatch.setattr(IAF, "forward", forbid)
    for layer in flow.layers:
        monkeypatch.setattr(type(layer), "forward", forbid)
    values = reverse_kl(nodes, flow.base.log_prob, flow.inverse, banana_log_prob)
    assert values.shape == (3600,)
    kl = log_weights.exp() @ values
    close(kl.detach(), expected, 1e-6)
    kl.backward()
    assert all((parameter.grad != 0).any() for parameter in flow.parameters())


def test_forward_kl_with_maf_needs_no_g(monkeypatch):
    """3.8 Maximum likelihood of a MAF never goes base → data."""
    flow = smooth_flow(MAF)
    monkeypatch.setattr(MAF, "inverse", forbid)
    for layer in flow.layers:
        monkeypatch.setattr(type(layer), "inverse", forbid)
    kl = kl_to_banana(flow)
    kl.backward()
    assert all((parameter.grad != 0).any() for parameter in flow.parameters())


def test_distillation_is_the_kl_between_student_and_teacher():
    """3.9 KL(p_s‖p_t) = H(p_s, p_t) − H(p_s); for two Gaussians it is known in closed form.

    The integrand is a quadratic in z, so two nodes in each dimension are exact.
    """
    mu, log_sigma = normal(1, 2), 0.3 * normal(2, 2)
    teacher = torch.distributions.MultivariateNormal(
        normal(3, 2), torch.tensor([[1.0, 0.4], [0.4, 2.0]], dtype=torch.float64)
    )
    student = torch.distributions.MultivariateNormal(mu, torch.diag((2 * log_sigma).exp()))
    z, log_weights = gauss_hermite(2, dims=2)
    assert (log_weights == log_weights[0]).all()  # equal weights: the plain mean is exact
    loss = distillation_loss(
        z,
        StandardNormal(2).log_prob,
        lambda z: iaf_inverse(z, lambda z: (mu.expand_as(z), log_sigma.expand_as(z))),
        teacher.log_prob,
    )
    assert loss.shape == ()
    close(loss, torch.distributions.kl_divergence(student, teacher), 1e-12)


FUNCTIONS = {
    "maf_forward": lambda v: maf_forward(v, affine),
    "maf_inverse": lambda v: maf_inverse(v, affine),
    "iaf_inverse": lambda v: iaf_inverse(v, affine),
    "iaf_forward": lambda v: iaf_forward(v, affine),
    "coupling_forward": lambda v: coupling_forward(v, lambda v: affine(v)[:2], 2),
    "coupling_as_maf": lambda v: coupling_as_maf(affine, 2)(v),
    "reverse_kl": lambda v: reverse_kl(
        v, StandardNormal(D).log_prob, lambda z: iaf_inverse(z, affine), StandardNormal(D).log_prob
    ),
    "distillation_loss": lambda v: distillation_loss(
        v, StandardNormal(D).log_prob, lambda z: iaf_inverse(z, affine), StandardNormal(D).log_prob
    ),
}


def affine(v):
    """Autoregressive, without parameters: cumulated sums of what came before."""
    before = v.cumsum(1) - v
    return 0.3 * before, torch.tanh(0.2 * before)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_differentiable_and_leave_their_arguments(name):
    v = normal(1, 3, D).requires_grad_()
    assert torch.autograd.gradcheck(FUNCTIONS[name], v)
    before = v.detach().clone()
    FUNCTIONS[name](v)
    assert torch.equal(v.detach(), before)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("device", ["meta", *DEVICES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_keep_dtype_and_device(name, device, dtype):
    results = FUNCTIONS[name](torch.ones(3, D, dtype=dtype, device=device))
    results = results if isinstance(results, tuple) else (results,)
    assert {(result.dtype, result.device.type) for result in results} == {(dtype, device)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_tensors_are_refused(name):
    with pytest.raises(TypeError, match="float"):
        FUNCTIONS[name](torch.ones(3, D, dtype=torch.long))
    with pytest.raises(ValueError, match=r"shape \(B, D\), not \(4,\)"):
        FUNCTIONS[name](torch.ones(D))


@pytest.mark.parametrize("split", [0, D, -1])
def test_split_out_of_range_is_refused(split):
    x = normal(1, 3, D)
    with pytest.raises(ValueError, match="split"):
        coupling_forward(x, coupling_net(2), split)
    with pytest.raises(ValueError, match="split"):
        coupling_as_maf(coupling_net(2), split)(x)


@pytest.mark.parametrize("split", [1.0, None, True])
def test_split_that_is_no_whole_number_is_refused(split):
    with pytest.raises(TypeError, match="split"):
        coupling_forward(normal(1, 3, D), coupling_net(2), split)


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [1, 2, 3]])
def test_order_that_is_no_permutation_is_refused(order):
    with pytest.raises(ValueError, match="order must be a permutation of 0 … 2"):
        made_masks(3, (4,), order)
