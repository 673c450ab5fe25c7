"""The flows of `dgm_utils.models`, held against Jacobians, quadrature and the slow way."""

import itertools
import math

import pytest
import torch
from statements import close, normal
from torch.utils._python_dispatch import TorchDispatchMode

from dgm_utils.maf_vs_iaf import hidden_degrees, made_masks, solve_in_order
from dgm_utils.models.autoregressive import IAF, MAF, IAFLayer, MAFLayer
from dgm_utils.models.coupling import CouplingLayer, Invertible1x1, RealNVP
from dgm_utils.models.densities import bounded
from dgm_utils.models.flow import Flow, FlowPosterior, StandardNormal
from dgm_utils.models.made import MADE
from dgm_utils.models.planar import PlanarLayer, SylvesterLayer
from dgm_utils.oracles import grid

HIDDEN = (12, 9)


def glow(num_dims, **options):
    layers = []
    for i in range(2):
        mix = Invertible1x1(num_dims)
        with torch.no_grad():  # a rotation has log|det| 0, which would test nothing
            mix.log_abs_s.add_(0.3 * torch.randn(num_dims))
        layers += [mix, CouplingLayer(num_dims, flip=i == 1, **options)]
    return Flow(layers, StandardNormal(num_dims))


def nice(num_dims, **options):
    return RealNVP(num_dims, 3, additive=True, **options)


def mixed(num_dims, **options):
    layers = [MAFLayer(num_dims, **options), IAFLayer(num_dims, **options)]
    return Flow([*layers, CouplingLayer(num_dims, **options)], StandardNormal(num_dims))


TWO_WAY = {
    "maf": lambda num_dims, **options: MAF(num_dims, 3, **options),
    "iaf": lambda num_dims, **options: IAF(num_dims, 3, **options),
    "realnvp": lambda num_dims, **options: RealNVP(num_dims, 3, **options),
    "nice": nice,
    "glow": glow,
    "mixed": mixed,
}
ONE_WAY = {
    "planar": lambda num_dims: FlowPosterior([PlanarLayer(num_dims) for _ in range(3)]),
    "sylvester": lambda num_dims: FlowPosterior([SylvesterLayer(num_dims, 2) for _ in range(3)]),
}
two_way = pytest.mark.parametrize("name", TWO_WAY)
one_way = pytest.mark.parametrize("name", ONE_WAY)
devices = pytest.mark.parametrize(
    "device",
    [
        "meta",  # a device or dtype that is written into the code fails there
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
        ),
    ],
)


def make(name, num_dims=5, seed=0, **options):
    """A flow in float64 with weights well away from the identity map, smooth by default."""
    torch.manual_seed(seed)
    if name in ONE_WAY:
        return ONE_WAY[name](num_dims).double()
    options = {"hidden_sizes": HIDDEN, "activation": torch.tanh, **options}
    flow = TWO_WAY[name](num_dims, **options).double()
    for parameter in flow.parameters():
        if parameter.ndim == 2:
            parameter.data *= 1.5
    return flow


def push(flow, z):
    """Base → data through any of them."""
    if isinstance(flow, Flow):
        return flow.inverse(z)
    zero = torch.zeros_like(z)
    value, log_q = flow(zero, zero, z)
    return value, StandardNormal(z.shape[1]).log_prob(z) - log_q


def log_abs_det(function, points):
    """log|det| of the Jacobian at each row, by forward-mode differentiation."""
    rows = [torch.func.jacfwd(lambda row: function(row[None])[0][0])(point) for point in points]
    return torch.linalg.slogdet(torch.stack(rows)).logabsdet


# Every flow


@two_way
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_log_det_is_that_of_the_jacobian(name, direction):
    flow, points = make(name), normal(1, 4, 5)
    function = getattr(flow, direction)
    _, log_det = function(points)
    assert log_det.shape == (4,)
    close(log_det, log_abs_det(function, points), 1e-10)
    if name != "nice":
        assert log_det.abs().max() > 0.1  # or the comparison would say nothing
    else:
        assert (log_det == 0).all()


@one_way
def test_log_det_of_planar_and_sylvester_is_that_of_the_jacobian(name):
    flow, points = make(name), normal(1, 4, 5)
    _, log_det = push(flow, points)
    close(log_det, log_abs_det(lambda z: push(flow, z), points), 1e-10)
    assert log_det.abs().max() > 0.1


