"""Priors and the VampPrior: the claims of lecture 7, held against exact answers."""

import itertools
import math

import pytest
import torch
from statements import (
    DEVICES,
    assert_close,
    assert_mean,
    binary,
    double,
    generator,
    gradients,
    keeps_dtype_device_and_gradients,
    makes_no_tensor_of,
    normal,
    uniform,
)
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from dgm_utils.elbo_surgery import log_aggregated_posterior
from dgm_utils.models.hvae import mlp_hvae
from dgm_utils.models.priors import GaussianMixture, StandardNormalPrior, VampPrior
from dgm_utils.models.vae import GaussianEncoder, mlp, mlp_vae
from dgm_utils.oracles import grid, mixture_kl, quadrature_kl
from dgm_utils.vampprior import (
    hierarchical_elbo,
    mixture_log_prob,
    monte_carlo_kl,
    pseudo_inputs,
    sample_vampprior,
    vampprior_log_prob,
)


def mixture(means, log_vars):
    components = Independent(Normal(means, torch.exp(0.5 * log_vars)), 1)
    return MixtureSameFamily(Categorical(logits=torch.zeros_like(means[:, 0])), components)


def encoder(num_dims=4, latents=2, seed=0):
    torch.manual_seed(seed)
    net = GaussianEncoder(mlp(num_dims, (16,), 2 * latents)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    return net


def log_mass_of(log_prob, low=-14, high=14, num=561):
    """`log ∫ p(z) dz` of a density over two latents; spacing 0.05."""
    nodes, log_weights = grid(low, high, num, dims=2)
    return torch.logsumexp(log_prob(nodes) + log_weights, 0)


# 7.1


@pytest.mark.parametrize(("latents", "components"), [(1, 1), (2, 3), (50, 7)])
def test_mixture_is_that_of_torch_distributions(latents, components):
    """7.1 log 1/C Σ_c N(z; m_c, s_c²), the dimensions multiplied before components are added."""
    z, means, log_vars = (
        normal(1, 5, latents),
        normal(2, components, latents),
        normal(3, components, latents),
    )
    assert_close(mixture_log_prob(z, means, log_vars), mixture(means, log_vars).log_prob(z), 1e-11)


def test_a_mixture_is_no_product_of_mixtures():
    """7.1 Components at (−3, −3) and (3, 3): at (3, −3), a product would have a mode."""
    means, log_vars = double([[-3.0, -3.0], [3.0, 3.0]]), torch.zeros(2, 2, dtype=torch.float64)
    z = double([[3.0, 3.0], [3.0, -3.0]])
    found = mixture_log_prob(z, means, log_vars)
    assert_close(found[0] - found[1], 18 - math.log(2))


def test_a_standard_normal_prior_regularizes_too_much():
    """7.1 Two clusters of codes cost 4.6 nats under N(0, I), none under a mixture of the two.

    What the prior costs is the marginal KL, by quadrature and in closed form.
    """
    means, log_vars = double([[-3.0], [3.0]]), double([[math.log(0.09)]] * 2)
    nodes, log_weights = grid(-12, 12, 2401)
    log_aggregate = log_aggregated_posterior(nodes, means, log_vars)
    standard = quadrature_kl(log_aggregate, StandardNormalPrior(1).log_prob(nodes), log_weights)
    # Ten standard deviations from the middle, the two overlap by e⁻⁵⁰: entropies add up.
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.09) + math.log(2)
    assert_close(standard, 0.5 * (9.09 + math.log(2 * math.pi)) - entropy)
    prior = GaussianMixture(2, 1).double()
    prior.means.data, prior.log_vars.data = means, log_vars
    assert_close(quadrature_kl(log_aggregate, prior.log_prob(nodes).detach(), log_weights), 0.0)


