"""Variational autoencoders as systems: decoders, bounds, and the NLL, against exact answers."""

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
    makes_no_tensor_of,
    normal,
    uniform,
)
from torch import nn
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Normal,
    SigmoidTransform,
    TransformedDistribution,
    Uniform,
    kl_divergence,
)

from dgm_utils.latent_variable_models import gaussian_elbo
from dgm_utils.models.densities import discretized_logistic_log_prob
from dgm_utils.models.priors import GaussianMixture, StandardNormalPrior, VampPrior
from dgm_utils.models.vae import (
    VAE,
    BernoulliDecoder,
    DiscretizedLogisticDecoder,
    GaussianDecoder,
    GaussianEncoder,
    conv_vae,
    mlp,
    mlp_vae,
)
from dgm_utils.oracles import LinearGaussian, exact_iwae_bound, grid
from dgm_utils.validate import takes

LIKELIHOODS = ["bernoulli", "gaussian", 17]
PRIORS = {
    "standard": lambda dims, latents: StandardNormalPrior(latents),
    "mixture": lambda dims, latents: GaussianMixture(5, latents),
    "vampprior": lambda dims, latents: VampPrior(5, dims, latents),
}


def every_image(num_dims, num_levels=2):
    levels = torch.arange(num_levels).double() / (num_levels - 1)
    return torch.cartesian_prod(*[levels] * num_dims).reshape(-1, num_dims)


def small(likelihood="bernoulli", prior="standard", dims=6, latents=3, seed=0):
    torch.manual_seed(seed)
    return mlp_vae(dims, latents, (8,), likelihood, PRIORS[prior](dims, latents))


def data(likelihood, batch, dims, seed=1):
    if likelihood == "gaussian":
        return normal(seed, batch, dims)
    if likelihood == "bernoulli":
        return binary(seed, batch, dims)
    return torch.randint(likelihood, (batch, dims), generator=generator(seed)).double() / (
        likelihood - 1
    )


# 1.7: the decoders


@pytest.mark.parametrize("num_levels", [2, 3, 17, 256])
def test_levels_of_the_discretized_logistic_add_to_one(num_levels):
    """1.7 Whatever mean and scale are: far outside, a thousandth of a cell, a thousand cells."""
    x = torch.arange(num_levels, dtype=torch.float64)[:, None] / (num_levels - 1)
    for mean, log_scale in itertools.product([-50.0, 0.0, 0.37, 1.0, 3.0], [-10.0, -2.0, 0.0, 7.0]):
        arguments = (double([mean]), double([log_scale]), num_levels)
        log_prob = discretized_logistic_log_prob(x, *arguments)
        assert log_prob.isfinite().all()
        # With log-probabilities near −10⁶, an eps of that.
        assert_close(torch.logsumexp(log_prob, 0), 0.0, 1e-9)


def test_discretized_logistic_by_its_distribution_function():
    """1.7 Inner cells are differences of sigmoids, where those have digits left."""
    x, mean, log_scale = every_image(1, 9)[:, 0], double(0.4), double(-1.5)
    logistic = TransformedDistribution(
        Uniform(double(0.0), double(1.0)),
        [SigmoidTransform().inv, AffineTransform(mean, log_scale.exp())],
    )
    cdf = logistic.cdf((x[:, None] + double([-1 / 16, 1 / 16])).flatten()).reshape(9, 2)
    cdf[0, 0], cdf[-1, 1] = 0, 1
    found = discretized_logistic_log_prob(x[:, None], mean, log_scale, 9)
    assert_close(found, cdf.diff(dim=1)[:, 0].log(), 1e-11)


@pytest.mark.parametrize("likelihood", ["bernoulli", 3])
def test_a_decoder_is_a_distribution_over_images(likelihood):
    """1.7 Σ_x p(x|z) = 1 over all images of four pixels."""
    decoder = small(likelihood, dims=4).double().decoder
    x = every_image(4, 2 if likelihood == "bernoulli" else likelihood)
    log_prob = decoder.log_prob(x, normal(1, 5, 1, 3))
    assert log_prob.shape == (5, len(x))
    assert_close(torch.logsumexp(log_prob, 1).detach(), torch.zeros(5))


