"""Densities where numbers are extreme, under autocast, and under torch.func: right all the same."""

import itertools
import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from dgm_utils import (
    dequantization,
    elbo_surgery,
    iwae,
    latent_variable_models,
    nf_as_vae,
    oracles,
    vampprior,
)
from dgm_utils.latent_variable_models import bernoulli_log_likelihood
from dgm_utils.models import densities
from dgm_utils.models.autoregressive import IAF, MAF
from dgm_utils.models.cnf import ContinuousFlow, TimeMLP
from dgm_utils.models.coupling import Invertible1x1, RealNVP
from dgm_utils.models.dequantize import VariationalDequantizer
from dgm_utils.models.flow import Flow, FlowPosterior, StandardNormal
from dgm_utils.models.hvae import mlp_hvae
from dgm_utils.models.pixelcnn import PixelCNN
from dgm_utils.models.planar import PlanarLayer, SylvesterLayer
from dgm_utils.models.priors import GaussianMixture, VampPrior
from dgm_utils.models.vae import conv_vae, mlp_vae
from dgm_utils.models.wavenet import (
    WaveNet,
    WaveNetStudent,
    WaveNetTeacher,
    distillation_terms,
)
from dgm_utils.nf_as_vae import planar_transform

both_dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


# Extreme arguments, against 150 digits. Torch's softplus is linear above 20, which is 2e-9 off.

TOLERANCE = {torch.float64: 3e-9, torch.float32: 1e-6}


def close_to_truth(found, truth):
    """Relative to the truth or to 1; what the dtype cannot hold is not compared."""
    if abs(truth) > torch.finfo(found.dtype).max:
        return True
    return abs(found.item() - truth) <= TOLERANCE[found.dtype] * max(1, abs(truth))


def hold(function, truth, arguments, dtype):
    """Value and gradients of a function of numbers, against mpmath's."""
    with mpmath.workdps(150):
        for numbers in arguments:
            leaves = [torch.tensor([x], dtype=dtype, requires_grad=True) for x in numbers]
            value = function(*leaves).sum()
            gradients = torch.autograd.grad(value, leaves)
            at = [mpmath.mpf(leaf.item()) for leaf in leaves]
            assert close_to_truth(value, truth(*at)), (numbers, value)
            for i, gradient in enumerate(gradients):
                order = tuple(int(i == j) for j in range(len(at)))
                slope = mpmath.diff(truth, tuple(at), order, h=mpmath.mpf(10) ** -50)
                assert close_to_truth(gradient, slope), (numbers, i, gradient, slope)


ALONG = [-1000.0, -200.0, -104.0, -90.0, -41.0, -39.0, -10.0, -1.0, 0.0, 3.0, 19.0, 90.0, 1000.0]
POINTS = [0.0, 1e-30, 1e-10, -1e-3, 0.5, -3.0, 8.0, 100.0]


@both_dtypes
def test_a_planar_map_is_right_for_every_stretch_and_point(dtype):
    def log_det(z, along):
        one = torch.ones(1, dtype=dtype)
        return planar_transform(z[None], along, one, torch.zeros((), dtype=dtype))[1]

    def truth(z, along):
        h2 = mpmath.tanh(z) ** 2
        return mpmath.log(h2 + (1 - h2) * mpmath.log1p(mpmath.exp(along)))

    hold(log_det, truth, itertools.product(POINTS, ALONG), dtype)


