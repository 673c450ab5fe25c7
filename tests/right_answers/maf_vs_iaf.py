"""Right answers written in different ways: every check must pass all of them."""

import functools
import itertools

import torch
from torch import nn
from torch.distributions import AffineTransform, Normal


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


def maf_with_division(x, net):
    mu, log_sigma = net(x)
    sigma = log_sigma.exp()
    z = (x - mu) / sigma
    return z, (-log_sigma).sum(dim=-1)


def maf_in_a_loop(x, net):
    mu, log_sigma = net(x)
    columns, total = [], 0
    for i in range(x.shape[1]):
        columns.append((x[:, i] - mu[:, i]) / torch.exp(log_sigma[:, i]))
        total = total + log_sigma[:, i]
    return [torch.stack(columns, dim=1), -total]


def maf_from_transforms(x, net):
    mu, log_sigma = net(x)
    transform = AffineTransform(mu, log_sigma.exp(), event_dim=0).inv
    return transform(x), torch.einsum("bd->b", -log_sigma)


def sampling_by_repetition(z, net):
    x = torch.zeros_like(z)
    for _ in range(z.shape[1]):
        mu, log_sigma = net(x)
        x = z * torch.exp(log_sigma) + mu
    return x


def sampling_by_columns(z, net):
    b, d = z.shape
    columns = []
    for i in range(d):
        x = torch.cat([*columns, z.new_zeros(b, d - i)], dim=1)
        mu, log_sigma = net(x)
        columns.append((mu + log_sigma.exp() * z)[:, i : i + 1])
    return torch.cat(columns, dim=1)


def sampling_into_copies(z, net):
    x = z
    for i in range(len(z.T)):
        mu, log_sigma = net(x)
        x = x.clone()
        x[:, i] = Normal(mu[:, i], 1.0).mean + log_sigma[:, i].exp() * z[:, i]
    return x


def sampling_by_recursion(z, net):
    def first(i):
        """The coordinates before the i-th, right; what follows is any number."""
        if i == 0:
            return torch.zeros_like(z)
        mu, log_sigma = net(first(i - 1))
        return torch.addcmul(mu, z, log_sigma.exp())

    return first(z.size(-1))


def iaf_fused(z, net):
    mu, log_sigma = net(z)
    return torch.addcmul(mu, z, log_sigma.exp()), torch.einsum("bd->b", log_sigma)


def iaf_in_a_loop(z, net):
    mu, log_sigma = net(z)
    columns, total = [], torch.zeros_like(z[:, 0])
    for i in range(z.shape[1]):
        columns.append(mu[:, i] + torch.exp(log_sigma[:, i]) * z[:, i])
        total = total + log_sigma[:, i]
    return torch.stack(columns, 1), total


def iaf_from_transforms(z, net):
    mu, log_sigma = net(z)
    return AffineTransform(mu, torch.exp(log_sigma))(z), log_sigma @ torch.ones_like(z[0])


def density_by_repetition(x, net):
    z = x
    for _ in range(x.shape[1]):
        mu, log_sigma = net(z)
        z = (x - mu) / torch.exp(log_sigma)
    return z


def density_by_columns(x, net):
    columns = []
    for i in range(x.shape[1]):
        mu, log_sigma = net(
            torch.stack(columns + [torch.zeros_like(x[:, 0])] * (x.shape[1] - i), 1)
        )
        columns.append((x[:, i] - mu[:, i]) * torch.exp(-log_sigma[:, i]))
    return torch.stack(columns, 1)


def density_with_where(x, net):
    z = torch.zeros_like(x)
    for is_new in torch.eye(x.shape[1], device=x.device, dtype=torch.bool):
        mu, log_sigma = net(z)
        z = torch.where(is_new, x.sub(mu).mul(log_sigma.neg().exp()), z)
    return z


def coupling_with_split(x, net, split):
    first, rest = x.tensor_split([split], dim=1)
    t, s = net(first)
    return torch.hstack([first, t + s.exp() * rest]), s.sum(dim=1)


def coupling_into_a_copy(x, net, split):
    t, s = net(x[:, :split])
    z = x.clone()
    z[:, split:] = torch.addcmul(t, x[:, split:], torch.exp(s))
    return (z, torch.einsum("bd->b", s))


