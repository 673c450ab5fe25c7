"""Flows that are fast both ways: coupling layers (NICE, RealNVP) and Glow's 1×1 convolution.

Sources: Dinh, Krueger, Bengio, "NICE" (2014); Dinh, Sohl-Dickstein, Bengio, "Density Estimation
Using Real NVP" (2016); Kingma, Dhariwal, "Glow" (2018); lecture L6-2021.
"""

import itertools

import torch
from torch import nn

from dgm_utils.maf_vs_iaf import coupling_forward
from dgm_utils.models.densities import bounded, full_precision
from dgm_utils.models.flow import Flow, StandardNormal
from dgm_utils.validate import takes, whole_number


@takes(z="B D")
def coupling_inverse(z, net, split):
    """Affine coupling, base → data: undoes `coupling_forward`, in one pass too.

    The coordinates that the network sees are the ones that stayed.

    Args:
        z: `(B, D)`.
        net: as in `coupling_forward`.
        split: as in `coupling_forward`.

    Returns:
        x `(B, D)` and log|det ∂x/∂z| `(B,)` in nats.

    Raises:
        ValueError: when split is out of range.

    """
    whole_number("split", split, 1, z.shape[1] - 1)
    first, rest = z[:, :split], z[:, split:]
    shift, log_scale = net(first)
    return torch.cat([first, (rest - shift) * torch.exp(-log_scale)], 1), -log_scale.sum(1)


class CouplingLayer(nn.Module):
    """A RealNVP layer, or a NICE layer when it is additive; one pass in either direction.

    Args:
        num_dims: D.
        hidden_sizes: units of each hidden layer of the network.
        split: how many coordinates stay; by default half of them.
        flip: count the coordinates from the end, so that the others stay.
        additive: shift only, log_det 0 (NICE).
        bound: s = bound · tanh(raw / bound), so scales stay between e^−bound and e^bound.
        activation: function between the layers, elementwise; may work in place, which saves memory.

    Raises:
        ValueError: when split is out of range.

    """

    def __init__(
        self,
        num_dims,
        hidden_sizes=(256, 256),
        split=None,
        flip=False,
        additive=False,
        bound=5.0,
        activation=torch.relu_,
    ):
        super().__init__()
        self.num_dims = num_dims
        self.split = num_dims // 2 if split is None else split
        whole_number("num_dims", num_dims, 2)
        whole_number("split", self.split, 1, num_dims - 1)
        self.flip = flip
        self.additive = additive
        self.bound = bound
        self.activation = activation
        num_outputs = (num_dims - self.split) * (1 if additive else 2)
        sizes = [self.split, *hidden_sizes, num_outputs]
        self.layers = nn.ModuleList(
            nn.Linear(size, following) for size, following in itertools.pairwise(sizes)
        )

    def net(self, first):
        """`(B, split) → (t, s)`, each `(B, D − split)`."""
        *hidden, last = self.layers
        for layer in hidden:
            first = self.activation(layer(first))
        outputs = last(first)
        if self.additive:
            return outputs, torch.zeros_like(outputs)
        shift, raw = outputs.chunk(2, dim=1)
        return shift, bounded(raw, self.bound)

    def forward(self, x):
        """Data → base, `(B, D) → (B, D), (B,)`."""
        return self._apply_map(coupling_forward, x)

    def inverse(self, z):
        """Base → data, `(B, D) → (B, D), (B,)`."""
        return self._apply_map(coupling_inverse, z)

    def _apply_map(self, function, value):
        if value.ndim != 2 or value.shape[1] != self.num_dims:
            shape = tuple(value.shape)
            raise ValueError(f"the points must have the shape (B, {self.num_dims}), not {shape}")
        if not self.flip:
            return function(value, self.net, self.split)
        value, log_det = function(value.flip(1), self.net, self.split)
        return value.flip(1), log_det


class RealNVP(Flow):
    """Coupling layers over N(0, I) that take turns in which half they change.

    Args:
        num_dims: D, at least 2.
        num_layers: coupling layers.
        **options: of each `CouplingLayer`.

    """

    def __init__(self, num_dims, num_layers=5, **options):
        whole_number("num_layers", num_layers, 1)
        layers = [CouplingLayer(num_dims, flip=i % 2 == 1, **options) for i in range(num_layers)]
        super().__init__(layers, StandardNormal(num_dims))


class Invertible1x1(nn.Module):
    """Glow's 1×1 convolution: every pixel's channels multiplied by one matrix W = P L (U + diag s).

    P is a fixed permutation, L lower triangular with ones on its diagonal, U strictly upper
    triangular. The determinant is read off: log|det W| = Σ log|s|, in place of O(C³) work; and
    the inverse is two triangular solves. W starts as a random rotation. The signs of s are fixed,
    so that W can never become singular on the way from one to the other.

    Args:
        num_channels: C.
        generator: draws the rotation.

    """

    def __init__(self, num_channels, generator=None):
        super().__init__()
        square = torch.randn(num_channels, num_channels, generator=generator)
        rotation, _ = torch.linalg.qr(square)
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.lower = nn.Parameter(lower)
        self.upper = nn.Parameter(upper)
        self.log_abs_s = nn.Parameter(diagonal.abs().log())

    def weight(self):
        """The matrix W, `(C, C)`."""
        lower, upper = self._factors()
        return self.permutation @ lower @ upper

    @full_precision
    def forward(self, x):
        """Data → base, `(B, C)` or `(B, C, H, W)` → the same shape and `(B,)`."""
        z = torch.einsum("ij,bj...->bi...", self.weight(), self._checked(x))
        return z, self._log_det(x)

    @full_precision
    def inverse(self, z):
        """Base → data, the same shapes."""
        lower, upper = self._factors()
        columns = self._checked(z).movedim(1, 0).flatten(1)
        columns = self.permutation.T @ columns
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        x = columns.unflatten(1, (len(z), *z.shape[2:])).movedim(0, 1)
        return x, -self._log_det(z)

    def _factors(self):
        identity = torch.eye(len(self.sign), dtype=self.lower.dtype, device=self.lower.device)
        lower = self.lower.tril(-1) + identity
        return lower, self.upper.triu(1) + torch.diag(self.sign * self.log_abs_s.exp())

    def _log_det(self, x):
        # One matrix for each pixel, and the determinant of a block-diagonal matrix is a product.
        return (x[0, 0].numel() * self.log_abs_s.sum()).expand(len(x))

    def _checked(self, x):
        channels = len(self.sign)
        if not torch.is_tensor(x) or not x.is_floating_point():
            raise TypeError(f"the points must be a floating tensor, not {getattr(x, 'dtype', x)}")
        if x.ndim < 2 or x.shape[1] != channels:
            raise ValueError(
                f"the points must have the shape (B, {channels}, ...), not {tuple(x.shape)}"
            )
        return x