@both_dtypes
def test_all_gradients_of_a_planar_map_are_finite_where_it_is_flat(dtype):
    for along, at in itertools.product([-1000.0, -90.0, 1000.0], [0.0, 1e-3, 50.0]):
        z = torch.tensor([[at, 0.3]], dtype=dtype)
        u, w = torch.tensor([[along, 0.2], [1.0, 0.0]], dtype=dtype)
        leaves = [t.requires_grad_() for t in (z, u, w, torch.zeros((), dtype=dtype))]
        moved, log_det = planar_transform(*leaves)
        for value in (moved.sum(), log_det.sum()):
            assert value.isfinite()
            gradients = torch.autograd.grad(value, leaves, retain_graph=True)
            assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_planar_map_has_second_derivatives_at_the_origin_too():
    z, u, w = torch.randn(3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z[0] = 0
    leaves = [t.requires_grad_() for t in (z, u[0], w[0], torch.zeros((), dtype=torch.float64))]
    assert torch.autograd.gradgradcheck(planar_transform, leaves)


@both_dtypes
def test_a_gaussian_is_right_for_every_scale(dtype):
    def truth(x, mean, log_var):
        return -((x - mean) ** 2 * mpmath.exp(-log_var) + log_var + mpmath.log(2 * mpmath.pi)) / 2

    scales = [-300.0, -180.0, -100.0, -10.0, 0.0, 50.0, 100.0, 300.0]
    arguments = list(itertools.product([0.0, 1e-25, -30.0], [0.0, 1.0], scales))
    hold(densities.gaussian_log_prob, truth, arguments, dtype)

    def mixture(x, mean, log_var):
        return vampprior.mixture_log_prob(x[None], mean[None], log_var[None])

    hold(mixture, truth, arguments, dtype)


@both_dtypes
@pytest.mark.parametrize("level", [0, 2, 4])
def test_a_discretised_logistic_is_right_for_every_scale(dtype, level):
    def log_prob(mean, log_scale):
        x = torch.full_like(mean, level / 4)
        return densities.discretized_logistic_log_prob(x, mean, log_scale, num_levels=5)

    def truth(mean, log_scale):
        below, above = (
            (level / 4 + side - mean) * mpmath.exp(-log_scale) for side in (-0.125, 0.125)
        )
        log_above = 0 if level == 0 else -mpmath.log1p(mpmath.exp(below))
        log_below = 0 if level == 4 else -mpmath.log1p(mpmath.exp(-above))
        inside = level == 2 and mpmath.log(-mpmath.expm1(below - above))
        return log_above + log_below + inside

    scales = [-60.0, -10.0, 0.0, 20.0, 90.0, 110.0, 300.0]
    hold(log_prob, truth, itertools.product([-100.0, 0.0, 0.5, 0.6], scales), dtype)


@both_dtypes
def test_a_logistic_narrower_than_the_dtype_holds_has_a_gradient(dtype):
    mean = torch.full((3,), 0.5, dtype=dtype, requires_grad=True)
    log_scale = torch.full((3,), -1000.0, dtype=dtype, requires_grad=True)
    x = torch.tensor([0.0, 0.5, 1.0], dtype=dtype)
    value = densities.discretized_logistic_log_prob(x[1:2], mean[1:2], log_scale[1:2], 5)
    assert value == 0
    for gradient in torch.autograd.grad(value, (mean, log_scale)):
        assert gradient.isfinite().all()


# Under autocast. Networks that stay in float32 make whatever else is done the only difference.

HALF = torch.bfloat16


@pytest.fixture
def precise_networks(monkeypatch):
    """Layers that leave autocast, so that all that is left in half precision is the density."""
    for name in ("linear", "conv1d", "conv2d", "conv_transpose2d"):
        layer = getattr(F, name)

        def precise(*args, layer=layer, **options):
            with torch.autocast("cpu", enabled=False):
                return layer(*args, **options)

        monkeypatch.setattr(F, name, precise)


def seeded(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def binary(*shape):
    return (seeded(*shape) > 0).float()


def made(build):
    torch.manual_seed(0)
    return build()


VECTORS, MEANS, LOG_VARS = seeded(3, 50, 60).unbind()
FLOW_LAYERS = [PlanarLayer(6), SylvesterLayer(6, 3)]
DENSITIES = {
    "gaussian": lambda: densities.gaussian_log_prob(VECTORS, MEANS, LOG_VARS),
    "normal": lambda: densities.standard_normal_log_prob(VECTORS),
    "kl": lambda: latent_variable_models.gaussian_kl(MEANS, LOG_VARS),
    "bernoulli": lambda: bernoulli_log_likelihood(binary(50, 60), 9 * VECTORS),
    "logistic": lambda: densities.discretized_logistic_log_prob(binary(50, 60), MEANS, LOG_VARS, 9),
    "pairs": lambda: elbo_surgery.pairwise_log_prob(VECTORS, MEANS, LOG_VARS),
    "mixture": lambda: elbo_surgery.log_aggregated_posterior(VECTORS, MEANS, LOG_VARS),
    "bound": lambda: iwae.iwae_bound(100 * VECTORS),
    "planar": lambda: planar_transform(VECTORS, *VECTORS[:2], torch.tensor(0.3)),
    "sylvester": lambda: made(lambda: SylvesterLayer(60, 20)).inverse(VECTORS),
    "1x1": lambda: made(lambda: Invertible1x1(60)).forward(VECTORS),
    "1x1 back": lambda: made(lambda: Invertible1x1(60)).inverse(VECTORS),
    "sigmoid noise": lambda: dequantization.sigmoid_noise(VECTORS, MEANS, LOG_VARS),
    "importance weights": lambda: iwae.log_importance_weights(
        binary(50, 60), VECTORS[None], VECTORS[None], MEANS, LOG_VARS
    ),
    "surgery": lambda: tuple(
        elbo_surgery.elbo_surgery(VECTORS[:, 0], VECTORS, MEANS, LOG_VARS).values()
    ),
    "index": lambda: elbo_surgery.mutual_information_from_index(VECTORS, MEANS, LOG_VARS),
    "elbo": lambda: latent_variable_models.gaussian_elbo(binary(50, 60), VECTORS, MEANS, LOG_VARS),
    "e step": lambda: latent_variable_models.e_step(
        VECTORS, torch.full((50,), 0.02), MEANS, LOG_VARS.exp()
    ),
    "vampprior": lambda: vampprior.mixture_log_prob(VECTORS, MEANS, LOG_VARS),
    "noisy decoder": lambda: nf_as_vae.noisy_decoder_log_prob(VECTORS, MEANS, lambda z: 2 * z, 0.1),
    "evidence": lambda: oracles.LinearGaussian(VECTORS[:9, :4], VECTORS[0, :9], 0.5).log_evidence(
        MEANS[:, :9]
    ),
}
MODELS = {
    "vae": lambda: made(lambda: mlp_vae(16, 6, (20,))).iwae(binary(5, 16), seeded(3, 5, 6)),
    "grey levels": lambda: made(lambda: mlp_vae(16, 6, (20,), 9)).elbo(
        binary(5, 16), seeded(3, 5, 6)
    ),
    "convolutions": lambda: made(lambda: conv_vae((4, 4), 6, 4, "gaussian")).elbo(
        seeded(5, 16), seeded(3, 5, 6)
    ),
    "mixture prior": lambda: made(lambda: mlp_vae(16, 6, prior=GaussianMixture(9, 6))).elbo(
        binary(5, 16), seeded(3, 5, 6)
    ),
    "vampprior": lambda: made(lambda: mlp_vae(16, 6, prior=VampPrior(9, 16, 6))).nll(
        binary(5, 16), 20, torch.Generator().manual_seed(0)
    ),
    "hvae": lambda: made(lambda: mlp_hvae(16, (4, 3), 20)).elbo(binary(5, 16), seeded(2, 5, 7)),
    "maf": lambda: made(lambda: MAF(6, 2)).log_prob(seeded(5, 6)),
    "iaf": lambda: made(lambda: IAF(6, 2)).rsample_with_log_prob(seeded(5, 6)),
    "realnvp": lambda: made(lambda: RealNVP(6, 2)).log_prob(seeded(5, 6)),
    "nice": lambda: made(lambda: RealNVP(6, 2, additive=True)).log_prob(seeded(5, 6)),
    "1x1": lambda: made(lambda: Flow([Invertible1x1(6)], StandardNormal(6))).log_prob(seeded(5, 6)),
    "posterior": lambda: FlowPosterior(FLOW_LAYERS)(*seeded(3, 5, 6)),
    "continuous": lambda: made(lambda: ContinuousFlow(TimeMLP(6), 3)).log_prob(seeded(5, 6)),
    "pixelcnn": lambda: made(lambda: PixelCNN(4, 4)).log_prob(binary(5, 16)),
    "wavenet": lambda: made(lambda: WaveNetTeacher(WaveNet(4))).log_prob(seeded(5, 6)),
    "distillation": lambda: made(
        lambda: distillation_terms(
            WaveNetStudent(WaveNet(4)), WaveNetTeacher(WaveNet(4)), seeded(5, 6)
        )
    ),
    "dequantizer": lambda: made(lambda: VariationalDequantizer(6, 2))(
        binary(5, 6).long(), seeded(2, 5, 6)
    ),
}


def parts(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(
    "compute", [*DENSITIES.values(), *MODELS.values()], ids=[*DENSITIES, *MODELS]
)
def test_autocast_does_not_reach_a_density(compute, precise_networks):
    expected = parts(compute())
    with torch.autocast("cpu", HALF):
        found = parts(compute())
    for value, exact in zip(found, expected, strict=True):
        assert value.dtype == exact.dtype
        assert torch.equal(value, exact)


@pytest.mark.parametrize(
    "build", [lambda: ContinuousFlow(TimeMLP(6), 3), lambda: MAF(6, 2)], ids=["continuous", "maf"]
)
def test_gradients_of_a_loss_under_autocast_are_those_without(build, precise_networks):
    gradients = []
    for enabled in (False, True):
        flow = made(build)
        with torch.autocast("cpu", HALF, enabled=enabled):
            loss = -flow.log_prob(seeded(5, 6)).mean()
        gradients.append(torch.autograd.grad(loss, list(flow.parameters())))
    assert all(map(torch.equal, *gradients))


def test_what_a_network_gave_in_half_precision_is_summed_in_float32():
    x, logits = binary(50, 784), 9 * seeded(50, 784)
    rounded = logits.to(HALF)
    expected = bernoulli_log_likelihood(x, rounded.float())
    found = bernoulli_log_likelihood(x, rounded)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    for mean, log_var in itertools.product((MEANS, MEANS.to(HALF)), (LOG_VARS, LOG_VARS.to(HALF))):
        found = densities.gaussian_log_prob(VECTORS, mean, log_var)
        assert torch.equal(
            found, densities.gaussian_log_prob(VECTORS, mean.float(), log_var.float())
        )


# Under torch.func, against the same formula in torch's own operations.


def plain_mixture(z, mean, log_var):
    squares = (z[..., None, :] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + densities.LOG_2PI).sum(-1)
    return torch.logsumexp(log_q, -1) - math.log(len(mean))


def plain_information(z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_index = torch.log_softmax(-0.5 * (squares + log_var).sum(-1), 1)
    return math.log(len(mean)) + (log_index.exp() * log_index).sum(1).mean()


def total(function):
    return lambda *args: function(*args).sum()


PAIR = {
    "mixture": (elbo_surgery.log_aggregated_posterior, plain_mixture),
    "vampprior": (vampprior.mixture_log_prob, plain_mixture),
    "index": (elbo_surgery.mutual_information_from_index, plain_information),
}
TRANSFORMED = {
    "value": lambda f, z, *q: f(z, *q),
    "vmap over z": lambda f, z, *q: vmap(f, (0, None, None))(torch.stack([z, z + 1]), *q),
    "vmap over all": lambda f, *args: vmap(f)(*(torch.stack([a, a - 1, 2 * a]) for a in args)),
    "jvp": lambda f, *args: jvp(f, args, tuple(torch.cos(a) for a in args)),
    "grad": lambda f, *args: grad(total(f), (0, 1, 2))(*args),
    "jacrev": lambda f, *args: jacrev(f, (0, 1, 2))(*args),
    "jacfwd": lambda f, *args: jacfwd(f, (0, 1, 2))(*args),
    "hessian": lambda f, *args: hessian(total(f), (0, 1, 2))(*args),
    "forward in forward": lambda f, *args: jacfwd(jacfwd(total(f), (0, 1, 2)), (0, 1, 2))(*args),
    "reverse in reverse": lambda f, *args: jacrev(jacrev(total(f), (0, 1, 2)), (0, 1, 2))(*args),
    "reverse in forward": lambda f, *args: jacfwd(jacrev(total(f), (0, 1)), (1, 2))(*args),
    "gradients of rows": lambda f, z, *q: vmap(grad(total(f)), (0, None, None))(z[:, None], *q),
}


def leaves(tree):
    return torch.utils._pytree.tree_leaves(tree)


@pytest.mark.parametrize("transform", TRANSFORMED.values(), ids=TRANSFORMED)
@pytest.mark.parametrize(("function", "plain"), PAIR.values(), ids=PAIR)
def test_torch_func_goes_through_a_mixture(function, plain, transform):
    if function is PAIR["index"][0] and transform is TRANSFORMED["gradients of rows"]:
        pytest.skip("it takes as many samples as posteriors")
    args = seeded(3, 5, 2).double().unbind()
    found, expected = leaves(transform(function, *args)), leaves(transform(plain, *args))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_torch_func_and_plain_autograd_agree_on_many_blocks(monkeypatch):
    """With forward mode too; outside of both, the blocks are what is used."""
    monkeypatch.setattr(densities, "BLOCK", 8)
    args = [a.requires_grad_() for a in seeded(3, 5, 2).double().unbind()]
    expected = torch.autograd.grad(vampprior.mixture_log_prob(*args).sum(), args)
    found = grad(total(vampprior.mixture_log_prob), (0, 1, 2))(*args)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(vampprior.mixture_log_prob, args, check_forward_ad=True)


def test_torch_func_goes_through_the_adjoint():
    flow = made(lambda: ContinuousFlow(TimeMLP(2, hidden=4), 4)).double()
    plain = ContinuousFlow(flow.field, 4, adjoint=False)
    z = seeded(3, 2).double()
    weights = {name: weight.detach() for name, weight in flow.named_parameters()}
    for transform in (
        lambda f: grad(lambda z: f.log_prob(z).sum())(z),
        lambda f: vmap(lambda row: f.log_prob(row[None]))(z),
        lambda f: jvp(f.log_prob, (z,), (torch.ones_like(z),)),
        lambda f: hessian(lambda z: f.log_prob(z).sum())(z),
        lambda f: grad(lambda w: functional_call(f, w, (z,))[1].sum())(weights),
    ):
        found, expected = leaves(transform(flow)), leaves(transform(plain))
        assert all(map(torch.equal, found, expected))


def test_torch_func_goes_through_the_exact_bound():
    nodes, log_mass = oracles.gauss_hermite(20)

    def bound(shift):
        return oracles.exact_iwae_bound(-((nodes[:, 0] - shift) ** 2), log_mass, 3)

    at = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(bound(at), at)
    torch.testing.assert_close(grad(bound)(at), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(jacfwd(bound)(at), expected, rtol=1e-12, atol=0)