def test_decoders_agree_with_torch_distributions():
    """1.7 Bernoulli and Gaussian log-densities of the same network outputs."""
    z = normal(1, 5, 4, 3)
    decoder, x = small("bernoulli").double().decoder, binary(2, 4, 6)
    exact = Bernoulli(logits=decoder.net(z)).log_prob(x.expand(5, 4, 6)).sum(-1)
    assert_close(decoder.log_prob(x, z).detach(), exact.detach())
    decoder, x = small("gaussian").double().decoder, normal(2, 4, 6)
    mean, log_var = decoder(z)
    exact = Normal(mean, torch.exp(0.5 * log_var)).log_prob(x).sum(-1)
    assert_close(decoder.log_prob(x, z).detach(), exact.detach())


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_samples_of_a_decoder_agree_with_its_density(likelihood):
    """1.7 20 000 samples given one z: frequencies of the levels, or mean and variance."""
    decoder = small(likelihood, dims=3).double().decoder
    z = normal(1, 1, 3)
    with torch.no_grad():
        x = decoder.sample(uniform(2, 20_000, 3), z.expand(20_000, 3))
        if likelihood == "gaussian":
            mean, log_var = decoder(z)
            assert_mean(x, mean[0])
            assert_mean((x - mean) ** 2, log_var.exp()[0])
            return
        levels = every_image(1, 2 if likelihood == "bernoulli" else likelihood)
        for level in levels[:, 0]:
            # One pixel's probability: that of an image with the level there, over all levels.
            for pixel in range(3):
                images = torch.zeros(len(levels), 3, dtype=torch.float64)
                images[:, pixel] = levels[:, 0]
                p = decoder.log_prob(images, z.expand(len(levels), 3)).softmax(0)
                share = p[levels[:, 0] == level].sum()
                hits = ((x[:, pixel] - level).abs() < 1e-9).double().mean()
                assert (hits - share).abs() <= 5 * (share * (1 - share) / 20_000).sqrt() + 1e-9


def test_sampling_at_the_ends_of_the_noise():
    """1.7 Noise of exactly 0, which U[0, 1) contains, gives a finite image."""
    for likelihood in LIKELIHOODS:
        decoder = small(likelihood).decoder
        for noise in (torch.zeros(1, 6), torch.full((1, 6), 1 - 2**-24)):
            assert decoder.sample(noise, torch.zeros(1, 3)).isfinite().all()


# 1.2, 5.1: ELBO and L_K


def linear_vae(seed=0):
    """A VAE that is a linear-Gaussian model whose q is a little off the posterior."""
    columns = double([[1.0, 0.5], [-1.0, 0.5], [0.0, 1.0]])  # orthogonal: a diagonal posterior
    model = LinearGaussian(columns, normal(seed, 3), 0.7)
    mean, covariance = model.posterior(torch.eye(3, dtype=torch.float64))
    at_zero, _ = model.posterior(torch.zeros(1, 3))
    encoder_net, decoder_net = nn.Linear(3, 4).double(), nn.Linear(2, 6).double()
    raw = 10 * torch.atanh(covariance.diagonal().log() / 10)  # the bound on log-variances, undone
    raw_noise = 10 * math.atanh(2 * math.log(0.7) / 10)
    with torch.no_grad():
        encoder_net.weight.copy_(torch.cat([(mean - at_zero).T, torch.zeros(2, 3)]))
        encoder_net.bias.copy_(torch.cat([at_zero[0], raw]))
        decoder_net.weight.copy_(torch.cat([model.weight, torch.zeros(3, 2)]))
        decoder_net.bias.copy_(torch.cat([model.bias, double([raw_noise] * 3)]))
    vae = VAE(GaussianEncoder(encoder_net), GaussianDecoder(decoder_net), 3, 2)
    return vae, model


def test_elbo_of_the_module_is_the_exact_one():
    """1.2 A linear VAE with q off the posterior: ELBO in closed form, z at the corners of a cube.

    Quadratic in the noise, so four corners give its expectation.
    """
    vae, model = linear_vae()
    x = normal(1, 5, 3)
    with torch.no_grad():
        vae.encoder.net.bias += double([0.3, -0.2, 0.4, 0.1])
        mean, log_var = vae.encode(x)
        corners = double(list(itertools.product([-1.0, 1.0], repeat=2)))[:, None].expand(4, 5, 2)
        elbo = vae.elbo(x, corners)
        one_sample = vae.log_w(x, corners, vae.encode(x), vae.log_prior()).mean(0)
    exact = model.elbo(x, mean, torch.diag_embed(log_var.exp()))
    assert (exact < model.log_evidence(x) - 0.01).all()
    assert_close(elbo, exact, 1e-11)
    # The same expectation with the KL of samples.
    assert_close(one_sample, exact, 1e-11)


