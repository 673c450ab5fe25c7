"""MADE: one network whose k-th output sees only the inputs before the k-th, in any order.

Source: Germain, Gregor, Murray, Larochelle, "MADE: Masked Autoencoder for Distribution Estimation"
(2015).
"""

import torch
import torch.nn.functional as F
from torch import nn

from dgm_utils.maf_vs_iaf import made_masks, solve_in_order
from dgm_utils.models.made_by_degree import solve_by_degree
from dgm_utils.validate import takes


class MaskedLinear(nn.Linear):
    """A linear layer with some of its weights held at zero.

    Args:
        mask: `(out, in)` of 0 and 1.

    """

    def __init__(self, mask):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, v):
        """`(B, in) → (B, out)`."""
        return F.linear(v, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    """An autoregressive network with several outputs for each input: a conditioner.

    Args:
        num_inputs: D.
        hidden_sizes: units of each hidden layer.
        num_params: outputs for each input, e.g. 2 for a mean and a log-scale.
        order: `order[k]` is the index of the input that comes k-th; by default 0 … D−1.
        activation: function between the layers, elementwise; may work in place, which saves memory.

    Raises:
        ValueError: as `made_masks`.

    """

    def __init__(
        self, num_inputs, hidden_sizes=(256, 256), num_params=2, order=None, activation=torch.relu_
    ):
        super().__init__()
        self.num_inputs = num_inputs
        self.num_params = num_params
        self.activation = activation
        self.order = list(range(num_inputs)) if order is None else [int(i) for i in order]
        *hidden, last = made_masks(num_inputs, hidden_sizes, self.order)
        masks = [*hidden, last.repeat(num_params, 1)]
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in masks)

    def forward(self, v):
        """Conditioner's outputs, `(B, D)` → tuple of `num_params` tensors `(B, D)`.

        Raises:
            ValueError: when v has another shape.

        """
        if v.ndim != 2 or v.shape[1] != self.num_inputs:
            raise ValueError(f"v must have the shape (B, {self.num_inputs}), not {tuple(v.shape)}")
        *hidden, last = self.layers
        for layer in hidden:
            v = self.activation(layer(v))
        return last(v).chunk(self.num_params, dim=1)

    @takes(v="B .num_inputs")
    def solve(self, v, update):
        """Find y with `y_i = update(v_i, *params_i(y))`, the direction that has to go in order.

        `params_i` depends on the y before i only, so y is found one coordinate after the other: by
        D runs of the network in `solve_in_order`, or, under `torch.no_grad()`, by the work of half
        a run in `solve_by_degree`.

        Args:
            v: `(B, D)`.
            update: elementwise, of `num_params + 1` tensors.

        Returns:
            y `(B, D)` and the tuple of the `num_params` outputs at y, `(B, D)` each.

        """
        tensors = [v, *self.parameters()]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return solve_in_order(v, self, update, self.order)
        return solve_by_degree(self, v, update)