def test_the_aggregated_posterior_overfits_as_a_prior():
    """7.1 Narrow codes: on the data it was made of it beats the true density, on new ones loses."""
    train, test = normal(1, 100, 2), normal(2, 100, 2)
    log_vars = torch.full_like(train, math.log(0.05**2))
    truth = StandardNormalPrior(2)
    own = train + 0.05 * normal(3, 100, 2)
    gains = [
        (log_aggregated_posterior(z, train, log_vars) - truth.log_prob(z)).mean()
        for z in (own, test)
    ]
    assert gains[0] > 1
    assert gains[1] < -5


def test_encodings_a_prior_costs():
    """7.1 The VampPrior encodes C pseudo-inputs, the aggregated posterior all of the N data."""
    seen = []

    def counting(u):
        seen.append(len(u))
        return net(u)

    net, z = encoder(), normal(1, 9, 2)
    VampPrior(3, 4, 2).double().log_prob(z, counting)
    vampprior_log_prob(z, uniform(2, 50, 4), counting)
    assert seen == [3, 50]


def test_one_sample_kl_to_each_prior():
    """7.1 E [log q − log p] is the KL: closed form for N(0, I), quadrature for mixtures."""
    net, mean, log_var = encoder(4, 1), double([[0.4]]), double([[-0.5]])
    noise, log_step = grid(-12, 12, 2001)
    mass = (Normal(double(0.0), 1.0).log_prob(noise[:, 0]) + log_step).exp()
    z = (mean + torch.exp(0.5 * log_var) * noise)[:, None]

    vamp, mog = VampPrior(3, 4, 1).double(), GaussianMixture(3, 1, spread=2.0).double()
    means, log_vars = net(vamp.pseudo_inputs())
    for prior, components in ((vamp, (means, log_vars)), (mog, (mog.means, mog.log_vars))):
        exact = mixture_kl(mean[0], log_var[0], *components)
        assert_close(mass @ prior.kl(mean, log_var, z, net)[:, 0], exact.detach(), 1e-11)
    standard = StandardNormalPrior(1)
    exact = kl_divergence(Normal(mean, torch.exp(0.5 * log_var)), Normal(double(0.0), 1.0))[0]
    assert_close(standard.kl(mean, log_var), exact)
    log_q = Normal(mean, torch.exp(0.5 * log_var)).log_prob(z).sum(-1)
    assert_close(mass @ monte_carlo_kl(log_q.T, standard.log_prob(z).T), exact[0])


def test_monte_carlo_kl_averages_over_samples():
    """7.1 Draws of q average to the closed KL between two Gaussians, for each entry of a batch."""
    q = Normal(double([0.0, 1.0, -2.0]), double([1.0, 0.5, 0.2]))
    p = Normal(double(0.3), double(1.4))
    z = q.mean + q.stddev * normal(4, 20_000, 3)
    log_q, log_p = q.log_prob(z), p.log_prob(z)
    assert_mean(log_q - log_p, kl_divergence(q, p))
    assert_close(monte_carlo_kl(log_q, log_p), (log_q - log_p).sum(0) / 20_000)


# 7.2


@pytest.mark.parametrize("prior", ["standard", "mixture", "vampprior", "function"])
def test_every_prior_integrates_to_one(prior):
    """7.2 Over two latents, by quadrature."""
    net = encoder()
    log_prob = {
        "standard": StandardNormalPrior(2).log_prob,
        "mixture": GaussianMixture(5, 2, spread=2.0).double().log_prob,
        "vampprior": lambda z: VampPrior(5, 4, 2).double().log_prob(z, net),
        "function": lambda z: vampprior_log_prob(z, uniform(1, 6, 4), net),
    }[prior]
    # Standard deviations are at least four spacings: the trapezoid's error is e⁻³⁰⁰.
    assert (0.5 * net(uniform(1, 6, 4))[1]).exp().min() > 0.2
    with torch.no_grad():
        assert_close(log_mass_of(log_prob), 0.0, 1e-11)


