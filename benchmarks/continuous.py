"""Gradients of a continuous flow against torchdiffeq, and the speed-up of Parallel WaveNet."""

import torch

from benchmarks.harness import Task, main
from dgm_utils.models.cnf import ContinuousFlow, TimeMLP, exact_trace
from dgm_utils.models.wavenet import WaveNet, WaveNetStudent, WaveNetTeacher

NUM_STEPS, LENGTH = 20, 2048


def field_and_data():
    """The same field and points for everybody."""
    torch.manual_seed(0)
    return TimeMLP(2, hidden=64), torch.randn(256, 2)


def gradient(log_prob, field):
    """Of all parameters, as one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(log_prob, list(field.parameters()))])


def ours(adjoint):
    """Our solver, by either road."""

    def make():
        field, x = field_and_data()
        flow = ContinuousFlow(field, NUM_STEPS, adjoint)
        return lambda: gradient(flow.log_prob(x).mean(), field), field

    return make


def torchdiffeq(adjoint):
    """Theirs, with as many steps and evaluations of the field, and our trace."""

    def make():
        from torchdiffeq import odeint, odeint_adjoint

        field, x = field_and_data()

        def rates(t, state):
            return exact_trace(field, t.item(), state[0])

        options = {"method": "rk4", "options": {"step_size": 1 / NUM_STEPS}}
        if adjoint:
            options["adjoint_params"] = tuple(field.parameters())

        def run():
            solve = odeint_adjoint if adjoint else odeint
            z, log_det = solve(rates, (x, torch.zeros(len(x))), torch.tensor([1.0, 0.0]), **options)
            log_prob = torch.distributions.Normal(0, 1).log_prob(z[1]).sum(1) + log_det[1]
            return gradient(log_prob.mean(), field)

        return run, field

    return make


def sampler(draw):
    """One sequence, without gradients; the same network for teacher and student."""

    def make():
        torch.manual_seed(0)
        net, z = WaveNet(32, [2**i for i in range(10)]), torch.randn(1, LENGTH)
        return torch.no_grad()(lambda: draw(net, z)[0]), net

    return make


CNF_WORK = (
    f"256 points in 2-D, field of 2×64 tanh units, exact trace, {NUM_STEPS} steps of a fourth-"
    "order Runge-Kutta method (torchdiffeq's is the 3/8 rule): log_prob and its gradient."
)

TASKS = [
    Task(
        "Continuous flow, adjoint",
        CNF_WORK,
        {"ours": ours(True), "torchdiffeq": torchdiffeq(True)},
        target=1 / 1.1,
        tolerance=1e-4,
    ),
    Task(
        "Continuous flow, backpropagation",
        CNF_WORK,
        {"ours": ours(False), "torchdiffeq": torchdiffeq(False)},
        target=1 / 1.1,
        tolerance=1e-4,
    ),
    Task(
        "WaveNet sampling",
        f"One sequence of {LENGTH} steps, 10 blocks of 32 channels, dilations 1 … 512. Ours is the "
        "student's one pass; below it, the same network sampling as a teacher (claim 3.9).",
        {
            "ours": sampler(lambda net, z: WaveNetStudent(net).inverse(z)),
            "teacher, queues": sampler(lambda net, z: WaveNetTeacher(net).inverse(z)),
            "teacher, whole passes": sampler(
                lambda net, z: WaveNetTeacher(net).inverse(z, cached=False)
            ),
        },
    ),
]

if __name__ == "__main__":
    main(TASKS, "benchmarks/continuous.md", packages=["torchdiffeq"])
