"""Variational autoencoders: encoder, three decoders, the ELBO, L_K, and the NLL by L_5000.

    model = mlp_vae(784, num_latents=20)
    loss = -model.elbo(x, torch.randn(1, len(x), 20)).mean()
    nll = model.nll(x_test, num_samples=5000)

x is `(B, D)`, images flattened; noise is `(K, B, L)`; results are in nats, one for each image.
Convolutional networks fold the D pixels back into an image inside.

Sources: Kingma, Welling, "Auto-Encoding Variational Bayes" (2014); Burda, Grosse, Salakhutdinov,
"Importance Weighted Autoencoders" (2015); Salimans et al., "PixelCNN++" (2017) for the discretised
logistic; lectures L5-2024, L7-2021 and CS236-2018.
"""

import itertools
import math

import torch
from torch import nn

from dgm_utils.iwae import iwae_bound
from dgm_utils.latent_variable_models import bernoulli_log_likelihood
from dgm_utils.models.densities import (
    bounded,
    discretized_logistic_log_prob,
    gaussian_log_prob,
    sample_gaussian,
)
from dgm_utils.models.priors import StandardNormalPrior
from dgm_utils.validate import takes, whole_number

# Standard deviations between e⁻⁵ and e⁵.
LOG_VAR_LIMIT = 10


def mlp(num_inputs, hidden, num_outputs, gated=False):
    """Linear layers of sizes `hidden`, with ReLU between them or, gated, `a · sigmoid(b)`.

    Gated layers have two outputs a and b for each unit, and twice the parameters; the VampPrior
    paper uses them.
    """
    sizes = [num_inputs, *hidden]
    layers = []
    for size, next_size in itertools.pairwise(sizes):
        if gated:
            layers += [nn.Linear(size, 2 * next_size), nn.GLU()]
        else:
            layers += [nn.Linear(size, next_size), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_outputs))


def conv_encoder_net(shape, channels, num_outputs):
    """`(B, H·W) → (B, num_outputs)`: two strided convolutions; H and W are divisible by 4."""
    height, width = _quarter(shape)
    return nn.Sequential(
        nn.Unflatten(1, (1, *shape)),
        nn.Conv2d(1, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * channels * height * width, num_outputs),
    )


def conv_decoder_net(num_latents, channels, shape, num_outputs):
    """`(B, L) → (B, num_outputs·H·W)`: the way back, with transposed convolutions."""
    height, width = _quarter(shape)
    return nn.Sequential(
        nn.Linear(num_latents, 2 * channels * height * width),
        nn.ReLU(),
        nn.Unflatten(1, (2 * channels, height, width)),
        # A kernel of 4 at stride 2 touches every pixel equally often: no checkerboard.
        nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(channels, num_outputs, 4, stride=2, padding=1),
        nn.Flatten(),
    )


class GaussianEncoder(nn.Module):
    """`q(z|x) = N(mean(x), diag exp(log_var(x)))`.

    Args:
        net: `(B, D) → (B, 2L)`.

    """

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        """`(B, D) → (B, L), (B, L)`: mean and log-variance, the latter between −10 and 10."""
        mean, raw = self.net(x).chunk(2, -1)
        return mean, bounded(raw, LOG_VAR_LIMIT)


class Decoder(nn.Module):
    """`p(x|z)` with independent dimensions, whose parameters a network computes from z.

    Args:
        net: `(B, L) → (B, num_outputs·D)`, all D first outputs, then all D second ones.

    Attributes:
        num_outputs: numbers that a dimension of x needs.

    """

    num_outputs = 1

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z):
        """`(..., L) →` a tensor `(..., D)` for each of the num_outputs."""
        outputs = self.net(z.reshape(-1, z.shape[-1]))
        return outputs.reshape(*z.shape[:-1], self.num_outputs, -1).unbind(-2)


class BernoulliDecoder(Decoder):
    """Binary pixels: `p(x_d = 1|z) = sigmoid(logit_d)`."""

    def log_prob(self, x, z):
        """`log p(x|z)`, `(B, D), (..., B, L) → (..., B)`; x is 0 or 1."""
        return bernoulli_log_likelihood(x, *self(z))

    def mean(self, z):
        """`E[x|z]`, `(..., L) → (..., D)`."""
        return torch.sigmoid(*self(z))

    def sample(self, noise, z):
        """Draw x from p(x|z): noise of U[0, 1) `(..., D)` and z `(..., L)`."""
        return (noise < self.mean(z)).to(z.dtype)