def test_bounds_and_nll_at_the_exact_posterior():
    """1.2 Every weight is p(x): ELBO, L_K and −NLL are log p(x), whatever the noise."""
    vae, model = linear_vae()
    x = normal(2, 5, 3)
    exact = model.log_evidence(x)
    with torch.no_grad():
        noise = normal(3, 7, 5, 2)
        assert_close(vae.iwae(x, noise), exact, 1e-11)
    for num_samples, decodings in ((1, 1), (7, 3), (100, 1000), (1000, 64)):
        found = vae.nll(x, num_samples, generator(4), decodings)
        assert_close(-found, exact, 1e-11)


def test_elbo_of_the_module_is_the_topics():
    """1.2 One sample, Bernoulli decoder, standard normal prior: the function students write."""
    vae, x, noise = small().double(), binary(1, 4, 6), normal(2, 1, 4, 3)
    mean, log_var = vae.encode(x)
    z = mean + torch.exp(0.5 * log_var) * noise[0]
    exact = gaussian_elbo(x, vae.decoder.net(z), mean, log_var)
    assert_close(vae.elbo(x, noise).detach(), exact.detach())


@pytest.mark.parametrize("likelihood", ["bernoulli", 3])
@pytest.mark.parametrize("prior", PRIORS)
def test_a_vae_is_a_distribution_over_images(prior, likelihood):
    """1.7 Σ_x p(x) = 1, p(x) = ∫ w q dz by quadrature over two latents, for every prior.

    The decoder's layer is gated: at the kinks of a ReLU the trapezoid rule is only good to h².
    """
    vae = small(likelihood, prior, dims=2, latents=2).double()
    vae.decoder.net = mlp(2, (8,), vae.decoder.num_outputs * 2, gated=True).double()
    x = every_image(2, 2 if likelihood == "bernoulli" else likelihood)
    noise, log_weights = grid(-9, 9, 121, dims=2)
    log_mass = Normal(double(0.0), 1.0).log_prob(noise).sum(1) + log_weights
    with torch.no_grad():
        log_w = vae.log_w(x, noise[:, None].expand(-1, len(x), 2), vae.encode(x), vae.log_prior())
    assert_close((log_w + log_mass[:, None]).exp().sum(), 1.0, 1e-8)


def test_l_k_of_the_module_is_the_exact_one():
    """5.1 One latent: draws of L_1 and L_10 average to quadrature's, and NLL to −L_10."""
    vae = small(latents=1, seed=3).double()
    x = binary(1, 1, 6)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter *= 3  # or q would be the posterior, both being the prior
        noise, log_step = grid(-9, 9, 361)
        log_mass = Normal(double(0.0), 1.0).log_prob(noise[:, 0]) + log_step
        log_w = vae.log_w(x, noise[:, None], vae.encode(x), vae.log_prior())[:, 0]
        many = x.expand(4000, 6)
        for num_samples in (1, 10):
            exact = exact_iwae_bound(log_w, log_mass, num_samples)
            assert_mean(vae.iwae(many, normal(2, num_samples, 4000, 1)), exact)
            assert_mean(vae.nll(many, num_samples, generator(3)), -exact)
        assert torch.logsumexp(log_w + log_mass, 0) > exact + 1e-3


# NLL: streamed


@pytest.mark.parametrize("decodings", [16, 32, 1000])
def test_streaming_changes_nothing(decodings):
    """5.1 48 samples in steps of 16, of 32 and 16, and at once: −L_48 of one stream of noise.

    torch fills a multiple of 16 numbers alike, in one call or in several.
    """
    vae, x = small(latents=4).double(), binary(1, 1, 6)
    with torch.no_grad():
        noise = torch.randn(48, 1, 4, generator=generator(1), dtype=torch.float64)
        exact = -vae.iwae(x, noise)
    assert_close(vae.nll(x, 48, generator(1), decodings), exact)


def test_each_image_is_encoded_once_and_steps_are_of_one_size():
    """5.1 K = 5000: seven images and five pseudo-inputs, and 1000 decodings a step."""
    vae = small(prior="vampprior")
    encoded, decoded = [], []
    vae.encoder.net.register_forward_hook(lambda m, args, out: encoded.append(len(out)))
    vae.decoder.net.register_forward_hook(lambda m, args, out: decoded.append(len(out)))
    vae.nll(torch.ones(7, 6), num_samples=5000)
    assert sum(encoded) == 7 + 5
    assert set(decoded) == {1000}
    assert sum(decoded) == 7 * 5000


