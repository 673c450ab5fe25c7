"""MAF against IAF: which direction is cheap, and what each is good for.

`forward` goes data → base, `inverse` base → data. A conditioner `net(v)` returns
`(mu, log_sigma)`, each `(B, D)`, autoregressive in the natural order. Everything is in nats.

Sources: Papamakarios, Pavlakou, Murray, "Masked Autoregressive Flow for Density Estimation" (2017);
Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow" (2016); van den
Oord et al., "Parallel WaveNet" (2017); lecture L6-2021.
"""

import torch

from dgm_utils.validate import takes, whole_number


def made_masks(num_inputs, hidden_sizes, order):
    """Masks of an autoregressive network: output i depends on the inputs that come before i only.

    Each hidden unit has a degree d between 1 and D−1. It sees the inputs that come d-th or sooner
    and the units of degree ≤ d; the output that comes k-th sees the units of degree < k. A layer of
    D−1 units or more has every degree, so that no allowed path is missing: the product of the masks
    is full below the diagonal of the order. Degrees never fall along a layer:
    `models/made_by_degree.py` lives off that.

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


@takes(x="B D")
def maf_forward(x, net):
    """Data → base in one call of the conditioner: `z = (x − μ(x)) / σ(x)`.

    z_i depends on x_1 … x_i, so the Jacobian is triangular with 1/σ_i on its diagonal.

    Args:
        x: `(B, D)` data.
        net: conditioner, `net(x) → (mu, log_sigma)`, each `(B, D)`, autoregressive.

    Returns:
        z `(B, D)` and log|det ∂z/∂x| `(B,)` in nats.

    """
    mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-log_sigma), -log_sigma.sum(1)


@takes(z="B D")
def maf_inverse(z, net):
    """Base → data by D calls of the conditioner: `x_i = σ_i(x_1…x_{i−1}) z_i + μ_i(x_1…x_{i−1})`.

    Args:
        z: `(B, D)`.
        net: conditioner as in `maf_forward`, autoregressive in the natural order.

    Returns:
        x `(B, D)`.

    """
    return solve_in_order(z, net, scale_and_shift, list(range(z.shape[1])))[0]


@takes(z="B D")
def iaf_inverse(z, net):
    """Base → data in one call of the conditioner: `x = σ(z) ⊙ z + μ(z)`.

    Args:
        z: `(B, D)` draws of the base.
        net: conditioner, `net(z) → (mu, log_sigma)`, each `(B, D)`, autoregressive.

    Returns:
        x `(B, D)` and log|det ∂x/∂z| `(B,)` in nats.

    """
    mu, log_sigma = net(z)
    return scale_and_shift(z, mu, log_sigma), log_sigma.sum(1)


@takes(x="B D")
def iaf_forward(x, net):
    """Data → base by D calls of the conditioner: `z_i = (x_i − μ_i(z_1…z_{i−1})) / σ_i(z_1…)`.

    Args:
        x: `(B, D)` data.
        net: conditioner as in `iaf_inverse`, autoregressive in the natural order.

    Returns:
        z `(B, D)`.

    """
    return solve_in_order(x, net, shift_and_scale, list(range(x.shape[1])))[0]


def scale_and_shift(v, mu, log_sigma):
    """`σ v + μ`, elementwise."""
    return v * torch.exp(log_sigma) + mu


def shift_and_scale(v, mu, log_sigma):
    """`(v − μ) / σ`, elementwise: undoes `scale_and_shift`."""
    return (v - mu) * torch.exp(-log_sigma)


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


@takes(x="B D")
def coupling_forward(x, net, split):
    """Affine coupling, data → base: the first coordinates stay, the rest is scaled and shifted.

    `z = (x_1…x_split, x_rest ⊙ exp(s) + t)` with `(t, s) = net(x_1…x_split)`. The network is never
    inverted, so it may be anything.

    Args:
        x: `(B, D)` data.
        net: `(B, split)` → (t, s), each `(B, D − split)`: the shift first, as a conditioner's mu.
        split: 0 < split < D, how many coordinates stay.

    Returns:
        z `(B, D)` and log|det ∂z/∂x| `(B,)` in nats.

    Raises:
        ValueError: when split is out of range.

    """
    whole_number("split", split, 1, x.shape[1] - 1)
    first, rest = x[:, :split], x[:, split:]
    shift, log_scale = net(first)
    return torch.cat([first, rest * torch.exp(log_scale) + shift], 1), log_scale.sum(1)


def coupling_as_maf(net, split):
    """The conditioner that makes a MAF out of a coupling layer: RealNVP is a special case.

    `x ⊙ exp(s) + t = (x − μ) / σ` with `log σ = −s` and `μ = −t exp(−s)`; the coordinates that
    stay have μ = 0 and σ = 1. All of the rest depends on the first `split` only, so it is
    autoregressive.

    Args:
        net: `(B, split)` → (t, s), each `(B, D − split)`, as in `coupling_forward`.
        split: 0 < split < D.

    Returns:
        conditioner, `(B, D) → (mu, log_sigma)`, each `(B, D)`.

    Raises:
        ValueError: when split is out of range; also when the conditioner is called.

    """
    whole_number("split", split, 1)

    @takes(x="B D")
    def conditioner(x):
        whole_number("split", split, 1, x.shape[1] - 1)
        shift, log_scale = net(x[:, :split])
        stays = torch.zeros_like(x[:, :split])
        mu = torch.cat([stays, -shift * torch.exp(-log_scale)], 1)
        return mu, torch.cat([stays, -log_scale], 1)

    return conditioner


@takes(z="B D")
def reverse_kl(z, base_log_prob, generate, target_log_prob):
    """One-sample estimates of KL(p‖π) of a flow p and a target π, in nats.

    `log p(z) − log|det ∂x/∂z| − log π(x)` at `x = g(z)`. Only g is needed, and no sample of π: an
    IAF, whose g is the cheap direction, is made for it. With an unnormalized π the values are too
    low by the log of its integral.

    Args:
        z: `(B, D)` draws of the base.
        base_log_prob: `(B, D) → (B,)`.
        generate: base → data, `generate(z) → (x, log_det)`.
        target_log_prob: `(B, D) → (B,)`, log π.

    Returns:
        `(B,)`, differentiable in the parameters of all three.

    """
    x, log_det = generate(z)
    return base_log_prob(z) - log_det - target_log_prob(x)


def distillation_loss(z, base_log_prob, student_generate, teacher_log_prob):
    """Probability density distillation, an estimate of KL(p_s‖p_t) = H(p_s, p_t) − H(p_s), in nats.

    The student draws, and knows the density of what it drew; the teacher scores it. Both go their
    fast way when the student is an IAF and the teacher a MAF.

    Args:
        z: `(B, D)` draws of the base.
        base_log_prob: `(B, D) → (B,)`.
        student_generate: base → data, `student_generate(z) → (x, log_det)`.
        teacher_log_prob: `(B, D) → (B,)`.

    Returns:
        `()` average over the batch.

    """
    return reverse_kl(z, base_log_prob, student_generate, teacher_log_prob).mean()