class GaussianDecoder(Decoder):
    """Real-valued data: `p(x_d|z) = N(mean_d, exp(log_var_d))`.

    The bound on the log-variance is not for overflow alone: on data that take discrete values the
    likelihood has no upper bound, and an unbounded variance would run to zero.
    """

    num_outputs = 2

    def forward(self, z):
        """`(..., L) → (..., D), (..., D)`: mean, log-variance between −10 and 10."""
        mean, raw = super().forward(z)
        return mean, bounded(raw, LOG_VAR_LIMIT)

    def log_prob(self, x, z):
        """`log p(x|z)`, `(B, D), (..., B, L) → (..., B)`."""
        return gaussian_log_prob(x, *self(z))

    def mean(self, z):
        """`E[x|z]`, `(..., L) → (..., D)`."""
        return self(z)[0]

    def sample(self, noise, z):
        """Draw x from p(x|z): noise of U[0, 1) `(..., D)` and z `(..., L)`."""
        return sample_gaussian(*self(z), torch.special.ndtri(_inside(noise)))


class DiscretizedLogisticDecoder(Decoder):
    """Grey levels 0 … num_levels − 1, given as `x = level/(num_levels − 1)` in [0, 1].

    Each level has the probability that a logistic distribution gives to its cell: a likelihood of
    discrete data, so that nats (and bits) can be compared with those of a PixelCNN.

    Args:
        net: `(B, L) → (B, 2·D)`.
        num_levels: at least 2.

    """

    num_outputs = 2

    def __init__(self, net, num_levels):
        super().__init__(net)
        whole_number("num_levels", num_levels, 2)
        self.num_levels = num_levels

    def forward(self, z):
        """`(..., L) → (..., D), (..., D)`: mean, and log-scale between −10 and 10."""
        mean, raw = super().forward(z)
        # Starts at a tenth of the grey scale: the network's first outputs are near zero.
        return mean + 0.5, bounded(raw - 2, LOG_VAR_LIMIT)

    def log_prob(self, x, z):
        """`log P(x|z)`, `(B, D), (..., B, L) → (..., B)`."""
        return discretized_logistic_log_prob(x, *self(z), self.num_levels)

    def mean(self, z):
        """The mean of the logistic before it is cut into levels, `(..., L) → (..., D)`."""
        return self(z)[0].clamp(0, 1)

    def sample(self, noise, z):
        """Draw x from P(x|z): noise of U[0, 1) `(..., D)` and z `(..., L)`."""
        mean, log_scale = self(z)
        x = mean + torch.exp(log_scale) * torch.logit(_inside(noise))
        top = self.num_levels - 1
        return (x.clamp(0, 1) * top).round() / top


