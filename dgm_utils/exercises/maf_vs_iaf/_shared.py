"""Cases that several exercises share; each has a network or a flow from `_networks`."""

import itertools

import torch

from dgm_utils.exercises.maf_vs_iaf._networks import (
    Conditioner,
    Gaussian,
    Generator,
    Mixture,
    random_gaussian,
    standard_normal,
)
from nbjudge.asking.statements import is_exact
from nbjudge.inside.tensors import Counted

# In 32 bits the coordinates before a coordinate bring their rounding into its μ and σ.
SLOW = {torch.float64: 1e-8, torch.float32: 1e-3}


def fast_cases(page, draw, function):
    """Cases for the directions that take one call; `function(v, mu, log_sigma)` gives the value."""

    def random(name, b, d, v=None, extreme=False, **options):
        net = Counted(Conditioner(draw, d, **options))
        v = draw.normal(b, d) if v is None else v
        return page.case(name, v, net, passes={"net": (1, 1)}, extreme=extreme)

    def at(case):
        """The case with the log-determinant that differentiation gives."""
        v, net = case.args
        with torch.no_grad():
            case.facts["log_det"] = _jacobian_log_det(lambda v: function(v, *net(v)), v)
        return case

    yield at(random("one data point in two dimensions", 1, 2))
    yield at(random("three dimensions", draw.integer(4, 6), 3))
    yield random("one dimension", draw.integer(3, 5), 1)
    yield random("more dimensions than data points", 2, draw.integer(6, 9))
    d = draw.integer(3, 5)
    level = [30.0, -30.0, *[0.0] * (d - 2)]
    yield random("σ from e⁻³⁰ to e³⁰", 7, d, level=level, extreme=True)
    # The product of these σ is e^±800, beyond what 64 bits hold.
    yield random("40 dimensions with σ near e⁻²⁰", 2, 40, level=-20.0, extreme=True)
    yield random("40 dimensions with σ near e²⁰", 2, 40, level=20.0, extreme=True)
    v = draw.normal(d, 6).T
    yield random("an argument that is not contiguous in memory", 6, d, v)


def _jacobian_log_det(function, points):
    """log|det| of a function's Jacobian at each point, by differentiation."""
    rows = [
        torch.autograd.functional.jacobian(lambda row: function(row[None])[0], point)
        for point in points
    ]
    return torch.linalg.slogdet(torch.stack(rows)).logabsdet


def slow_cases(page, draw):
    """Cases for the directions that go through the coordinates one after the other."""

    def random(name, b, d, v=None, extreme=False, **options):
        net = Counted(Conditioner(draw, d, **options))
        v = draw.normal(b, d) if v is None else v
        return page.case(name, v, net, passes={"net": (0, d)}, extreme=extreme)

    yield random("one data point in two dimensions", 1, 2)
    yield random("two data points in three dimensions", 2, 3)
    yield random("one dimension", draw.integer(3, 5), 1)
    b, d = draw.integer(6, 8), draw.integer(4, 5)
    yield random("more data points than dimensions", b, d)
    yield random("more dimensions than data points", 2, d + 4)
    yield random("one data point", 1, d)
    yield random("points far from the origin", b, 3, 30 * draw.normal(b, 3), extreme=True)
    level = [-8.0, 6.0, *[0.0] * (d - 2)]
    yield random("a narrow conditional before a wide one", b, d, level=level, extreme=True)
    yield random("an argument that is not contiguous in memory", b, d, draw.normal(d, b).T)


def is_back(back, start):
    """Whether the fast direction came back to where the slow one started."""
    scale = start.abs().max().clamp(min=1.0)
    # Dividing by σ = e⁻⁸ on the way back makes rounding 3000 times larger.
    return is_exact(back / scale, (start / scale).double(), double=1e-8, single=1e-2)


def kl_cases(page, draw):
    """Draws of a base, the base, a flow base → data, and a target."""

    def random(name, b, dims, components=2, z=None, spread=1.0, **about):
        target = Mixture(spread * draw.normal(components, dims))
        z = draw.normal(b, dims) if z is None else z
        args = (z, random_gaussian(draw, dims), Generator(draw, dims), target)
        return page.case(name, *args, **about)

    def flow_is_target(name, b, dims, constant=0.0):
        base, flow = standard_normal(draw, dims), Generator(draw, dims, bend=0.0)
        scale_tril = (flow.matrix() * flow.log_scale.exp()).detach()
        target = Gaussian(flow.shift.detach().clone(), scale_tril, constant)
        return page.case(name, draw.normal(b, dims), base, flow, target, log_ratio=-constant)

    def gaussians(name, dims):
        """Base N(0, I), affine flow, Gaussian target: two points a dimension give the KL."""
        base, flow = standard_normal(draw, dims), Generator(draw, dims, bend=0.0)
        target = random_gaussian(draw, dims)
        with torch.no_grad():
            scale = (flow.matrix() * flow.log_scale.exp()).double()
            p = torch.distributions.MultivariateNormal(flow.shift.double(), scale_tril=scale)
            pi = torch.distributions.MultivariateNormal(
                target.mean.double(), scale_tril=target.scale_tril.double()
            )
            kl = torch.distributions.kl_divergence(p, pi)
        # All points of −1 and 1 have the mean and the covariance of N(0, I).
        signs = draw.tensor(list(itertools.product([-1.0, 1.0], repeat=dims)))
        return page.case(name, signs, base, flow, target, kl=kl)

    yield random("one draw in one dimension", 1, 1)
    b, d = draw.integer(5, 7), draw.integer(2, 4)
    yield flow_is_target("the flow is the target", b, d)
    yield flow_is_target("the flow is the target, times e³", b, d, 3.0)
    yield gaussians("a Gaussian flow and a Gaussian target", draw.integer(1, 3))
    yield random("all axes of different length", b, d, 8)
    yield random("one draw", 1, d)
    yield random("one dimension", b, 1)
    yield random("a target far away", b, d, spread=100.0, extreme=True)
    yield random("an argument that is not contiguous in memory", b, d, 2, draw.normal(d, b).T)
