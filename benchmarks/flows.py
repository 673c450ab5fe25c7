"""Autoregressive and coupling flows against the installed peers.

    python -m benchmarks.flows --repeats 31

A call takes milliseconds, so it needs many rounds until each of them has met a quiet moment.
Everyone gets 64 dimensions, five layers, two hidden layers of 256 rectified units in each, the
coordinates turned round from layer to layer, and the same 256 points.

The autoregressive layers of normflows and pyro run their cheap direction base → data, as an IAF
does, whatever they are called; here their `forward` is read as data → base, and they are MAFs too.
normflows' MADE has no activation after its first layer, a little less to do. pythae's scales, and
those of normflows' coupling, are not bounded, ours are. pyro's transforms remember the last input
by identity, so they get a copy.
pythae has no coupling flow.
"""

import itertools

import torch
from torch import nn

from benchmarks.harness import Task, main
from dgm_utils.models.autoregressive import IAF, MAF
from dgm_utils.models.coupling import RealNVP
from dgm_utils.models.flow import StandardNormal

D, LAYERS, HIDDEN, POINTS = 64, 5, (256, 256), 256
BASE = StandardNormal(D)
REVERSED = torch.arange(D).flip(0)


def points():
    """The data, or the draws of the base, `(256, 64)`."""
    return torch.randn(POINTS, D, generator=torch.Generator().manual_seed(1))


# Each of these returns `(module, forward, inverse)`: the parameters, data → base and base → data,
# both with log_det. The cheap direction of an autoregressive flow is forward.


def _ours_maf():
    flow = MAF(D, LAYERS, hidden_sizes=HIDDEN)
    return flow, flow.forward, flow.inverse


def _zuko_maf():
    import zuko

    flow = zuko.flows.MAF(D, transforms=LAYERS, hidden_features=HIDDEN)
    return _zuko(flow)


def _nflows_maf():
    from nflows.flows import MaskedAutoregressiveFlow

    flow = MaskedAutoregressiveFlow(
        D, HIDDEN[0], LAYERS, num_blocks_per_layer=1, use_residual_blocks=False
    )
    return flow, flow._transform.forward, flow._transform.inverse


def _normflows_maf():
    import normflows

    def layer():
        return normflows.flows.MaskedAffineAutoregressive(
            D, HIDDEN[0], num_blocks=1, use_residual_blocks=False
        )

    return _chain([layer() for _ in range(LAYERS)], turn=True)


def _pyro_maf():
    transforms = _pyro_transforms()
    module = nn.ModuleList(transforms)
    maps = [transform.inv for transform in transforms]

    def forward(x):
        return _run_transforms(transforms, x.clone())

    def inverse(z):
        return _run_transforms(maps[::-1], z.clone())

    return module, forward, inverse


def _pythae_maf():
    from pythae.models.normalizing_flows import MAF, MAFConfig

    return _pythae(MAF(MAFConfig(**_pythae_options())))


def _ours_iaf():
    flow = IAF(D, LAYERS, hidden_sizes=HIDDEN)
    return flow, flow.forward, flow.inverse


def _pythae_iaf():
    from pythae.models.normalizing_flows import IAF, IAFConfig

    return _pythae(IAF(IAFConfig(**_pythae_options())))


def _ours_coupling():
    flow = RealNVP(D, LAYERS, hidden_sizes=HIDDEN)
    return flow, flow.forward, flow.inverse


def _zuko_coupling():
    import zuko

    halves = [torch.arange(D) < D // 2, torch.arange(D) >= D // 2]
    layers = [
        zuko.flows.GeneralCouplingTransform(D, mask=halves[i % 2], hidden_features=HIDDEN)
        for i in range(LAYERS)
    ]
    base = zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.zeros(D), torch.ones(D), buffer=True
    )
    return _zuko(zuko.lazy.Flow(layers, base))


