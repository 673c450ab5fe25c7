"""The continuous flow: its density against exact answers, its two roads to a gradient."""

import itertools
import math

import pytest
import torch
from statements import close, normal
from torch import nn
from torch.distributions import MultivariateNormal

from dgm_utils.models.cnf import (
    ContinuousFlow,
    TimeMLP,
    exact_trace,
    hutchinson_trace,
    rk4,
    rk4_adjoint,
)
from dgm_utils.oracles import grid

EPS = torch.finfo(torch.float64).eps


class LinearField(nn.Module):
    """dz/dt = A z, solved by the exponential of the matrix."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, t, z):
        return z @ self.matrix.T


def time_mlp(num_dims, scale=1.0, hidden=8):
    """Random weights, large enough for the field to bend and to change with time."""
    field = TimeMLP(num_dims, hidden).double()
    with torch.no_grad():
        for number, parameter in enumerate(field.parameters()):
            fan_in = parameter[0].numel()
            parameter.copy_(scale * normal(number, *parameter.shape) / fan_in**0.5)
    return field


def rk4_error(matrix, num_steps):
    """Bound on `‖R(hA)ⁿ − exp(A)‖`, R the first five terms of the exponential's series.

    One step misses `(h‖A‖)⁵/120 · exp(h‖A‖)` at most, and n of them n·exp((n−1)h‖A‖) times that.
    """
    norm = torch.linalg.matrix_norm(matrix, 2).item()
    return num_steps * math.exp(norm) * (norm / num_steps) ** 5 / 120


def orders(errors):
    """Order of convergence between grids, each of twice as many steps as the one before."""
    return [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]


# The density


def test_linear_field_has_the_exact_density():
    """Claim 8.1: for dz/dt = Az, log|det| = ∫ tr A and the data are N(0, e^A e^Aᵀ)."""
    matrix, x, num_steps = 0.6 * normal(1, 3, 3), normal(2, 5, 3), 100
    with torch.no_grad():
        flow = ContinuousFlow(LinearField(matrix), num_steps)
        z, log_det = flow(x)
    close(log_det, -matrix.trace().expand(5), 4 * num_steps * EPS)
    error = rk4_error(matrix, num_steps)
    assert error < 1e-8
    exact = x @ torch.linalg.matrix_exp(-matrix).T
    assert ((z - exact).norm(dim=1) <= error * x.norm(dim=1)).all()
    covariance = torch.linalg.matrix_exp(matrix) @ torch.linalg.matrix_exp(matrix).T
    expected = MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(x)
    # |‖z‖² − ‖z'‖²|/2 ≤ ‖z − z'‖ · (‖z‖ + ‖z'‖)/2, about ‖z‖ times the error of z.
    tolerance = (2 * error * x.norm(dim=1) * z.norm(dim=1)).max().item() + 1e-12
    close(flow.log_prob(x), expected, tolerance)


def test_log_det_is_the_integral_of_a_trace_that_changes_in_time():
    """Claim 8.1: ∫ tr A(t) dt; the solver is Simpson's rule for it, exact for cubics."""
    constant, cubic = normal(1, 3, 3), normal(2, 3, 3)
    flow = ContinuousFlow(lambda t, z: z @ (constant + t**3 * cubic).T, num_steps=7)
    _, log_det = flow.inverse(normal(3, 4, 3))
    close(log_det, (constant.trace() + cubic.trace() / 4).expand(4), 100 * EPS)


def test_density_against_a_fine_grid_of_discrete_steps():
    """Claim 8.1: z + h f(t, z) over and over is a discrete flow; its log|det| tends to ∫ tr ∂f/∂z.

    Its error is c·h + O(h²), so twice the fine one less the coarse one has O(h²), and the change of
    that between two grids is about three times what is left of it.
    """
    field, z = time_mlp(2), normal(3, 4, 2)

    def discrete(num_steps):
        y, log_det, h = z, torch.zeros(4).double(), 1 / num_steps
        for number in range(num_steps):
            step = lambda y, t=number * h: y + h * field(t, y[None])[0]  # noqa: E731
            log_det = log_det + torch.linalg.slogdet(torch.func.vmap(torch.func.jacrev(step))(y))[1]
            y = torch.func.vmap(step)(y)
        return torch.cat([y, log_det[:, None]], 1)

    with torch.no_grad():
        grids = [discrete(num_steps) for num_steps in (64, 128, 256)]
        x, log_det = ContinuousFlow(field, 64).inverse(z)
    continuous = torch.cat([x, log_det[:, None]], 1)
    (order,) = orders([(g - continuous).norm().item() for g in grids[1:]])
    assert abs(order - 1) < 0.05
    coarse, fine = 2 * grids[1] - grids[0], 2 * grids[2] - grids[1]
    assert (log_det.abs() > 0.1).all()
    assert (fine - continuous).norm() < (fine - coarse).norm() < 1e-3