@two_way
def test_round_trip(name):
    flow, x = make(name), normal(1, 6, 5)
    z, log_det = flow.forward(x)
    back, log_det_back = flow.inverse(z)
    close(back, x, 1e-10)
    close(log_det_back, -log_det, 1e-10)


@two_way
def test_density_integrates_to_one(name):
    flow = make(name, num_dims=2)
    nodes, log_weights = grid(-25, 25, 501, dims=2)
    with torch.no_grad():
        log_prob = flow.log_prob(nodes)
    total = torch.exp(log_prob + log_weights).sum().item()
    assert total == pytest.approx(1, abs=1e-9)


@one_way
def test_density_of_planar_and_sylvester_integrates_to_one(name):
    flow = make(name, num_dims=2, seed=1)  # no ridge narrower than the grid's spacing
    nodes, log_weights = grid(-10, 10, 401, dims=2)
    with torch.no_grad():
        z = nodes
        for layer in reversed(flow.layers):
            z = solve_tanh_map(layer, z)
        value, log_det = push(flow, z)
    close(value, nodes, 1e-9)
    log_prob = StandardNormal(2).log_prob(z) - log_det
    assert torch.exp(log_prob + log_weights).sum().item() == pytest.approx(1, abs=1e-9)


def solve_tanh_map(layer, x):
    """Invert `x = z + A tanh(B z + b)` with B A upper triangular, one bisection a coordinate.

    With y = B z the system is `B x = y + B A tanh(y + b)`; each coordinate rises in its own y.
    """
    if isinstance(layer, PlanarLayer):
        along = layer.w @ layer.u
        stretch = torch.nn.functional.softplus(along) - 1 - along
        a = (layer.u + stretch * layer.w / (layer.w @ layer.w))[:, None]
        b_matrix, bias = layer.w[None], layer.b[None]
    else:
        q, r1, r2 = layer.matrices()
        a, b_matrix, bias = q @ r1, r2 @ q.T, layer.b
    product, target = b_matrix @ a, x @ b_matrix.T
    close(product, product.triu(), 1e-14)
    h = torch.zeros_like(target)
    for i in reversed(range(len(bias))):
        rest = target[:, i] - h[:, i + 1 :] @ product[i, i + 1 :]
        reach = product[i, i].abs() + 1e-3
        low, high = rest - reach, rest + reach
        for _ in range(60):
            middle = (low + high) / 2
            too_low = middle + product[i, i] * torch.tanh(middle + bias[i]) < rest
            low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
        h[:, i] = torch.tanh(low + bias[i])
    return x - h @ a.T


@two_way
def test_samples_agree_with_the_density(name):
    """Five expectations by quadrature against the mean of 20,000 samples, within 5 standard errors.

    A right sampler fails with probability 6 · 5 · 6e-7 = 2e-5, once and for all: the seed is fixed.
    """
    flow = make(name, num_dims=2)
    nodes, log_weights = grid(-25, 25, 501, dims=2)
    with torch.no_grad():
        mass = torch.exp(flow.log_prob(nodes) + log_weights)
    samples = flow.sample(20_000, torch.Generator().manual_seed(3))

    def statistics(x):
        first, second = x.unbind(1)
        return torch.stack([first, second, first**2, second**2, first * second], 1)

    values = statistics(nodes)
    mean = mass @ values
    std = (mass @ (values - mean) ** 2).sqrt()
    errors = (statistics(samples).mean(0) - mean) / (std / math.sqrt(len(samples)))
    assert errors.abs().max() < 5


@two_way
def test_rsample_knows_the_density_of_its_samples(name):
    flow, noise = make(name), normal(1, 6, 5)
    x, log_prob = flow.rsample_with_log_prob(noise)
    close(log_prob, flow.log_prob(x), 1e-10)


@two_way
def test_gradients_reach_every_parameter(name):
    flow = make(name)
    flow.log_prob(normal(1, 6, 5)).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in flow.parameters())
    flow.zero_grad()
    x, log_prob = flow.rsample_with_log_prob(normal(2, 6, 5))
    (log_prob.sum() + (x**2).sum()).backward()
    assert all((parameter.grad != 0).any() for parameter in flow.parameters())


