"""MADE: one network whose k-th output sees only the inputs before the k-th, in any order.

Source: Germain, Gregor, Murray, Larochelle, "MADE: Masked Autoencoder for Distribution Estimation"
(2015).
"""

import torch
import torch.nn.functional as F
from torch import nn

from dgm_utils.validate import takes, whole_number


def made_masks(num_inputs, hidden_sizes, order):
    """Masks of an autoregressive network: output i depends on the inputs that come before i only.

    Each hidden unit has a degree d between 1 and D−1. It sees the inputs that come d-th or sooner
    and the units of degree ≤ d; the output that comes k-th sees the units of degree < k. A layer of
    D−1 units or more has every degree, so that no allowed path is missing: the product of the masks
    is full below the diagonal of the order. Degrees never fall along a layer: `MADE.solve` lives
    off that.

    Args:
        num_inputs: D, at least 1.
        hidden_sizes: units of each hidden layer; may be empty.
        order: `order[k]` is the index of the input that comes k-th, a permutation of 0 … D−1.

    Returns:
        list of `len(hidden_sizes) + 1` masks `(out, in)` of 0 and 1, the last `(D, ·)`.

    Raises:
        ValueError: when the order is no permutation, or a size is below 1.

    """
    whole_number("num_inputs", num_inputs, 1)
    for size in hidden_sizes:
        whole_number("each of hidden_sizes", size, 1)
    order = torch.as_tensor(order).tolist()
    if sorted(order) != list(range(num_inputs)):
        raise ValueError(f"order must be a permutation of 0 … {num_inputs - 1}, not {order}")
    place = 1 + torch.tensor(inverse_order(order))
    masks, below = [], place
    for size in hidden_sizes:
        degrees = hidden_degrees(num_inputs, size)
        masks.append(degrees[:, None] >= below)
        below = degrees
    masks.append(place[:, None] > below)
    return [mask.to(torch.get_default_dtype()) for mask in masks]


def hidden_degrees(num_inputs, size):
    """Degrees of a hidden layer, `(size,)` integers from 1 to D−1, evenly spread, never falling."""
    return 1 + torch.arange(size) * (num_inputs - 1) // size


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

        `params_i` depends on the y before i only, so y is found one coordinate after the other.
        The plain way, `solve_in_order`, runs the whole network D times and keeps one coordinate of
        each run. Almost all of that is computed again and again: when y_k becomes known, the only
        hidden units that change are those of degree k. Units are sorted by degree, so in each layer
        they are one slice, and what they see is everything before it: one small matrix product a
        layer. After D such steps every unit has been computed once, which is half the arithmetic
        of *one* run of the network, the zeros of the masks being left out, in place of D.

        Where gradients are asked for, the plain way is taken: units that are written into one
        buffer have no gradient. Call it under `torch.no_grad()` to be fast.

        Args:
            v: `(B, D)`.
            update: elementwise, of `num_params + 1` tensors.

        Returns:
            y `(B, D)` and the tuple of the `num_params` outputs at y, `(B, D)` each.

        """
        tensors = [v, *self.parameters()]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return solve_in_order(v, self, update, self.order)
        return self._solve_by_degree(v, update)

    @torch.no_grad()
    def _solve_by_degree(self, v, update):
        # Everything transposed, `(units, B)`, and inputs and outputs in their order: then what is
        # read and what is written are blocks of rows, contiguous in memory.
        order = torch.tensor(self.order, device=v.device)
        v = v.T[order]
        weights = [layer.weight for layer in self.layers]
        weights[0] = weights[0][:, order]
        weights[-1] = self._by_input(weights[-1], order)
        # Each buffer starts as the biases; products are added to it.
        *biases, last_bias = [layer.bias[:, None].expand(-1, v.shape[1]) for layer in self.layers]
        y = torch.empty_like(v)
        units = [y] + [bias.clone() for bias in biases]
        params = self._by_input(last_bias, order)

        sizes = [
            hidden_degrees(self.num_inputs, len(bias)).bincount(minlength=self.num_inputs + 1)[1:]
            for bias in biases
        ]
        ends = [size.cumsum(0).tolist() for size in sizes]
        rows = [w.split(size.tolist()) for w, size in zip(weights, sizes, strict=False)]
        slices = [u.split(size.tolist()) for u, size in zip(units[1:], sizes, strict=True)]
        known = 0  # how many units of the last hidden layer are computed
        steps = zip(v, y, params, weights[-1], strict=True)
        for k, (v_k, y_k, params_k, weight) in enumerate(steps):
            params_k.addmm_(weight[:, :known], units[-1][:known])
            y_k.copy_(update(v_k, *params_k))
            known = k + 1
            for i, (new, end) in enumerate(zip(slices, ends, strict=True)):
                if len(new[k]):
                    new[k].addmm_(rows[i][k][:, :known], units[i][:known])
                    new[k].copy_(self.activation(new[k]))
                known = end[k]
        back = order.argsort()
        return y[back].T.contiguous(), tuple(params[back].permute(1, 2, 0))

    def _by_input(self, rows, order):
        """Rows of the last layer → `(D, num_params, n)`: in order, one input's outputs together."""
        return rows.unflatten(0, (self.num_params, -1))[:, order].transpose(0, 1).contiguous()


def solve_in_order(v, net, update, order):
    """Find y with `y_i = update(v_i, *net(y)_i)` for an autoregressive net, by D calls of it.

    Args:
        v: `(B, D)`.
        net: `(B, D)` → tuple of `(B, D)`, autoregressive in the order given.
        update: elementwise, of v and the net's outputs.
        order: `order[k]` is the index of the coordinate that comes k-th.

    Returns:
        y `(B, D)` and the tuple of the net's outputs at y, differentiable.

    """
    y = torch.zeros_like(v)
    found = []
    for index in order:
        # The outputs at `index` are final: all that they depend on is in y. What comes later stays
        # 0 meanwhile; a wild guess there might overflow, and a mask times infinity is NaN.
        found.append([param[:, index] for param in net(y)])
        column = update(v[:, index], *found[-1])
        is_new = torch.arange(v.shape[1], device=v.device) == index
        y = torch.where(is_new, column[:, None], y)
    params = zip(*(found[k] for k in inverse_order(order)), strict=True)
    return y, tuple(torch.stack(param, 1) for param in params)


def inverse_order(order):
    """The place k of each index: undoes `[values[index] for index in order]`."""
    return sorted(range(len(order)), key=order.__getitem__)