def test_data_as_pseudo_inputs_make_the_aggregated_posterior():
    """7.2 C = N with the data as pseudo-inputs: the same function of z, to the last digits."""
    net, data, z = encoder(), uniform(1, 40, 4), normal(2, 9, 2)
    mean, log_var = net(data)
    exact = torch.logsumexp(
        Normal(mean, torch.exp(0.5 * log_var)).log_prob(z[:, None]).sum(-1), 1
    ) - math.log(40)
    assert_close(vampprior_log_prob(z, data, net), exact)
    assert_close(log_aggregated_posterior(z, mean, log_var), exact)
    # As a module: pixels are kept 0.01 away from 0 and 1, so inner ones are kept exactly.
    inner = 0.1 + 0.8 * data
    prior = VampPrior(40, 4, 2, data=inner.float()).double()
    assert_close(prior.pseudo_inputs(), inner, 1e-6)
    assert_close(prior.log_prob(z, net), vampprior_log_prob(z, inner, net), 1e-5)


def test_gradients_reach_pseudo_inputs_and_encoder():
    """7.2 All of them, none zero: the prior moves with the posterior."""
    net, prior, z = encoder(), VampPrior(5, 4, 2).double(), normal(1, 9, 2).requires_grad_()
    prior.log_prob(z, net).sum().backward()
    assert prior.raw.grad.ne(0).all()
    assert all(p.grad.any() for p in net.parameters())
    assert z.grad.ne(0).all()
    raw = normal(2, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda raw, z: vampprior_log_prob(z, pseudo_inputs(raw), net), (raw, z)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pseudo_inputs_are_images_whatever_a_step_does(dtype):
    """7.2 In [0, 1], elementwise, never decreasing, strictly increasing with a gradient on ±3."""
    raw = torch.linspace(-200, 200, 4001, dtype=dtype)[:, None].requires_grad_()
    image = pseudo_inputs(raw)
    assert ((image >= 0) & (image <= 1)).all()
    assert (image.diff(dim=0) >= 0).all()
    (gradient,) = torch.autograd.grad(image.sum(), raw)
    inside = raw.abs() <= 3
    assert (image[inside].diff() > 0).all()
    assert (gradient[inside] > 0).all()
    assert gradient.isfinite().all()


def test_samples_agree_with_the_density():
    """7.2 20 000 samples of each prior in the four quadrants: expected shares by quadrature.

    Each share is known to sqrt(p(1−p)/20 000).
    """
    net = encoder()
    pseudo = uniform(1, 6, 4)
    vamp, mog = VampPrior(3, 4, 2).double(), GaussianMixture(4, 2, spread=2.0).double()
    component = torch.randint(6, (20_000,), generator=generator(2))
    noise = normal(3, 20_000, 2)
    drawn = {
        lambda z: vampprior_log_prob(z, pseudo, net): sample_vampprior(
            pseudo, net, component, noise
        ),
        lambda z: vamp.log_prob(z, net): vamp.sample(noise, net, generator(4)),
        mog.log_prob: mog.sample(noise, generator=generator(5)),
        StandardNormalPrior(2).log_prob: StandardNormalPrior(2).sample(noise),
    }
    nodes, log_weights = grid(-14, 14, 560, dims=2)  # an even number: no node on an axis
    for log_prob, z in drawn.items():
        with torch.no_grad():
            mass = (log_prob(nodes) + log_weights).exp()
        for signs in itertools.product([-1, 1], repeat=2):
            quadrant = double(signs)
            share = mass[(nodes * quadrant > 0).all(1)].sum()
            hits = (z * quadrant > 0).all(1).double()
            # A step at the axis costs the trapezoid rule some h²; h = 0.05.
            error = (hits.mean() - share).abs()
            assert error < 5 * (share * (1 - share) / 20_000).sqrt() + 1e-3


def test_a_sample_of_one_pseudo_input():
    """7.2 z = mean + std · noise of the component asked for, and gradients to it alone."""
    net, pseudo = encoder(), uniform(1, 6, 4)
    component, noise = torch.tensor([2, 5, 2]), normal(2, 3, 2)
    mean, log_var = net(pseudo)
    exact = mean[component] + torch.exp(0.5 * log_var[component]) * noise
    found, (by_pseudo, _) = gradients(
        lambda pseudo, noise: sample_vampprior(pseudo, net, component, noise),
        [pseudo, noise],
        [0, 1],
    )
    assert_close(found.detach(), exact.detach())
    assert by_pseudo.any(1).tolist() == [False, False, True, False, False, True]


def test_memory_of_the_vampprior():
    """7.2 500 components, 1000 points, 40 latents: no tensor near 1000·500·40 numbers."""
    model = mlp_vae(30, 40, (32,), prior=VampPrior(500, 30, 40))
    z = torch.randn(1000, 40)
    makes_no_tensor_of(150_000, lambda: model.prior.log_prob(z, model.encoder).sum().backward())


# 7.3


def test_hierarchical_elbo_is_the_sum_of_its_terms():
    """7.3 Three densities of the model less two of the posterior."""
    terms = [normal(i, 5) for i in range(5)]
    assert_close(hierarchical_elbo(*terms), sum(terms[:3]) - terms[3] - terms[4])


def every_image(num_dims):
    return double(list(itertools.product([0.0, 1.0], repeat=num_dims)))


@pytest.mark.parametrize("prior", [None, GaussianMixture(3, 1), VampPrior(3, 2, 1)])
def test_hierarchical_model_is_a_distribution_over_images(prior):
    """7.3 Σ_x p(x) = 1, where p(x) = ∫ w q dz by quadrature over both latents, for every prior.

    A wrong factor, a forgotten density or a sample used in the wrong place breaks it.
    """
    torch.manual_seed(1)
    model = mlp_hvae(2, (1, 1), hidden=4, prior=prior).double()
    x = every_image(2)
    noise, log_weights = grid(-9, 9, 121, dims=2)
    log_normal = Normal(double(0.0), 1.0).log_prob(noise).sum(1)
    with torch.no_grad():
        log_w = model.log_w(x, noise[:, None].expand(-1, 4, 2), model.encode(x), model.log_prior())
        assert log_w.std(0).min() > 0.01
        p = (log_w + (log_normal + log_weights)[:, None]).exp().sum(0)
    assert_close(p.sum(), 1.0, 1e-9)


def test_hierarchical_elbo_of_the_model():
    """7.3 The model's ELBO is that sum over its own five densities, for a noise given."""
    torch.manual_seed(2)
    model = mlp_hvae(6, (3, 2), hidden=8).double()
    x, noise = binary(1, 4, 6), normal(2, 1, 4, 5)
    mean2, log_var2 = model.encoder2(x)
    z2 = mean2 + torch.exp(0.5 * log_var2) * noise[0, :, :2]
    mean1, log_var1 = model.encoder1(model.encoder1.image_net(x), z2)
    z1 = mean1 + torch.exp(0.5 * log_var1) * noise[0, :, 2:]

    def log_normal(z, mean, log_var):
        return Normal(mean, torch.exp(0.5 * log_var)).log_prob(z).sum(-1)

    zero = torch.zeros_like(z2)
    exact = hierarchical_elbo(
        model.decoder.log_prob(x, torch.cat([z1, z2], 1)),
        log_normal(z1, *model.prior1(z2)),
        log_normal(z2, zero, zero),
        log_normal(z1, mean1, log_var1),
        log_normal(z2, mean2, log_var2),
    )
    assert_close(model.elbo(x, noise), exact)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prior", ["standard", "mixture", "vampprior"])
def test_hierarchical_model_as_a_module(prior, dtype, device, tmp_path):
    """7.3 Gradients to every parameter, dtype and device, save and load, batched as looped."""

    def build(seed):
        torch.manual_seed(seed)
        priors = {
            "standard": StandardNormalPrior(2),
            "mixture": GaussianMixture(5, 2),
            "vampprior": VampPrior(5, 6, 2),
        }
        return mlp_hvae(6, (3, 2), hidden=8, prior=priors[prior]).to(device, dtype)

    model, other = build(3), build(4)
    x, noise = (t.to(device, dtype) for t in (binary(1, 4, 6), normal(2, 7, 4, 5)))
    elbo, bound = model.elbo(x, noise), model.iwae(x, noise)
    assert {(t.dtype, t.device.type, t.shape) for t in (elbo, bound)} == {(dtype, device, (4,))}
    assert (elbo < bound).all()
    bound.sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt"))
    assert torch.equal(other.iwae(x, noise), bound)
    one_by_one = torch.cat([model.iwae(x[i : i + 1], noise[:, i : i + 1]) for i in range(4)])
    assert_close(
        one_by_one.detach().cpu(), bound.detach().cpu().double(), 1e3 * torch.finfo(dtype).eps
    )
    assert model.latent_means(x).shape == (4, 5)
    assert model.generate(noise[0]).shape == (4, 6)
    assert model.nll(x, num_samples=3).dtype == dtype


def test_hierarchical_model_under_stress():
    """7.3 Weights a hundred times too large, noise of 30: bounded log-variances stay finite."""
    torch.manual_seed(5)
    model = mlp_hvae(6, (3, 2), hidden=8, prior=VampPrior(5, 6, 2))
    for parameter in model.parameters():
        parameter.data *= 100
    bound = model.iwae(torch.ones(2, 6), 30 * torch.randn(4, 2, 5))
    bound.sum().backward()
    assert bound.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


# 7.4


@pytest.mark.parametrize("kind", ["standard", "mixture", "vampprior data", "vampprior"])
def test_the_log_likelihood_of_each_prior_is_measured_right(kind):
    """7.4 The table's number, L_K with a large K, against log p(x) by quadrature.

    With V the relative variance of a weight, also by quadrature, L_K is within five standard
    deviations sqrt(V/K) of log p(x).
    """
    torch.manual_seed(6)
    data = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    priors = {"standard": StandardNormalPrior(1), "mixture": GaussianMixture(3, 1)}
    model = mlp_hvae(2, (1, 1), hidden=4, prior=priors.get(kind, VampPrior(3, 2, 1, data=data)))
    if kind == "vampprior data":
        model.prior.raw.requires_grad_(False)
    x, size = every_image(2), 20_000
    model.double()
    before = [p.clone() for p in model.prior.parameters()]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.02)
    for step in range(10):
        optimizer.zero_grad()
        (-model.elbo(x, normal(step, 1, 4, 2)).mean()).backward()
        optimizer.step()
    # Images that are taken as they are stay so; every other parameter of a prior has moved.
    moved = [bool((p != b).any()) for p, b in zip(model.prior.parameters(), before, strict=True)]
    assert moved == [kind != "vampprior data"] * len(before)

    noise, log_weights = grid(-9, 9, 121, dims=2)
    log_mass = Normal(double(0.0), 1.0).log_prob(noise).sum(1) + log_weights
    with torch.no_grad():
        log_w = model.log_w(x, noise[:, None].expand(-1, 4, 2), model.encode(x), model.log_prior())
    log_p = torch.logsumexp(log_w + log_mass[:, None], 0)
    variance = log_mass.exp() @ ((log_w - log_p).exp() - 1) ** 2
    found = -model.nll(x, size, generator(7))
    assert ((found - log_p).abs() < 5 * (variance / size).sqrt()).all()