def test_log_det_is_that_of_the_solver_up_to_its_order():
    """Claim 8.1: the Jacobian of the numbers computed, and ∫ tr ∂f/∂z, differ by O(h⁴).

    Here the terms of order 4 nearly cancel, and the difference falls faster on these grids.
    """
    field, x, errors = time_mlp(3), normal(1, 3), []
    for num_steps in (8, 16, 32):
        flow = ContinuousFlow(field, num_steps, adjoint=False)
        jacobian = torch.func.jacfwd(lambda x, flow=flow: flow(x[None])[0][0])(x)
        exact = torch.linalg.slogdet(jacobian).logabsdet
        errors.append((flow(x[None])[1][0] - exact).abs().item())
    assert errors[-1] < 1e-8
    assert all(order > 3.5 for order in orders(errors)), errors


def test_round_trip_up_to_the_order_of_the_solver():
    field, x, errors = time_mlp(3), normal(1, 6, 3), []
    for num_steps in (8, 16, 32):
        flow = ContinuousFlow(field, num_steps)
        z, log_det = flow(x)
        back, log_det_back = flow.inverse(z)
        errors.append((back - x).norm().item() + (log_det + log_det_back).norm().item())
    assert errors[-1] < 1e-6
    # An order may be gained here: a step back undoes the largest term of the step's error.
    assert all(order > 3.5 for order in orders(errors)), errors


def test_density_integrates_to_one():
    field, (nodes, log_weights) = time_mlp(2), grid(-9, 9, 181, dims=2)
    with torch.no_grad():
        log_prob = ContinuousFlow(field, num_steps=20).log_prob(nodes)
        rough = ContinuousFlow(field, num_steps=10).log_prob(nodes)
    assert log_prob[nodes.abs().amax(1) == 9].max() < -30  # nothing is left outside
    density = (log_prob + log_weights).exp()
    # The finer of two grids, and of two solvers, is nearer to the truth than they are apart.
    solver_error = (density * torch.expm1(rough - log_prob).abs()).sum()
    grid_error = (4 * density.reshape(181, 181)[::2, ::2].sum() - density.sum()).abs()
    assert solver_error + grid_error < 1e-4
    assert (density.sum() - 1).abs() < solver_error + grid_error


def test_batched_equals_looped():
    flow, x = ContinuousFlow(time_mlp(2), 5), normal(1, 4, 2)
    rows = torch.cat([flow.log_prob(row[None]) for row in x])
    close(flow.log_prob(x), rows, 1e-13)


# The trace


def jacobians(field, t, z):
    return torch.stack([torch.func.jacrev(lambda v: field(t, v[None])[0])(row) for row in z])


def signs(num_dims):
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * num_dims)


def test_trace_exact_and_estimated():
    field, z = time_mlp(3), normal(1, 4, 3)
    expected = jacobians(field, 0.3, z).diagonal(dim1=1, dim2=2).sum(1)
    rate, trace = exact_trace(field, 0.3, z)
    close(rate, field(0.3, z), 1e-15)
    close(trace, expected, 1e-13)
    # The mean over all signs ±1 is E εᵀJε = tr J, exactly.
    estimates = [hutchinson_trace(field, 0.3, z, noise.expand(4, -1))[1] for noise in signs(3)]
    close(torch.stack(estimates).mean(0), expected, 1e-13)
    assert torch.stack(estimates).std(0).min() > 1e-3


def test_hutchinson_log_det_is_unbiased_along_the_whole_solution():
    flow, x = ContinuousFlow(time_mlp(3), 5), normal(1, 4, 3)
    log_prob = torch.stack([flow.log_prob(x, noise.expand(4, -1)) for noise in signs(3)])
    close(log_prob.mean(0), flow.log_prob(x), 1e-12)