@one_way
def test_gradients_reach_every_parameter_of_planar_and_sylvester(name):
    flow = make(name)
    z, log_det = push(flow, normal(1, 6, 5))
    (z.sum() + log_det.sum()).backward()
    assert all((parameter.grad != 0).any() for parameter in flow.parameters())


@two_way
def test_gradient_of_sampling_is_that_of_finite_differences(name):
    flow, noise = make(name, num_dims=3), normal(1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(flow.inverse, noise)
    assert torch.autograd.gradcheck(flow.forward, noise)


@pytest.mark.parametrize("name", [*TWO_WAY, *ONE_WAY])
def test_batched_equals_looped(name):
    flow, points = make(name), normal(1, 6, 5)
    functions = [lambda z: push(flow, z)]
    if name in TWO_WAY:
        functions.append(flow.forward)
    for function, no_grad in itertools.product(functions, [False, True]):
        with torch.set_grad_enabled(not no_grad):
            together = function(points)
            alone = [function(point[None]) for point in points]
        for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
            close(whole, torch.cat(parts), 1e-12)


@pytest.mark.parametrize("name", [*TWO_WAY, *ONE_WAY])
def test_dtype_is_kept_and_arguments_are_left_alone(name):
    flow = make(name)
    for dtype in (torch.float32, torch.float64):
        flow = flow.to(dtype)
        z = normal(1, 6, 5, dtype=dtype)
        before = z.clone()
        with torch.no_grad():
            results = [*push(flow, z)]
            if name in TWO_WAY:
                results += [*flow.forward(z), flow.log_prob(z), flow.sample(3)]
        assert {result.dtype for result in results} == {dtype}
        assert torch.equal(z, before)


@devices
@pytest.mark.parametrize("name", [*TWO_WAY, *ONE_WAY])
def test_device_is_kept(name, device):
    flow = make(name).to(device)
    z = torch.zeros(6, 5, dtype=torch.float64, device=device)
    for no_grad in (False, True):
        with torch.set_grad_enabled(not no_grad):
            results = [*push(flow, z)]
            if name in TWO_WAY:
                results += [*flow.forward(z), flow.log_prob(z), flow.sample(3)]
        assert {result.device.type for result in results} == {device}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@two_way
def test_gpu_agrees_with_cpu(name):
    flow, x = make(name), normal(1, 6, 5)
    expected = flow.log_prob(x), *flow.inverse(x)
    flow = flow.cuda()
    with torch.no_grad():
        found = flow.log_prob(x.cuda()), *flow.inverse(x.cuda())
    for value, truth in zip(found, expected, strict=True):
        close(value.cpu(), truth, 1e-9)


@pytest.mark.parametrize("name", [*TWO_WAY, *ONE_WAY])
def test_save_and_load(name, tmp_path):
    flow, z = make(name), normal(1, 6, 5)
    torch.save(flow.state_dict(), tmp_path / "flow.pt")
    other = make(name, seed=1)
    assert not torch.allclose(push(other, z)[0], push(flow, z)[0])
    other.load_state_dict(torch.load(tmp_path / "flow.pt", weights_only=True))
    for value, expected in zip(push(other, z), push(flow, z), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("name", [*TWO_WAY, *ONE_WAY])
@pytest.mark.parametrize("size", [1e4, 1e8])
def test_extreme_points_stay_finite(name, size):
    """In float32: a free exp(log_scale) overflows from a log-scale of 89 on."""
    flow = make(name, activation=torch.relu_) if name in TWO_WAY else make(name)
    flow = flow.float()
    z = size * torch.tensor([[1.0, -1, 1, 1, -1], [-1, -1, 1, -1, 1]])
    results = [*push(flow, z)]
    if name in TWO_WAY:
        results += [*flow.forward(z), flow.log_prob(z)]
    total = sum(result.sum() / size for result in results)
    total.backward()
    assert all(torch.isfinite(result).all() for result in results)
    assert all(torch.isfinite(parameter.grad).all() for parameter in flow.parameters())


def test_log_scale_is_bounded_and_the_identity_near_zero():
    raw = torch.tensor([-math.inf, -1e9, -1e-3, 0, 1e-3, 1e9], dtype=torch.float64)
    log_scale = bounded(raw, 5.0)
    assert log_scale.abs().max() <= 5
    # tanh's next term is raw³ / (3 · bound²).
    close(log_scale[2:5], raw[2:5], 1e-9 / 75 * 1.01)


# Masks


@pytest.mark.parametrize("hidden_sizes", [(), (4,), (4, 4), (7, 5, 11)])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_masks_let_through_all_that_comes_before_and_nothing_else(hidden_sizes, order):
    """3.2 MADE is autoregressive for any ordering; layers of D − 1 units lose no path."""
    product = torch.eye(5)
    for mask in made_masks(5, hidden_sizes, order):
        assert set(mask.unique().tolist()) <= {0, 1}
        product = mask @ product
    expected = torch.ones(5, 5).tril(-1)
    assert torch.equal((product[order][:, order] > 0).float(), expected)


@pytest.mark.parametrize("num_inputs", [1, 2, 6])
@pytest.mark.parametrize("hidden_sizes", [(1,), (3, 2), (1, 40)])
def test_narrow_masks_stay_autoregressive(num_inputs, hidden_sizes):
    """3.2 Below D − 1 units paths are missing, but none is added."""
    product = torch.eye(num_inputs)
    for mask in made_masks(num_inputs, hidden_sizes, range(num_inputs)):
        product = mask @ product
    assert torch.equal(product, product.tril(-1))


def test_degrees_are_spread_evenly_and_never_fall():
    degrees = hidden_degrees(64, 256)
    assert torch.equal(degrees, degrees.sort().values)
    counts = degrees.bincount(minlength=64)[1:]
    assert counts.min() >= 4 and counts.max() <= 5


# The fast sampler

SHAPES = [(6, (12, 9)), (6, (3,)), (6, (40, 2, 7)), (6, ()), (1, (4,)), (2, (1, 1))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layer", [MAFLayer, IAFLayer])
def test_fast_way_equals_slow_way(shape, layer):
    num_dims, hidden_sizes = shape
    for seed in range(3):
        torch.manual_seed(seed)
        order = torch.randperm(num_dims).tolist()
        module = layer(num_dims, hidden_sizes, order).double()
        function = module.inverse if layer is MAFLayer else module.forward
        points = normal(seed, 7, num_dims)
        slow = function(points)
        with torch.no_grad():
            fast = function(points)
        assert slow[0].requires_grad and not fast[0].requires_grad
        for value, expected in zip(fast, slow, strict=True):
            close(value, expected, 1e-10)


class MultiplyAdds(TorchDispatchMode):
    """Counts the multiply-adds of matrix products."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("addmm", "addmm_", "mm"):
            left, right = args[-2:]
            self.count += left.shape[0] * left.shape[1] * right.shape[1]
        return function(*args, **(kwargs or {}))


def test_fast_sampler_computes_every_unit_once():
    """Its multiply-adds are the ones in the masks, once; the slow way's, all entries D times."""
    made, v = MADE(8, (20, 15)), normal(1, 3, 8, dtype=torch.float32)

    def update(v, mu, raw):
        return v + mu

    ones = sum(layer.mask.sum().item() for layer in made.layers)
    entries = sum(layer.mask.numel() for layer in made.layers)
    with torch.no_grad(), MultiplyAdds() as fast:
        made.solve(v, update)
    with torch.no_grad(), MultiplyAdds() as slow:
        solve_in_order(v, made, update, made.order)
    assert fast.count == 3 * ones
    assert slow.count == 3 * entries * 8
    assert ones < 0.6 * entries


def test_solve_in_order_shows_the_net_no_guesses():
    """What is not known yet is 0 in the net's input: a guess may overflow, and 0 · ∞ is NaN."""
    seen = []

    def net(y):
        seen.append(y)
        return (torch.ones_like(y),)

    y, _ = solve_in_order(torch.ones(1, 3), net, lambda v, mu: v + mu, [2, 0, 1])
    assert torch.equal(torch.cat(seen), torch.tensor([[0.0, 0, 0], [0, 0, 2], [2, 0, 2]]))
    assert torch.equal(y, torch.full((1, 3), 2.0))


# Passes


def count_calls(monkeypatch, cls, method):
    calls = []
    original = getattr(cls, method)

    def counted(self, *args):
        calls.append(1)
        return original(self, *args)

    monkeypatch.setattr(cls, method, counted)
    return calls


@pytest.mark.parametrize("name, density, sampling", [("maf", 1, 5), ("iaf", 5, 1)])
def test_network_passes_of_autoregressive_flows(monkeypatch, name, density, sampling):
    """3.3 MAF: density in 1 pass a layer, sampling in m; IAF the other way round."""
    flow = make(name)
    calls = count_calls(monkeypatch, MADE, "forward")
    flow.log_prob(normal(1, 6, 5))
    assert len(calls) == 3 * density
    calls.clear()
    flow.inverse(normal(1, 6, 5))
    assert len(calls) == 3 * sampling


def test_network_passes_of_coupling(monkeypatch):
    """3.3 RealNVP: 1 pass a layer in either direction."""
    flow = make("realnvp")
    calls = count_calls(monkeypatch, CouplingLayer, "net")
    flow.log_prob(normal(1, 6, 5))
    flow.inverse(normal(1, 6, 5))
    assert len(calls) == 3 + 3


# Layers


def test_made_is_autoregressive_for_any_ordering():
    """3.2 The Jacobian of both outputs is full below the diagonal of the order and zero above."""
    order = [2, 0, 4, 1, 3]
    made = MADE(5, (16, 16), order=order, activation=torch.tanh).double()
    jacobians = torch.func.jacfwd(lambda row: made(row[None]))(normal(1, 5))
    for jacobian in jacobians:
        ordered = jacobian[0][order][:, order]
        assert torch.equal(ordered != 0, torch.ones(5, 5).tril(-1).bool())


def test_planar_map_can_always_be_inverted():
    """3.10 û keeps w·û above −1 whatever u is, so z rises along w, and log_det is never NaN."""
    along = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    for seed, scale in itertools.product(range(5), [1.0, 5.0]):
        u, w = scale * normal(seed, 3), normal(seed + 100, 3)
        layer = PlanarLayer(3).double()
        layer.u.data, layer.w.data, layer.b.data = -u.sign() * w.sign() * u, w, normal(seed, 1)[0]
        z = along[:, None] * w / w.norm()
        with torch.no_grad():
            value, log_det = layer.inverse(z)
        assert (w @ layer.u < -1) or scale == 1.0  # the constraint is at work
        assert ((value @ w).diff() > 0).all()
        assert torch.isfinite(log_det).all()


def test_sylvester_identity():
    """3.10 det(I_L + A diag(h') B) = det(I_M + diag(h') B A), the smaller one triangular."""
    torch.manual_seed(0)
    layer, z = SylvesterLayer(5, 3).double(), normal(1, 4, 5)
    q, r1, r2 = layer.matrices()
    close(q.T @ q, torch.eye(3, dtype=torch.float64), 1e-14)
    slope = 1 - torch.tanh(z @ (r2 @ q.T).T + layer.b) ** 2
    a, b = q @ r1, slope[..., None] * (r2 @ q.T)
    large = torch.linalg.slogdet(torch.eye(5, dtype=torch.float64) + a @ b).logabsdet
    small = torch.eye(3, dtype=torch.float64) + b @ a
    assert small.tril(-1).abs().max() < 1e-14
    close(torch.linalg.slogdet(small).logabsdet, large, 1e-12)
    close(layer.inverse(z)[1], large, 1e-12)


def test_one_sylvester_unit_is_a_planar_map():
    """3.10 M = 1: z + q r₁ tanh(r₂ q·z + b) is planar with w = r₂ q and û = r₁ q."""
    torch.manual_seed(0)
    layer, z = SylvesterLayer(4, 1).double(), normal(1, 6, 4)
    q, r1, r2 = layer.matrices()
    h = torch.tanh(z @ q[:, 0] * r2[0, 0] + layer.b)
    close(layer.inverse(z)[0], z + h[:, None] * r1[0, 0] * q[:, 0], 1e-14)


def test_coupling_scales_the_rest_by_functions_of_the_first():
    """3.10 The Jacobian is [[I, 0], [*, diag(exp s)]]; NICE's determinant is 1."""
    torch.manual_seed(0)
    layer, x = CouplingLayer(5, HIDDEN, split=2).double(), normal(1, 5)
    jacobian = torch.func.jacfwd(lambda row: layer.forward(row[None])[0][0])(x)
    _, log_scale = layer.net(x[None, :2])
    expected = torch.eye(5, dtype=torch.float64)
    expected[range(2, 5), range(2, 5)] = log_scale[0].exp()
    expected[2:, :2] = jacobian[2:, :2]
    close(jacobian, expected, 1e-12)
    assert jacobian[2:, :2].abs().min() > 0


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3, 5)])
def test_invertible_convolution(shape):
    """3.10 Glow: W = P L (U + diag s), log|det| = (number of pixels) · Σ log|s|."""
    torch.manual_seed(0)
    layer = Invertible1x1(4).double()
    start = layer.weight()
    close(start @ start.T, torch.eye(4, dtype=torch.float64), 1e-6)  # a rotation, made in float32
    layer.log_abs_s.data += normal(1, 4)
    x = normal(2, *shape)
    z, log_det = layer.forward(x)
    close(z, torch.conv2d(x.reshape(2, 4, -1, 1), layer.weight()[:, :, None, None]).reshape(shape),
          1e-12)  # fmt: skip
    jacobian = torch.func.jacfwd(lambda row: layer.forward(row[None])[0].flatten())(x[0])
    size = x[0].numel()
    expected = torch.linalg.slogdet(jacobian.reshape(size, size)).logabsdet
    close(log_det, expected.expand(2), 1e-10)
    back, log_det_back = layer.inverse(z)
    close(back, x, 1e-10)
    close(log_det_back, -log_det, 0)


