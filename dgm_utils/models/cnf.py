"""Continuous normalizing flow: a density carried along the solution of an ODE.

`dz/dt = f(t, z)` takes the base at t = 0 to the data at t = 1. Along a solution the density changes
by `d log p(z(t))/dt = −tr(∂f/∂z)`, for any smooth f: no triangular Jacobian, no inverse to design.

Gradients come by one of two roads. *Backpropagation through the solver* is exact for the numbers
that were computed and keeps every step in memory. The *adjoint* `a(t) = ∂L/∂z(t)` solves a second
ODE, `da/dt = −aᵀ ∂f/∂z`, backwards together with z itself, and keeps nothing: memory does not
depend on the number of steps. It discretizes the gradient of the ODE, where the first road takes
the gradient of the discretized ODE; with steps of size h both are O(h⁴) from the truth, so that is
how far they are from each other.

The solver has a fixed step, so that it can be read here and its error told by halving the step.
For fields that are stiff or vary in speed, take `torchdiffeq.odeint_adjoint`: it chooses its steps
by a tolerance.

Sources: Chen, Rubanova, Bettencourt, Duvenaud, "Neural Ordinary Differential Equations" (2018);
Grathwohl et al., "FFJORD" (2019) for the trace estimate; lecture L5-2024 (recap).
"""

import itertools

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from dgm_utils.models.densities import full_precision, is_transformed, standard_normal_log_prob
from dgm_utils.nf_as_vae import flow_log_likelihood
from dgm_utils.validate import takes, whole_number


def rk4(field, state, start, end, num_steps):
    """Solution at `end` of `d state/dt = field(t, *state)`, by the classical Runge-Kutta method.

    Args:
        field: `field(t, *state) →` a tuple of rates, in the shapes of the state; t is a number.
        state: tuple of tensors, at time `start`.
        start: time to begin at.
        end: time to end at; may be the earlier one.
        num_steps: equal steps of size h; the error is O(h⁴).

    Returns:
        tuple of tensors, the state at `end`.

    """
    h = (end - start) / num_steps

    def move(step, rates):
        return tuple(s + step * rate for s, rate in zip(state, rates, strict=True))

    for number in range(num_steps):
        t = start + number * h
        k1 = field(t, *state)
        k2 = field(t + h / 2, *move(h / 2, k1))
        k3 = field(t + h / 2, *move(h / 2, k2))
        k4 = field(t + h, *move(h, k3))
        weighted = [(a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)]
        state = move(h, weighted)
    return state


def rk4_adjoint(field, state, start, end, num_steps, parameters):
    """`rk4`, differentiated by solving the adjoint ODE: memory does not grow with the steps.

    Arguments and result as in `rk4`; gradients reach the tensors of `state` and those of
    `parameters`, which must name all that `field` is to be differentiated by. They cannot be
    differentiated again. Under `torch.func`, which can, it is `rk4` itself.
    """
    if is_transformed(*state):
        return rk4(field, state, start, end, num_steps)
    parameters = [p for p in parameters if p.requires_grad]
    return _Adjoint.apply(field, start, end, num_steps, len(state), *state, *parameters)


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, field, start, end, num_steps, num_states, *tensors):
        # No graph is recorded in here, so nothing of the solver's steps stays.
        state = rk4(field, tensors[:num_states], start, end, num_steps)
        ctx.arguments = field, start, end, num_steps
        ctx.save_for_backward(*state, *tensors[num_states:])
        ctx.num_states = num_states
        return state

    @staticmethod
    @once_differentiable
    def backward(ctx, *adjoint):
        field, start, end, num_steps = ctx.arguments
        num = ctx.num_states
        state, parameters = ctx.saved_tensors[:num], ctx.saved_tensors[num:]

        def backwards(t, *augmented):
            adjoint = augmented[num : 2 * num]
            with torch.enable_grad():
                state = [s.detach().requires_grad_() for s in augmented[:num]]
                rates = field(t, *state)
                # A rate may be a constant, as the trace of a fixed matrix is.
                moving = [(r, a) for r, a in zip(rates, adjoint, strict=True) if r.requires_grad]
                outputs, weights = zip(*moving, strict=True) if moving else ([], [])
                gradients = torch.autograd.grad(
                    outputs, [*state, *parameters], weights, materialize_grads=True
                )
            # dz/dt = f, da/dt = −aᵀ ∂f/∂z, and d(∂L/∂θ)/dt = −aᵀ ∂f/∂θ.
            return [*(rate.detach() for rate in rates), *(-gradient for gradient in gradients)]

        zeros = [torch.zeros_like(p) for p in parameters]
        # The state is found again on the way back: it is not kept either.
        augmented = rk4(backwards, (*state, *adjoint, *zeros), end, start, num_steps)
        return None, None, None, None, None, *augmented[num:]


