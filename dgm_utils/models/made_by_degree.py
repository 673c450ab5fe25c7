"""The direction of a MADE that has to go in order, by half the arithmetic of one run in place of D.

`solve_in_order` runs the whole network D times and keeps one coordinate of each run. Almost all of
that is computed again and again: when y_k becomes known, the only hidden units that change are
those of degree k. Units are sorted by degree, so in each layer they are one slice, and what they
see is everything before it: one small matrix product a layer. After D such steps every unit has
been computed once, and the zeros of the masks are left out.
"""

import torch

from dgm_utils.maf_vs_iaf import hidden_degrees


@torch.no_grad()
def solve_by_degree(made, v, update):
    """Find y with `y_i = update(v_i, *made(y)_i)`, without gradients: units share a buffer.

    Arguments and result as in `MADE.solve`.
    """
    # Everything transposed, `(units, B)`, and inputs and outputs in their order: then what is read
    # and what is written are blocks of rows, contiguous in memory.
    order = torch.tensor(made.order, device=v.device)
    v = v.T[order]
    weights = [layer.weight for layer in made.layers]
    weights[0] = weights[0][:, order]
    weights[-1] = _by_input(weights[-1], made.num_params, order)

    # Each buffer starts as the biases; products are added to it.
    *biases, last_bias = [layer.bias[:, None].expand(-1, v.shape[1]) for layer in made.layers]
    y = torch.empty_like(v)
    units = [y] + [bias.clone() for bias in biases]
    params = _by_input(last_bias, made.num_params, order)

    # Of each hidden layer: how many units have the degree k, and those units' rows.
    sizes = [
        hidden_degrees(made.num_inputs, len(bias)).bincount(minlength=made.num_inputs + 1)[1:]
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
        # Now the units of degree k + 1, layer after layer.
        known = k + 1
        for i, (new, end) in enumerate(zip(slices, ends, strict=True)):
            if len(new[k]):
                new[k].addmm_(rows[i][k][:, :known], units[i][:known])
                new[k].copy_(made.activation(new[k]))
            known = end[k]

    back = order.argsort()
    return y[back].T.contiguous(), tuple(params[back].permute(1, 2, 0))


def _by_input(rows, num_params, order):
    """Rows of the last layer → `(D, num_params, n)`: in order, one input's outputs together."""
    return rows.unflatten(0, (num_params, -1))[:, order].transpose(0, 1).contiguous()