@pytest.mark.parametrize(
    ("num_images", "num_samples"), [(1, 5000), (1, 50_000), (300, 50), (7, 999)]
)
def test_memory_of_the_nll_is_flat(num_images, num_samples):
    """5.1 The largest tensor is a step's 1000 images, for any K and any number of images."""
    vae = small(dims=64)
    x = binary(1, num_images, 64).float()
    makes_no_tensor_of(1000 * 64 + 1, lambda: vae.nll(x, num_samples))


# What holds for every model


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_vae_as_a_module(likelihood, prior, dtype, device, tmp_path):
    """1.7 Gradients to every parameter, dtype and device, save and load, batched as looped."""
    model, other = (small(likelihood, prior, seed=s).to(device, dtype) for s in (0, 1))
    x, noise = (t.to(device, dtype) for t in (data(likelihood, 4, 6), normal(2, 7, 4, 3)))
    for bound in (model.elbo, model.iwae):
        value = bound(x, noise)
        assert (value.dtype, value.device.type, value.shape) == (dtype, device, (4,))
        model.zero_grad()
        value.sum().backward()
        assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt"))
    assert torch.equal(other.iwae(x, noise), value)
    one_by_one = torch.cat([model.iwae(x[i : i + 1], noise[:, i : i + 1]) for i in range(4)])
    # The discretised logistic's terms are of size 10³ here.
    tolerance = 1e3 * torch.finfo(dtype).eps
    assert_close(one_by_one.detach().cpu(), value.detach().cpu().double(), tolerance)
    nll = model.nll(x, num_samples=3)
    assert (nll.dtype, nll.device.type, nll.shape) == (dtype, device, (4,))
    assert model.reconstruct(x).shape == (4, 6)
    assert model.generate(noise[0]).shape == (4, 6)


@pytest.mark.parametrize("shape", [(8, 8), (28, 20)])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_convolutional_vae(likelihood, shape):
    """1.7 Images flattened outside, folded inside; K samples of z; gradients to every parameter."""
    torch.manual_seed(0)
    dims = math.prod(shape)
    model = conv_vae(shape, 3, channels=4, likelihood=likelihood, prior=VampPrior(5, dims, 3))
    x, noise = data(likelihood, 2, dims).float(), torch.randn(5, 2, 3)
    value = model.iwae(x, noise)
    value.sum().backward()
    assert value.shape == (2,)
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    alone = model.iwae(x[1:], noise[:, 1:])
    assert_close(alone.detach(), value[1:].detach().double(), 1e-4)


def test_the_pixels_of_an_image_stay_in_order():
    """1.7 A decoder with two outputs gives all means first: the convolution's channels too."""
    model = conv_vae((8, 8), 3, channels=4, likelihood="gaussian")
    z = torch.randn(2, 3)
    mean, _ = model.decoder(z)
    convolution = model.decoder.net[:-1](z)  # (B, 2, H, W), before it is flattened
    assert torch.equal(mean.reshape(2, 8, 8), convolution[:, 0])


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_vae_under_stress(likelihood, prior):
    """1.7 Weights a thousand times too large, noise of 30: every log-variance is bounded."""
    model = small(likelihood, prior)
    for parameter in model.parameters():
        parameter.data *= 1000
    x, noise = data(likelihood, 2, 6).float(), 30 * torch.randn(4, 2, 3)
    for bound in (model.elbo, model.iwae):
        value = bound(x, noise)
        model.zero_grad()
        value.sum().backward()
        assert value.isfinite().all()
        assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_few_steps_of_training_raise_the_elbo():
    """1.7 The three likelihoods on six-pixel data with one pattern and its negative."""
    pattern = double([[1.0, 1, 0, 0, 1, 0]])
    x = torch.cat([pattern, 1 - pattern]).repeat(16, 1).float()
    for likelihood in LIKELIHOODS:
        model = small(likelihood)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        noise = torch.randn(5, 32, 3)
        first = model.elbo(x, noise).mean().item()
        for _ in range(100):
            optimizer.zero_grad()
            (-model.elbo(x, torch.randn(1, 32, 3)).mean()).backward()
            optimizer.step()
        assert model.elbo(x, noise).mean().item() > first + 1


# Bad input