# 7.5


def test_each_pseudo_input_has_its_part_of_the_model():
    """7.5 p(x) = 1/C Σ_c p(x|u_c), and samples of one pseudo-input have its mean: by quadrature."""
    torch.manual_seed(3)
    data = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
    model = mlp_hvae(2, (1, 1), hidden=4, prior=VampPrior(3, 2, 1, data=data)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    x = every_image(2)
    nodes, log_weights = grid(-14, 14, 281, dims=2)
    z2, z1 = nodes[:, :1], nodes[:, 1:]
    with torch.no_grad():
        decoded = model.decoder.log_prob(x, nodes.flip(1)[:, None].expand(-1, 4, 2))
        log_below = Normal(*scales(model.prior1(z2))).log_prob(z1) + decoded
        mean, log_var = model.encoder2(model.prior.pseudo_inputs())
        log_q = Normal(*scales((mean[:, 0], log_var[:, 0]))).log_prob(z2)  # a column for each u_c
        parts = (log_q + log_weights[:, None]).exp().T @ log_below.exp()
        # The model's own p(x), from weights of its posterior.
        noise, log_step = grid(-18, 18, 241, dims=2)  # q is narrower than the posterior
        log_normal = Normal(double(0.0), 1.0).log_prob(noise).sum(1)
        log_w = model.log_w(x, noise[:, None].expand(-1, 4, 2), model.encode(x), model.log_prior())
        p = (log_w + (log_normal + log_step)[:, None]).exp().sum(0)
        assert_close(parts.sum(1), torch.ones(3).double(), 1e-8)
        assert_close(parts.mean(0), p, 1e-8)
        assert (parts[0] - parts[1]).abs().max() > 0.01

        component, noise = torch.full((20_000,), 1), normal(4, 20_000, 2)
        z2 = sample_vampprior(model.prior.pseudo_inputs(), model.encoder2, component, noise[:, :1])
        below = Normal(*scales(model.prior1(z2)))
        z1 = below.mean + below.stddev * noise[:, 1:]
        assert_mean(model.decoder.mean(torch.cat([z1, z2], 1)), parts[1] @ x)


def scales(mean_and_log_var):
    mean, log_var = mean_and_log_var
    return mean, torch.exp(0.5 * log_var)


# What holds for all of them


class Affine(nn.Module):
    """An encoder whose dtype is that of its argument, for the tests of dtype."""

    def forward(self, u):
        return u[:, :2] - 0.5, torch.sin(u[:, 1:3])


def calls():
    """Every function: arguments, and the positions that gradients must reach."""
    z, means, log_vars, pseudo = normal(1, 5, 2), normal(2, 4, 2), normal(3, 4, 2), uniform(4, 4, 3)
    component = torch.tensor([0, 3, 3, 1, 2])
    return {
        "mixture_log_prob": (mixture_log_prob, (z, means, log_vars), [0, 1, 2]),
        "monte_carlo_kl": (monte_carlo_kl, (normal(5, 3, 4), normal(6, 3, 4)), [0, 1]),
        "pseudo_inputs": (pseudo_inputs, (normal(7, 3, 4),), [0]),
        "vampprior_log_prob": (vampprior_log_prob, (z, pseudo, Affine()), [0, 1]),
        "sample_vampprior": (sample_vampprior, (pseudo, Affine(), component, z), [0, 3]),
        "hierarchical_elbo": (
            hierarchical_elbo, tuple(normal(i, 4) for i in range(5)), [0, 1, 2, 3, 4]
        ),
    }  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", calls())
def test_dtype_device_and_gradients(name, dtype, device):
    """7.1–7.3 The result keeps dtype and device; finite gradients reach every argument."""
    keeps_dtype_device_and_gradients(*calls()[name], dtype, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mixture_far_from_every_component(dtype):
    """7.1 10⁴ away, and in 300 dimensions, the log-density is finite and exact."""
    for z, latents in (
        (torch.full((1, 2), 1e4, dtype=dtype), 2),
        (normal(1, 3, 300).to(dtype), 300),
    ):
        means, log_vars = (normal(i, 4, latents).to(dtype) for i in (2, 3))
        found, grads = gradients(mixture_log_prob, [z, means, log_vars], [0, 1, 2])
        exact = mixture(means.double(), log_vars.double()).log_prob(z.double())
        assert_close(found, exact, 1e-6 if dtype == torch.float32 else 1e-12)
        assert all(g.isfinite().all() for g in grads)


def test_priors_save_load_and_reach_every_parameter(tmp_path):
    """7.1 Each prior as a module of its own, without a parameter that belongs to the encoder."""
    net, z = encoder(), normal(1, 9, 2)
    for make, count in ((lambda: GaussianMixture(3, 2), 2), (lambda: VampPrior(3, 4, 2), 1)):
        prior, other = make().double(), make().double()
        assert len(list(prior.parameters())) == count
        value = prior.log_prob(z, net)
        value.sum().backward()
        assert all(p.grad.any() for p in prior.parameters())
        torch.save(prior.state_dict(), tmp_path / "prior.pt")
        other.load_state_dict(torch.load(tmp_path / "prior.pt"))
        assert torch.equal(other.log_prob(z, net), value)
        # Leading axes are kept: K samples of a batch.
        assert_close(prior.log_prob(z[None].expand(2, 9, 2), net)[1], value.detach(), 1e-13)


BAD = [
    (mixture_log_prob, (torch.ones(5, 2), torch.ones(4, 3), torch.ones(4, 3)), ValueError,
     r"means must have the shape \(C, L\) with L = 2 as in z, not \(4, 3\)"),
    (mixture_log_prob, (torch.ones(5, 2), torch.ones(0, 2), torch.ones(0, 2)),
     ValueError, "means must not"),
    (monte_carlo_kl, (torch.ones(3), torch.ones(3)), ValueError, "log_q"),
    (pseudo_inputs, (torch.ones(2, 3, dtype=torch.uint8),),
     TypeError, "raw must be floating point"),
    (vampprior_log_prob, (torch.ones(5, 2), torch.ones(3), Affine()), ValueError, "pseudo"),
    (sample_vampprior, (torch.ones(4, 3), Affine(), torch.ones(5), torch.ones(5, 2)), TypeError,
     "component must hold integers, not torch.float32"),
    (sample_vampprior, (torch.ones(4, 3), Affine(), torch.tensor([4]), torch.ones(1, 2)),
     ValueError,
     "component must lie between 0 and 3, but it reaches from 4 to 4"),
    (hierarchical_elbo, [torch.ones(3)] * 4 + [torch.ones(2)], ValueError, "log_qz2"),
    (hierarchical_elbo, [torch.ones(3)] * 4 + [torch.ones(3, device="meta")],
     ValueError, "on meta"),
    (GaussianMixture, (0, 2), ValueError, "num_components must be at least 1, not 0"),
    (VampPrior, (3, 2.0, 2), TypeError, "num_dims must be a whole number"),
    (VampPrior, (3, 4, 2, torch.ones(2, 4)), ValueError, r"data must be \(3, 4\)"),
    (VampPrior, (3, 4, 2, 2 * torch.ones(3, 4)), ValueError, "entries in"),
    (GaussianMixture(3, 2).log_prob, (torch.ones(5, 3),), ValueError, "num_latents = 2"),
    (VampPrior(3, 4, 2).sample, (torch.ones(5, 3), Affine()),
     ValueError, "noise .* num_latents = 2"),
    (mlp_hvae(6, (3, 2), 8).elbo, (torch.ones(4, 6), torch.ones(1, 4, 4)),
     ValueError, "num_noise = 5"),
    (mlp_hvae, (6, (3, 2), 8, "bernoulli", StandardNormalPrior(3)),
     ValueError, "num_latents = 2, not 3"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "error", "words"), BAD)
def test_bad_input_is_refused_by_name(function, arguments, error, words):
    """7.1–7.3 The message names the argument, what came and what was expected."""
    with pytest.raises(error, match=words):
        function(*arguments)
