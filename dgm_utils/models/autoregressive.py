"""Masked and inverse autoregressive flows: the same map, read in opposite directions.

Both scale and shift each coordinate by functions of the coordinates before it. The direction in
which those coordinates are given costs one pass through the network. In the other they have to be
found first, one after the other: D passes.

| | density (data → base) | sampling (base → data) |
| --- | --- | --- |
| MAF: μ, σ are functions of x | 1 pass | D passes |
| IAF: μ, σ are functions of z | D passes | 1 pass |

So MAF is for maximum likelihood, which asks for the density of given points, and IAF for
variational inference and distillation, which ask for samples with their density.

Sources: Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow" (2016);
Papamakarios, Pavlakou, Murray, "Masked Autoregressive Flow for Density Estimation" (2017); lecture
L6-2021.
"""

import torch
from torch import nn

from dgm_utils.maf_vs_iaf import iaf_inverse, maf_forward, scale_and_shift, shift_and_scale
from dgm_utils.models.densities import bounded
from dgm_utils.models.flow import Flow, StandardNormal
from dgm_utils.models.made import MADE
from dgm_utils.validate import whole_number


class AutoregressiveLayer(nn.Module):
    """What a MAF and an IAF layer share: a MADE that gives μ and a bounded log σ.

    Args:
        num_dims: D.
        hidden_sizes: units of each hidden layer of the MADE.
        order: `order[k]` is the index of the coordinate that comes k-th.
        bound: log σ = bound · tanh(raw / bound), so σ stays between e^−bound and e^bound.
        activation: of the MADE.

    Raises:
        ValueError: when the order is no permutation of 0 … D−1.

    """

    def __init__(
        self, num_dims, hidden_sizes=(256, 256), order=None, bound=5.0, activation=torch.relu_
    ):
        super().__init__()
        self.made = MADE(num_dims, hidden_sizes, 2, order, activation)
        self.bound = bound

    def conditioner(self, v):
        """`(B, D) → (mu, log_sigma)`, each `(B, D)`: one pass through the network."""
        mu, raw = self.made(v)
        return mu, bounded(raw, self.bound)

    def solve(self, v, update):
        """Solve `y = update(v, mu(y), log_sigma(y))`: y and log_sigma(y), `(B, D)` each.

        `MADE.solve` says why this is fast without gradients, and slow with them.
        """
        y, (_, raw) = self.made.solve(v, lambda v, mu, raw: update(v, mu, bounded(raw, self.bound)))
        return y, bounded(raw, self.bound)


class MAFLayer(AutoregressiveLayer):
    """Masked autoregressive layer: `z = (x − μ(x)) / σ(x)`; see `AutoregressiveLayer`."""

    def forward(self, x):
        """Data → base in one pass, `(B, D) → (B, D), (B,)`."""
        return maf_forward(x, self.conditioner)

    def inverse(self, z):
        """Base → data, one coordinate after the other, `(B, D) → (B, D), (B,)`."""
        x, log_sigma = self.solve(z, scale_and_shift)
        return x, log_sigma.sum(1)


class IAFLayer(AutoregressiveLayer):
    """Inverse autoregressive layer: `x = σ(z) ⊙ z + μ(z)`; see `AutoregressiveLayer`."""

    def forward(self, x):
        """Data → base, one coordinate after the other, `(B, D) → (B, D), (B,)`."""
        z, log_sigma = self.solve(x, shift_and_scale)
        return z, -log_sigma.sum(1)

    def inverse(self, z):
        """Base → data in one pass, `(B, D) → (B, D), (B,)`."""
        return iaf_inverse(z, self.conditioner)


class AutoregressiveFlow(Flow):
    """A stack of autoregressive layers over N(0, I), each in the reverse order of the one before.

    In any one order the first coordinate is modelled as a Gaussian, however large the network;
    turning the order round from layer to layer lets each coordinate see all others.
    """

    layer = None

    def __init__(self, num_dims, num_layers=5, **options):
        whole_number("num_layers", num_layers, 1)
        orders = [range(num_dims), range(num_dims)[::-1]]
        layers = [self.layer(num_dims, order=orders[i % 2], **options) for i in range(num_layers)]
        super().__init__(layers, StandardNormal(num_dims))


class MAF(AutoregressiveFlow):
    """Masked autoregressive flow: `log_prob` takes one pass a layer, `sample` D steps.

    Args:
        num_dims: D.
        num_layers: layers, in alternating order.
        **options: of each `MAFLayer`.

    """

    layer = MAFLayer


class IAF(AutoregressiveFlow):
    """Inverse autoregressive flow: sampling takes one pass a layer, `log_prob` of data D steps.

    Args:
        num_dims: D.
        num_layers: layers, in alternating order.
        **options: of each `IAFLayer`.

    """

    layer = IAFLayer