def exact_trace(field, t, z):
    """`f(t, z)` and the trace of its Jacobian, `(B, D) → (B, D), (B,)`: D passes backwards."""
    rate, pull_back = torch.func.vjp(lambda z: field(t, z), z)
    trace = torch.zeros_like(z[:, 0])
    # Rows do not mix: one product with a unit vector serves the whole batch.
    for d, unit in enumerate(torch.eye(z.shape[1], dtype=z.dtype, device=z.device)):
        (row,) = pull_back(unit.expand_as(rate))
        trace = trace + row[:, d]
    return rate, trace


@takes(z="B D", noise="B D")
def hutchinson_trace(field, t, z, noise):
    """`f(t, z)` and `εᵀ (∂f/∂z) ε`, an unbiased estimate of the trace: one pass backwards.

    Args:
        field: `field(t, z) → (B, D)`.
        t: time, a number.
        z: `(B, D)`.
        noise: ε, `(B, D)`, of mean 0 and covariance I; signs ±1 have the smallest variance.

    Returns:
        rate `(B, D)` and estimate `(B,)`.

    """
    rate, pull_back = torch.func.vjp(lambda z: field(t, z), z)
    (product,) = pull_back(noise)
    return rate, (product * noise).sum(1)


class TimeMLP(nn.Module):
    """A field `f(t, z)`: tanh layers on z and the time, `(B, D) → (B, D)`.

    tanh is smooth, which the solver's order of accuracy asks for; with ReLU it is lost.
    """

    def __init__(self, num_dims, hidden=32, num_layers=2):
        super().__init__()
        sizes = [num_dims + 1, *[hidden] * num_layers]
        layers = []
        for size, following in itertools.pairwise(sizes):
            layers += [nn.Linear(size, following), nn.Tanh()]
        self.net = nn.Sequential(*layers, nn.Linear(hidden, num_dims))

    def forward(self, t, z):
        """The rate dz/dt at time t."""
        return self.net(torch.cat([z, torch.full_like(z[:, :1], t)], 1))


class ContinuousFlow(nn.Module):
    """`dz/dt = f(t, z)` from a standard normal base at t = 0 to the data at t = 1.

    Both directions cost the same: the ODE is solved the one way or the other. They are inverse to
    each other up to the solver's error, O(num_steps⁻⁴).

    Args:
        field: module, `field(t, z) → (B, D)`, differentiable twice; rows must not mix, as they
            would in batch normalization.
        num_steps: steps of the solver, 4 evaluations of the field each.
        adjoint: gradients by the adjoint, in constant memory; else through the solver's steps,
            which second derivatives need. `torch.func` takes these in either case.

    Raises:
        ValueError: when num_steps < 1.

    """

    def __init__(self, field, num_steps=20, adjoint=True):
        super().__init__()
        whole_number("num_steps", num_steps, 1)
        self.field, self.num_steps, self.adjoint = field, num_steps, adjoint

    @takes(x="B D")
    def forward(self, x, noise=None):
        """Data → base, `(B, D) → z (B, D), log_det (B,)` in nats.

        Args:
            x: `(B, D)`, floating.
            noise: `(B, D)` for Hutchinson's estimate of the trace, the same ε along the whole
                solution; None for the exact trace, which costs D times as much.

        Raises:
            TypeError: when x is no floating tensor.
            ValueError: when x is not `(B, D)` or is empty, or noise has another shape.

        """
        return self._solve(x, noise, 1.0, 0.0)

    @takes(z="B D")
    def inverse(self, z, noise=None):
        """Base → data, `(B, D) → x (B, D), log_det (B,)`; arguments as in `forward`."""
        return self._solve(z, noise, 0.0, 1.0)

    def log_prob(self, x, noise=None):
        """`log p(x)` in nats, `(B, D) → (B,)`; unbiased with noise."""
        return flow_log_likelihood(x, lambda x: self(x, noise), standard_normal_log_prob)

    def _solve(self, value, noise, start, end):
        # The field is the density here: rounded to half precision, it is another one.
        @full_precision
        def rates(t, z, log_det):
            # d log_det/dt = tr(∂f/∂z), whichever way t runs.
            if noise is None:
                return exact_trace(self.field, t, z)
            return hutchinson_trace(self.field, t, z, noise)

        state = (value, torch.zeros_like(value[:, 0]))
        if self.adjoint:
            return rk4_adjoint(rates, state, start, end, self.num_steps, self.parameters())
        return rk4(rates, state, start, end, self.num_steps)
