"""Dequantization: noise u in [0, 1) that turns grey levels x into real numbers x + u.

A density p(y) of real vectors gives the level x the probability `P(x) = ∫ p(x + u) du` over its
cell. With noise from any q(u|x), `E_q [log p(x + u) − log q(u|x)] ≤ log P(x)`, in nats; the gap is
the KL from q to p(u|x), the density within the cell.

A dequantizer turns levels `(B, D)` and noise `(S, B, D)` into `u (S, B, D)` and
`log q(u|x) (S, B)`; `draw` makes the noise it wants.

Sources: Theis, van den Oord, Bethge, "A note on the evaluation of generative models" (2016); Ho et
al., "Flow++" (2019); lectures L6-2021 and L7-2021.
"""

import torch
from torch import nn

from dgm_utils.dequantization import log_sigmoid_slope
from dgm_utils.models.densities import bounded, standard_normal_log_prob
from dgm_utils.validate import levels, takes, whole_number, within

# Scales between e⁻⁵ and e⁵.
LOG_SCALE_LIMIT = 5


class Dequantizer(nn.Module):
    """What both have in common: S draws of the noise in [0, 1)."""

    def sample(self, x, num_samples=1, generator=None):
        """`(B, D)` levels `→ u (S, B, D), log q(u|x) (S, B)`."""
        whole_number("num_samples", num_samples, 1)
        return self(x, self.draw((num_samples, *x.shape), generator))


class UniformDequantizer(Dequantizer):
    """`q(u|x) = U[0, 1)`: nothing to learn, and the best there is only for a flat density."""

    def draw(self, shape, generator=None):
        """Noise of U[0, 1) on the generator's device, in the default float type."""
        device = generator.device if generator else None
        return torch.rand(shape, generator=generator, device=device)

    @takes(x="any B D", noise="S B D")
    def forward(self, x, noise):
        """`(B, D), (S, B, D) → u (S, B, D), log q (S, B)`: the noise itself, and zero."""
        within("noise", noise, 0, 1)
        return noise, noise.new_zeros(noise.shape[:2])


class VariationalDequantizer(Dequantizer):
    """`q(u|x)` as a flow conditioned on x: affine couplings, then a sigmoid (Flow++).

    Each coupling moves one half of the noise by amounts that depend on x and on the other half, so
    that the noise of neighbouring pixels may depend on each other. A last layer moves all of it by
    what x says alone; without couplings the entries of u are independent given x.

    Args:
        num_dims: D; at least 2 when there are couplings.
        num_levels: levels of x, used to bring it to [−1, 1] for the networks.
        hidden: units of each network's hidden layer.
        num_couplings: how many.

    """

    def __init__(self, num_dims, num_levels, hidden=64, num_couplings=2):
        super().__init__()
        whole_number("num_levels", num_levels, 2)
        whole_number("num_couplings", num_couplings, 0)
        whole_number("num_dims", num_dims, 2 if num_couplings else 1)
        self.num_dims, self.num_levels = num_dims, num_levels
        self.nets = nn.ModuleList(self._net(hidden) for _ in range(num_couplings + 1))
        # Even entries move in even couplings, odd ones in odd ones, all of them at last.
        moves = torch.arange(num_dims) % 2 == torch.arange(num_couplings + 1)[:, None] % 2
        moves[-1] = True
        self.register_buffer("moves", moves, persistent=False)

    def draw(self, shape, generator=None):
        """Noise of N(0, I), in the dtype and on the device of the weights."""
        weight = self.nets[0][0].weight
        return torch.randn(shape, generator=generator, dtype=weight.dtype, device=weight.device)

    @takes(x="any B .num_dims", noise="S B .num_dims")
    def forward(self, x, noise):
        """`(B, D), (S, B, D) → u (S, B, D), log q(u|x) (S, B)`."""
        levels("x", x, self.num_levels)
        scaled = (2 * x.to(noise.dtype) / (self.num_levels - 1) - 1).expand_as(noise)
        a, log_det = noise, 0
        for moves, net in zip(self.moves, self.nets, strict=True):
            seen = torch.cat([scaled, a.masked_fill(moves, 0)], -1)
            shift, raw = net(seen).chunk(2, -1)
            log_scale = bounded(raw, LOG_SCALE_LIMIT) * moves
            a = a * torch.exp(log_scale) + shift * moves
            log_det = log_det + log_scale.sum(-1)
        log_q = standard_normal_log_prob(noise) - log_det - log_sigmoid_slope(a)
        return torch.sigmoid(a), log_q

    def _net(self, hidden):
        net = nn.Sequential(
            nn.Linear(2 * self.num_dims, hidden), nn.ReLU(), nn.Linear(hidden, 2 * self.num_dims)
        )
        # Starts as the identity: no shift, no scale.
        nn.init.zeros_(net[-1].weight)
        nn.init.zeros_(net[-1].bias)
        return net