def test_standard_normal_is_torchs():
    base = StandardNormal(3).double()
    z = base.sample(4, torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal(torch.zeros(3, dtype=torch.float64), 1)
    close(base.log_prob(z), normal.log_prob(z).sum(1), 1e-14)
    assert torch.equal(z, base.sample(4, torch.Generator().manual_seed(0)))


# The flow posterior


@pytest.mark.parametrize("name", ["planar", "sylvester", "iaf"])
def test_flow_posterior_takes_any_number_of_samples(name):
    """2.3 log q_K for `(K, B, L)` noise is that of each sample alone."""
    layers = make(name, num_dims=3).layers
    posterior = FlowPosterior(layers)
    mean, log_var, noise = normal(1, 4, 3), normal(2, 4, 3), normal(3, 5, 4, 3)
    z, log_q = posterior(mean, log_var, noise)
    assert z.shape == (5, 4, 3) and log_q.shape == (5, 4)
    for k in range(5):
        z_k, log_q_k = posterior(mean, log_var, noise[k])
        close(z[k], z_k, 1e-12)
        close(log_q[k], log_q_k, 1e-12)


# Bad input


@pytest.mark.parametrize("name", [*TWO_WAY, *ONE_WAY])
def test_wrong_points_are_refused(name):
    flow = make(name).float()
    functions = [flow.layers[0].inverse]
    if name in TWO_WAY:
        functions += [flow.forward, flow.log_prob, flow.inverse]
    for function in functions:
        with pytest.raises(ValueError, match=r"shape.*5.*not.*\(3, 4\)"):
            function(torch.zeros(3, 4))
        with pytest.raises(ValueError, match="shape"):
            function(torch.zeros(5))
        with pytest.raises(TypeError, match="float"):
            function(torch.zeros(3, 5, dtype=torch.long))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: made_masks(3, (4,), [0, 1, 1]), "order must be a permutation"),
        (lambda: made_masks(3, (4,), [1, 2, 3]), "order must be a permutation"),
        (lambda: made_masks(3, (0,), [0, 1, 2]), "hidden_sizes"),
        (lambda: made_masks(0, (4,), []), "num_inputs"),
        (lambda: MAFLayer(3, order=[0, 1]), "order must be a permutation"),
        (lambda: MAF(3, 0), "num_layers"),
        (lambda: CouplingLayer(4, split=0), "split"),
        (lambda: CouplingLayer(4, split=4), "split"),
        (lambda: CouplingLayer(1), "num_dims"),
        (lambda: RealNVP(4, 0), "num_layers"),
        (lambda: SylvesterLayer(3, 4), "num_units"),
        (lambda: SylvesterLayer(3, 0), "num_units"),
        (lambda: PlanarLayer(0), "num_dims"),
        (lambda: MAF(3).sample(0), "num must"),
    ],
)
def test_wrong_sizes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@one_way
def test_planar_and_sylvester_have_no_forward(name):
    with pytest.raises(NotImplementedError, match="base → data only"):
        make(name).layers[0].forward(normal(1, 2, 5))