@pytest.mark.parametrize("adjoint", [True, False])
def test_a_field_that_is_constant(adjoint):
    flow, x = ContinuousFlow(lambda t, z: torch.ones_like(z), 3, adjoint), normal(1, 4, 2)
    z, log_det = flow(x.requires_grad_())
    close(z, x - 1, 1e-15)
    assert torch.equal(log_det, torch.zeros(4).double())
    (gradient,) = torch.autograd.grad(z.sum(), x)
    close(gradient, torch.ones_like(x), 1e-15)


# The gradient


def gradients(flow, x, noise=None):
    flow.zero_grad()
    x = x.clone().requires_grad_()
    flow.log_prob(x, noise).sum().backward()
    return torch.cat([x.grad.flatten(), *(p.grad.flatten() for p in flow.parameters())])


def test_adjoint_is_backpropagation_for_a_linear_field_in_the_state():
    """Claim 8.2: equal up to rounding where the solver of the adjoint is the solver's adjoint.

    n steps are the matrix R(hA)ⁿ, a polynomial of A. Backpropagation multiplies by its transpose;
    the adjoint's own solution is R(hAᵀ)ⁿ: the same matrix.
    """
    matrix, x, weight = normal(1, 4, 4), normal(2, 6, 4), normal(3, 6, 4)
    results = []
    for adjoint in (True, False):
        flow = ContinuousFlow(LinearField(matrix), 4, adjoint)  # coarse on purpose
        start = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((flow(start)[0] * weight).sum(), start)
        results.append(gradient)
    assert (results[0] - weight @ torch.linalg.matrix_exp(-matrix)).abs().max() > 1e-4
    # Some tens of roundings of numbers up to exp(‖A‖)‖weight‖.
    size = math.exp(torch.linalg.matrix_norm(matrix, 2)) * weight.norm(dim=1).max().item()
    close(results[0], results[1], 50 * EPS * size)


@pytest.mark.parametrize("estimated", [False, True])
def test_adjoint_tends_to_backpropagation_with_the_order_of_the_solver(estimated):
    """Claim 8.2: the gradient of the ODE and that of the discretized ODE differ by O(h⁴).

    Each is a fourth-order approximation of the same gradient, so their difference has order 4.
    """
    field, x, errors = time_mlp(2), normal(1, 5, 2), []
    noise = normal(2, 5, 2).sign() if estimated else None
    for num_steps in (8, 16, 32):
        adjoint = gradients(ContinuousFlow(field, num_steps), x, noise)
        backprop = gradients(ContinuousFlow(field, num_steps, adjoint=False), x, noise)
        errors.append(((adjoint - backprop).norm() / backprop.norm()).item())
    assert errors[-1] < 1e-6
    assert all(abs(order - 4) < 0.5 for order in orders(errors)), errors


@pytest.mark.parametrize("adjoint", [True, False])
def test_both_gradients_tend_to_the_exact_one(adjoint):
    """Claim 8.2: for dz/dt = Az, the gradient in A goes through the matrix exponential."""
    matrix, x = 0.6 * normal(1, 3, 3), normal(2, 5, 3)
    exact = matrix.clone().requires_grad_()
    covariance = torch.linalg.matrix_exp(exact) @ torch.linalg.matrix_exp(exact).T
    MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(x).sum().backward()
    errors = []
    for num_steps in (4, 8, 16):
        flow = ContinuousFlow(LinearField(matrix), num_steps, adjoint)
        flow.log_prob(x).sum().backward()
        errors.append((flow.field.matrix.grad - exact.grad).norm().item())
    assert errors[-1] < 1e-3
    assert all(abs(order - 4) < 0.5 for order in orders(errors)), errors


def test_memory_of_the_adjoint_does_not_grow_with_the_steps():
    """Claim 8.2: what waits for backward, by counting the nodes of autograd's graph."""

    def nodes(num_steps, adjoint):
        flow = ContinuousFlow(time_mlp(2), num_steps, adjoint)
        found, waiting = set(), [flow.log_prob(normal(1, 5, 2)).grad_fn]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in found:
                found.add(node)
                waiting.extend(following for following, _ in node.next_functions)
        return len(found)

    assert nodes(4, True) == nodes(40, True) < 50
    assert nodes(40, False) > 8 * nodes(4, False)


