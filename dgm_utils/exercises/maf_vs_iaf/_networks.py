"""What runs beside a student's function: the networks that cases hand over, and a probe."""

import math

import torch

from nbjudge.inside.tensors import cotangent, tensors


class Conditioner(torch.nn.Module):
    """(mu, log_sigma) of each coordinate from the ones before it; log_sigma is `level` ± `spread`.

    Args:
        draw: of the weights.
        dims: D.
        level: a number, or one for each coordinate.
        spread: how far log_sigma goes from there.
        scale: of weights and biases.

    """

    def __init__(self, draw, dims, level=0.0, spread=1.0, scale=1.0):
        super().__init__()
        weight = scale * draw.normal(2, dims, dims) / math.sqrt(dims)
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(scale * draw.normal(2, 1, dims))
        self.register_buffer("level", draw.tensor(level))
        self.spread = spread

    def forward(self, v):
        """`(B, D) → (mu, log_sigma)`, each `(B, D)`."""
        mu, raw = v @ self.weight.tril(-1).mT + self.bias
        return mu, self.level + self.spread * torch.tanh(raw)


class CouplingNet(torch.nn.Module):
    """(t, s) of the last coordinates from the first; s is `level` ± 1."""

    def __init__(self, draw, split, rest, level=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(draw.normal(2, rest, split) / math.sqrt(split))
        self.bias = torch.nn.Parameter(draw.normal(2, 1, rest))
        self.register_buffer("level", draw.tensor(level))

    def forward(self, first):
        """`(B, split) → (t, s)`, each `(B, rest)`."""
        shift, raw = first @ self.weight.mT + self.bias
        return shift, self.level + torch.tanh(raw)


class Gaussian(torch.nn.Module):
    """Log-density of a Gaussian, plus a constant that stands for a missing normalization."""

    def __init__(self, mean, scale_tril, constant=0.0):
        super().__init__()
        self.mean = torch.nn.Parameter(mean)
        self.scale_tril = torch.nn.Parameter(scale_tril)
        self.constant = constant

    def forward(self, v):
        """`(B, D) → (B,)`."""
        centred = (v - self.mean).mT
        noise = torch.linalg.solve_triangular(self.scale_tril, centred, upper=False)
        log_volume = self.scale_tril.diagonal().log().sum()
        log_2pi = len(self.mean) * math.log(2 * math.pi)
        return self.constant - 0.5 * (noise**2).sum(0) - log_volume - 0.5 * log_2pi


class Mixture(torch.nn.Module):
    """Log-density of a mixture of unit Gaussians, all equally likely."""

    def __init__(self, means):
        super().__init__()
        self.means = torch.nn.Parameter(means)

    def forward(self, v):
        """`(B, D) → (B,)`."""
        squares = ((v[:, None] - self.means) ** 2 + math.log(2 * math.pi)).sum(-1)
        return torch.logsumexp(-0.5 * squares, 1) - math.log(len(self.means))


class Generator(torch.nn.Module):
    """Base → data: each coordinate scaled and bent, then mixed by a triangular matrix."""

    def __init__(self, draw, dims, bend=1.0):
        super().__init__()
        self.log_scale = torch.nn.Parameter(0.5 * draw.normal(dims))
        self.weight = torch.nn.Parameter(draw.normal(dims, dims) / math.sqrt(dims))
        self.shift = torch.nn.Parameter(draw.normal(dims))
        self.bend = bend

    def matrix(self):
        """The triangular matrix, with ones on its diagonal."""
        return self.weight.tril(-1) + torch.eye(len(self.weight)).to(self.weight)

    def forward(self, z):
        """`(B, D) → (x, log_det)`, `(B, D)` and `(B,)`."""
        bent = torch.exp(self.log_scale) * z + self.bend * torch.tanh(z)
        slope = torch.exp(self.log_scale) + self.bend * (1 - torch.tanh(z) ** 2)
        return bent @ self.matrix().mT + self.shift, slope.log().sum(1)


def standard_normal(draw, dims):
    """N(0, I)."""
    return Gaussian(draw.tensor(torch.zeros(dims)), draw.tensor(torch.eye(dims)))


def random_gaussian(draw, dims):
    """Means near 0, standard deviations near 1, correlated."""
    scale_tril = 0.3 * draw.normal(dims, dims).tril(-1)
    return Gaussian(draw.normal(dims), scale_tril + torch.diag(0.6 + draw.uniform(dims)))


def conditioner_at(x):
    """A probe: what a conditioner gives at x, and the gradient that goes back to x through it."""

    def probe(conditioner, net, split):
        at = x.to(next(net.parameters()).device).clone().requires_grad_()
        result = conditioner(at)
        outputs = [part for part in tensors(result) if part.requires_grad and not part.is_meta]
        gradient = None
        if outputs:
            directions = [cotangent(part) for part in outputs]
            (gradient,) = torch.autograd.grad(
                outputs, at, directions, retain_graph=True, allow_unused=True
            )
        return result, torch.zeros_like(at) if gradient is None else gradient

    return probe
