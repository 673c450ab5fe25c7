"""Flows for latent space with cheap determinants: planar and Sylvester.

Both add to z a function of a few of its projections. They go base → data (`inverse`) only: the map
is invertible, but its inverse has no closed form, and a posterior never asks for it.

Sources: Rezende, Mohamed, "Variational Inference with Normalizing Flows" (2015), appendix A.1 for
the constraint; van den Berg et al., "Sylvester Normalizing Flows for Variational Inference" (2018);
lecture L6-2021.
"""

import torch
from torch import nn

from dgm_utils.models.densities import full_precision
from dgm_utils.nf_as_vae import planar_transform
from dgm_utils.validate import takes, whole_number

# |r1 r2| stays below this squared, so 1 + h' r1 r2 > 0.002 even where tanh rounds to 1.
DIAGONAL_BOUND = 0.999


class PlanarLayer(nn.Module):
    """A planar map of latent space, base → data.

    Args:
        num_dims: L.

    """

    def __init__(self, num_dims):
        super().__init__()
        whole_number("num_dims", num_dims, 1)
        self.num_dims = num_dims
        self.u = nn.Parameter(torch.randn(num_dims))
        self.w = nn.Parameter(torch.randn(num_dims))
        self.b = nn.Parameter(torch.randn(()))

    @takes(z="B .num_dims")
    def inverse(self, z):
        """Base → data, `(B, L) → (B, L), (B,)`."""
        return planar_transform(z, self.u, self.w, self.b)

    def forward(self, x):
        """Data → base has no closed form."""
        raise NotImplementedError("a planar flow's inverse has no closed form: base → data only")


class SylvesterLayer(nn.Module):
    """M planar maps at once: `z' = z + Q R₁ tanh(R₂ Qᵀ z + b)`, base → data.

    Q has M orthonormal columns, R₁ and R₂ are upper triangular. Sylvester's identity
    det(I_L + A B) = det(I_M + B A) turns the L×L determinant into that of a triangular M×M matrix:
    log|det| = Σ log(1 + tanh' r₁ r₂) over the diagonals. Both are kept within ±0.999 by tanh, so
    that r₁ r₂ > −1 and the map can be inverted.

    Args:
        num_dims: L.
        num_units: M ≤ L.

    Raises:
        ValueError: when M is out of range.

    """

    def __init__(self, num_dims, num_units):
        super().__init__()
        whole_number("num_units", num_units, 1, num_dims)
        self.num_dims = num_dims
        self.frame = nn.Parameter(torch.randn(num_dims, num_units))
        self.r1 = nn.Parameter(torch.randn(num_units, num_units))
        self.r2 = nn.Parameter(torch.randn(num_units, num_units))
        self.b = nn.Parameter(torch.randn(num_units))

    def matrices(self):
        """Q `(L, M)`, R₁ and R₂ `(M, M)`."""
        return torch.linalg.qr(self.frame).Q, _triangular(self.r1), _triangular(self.r2)

    @takes(z="B .num_dims")
    @full_precision
    def inverse(self, z):
        """Base → data, `(B, L) → (B, L), (B,)`."""
        q, r1, r2 = self.matrices()
        h = torch.tanh(z @ q @ r2.T + self.b)
        slopes = (1 - h**2) * r1.diagonal() * r2.diagonal()
        return z + h @ r1.T @ q.T, torch.log1p(slopes).sum(1)

    def forward(self, x):
        """Data → base has no closed form."""
        raise NotImplementedError("a Sylvester flow's inverse has no closed form: base → data only")


def _triangular(raw):
    return raw.triu(1) + torch.diag(DIAGONAL_BOUND * torch.tanh(raw.diagonal()))