def coupling_padded(x, net, split):
    """Shift and log-scale for all coordinates, 0 for those that stay."""
    shift, log_scale = (nn.functional.pad(part, (split, 0)) for part in net(x[:, :split]))
    return x * torch.exp(log_scale) + shift, log_scale.sum(1)


def coupling_in_a_loop(x, net, split):
    t, s = net(x[:, :split])
    columns = list(x.T[:split])
    log_det = 0
    for i in range(x.shape[1] - split):
        columns.append(x[:, split + i] * s[:, i].exp() + t[:, i])
        log_det = log_det + s[:, i]
    return torch.stack(columns, -1), log_det


class CouplingConditioner(nn.Module):
    def __init__(self, net, split):
        super().__init__()
        self.net, self.split = net, split

    def forward(self, x):
        t, s = self.net(x[:, : self.split])
        sigma = 1 / torch.exp(s)
        pad = (self.split, 0)
        return nn.functional.pad(-t * sigma, pad), nn.functional.pad(-s, pad)


def conditioner_of(net, split, x):
    t, s = net(x[:, :split])
    mu, log_sigma = torch.zeros_like(x), torch.zeros_like(x)
    mu[:, split:] = -t / torch.exp(s)
    log_sigma[:, split:] = -s
    return mu, log_sigma


def conditioner_with_closure(net, split):
    def conditioner(x):
        t, s = net(x[..., :split])
        keep = 0 * x[..., :split]
        return [torch.hstack([keep, -torch.exp(-s) * t]), torch.hstack([keep, -s])]

    return conditioner


def kl_from_its_parts(z, base_log_prob, generate, target_log_prob):
    x, log_det = generate(z)
    log_p = base_log_prob(z).sub(log_det)
    return log_p - target_log_prob(x)


def kl_in_a_loop(z, base_log_prob, generate, target_log_prob):
    values = []
    for row in z.split(1):
        x, log_det = generate(row)
        values.append(-(target_log_prob(x) + log_det - base_log_prob(row)))
    return torch.cat(values)


def kl_summed(z, base_log_prob, generate, target_log_prob):
    x, log_det = generate(z)
    return torch.stack([base_log_prob(z), -log_det, -target_log_prob(x)]).sum(0)


def loss_from_entropies(z, base_log_prob, student_generate, teacher_log_prob):
    x, log_det = student_generate(z)
    entropy = -(base_log_prob(z) - log_det).mean()
    cross_entropy = -teacher_log_prob(x).mean()
    return cross_entropy - entropy


def loss_in_a_loop(z, base_log_prob, student_generate, teacher_log_prob):
    total = 0.0
    for b in range(len(z)):
        x, log_det = student_generate(z[b : b + 1])
        log_student = base_log_prob(z[b : b + 1]) - log_det
        total = total + (log_student - teacher_log_prob(x)).squeeze(0)
    return total / len(z)


def loss_by_dot_product(z, base_log_prob, student_generate, teacher_log_prob):
    x, log_det = student_generate(z)
    log_ratio = base_log_prob(z) - log_det - teacher_log_prob(x)
    return log_ratio @ torch.full_like(log_ratio, 1 / z.shape[0])


RIGHT = {
    "made_masks": (masks_in_loops, masks_from_the_top, masks_by_permutation),
    "maf_forward": (maf_with_division, maf_in_a_loop, maf_from_transforms),
    "maf_inverse": (
        sampling_by_repetition,
        sampling_by_columns,
        sampling_into_copies,
        sampling_by_recursion,
    ),
    "iaf_inverse": (iaf_fused, iaf_in_a_loop, iaf_from_transforms),
    "iaf_forward": (density_by_repetition, density_by_columns, density_with_where),
    "coupling_forward": (
        coupling_with_split,
        coupling_into_a_copy,
        coupling_padded,
        coupling_in_a_loop,
    ),
    "coupling_as_maf": (
        CouplingConditioner,
        conditioner_with_closure,
        lambda net, split: functools.partial(conditioner_of, net, split),
        lambda net, split: lambda x: conditioner_of(net, split, x),
    ),
    "reverse_kl": (kl_from_its_parts, kl_in_a_loop, kl_summed),
    "distillation_loss": (loss_from_entropies, loss_in_a_loop, loss_by_dot_product),
}
