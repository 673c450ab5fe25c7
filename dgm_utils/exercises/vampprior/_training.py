"""Training with a VampPrior and with a standard normal prior, and what both are compared on."""

import functools
import math

import torch
import torch.nn.functional as F

from dgm_utils.data import digits


def train_vampprior(batches, noise, weights, raw):
    """A VAE and the pseudo-inputs of its VampPrior after one step of Adam for each batch.

    Args:
        batches: `(T, B, D)` images, 0 or 1, a batch for each step.
        noise: `(T, B, L)` standard normal, for one sample of z for each image.
        weights: eight tensors to start from, W₁ (D,H), b₁, W₂ (H,2L), b₂ of the encoder and
            V₁ (L,H), c₁, V₂ (H,D), c₂ of the decoder.
        raw: `(C, D)` numbers to start from; their sigmoids are the pseudo-inputs.

    Returns:
        The eight trained tensors as a list, and the trained `raw`.

    """
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    raw = raw.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([*weights, raw], lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        loss = -_elbo(x, eps, weights, raw).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [weight.detach() for weight in weights], raw.detach()


def _elbo(x, eps, weights, raw=None):
    """ELBO of one sample of z; raw makes the prior, which is standard normal without it."""
    w1, b1, w2, b2, v1, c1, v2, c2 = weights

    def encode(u):
        return (torch.tanh(u @ w1 + b1) @ w2 + b2).chunk(2, -1)

    mean, log_var = encode(x)
    z = mean + torch.exp(0.5 * log_var) * eps
    logits = torch.tanh(z @ v1 + c1) @ v2 + c2
    log_px = (x * logits - F.softplus(logits)).sum(-1)
    log_qz = -0.5 * (eps**2 + log_var + math.log(2 * math.pi)).sum(-1)
    if raw is None:
        return log_px - 0.5 * (z**2 + math.log(2 * math.pi)).sum(-1) - log_qz
    means, log_vars = encode(torch.sigmoid(raw))
    squares = (z.unsqueeze(1) - means) ** 2 * torch.exp(-log_vars)
    log_components = -0.5 * (squares + log_vars + math.log(2 * math.pi)).sum(-1)
    return log_px + torch.logsumexp(log_components, 1) - math.log(len(raw)) - log_qz


def train_standard_normal(batches, noise, weights):
    """What `train_vampprior` does, with N(0, I) for a prior."""
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    optimizer = torch.optim.Adam(weights, lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        optimizer.zero_grad()
        (-_elbo(x, eps, weights).mean()).backward()
        optimizer.step()
    return [weight.detach() for weight in weights]


@torch.no_grad()
def held_out_elbo(x, noise, weights, raw=None):
    """Average over the images held out, 20 samples of z for each; the same noise for everyone."""
    return sum(_elbo(x, eps, weights, raw).mean().item() for eps in noise) / len(noise)


@functools.cache
def images(split):
    """Digits in black and white, `(N, 64)`; grey pixels drawn anew would drown the prior's part."""
    return (digits(split).flat() > 0.5).double()


def first_weights(hidden, latents):
    """Where training starts, the same for every seed: the start is half of what seeds differ by."""
    generator = torch.Generator().manual_seed(2)

    def normal(*shape):
        # Each sum of `shape[0]` terms has variance 1.
        numbers = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return numbers / shape[0] ** 0.5

    # The encoder starts with standard deviations of 0.37, so that codes say something at once.
    mean_and_log_var = torch.cat([normal(hidden, latents), 0.1 * normal(hidden, latents)], 1)
    centre = torch.cat([torch.zeros(latents), torch.full((latents,), -2.0)])
    encoder = normal(64, hidden), torch.zeros(hidden), mean_and_log_var, centre
    decoder = normal(latents, hidden), torch.zeros(hidden), normal(hidden, 64), torch.zeros(64)
    return [*encoder, *decoder]