def test_adjoint_of_a_quadrature_in_several_states():
    """`rk4` and `rk4_adjoint` take any tuple of states: here z and the energy it has used."""
    stiffness = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)

    def field(t, z, energy):
        return -stiffness * z, (z**2).sum(1)

    state = (normal(1, 4, 2), torch.zeros(4).double())
    z, energy = rk4_adjoint(field, state, 0.0, 1.0, 50, [stiffness])
    expected = (state[0] ** 2).sum(1) * (1 - torch.exp(-2 * stiffness)) / (2 * stiffness)
    close(energy, expected, 1e-8)
    close(z, rk4(field, state, 0.0, 1.0, 50)[0], 0)
    (gradient,) = torch.autograd.grad(energy.sum(), stiffness)
    (exact,) = torch.autograd.grad(expected.sum(), stiffness)
    close(gradient, exact, 1e-7)


def test_the_adjoint_says_that_it_has_no_second_derivative():
    flow, x = ContinuousFlow(time_mlp(2), 3), normal(1, 2, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(flow.log_prob(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_every_parameter_gets_a_gradient():
    flow = ContinuousFlow(TimeMLP(2), 5)
    flow.log_prob(torch.randn(8, 2)).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in flow.parameters())


def test_frozen_parameters_stay_out_of_the_adjoint():
    flow = ContinuousFlow(time_mlp(2), 3)
    frozen = next(flow.parameters()).requires_grad_(False)
    flow.log_prob(normal(1, 4, 2)).sum().backward()
    assert frozen.grad is None
    assert list(flow.parameters())[1].grad is not None


def test_dtype_is_kept_and_far_points_stay_finite():
    flow = ContinuousFlow(TimeMLP(2))
    for value in (*flow(1e6 * torch.randn(3, 2)), *flow.inverse(torch.randn(3, 2))):
        assert value.dtype == torch.float32 and value.isfinite().all()


def test_saved_and_loaded_it_gives_the_same(tmp_path):
    flow, x = ContinuousFlow(time_mlp(2), 5), normal(1, 3, 2)
    torch.save(flow.state_dict(), tmp_path / "flow.pt")
    other = ContinuousFlow(TimeMLP(2, 8).double(), 5)
    other.load_state_dict(torch.load(tmp_path / "flow.pt", weights_only=True))
    assert torch.equal(other.log_prob(x), flow.log_prob(x))


def test_torchdiffeq_agrees():
    """Claim 8.1 and 8.2 against another solver, with steps of its own choice."""
    torchdiffeq = pytest.importorskip("torchdiffeq", reason="a peer, installed by the extra bench")
    field, x = time_mlp(2), normal(1, 4, 2)
    times = torch.tensor([1.0, 0.0], dtype=torch.float64)

    def rates(t, state):
        rate, trace = exact_trace(field, t.item(), state[:, :2])
        return torch.cat([rate, trace[:, None]], 1)

    start = torch.cat([x, torch.zeros(4, 1).double()], 1)
    end = torchdiffeq.odeint_adjoint(
        rates, start, times, rtol=1e-10, atol=1e-12, adjoint_params=tuple(field.parameters())
    )[1]
    flow = ContinuousFlow(field, 100)
    z, log_det = flow(x)
    close(torch.cat([z, log_det[:, None]], 1), end, 1e-8)
    theirs = torch.autograd.grad(end.square().sum(), list(field.parameters()))
    ours = torch.autograd.grad((z**2).sum() + (log_det**2).sum(), list(field.parameters()))
    for gradient, expected in zip(ours, theirs, strict=True):
        close(gradient, expected, 1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda():
    flow, x = ContinuousFlow(time_mlp(2), 5), normal(1, 4, 2)
    expected = gradients(flow, x)
    close(gradients(flow.cuda(), x.cuda()).cpu(), expected, 1e-10)


def test_bad_input_is_named():
    flow = ContinuousFlow(TimeMLP(2))
    with pytest.raises(TypeError, match="x must be floating point"):
        flow.log_prob(torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"x must have the shape \(B, D\), not \(2,\)"):
        flow(torch.zeros(2))
    with pytest.raises(ValueError, match=r"noise must have the shape .* not \(3, 1\)"):
        flow(torch.zeros(3, 2), torch.ones(3, 1))
    with pytest.raises(ValueError, match="num_steps must be at least 1, not 0"):
        ContinuousFlow(TimeMLP(2), 0)