class LatentVariableModel(nn.Module):
    """What follows from the log-weights alone: the importance weighted bound, and the NLL.

    A subclass has the noise's length `num_noise`, `encode(x)`, which returns all that q needs to
    know about x, `log_prior()`, the prior's log-density as a function of z, and
    `log_w(x, noise, code, log_prior)`, the log-weights made of these.
    """

    @takes(x="B .num_dims", noise="K B .num_noise")
    def iwae(self, x, noise):
        """Importance weighted bound L_K, `(B, D), (K, B, L) → (B,)`; K = 1 gives the ELBO."""
        return iwae_bound(self.log_w(x, noise, self.encode(x), self.log_prior()))

    @torch.no_grad()
    @takes(x="N .num_dims")
    def nll(self, x, num_samples=5000, generator=None, decodings=1000):
        """Negative log-likelihood of each image, estimated by −L_K, `(N, D) → (N,)`.

        −L_K is too large on average and tends to −log p(x) as K grows. Three habits make it cheap:
        each image, and each pseudo-input of a prior, is encoded once and not K times; the average
        over K is kept as one running log-sum, so memory grows neither with K nor with N; and a step
        decodes about a thousand latents, enough for matrix products at full speed, and few enough
        for their outputs to stay in the processor's cache (5,000 of 784 pixels take a third longer;
        a GPU wants more).

        Args:
            x: `(N, D)` images.
            num_samples: K, at least 1.
            generator: source of the noise, on the device of x.
            decodings: latents that a step decodes.

        """
        whole_number("num_samples", num_samples, 1)
        whole_number("decodings", decodings, 1)
        log_prior = self.log_prior()
        nll = []
        for block in x.split(max(1, decodings // num_samples)):
            code = self.encode(block)
            log_sum = torch.full_like(block[:, 0], -math.inf)
            done = 0
            while done < num_samples:
                num = min(num_samples - done, max(1, decodings // len(block)))
                shape = (num, len(block), self.num_noise)
                noise = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
                log_w = self.log_w(block, noise, code, log_prior)
                log_sum = torch.logaddexp(log_sum, torch.logsumexp(log_w, 0))
                done += num
            nll.append(math.log(num_samples) - log_sum)
        return torch.cat(nll)


class VAE(LatentVariableModel):
    """A latent variable model p(z) p(x|z) with an amortized posterior q(z|x).

    Args:
        encoder: `x → (mean, log_var)`, a `GaussianEncoder` or the like.
        decoder: with `log_prob(x, z)`, `mean(z)` and `sample(noise, z)`.
        num_dims: D.
        num_latents: L.
        prior: from `models/priors.py`; the standard normal by default.

    """

    def __init__(self, encoder, decoder, num_dims, num_latents, prior=None):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.prior = StandardNormalPrior(num_latents) if prior is None else prior
        self.num_dims, self.num_latents, self.num_noise = num_dims, num_latents, num_latents
        if self.prior.num_latents != num_latents:
            raise ValueError(
                f"prior must have num_latents = {num_latents}, not {self.prior.num_latents}"
            )

    @takes(x="B .num_dims")
    def encode(self, x):
        """`q(z|x)`, `(B, D) → (B, L), (B, L)`: mean and log-variance."""
        return self.encoder(x)

    @takes(x="B .num_dims", noise="K B .num_noise")
    def elbo(self, x, noise):
        """ELBO as reconstruction minus KL, averaged over K samples, `(B, D), (K, B, L) → (B,)`.

        The KL is the prior's: closed form for the standard normal, the same K samples otherwise.
        """
        mean, log_var = self.encode(x)
        z = sample_gaussian(mean, log_var, noise)
        kl = self.prior.kl(mean, log_var, z, self.encoder)
        return (self.decoder.log_prob(x, z) - kl).mean(0)

    def log_prior(self):
        """`z → log p(z)`, the prior's components computed."""
        return self.prior.density(self.encoder)

    def log_w(self, x, noise, code, log_prior):
        """Log-weights `log p(x|z) + log p(z) − log q(z|x)`, `(K, B)`."""
        mean, log_var = code
        z = sample_gaussian(mean, log_var, noise)
        log_q = gaussian_log_prob(z, mean, log_var)
        return self.decoder.log_prob(x, z) + log_prior(z) - log_q

    @torch.no_grad()
    def reconstruct(self, x):
        """`E[x'|z]` at the posterior's mean, `(B, D) → (B, D)`."""
        mean, _ = self.encode(x)
        return self.decoder.mean(mean)

    @torch.no_grad()
    def generate(self, noise, generator=None):
        """`E[x|z]` at z drawn from the prior, standard normal noise `(S, L) → (S, D)`.

        These are the images usually shown; `decoder.sample` draws from p(x|z) instead.
        """
        return self.decoder.mean(self.prior.sample(noise, self.encoder, generator))


def mlp_vae(num_dims, num_latents, hidden=(200, 200), likelihood="bernoulli", prior=None):
    """A VAE of plain networks; the decoder has the hidden layers of the encoder in reverse.

    Args:
        num_dims: D.
        num_latents: L.
        hidden: sizes of the hidden layers.
        likelihood: "bernoulli", "gaussian", or a number of grey levels for the discretised
            logistic.
        prior: from `models/priors.py`.

    """
    make, num_outputs = choose_decoder(likelihood)
    return VAE(
        GaussianEncoder(mlp(num_dims, hidden, 2 * num_latents)),
        make(mlp(num_latents, tuple(reversed(hidden)), num_outputs * num_dims)),
        num_dims,
        num_latents,
        prior,
    )


def conv_vae(shape, num_latents, channels=16, likelihood="bernoulli", prior=None):
    """A small convolutional VAE for flattened images of `shape` (H, W), both divisible by 4.

    Other arguments as in `mlp_vae`.
    """
    make, num_outputs = choose_decoder(likelihood)
    return VAE(
        GaussianEncoder(conv_encoder_net(shape, channels, 2 * num_latents)),
        make(conv_decoder_net(num_latents, channels, shape, num_outputs)),
        math.prod(shape),
        num_latents,
        prior,
    )


def choose_decoder(likelihood):
    """A decoder's constructor, and how many numbers its network gives for each dimension."""
    if likelihood == "bernoulli":
        return BernoulliDecoder, BernoulliDecoder.num_outputs
    if likelihood == "gaussian":
        return GaussianDecoder, GaussianDecoder.num_outputs
    if isinstance(likelihood, str):
        raise ValueError(
            f'likelihood must be "bernoulli", "gaussian" or a number of levels, not {likelihood!r}'
        )
    whole_number("likelihood", likelihood, 2)
    return lambda net: DiscretizedLogisticDecoder(net, likelihood), 2


def _quarter(shape):
    height, width = shape
    if height < 4 or width < 4 or height % 4 or width % 4:
        raise ValueError(f"shape must be (H, W), both divisible by 4, not {tuple(shape)}")
    return height // 4, width // 4


def _inside(noise):
    """Uniform noise kept off 0, where an inverse distribution function is −∞."""
    return noise.clamp(min=torch.finfo(noise.dtype).tiny)