VAE6 = small()
BAD = [
    (VAE6.elbo, (torch.ones(4, 5), torch.ones(1, 4, 3)), ValueError,
     r"x must have the shape \(B, num_dims\) with num_dims = 6, not \(4, 5\)"),
    (VAE6.elbo, (torch.ones(4, 6), torch.ones(4, 3)), ValueError, "noise must have the shape"),
    (VAE6.iwae, (torch.ones(4, 6), torch.ones(2, 4, 2)), ValueError, "num_noise = 3"),
    (VAE6.iwae, (torch.ones(4, 6), torch.ones(2, 4, 3, device="meta")),
     ValueError, "noise is on meta"),
    (small().to("meta").encode, (torch.ones(4, 6),),
     ValueError, "x is on cpu, the weights on meta"),
    (VAE6.iwae, (torch.ones(0, 6), torch.ones(2, 0, 3)), ValueError, "x must not be empty"),
    (VAE6.iwae, (torch.ones(4, 6), torch.ones(0, 4, 3)), ValueError, "noise must not be empty"),
    (VAE6.encode, (torch.ones(4, 6, dtype=torch.uint8),), TypeError,
     "x must be floating point, not torch.uint8"),
    (VAE6.nll, (torch.ones(4, 6), 0), ValueError, "num_samples must be at least 1, not 0"),
    (VAE6.nll, (torch.ones(4, 6), 2.5), TypeError, "num_samples must be a whole number, not 2.5"),
    (mlp_vae, (6, 3, (8,), "poisson"), ValueError, "likelihood must be"),
    (mlp_vae, (6, 3, (8,), 1), ValueError, "likelihood must be at least 2, not 1"),
    (mlp_vae, (6, 3, (8,), "bernoulli", StandardNormalPrior(2)), ValueError, "num_latents = 3"),
    (conv_vae, ((8, 10), 3), ValueError, "divisible by 4"),
    (DiscretizedLogisticDecoder, (nn.Identity(), 1), ValueError, "num_levels must be at least 2"),
    (StandardNormalPrior, (0,), ValueError, "num_latents must be at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "error", "words"), BAD)
def test_bad_input_is_refused_by_name(function, arguments, error, words):
    """1.7 The message names the argument, what came and what was expected."""
    with pytest.raises(error, match=words):
        function(*arguments)


def test_what_a_check_accepts():
    """Keywords and defaults are checked like the rest; a missing argument is Python's own error."""

    @takes(x="N D", y="N", z="... D")
    def function(x, y, z=None):
        """Add nothing."""
        return "called"

    assert function.__name__ == "function"
    assert function.__doc__ == "Add nothing."
    x, y = torch.ones(3, 2), torch.ones(3)
    assert function(x, y) == "called"
    assert function(x=x, y=y, z=torch.ones(2)) == "called"
    assert function(x, y, torch.ones(5, 4, 2)) == "called"
    with pytest.raises(
        ValueError, match=r"z must have the shape \(..., D\) with D = 2 as in x, not \(3,\)"
    ):
        function(x, y=y, z=torch.ones(3))

    @takes(square="B L L")
    def twice(square):
        """A letter that comes twice."""

    with pytest.raises(ValueError, match=r"shape \(B, L, L\), not \(2, 3, 4\)"):
        twice(torch.ones(2, 3, 4))
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        function(x)


def test_log_variances_are_bounded():
    """1.7 Encoder and decoders: between −10 and 10 for any output of a network."""
    net = mlp(4, (), 4)
    nn.init.constant_(net[-1].bias, 1e6)
    _, log_var = GaussianEncoder(net)(torch.ones(1, 4))
    assert_close(log_var.detach(), torch.full((1, 2), 10.0))
    assert BernoulliDecoder(net).mean(torch.ones(1, 4)).max() == 1


def test_a_decoder_scores_one_image_at_a_grid_of_latents():
    decoder, image, z = BernoulliDecoder(nn.Linear(2, 6)), torch.ones(1, 1, 6), torch.randn(3, 4, 2)
    expected = torch.stack([decoder.log_prob(image[0].expand(4, 6), row) for row in z])
    torch.testing.assert_close(decoder.log_prob(image, z), expected)


def test_kl_of_the_standard_normal_prior_takes_no_samples():
    """1.2 The ELBO's KL is exact: with one sample its only noise is the reconstruction's."""
    vae, x = small().double(), binary(1, 4, 6)
    mean, log_var = vae.encode(x)
    exact = kl_divergence(Normal(mean, torch.exp(0.5 * log_var)), Normal(double(0.0), 1.0)).sum(-1)
    for seed in range(3):
        noise = normal(seed, 1, 4, 3)
        z = mean + torch.exp(0.5 * log_var) * noise[0]
        kl = vae.decoder.log_prob(x, z) - vae.elbo(x, noise)
        assert_close(kl.detach(), exact.detach())
