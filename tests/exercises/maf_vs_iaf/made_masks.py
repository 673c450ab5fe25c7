"""Right answers for `made_masks`, each in another style."""

import itertools

import torch


def masks_in_loops(num_inputs, hidden_sizes, order):
    """Every connection is decided on its own; tuples, and whole numbers in place of floats."""
    degrees = [[order.index(i) for i in range(num_inputs)]]
    for size in hidden_sizes:
        degrees.append([unit % max(1, num_inputs - 1) for unit in range(size)])
    masks = []
    for before, after in itertools.pairwise(degrees):
        rows = [[1 if a <= b else 0 for a in before] for b in after]
        masks.append(torch.tensor(rows, dtype=torch.long))
    rows = [[1 if a < b else 0 for a in degrees[-1]] for b in degrees[0]]
    masks.append(torch.tensor(rows, dtype=torch.uint8))
    return tuple(masks)


def masks_from_the_top(num_inputs, hidden_sizes, order):
    """Degrees fall along a layer, and count the inputs that come later; boolean."""
    later = torch.empty(num_inputs, dtype=torch.long)
    later[torch.tensor(order)] = torch.arange(num_inputs).flip(0)
    layers = [later]
    for size in hidden_sizes:
        layers.append(torch.arange(size).remainder(max(num_inputs - 1, 1)) + 1)
    masks = [a[None, :] >= b[:, None] for a, b in itertools.pairwise(layers)]
    # An input with r later inputs may not be seen by units that allow fewer.
    last = later[:, None] < layers[-1][None, :]
    return [*masks, last]


def masks_by_permutation(num_inputs, hidden_sizes, order):
    """Masks of the natural order, with rows and columns moved to their places."""
    place = torch.tensor(order).argsort()
    sizes = [num_inputs, *hidden_sizes, num_inputs]
    reach = [torch.arange(num_inputs, dtype=torch.float64)]
    for size in hidden_sizes:
        reach.append(torch.linspace(0, max(0, num_inputs - 2), size, dtype=torch.float64).round())
    if not hidden_sizes:
        return [torch.ones(num_inputs, num_inputs).tril(-1)[place][:, place]]
    masks = [torch.ones(b, a, dtype=torch.float64) for a, b in itertools.pairwise(sizes)]
    for mask, below, above in zip(masks, reach, reach[1:], strict=False):
        mask *= (above.unsqueeze(1) - below.unsqueeze(0)) >= 0
    masks[-1] *= (reach[0].unsqueeze(1) - reach[-1].unsqueeze(0)) > 0
    masks[0] = masks[0][:, place]
    masks[-1] = masks[-1][place]
    return masks


RIGHT = (masks_in_loops, masks_from_the_top, masks_by_permutation)
