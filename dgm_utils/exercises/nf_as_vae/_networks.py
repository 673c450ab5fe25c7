"""The flows and bases that cases hand over; a student's function calls them."""

import torch
import torch.nn.functional as F
from torch import nn

from dgm_utils.exercises.nf_as_vae._shared import LOG_2PI


class Affine(nn.Module):
    """The flow f(x) = W (x − c), whose Jacobian is W everywhere."""

    def __init__(self, draw, matrix, centre):
        super().__init__()
        self.matrix = nn.Parameter(draw.tensor(matrix))
        self.centre = nn.Parameter(draw.tensor(centre))

    def forward(self, x):
        """Data → base, `(..., D) → (..., D), (...)`."""
        log_det = torch.linalg.slogdet(self.matrix).logabsdet
        return (x - self.centre) @ self.matrix.T, x.new_zeros(x.shape[:-1]) + log_det

    def inverse(self, z):
        """Base → data, the value alone."""
        return z @ torch.linalg.inv(self.matrix).T + self.centre


class Curved(nn.Module):
    """An affine map, 2 sinh(y/2) of each coordinate, then a coupling: a full Jacobian."""

    def __init__(self, draw, num_dims):
        super().__init__()
        self.affine = random_affine(draw, num_dims)
        self.split = num_dims // 2
        outputs = 2 * (num_dims - self.split)
        slope = draw.normal(self.split, outputs) / max(1, self.split) ** 0.5
        self.slope = nn.Parameter(slope)
        self.offset = nn.Parameter(draw.normal(outputs) / 2)

    def forward(self, x):
        """Data → base, `(..., D) → (..., D), (...)`."""
        y, log_det = self.affine(x)
        y, log_det = 2 * torch.sinh(y / 2), log_det + torch.log(torch.cosh(y / 2)).sum(-1)
        first, rest = y[..., : self.split], y[..., self.split :]
        shift, log_scale = self._coupling(first)
        z = torch.cat([first, rest * torch.exp(log_scale) + shift], -1)
        return z, log_det + log_scale.sum(-1)

    def inverse(self, z):
        """Base → data, the value alone."""
        first, rest = z[..., : self.split], z[..., self.split :]
        shift, log_scale = self._coupling(first)
        y = torch.cat([first, (rest - shift) * torch.exp(-log_scale)], -1)
        return self.affine.inverse(2 * torch.asinh(y / 2))

    def _coupling(self, first):
        shift, log_scale = torch.tanh(first @ self.slope + self.offset).chunk(2, -1)
        return shift, log_scale / 2


class Inverse(nn.Module):
    """The direction base → data of a flow, as a module of its own."""

    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self, z):
        """Base → data, the value alone."""
        return self.flow.inverse(z)


class Gaussian(nn.Module):
    """The log-density of independent Gaussians with parameters of their own."""

    def __init__(self, mean, log_std):
        super().__init__()
        self.mean, self.log_std = nn.Parameter(mean), nn.Parameter(log_std)

    def forward(self, z):
        """Log-density in nats, `(..., D) → (...)`."""
        scaled = (z - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * scaled**2 - self.log_std - 0.5 * LOG_2PI).sum(-1)


class Logistic(nn.Module):
    """The log-density of independent logistic variables with parameters of their own."""

    def __init__(self, mean, log_scale):
        super().__init__()
        self.mean, self.log_scale = nn.Parameter(mean), nn.Parameter(log_scale)

    def forward(self, z):
        """Log-density in nats, `(..., D) → (...)`."""
        scaled = (z - self.mean) * torch.exp(-self.log_scale)
        log_sides = F.logsigmoid(scaled) + F.logsigmoid(-scaled)
        return (log_sides - self.log_scale).sum(-1)


def random_affine(draw, num_dims):
    """W with singular values between 0.6 and 1.6, its determinant of either sign."""
    left, right = (torch.linalg.qr(draw.normal(num_dims, num_dims).double())[0] for _ in range(2))
    values = 0.6 + draw.uniform(num_dims).double()
    return Affine(draw, left * values @ right, draw.normal(num_dims) / 2)


def scaling(draw, num_dims, factor):
    """f(x) = factor · x."""
    return Affine(draw, factor * torch.eye(num_dims, dtype=torch.float64), [0.0] * num_dims)


def standard(draw, num_dims):
    """N(0, I)."""
    return Gaussian(draw.tensor(torch.zeros(num_dims)), draw.tensor(torch.zeros(num_dims)))


def gaussian(draw, num_dims):
    """Means and standard deviations near 0 and 1."""
    return Gaussian(draw.normal(num_dims) / 2, draw.normal(num_dims) / 4)


def logistic(draw, num_dims):
    """Means and scales near 0 and 1."""
    return Logistic(draw.normal(num_dims) / 2, draw.normal(num_dims) / 4)