def _nflows_coupling():
    from nflows.transforms import AffineCouplingTransform, CompositeTransform

    layers = [
        AffineCouplingTransform((torch.arange(D) >= D // 2) ^ (i % 2 == 1), lambda i, o: _mlp(i, o))
        for i in range(LAYERS)
    ]
    transform = CompositeTransform(layers)
    return transform, transform.forward, transform.inverse


def _normflows_coupling():
    import normflows

    def layer():
        return normflows.flows.AffineCouplingBlock(normflows.nets.MLP([D // 2, *HIDDEN, D]))

    return _chain([layer() for _ in range(LAYERS)], turn=True)


def _pyro_coupling():
    from pyro.distributions.transforms import AffineCoupling, Permute
    from pyro.nn import DenseNN

    transforms = []
    for _ in range(LAYERS):
        net = DenseNN(D // 2, list(HIDDEN), [D // 2, D // 2])
        transforms += [AffineCoupling(D // 2, net), Permute(REVERSED)]
    module = nn.ModuleList(t for t in transforms if isinstance(t, nn.Module))
    maps = [transform.inv for transform in transforms]
    return (
        module,
        lambda x: _run_transforms(transforms, x.clone()),
        lambda z: _run_transforms(maps[::-1], z.clone()),
    )


def density(make):
    """The log-density of the data, without gradients."""

    def maker():
        module, forward, _ = make()
        x = points()

        @torch.no_grad()
        def run():
            z, log_det = forward(x)
            return BASE.log_prob(z) + log_det

        return run, module

    return maker


def training_step(make):
    """The log-density and its gradient in all parameters."""

    def maker():
        module, forward, _ = make()
        x = points()

        def run():
            z, log_det = forward(x)
            _backward(module, (BASE.log_prob(z) + log_det).mean())

        return run, module

    return maker


def sampling(make):
    """Base → data, without gradients."""

    def maker():
        module, _, inverse = make()
        z = points()

        @torch.no_grad()
        def run():
            return inverse(z)[0]

        return run, module

    return maker


def rsample_step(generate):
    """Samples with their log-density, and the gradient of its mean, as reverse KL needs."""

    def maker():
        module, inverse = generate()
        z = points()

        def run():
            x, log_det = inverse(z)
            _backward(module, (BASE.log_prob(z) - log_det).mean() + x.square().mean())

        return run, module

    return maker


def both_ways(make):
    """Data → base and base → data, without gradients."""

    def maker():
        module, forward, inverse = make()
        x = points()

        @torch.no_grad()
        def run():
            return forward(x)[0], inverse(x)[0]

        return run, module

    return maker


def products(num_inputs, num_outputs, passes):
    """The bare matrix products of the networks: nobody who forms them all can be faster."""

    def maker():
        sizes = [num_inputs, *HIDDEN, num_outputs]
        weights = [torch.randn(n, m) for n, m in itertools.pairwise(sizes)] * passes
        inputs = {n: torch.randn(POINTS, n) for n in sizes}

        def run():
            for weight in weights:
                inputs[len(weight)] @ weight

        return run, None

    return maker


def _generates(make, turned):
    """`(module, base → data)`; `turned` reads a MAF's cheap direction as base → data."""

    def maker():
        module, forward, inverse = make()
        return module, forward if turned else inverse

    return maker


def _backward(module, loss):
    for parameter in module.parameters():
        parameter.grad = None
    loss.backward()


def _zuko(flow):
    # A zuko flow is built anew for each call: its transform holds no values between calls.
    def inverse(z):
        return flow().transform.inv.call_and_ladj(z)

    return flow, lambda x: flow().transform.call_and_ladj(x), inverse


def _chain(layers, turn):
    """normflows' layers, with the coordinates turned round between them."""

    def forward(x):
        total = 0
        for layer in layers:
            x, log_det = layer(x)
            x, total = x.flip(1), total + log_det
        return x, total

    def inverse(z):
        total = 0
        for layer in reversed(layers):
            z, log_det = layer.inverse(z.flip(1))
            total = total + log_det
        return z, total

    return nn.ModuleList(layers), forward, inverse


def _pyro_transforms():
    from pyro.distributions.transforms import AffineAutoregressive
    from pyro.nn import AutoRegressiveNN

    orders = [torch.arange(D), REVERSED]
    return [
        AffineAutoregressive(AutoRegressiveNN(D, list(HIDDEN), permutation=orders[i % 2]))
        for i in range(LAYERS)
    ]


def _run_transforms(transforms, value):
    """Apply torch.distributions transforms one after the other."""
    total = 0
    for transform in transforms:
        following = transform(value)
        total = total + transform.log_abs_det_jacobian(value, following)
        value = following
    return value, total


def _pythae_options():
    return {
        "input_dim": (D,),
        "n_made_blocks": LAYERS,
        "n_hidden_in_made": len(HIDDEN),
        "hidden_size": HIDDEN[0],
        "include_batch_norm": False,
    }


def _pythae(flow):
    def unpacked(direction):
        def run(value):
            output = direction(value)
            return output.out, output.log_abs_det_jac

        return run

    return flow, unpacked(flow.forward), unpacked(flow.inverse)


def _mlp(num_inputs, num_outputs):
    class Net(nn.Sequential):
        def forward(self, inputs, context=None):
            return super().forward(inputs)

    a, b = HIDDEN
    return Net(
        nn.Linear(num_inputs, a), nn.ReLU(), nn.Linear(a, b), nn.ReLU(), nn.Linear(b, num_outputs)
    )


MAFS = {
    "ours": _ours_maf,
    "zuko": _zuko_maf,
    "nflows": _nflows_maf,
    "normflows": _normflows_maf,
    "pyro": _pyro_maf,
    "pythae": _pythae_maf,
}
IAFS = {
    "ours": _generates(_ours_iaf, turned=False),
    **{name: _generates(MAFS[name], turned=True) for name in list(MAFS)[1:-1]},
    "pythae": _generates(_pythae_iaf, turned=False),
}
COUPLINGS = {
    "ours": _ours_coupling,
    "zuko": _zuko_coupling,
    "nflows": _nflows_coupling,
    "normflows": _normflows_coupling,
    "pyro": _pyro_coupling,
}
SIZES = f"D = {D}, {LAYERS} layers, {HIDDEN[0]} + {HIDDEN[1]} hidden units, {POINTS} points"
NEAR = 1 / 1.1


def _task(name, work, makers, target, measured, limit=None):
    makers = {who: measured(make) for who, make in makers.items()}
    if limit is not None:
        makers["limit: bare matrix products"] = limit
    return Task(name, f"{SIZES}; {work}", makers, target=target)


TASKS = [
    _task("MAF log_prob", "no gradient.", MAFS, NEAR, density, products(D, 2 * D, LAYERS)),
    _task("MAF training step", "log_prob, forward and backward.", MAFS, NEAR, training_step),
    _task("MAF sampling", "no gradient.", MAFS, 8.0, sampling),
    _task(
        "IAF rsample with log_prob",
        "forward and backward of log q(x) + |x|².",
        IAFS,
        NEAR,
        rsample_step,
    ),
    _task(
        "RealNVP both ways",
        "data → base and base → data with log_det, no gradient.",
        COUPLINGS,
        NEAR,
        both_ways,
        products(D // 2, D, 2 * LAYERS),
    ),
]


if __name__ == "__main__":
    main(
        TASKS,
        "benchmarks/flows.md",
        packages=["zuko", "nflows", "normflows", "pyro-ppl", "pythae"],
    )
