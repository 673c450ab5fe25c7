"""WaveNet over real-valued sequences, and an inverse autoregressive student distilled from it.

A sequence `(B, T)` is a point with T coordinates in their natural order, and a WaveNet is a
conditioner: `net(v) → (mu, log_sigma)`, each `(B, T)`, where step t depends on `v_<t` only. The
teacher uses it as a masked autoregressive flow, the student as an inverse one; what is one pass of
the network for the one is T passes for the other:

| | density of given data | sampling |
|---|---|---|
| `WaveNetTeacher`, `x_t = σ_t(x_<t) z_t + μ_t(x_<t)` | 1 | T |
| `WaveNetStudent`, `x_t = σ_t(z_<t) z_t + μ_t(z_<t)` | T | 1 |

Everything is in nats. The conditionals are Gaussian, where the papers have a categorical over 256
levels and later a mixture of logistics: with a Gaussian, the cross entropy of a step is exact too.

Sources: van den Oord et al., "WaveNet: A Generative Model for Raw Audio" (2016); van den Oord et
al., "Parallel WaveNet: Fast High-Fidelity Speech Synthesis" (2018); Ping, Peng, Chen, "ClariNet"
(2019) for Gaussian conditionals; Paine et al., "Fast Wavenet Generation Algorithm" (2016) for the
queues; lecture L6-2021.
"""

from collections import deque

import torch
import torch.nn.functional as F
from torch import nn

from dgm_utils.maf_vs_iaf import (
    iaf_inverse,
    maf_forward,
    scale_and_shift,
    shift_and_scale,
    solve_in_order,
)
from dgm_utils.models.densities import LOG_2PI, bounded, standard_normal_log_prob
from dgm_utils.nf_as_vae import flow_log_likelihood
from dgm_utils.validate import number, takes, whole_number


class CausalConv1d(nn.Conv1d):
    """A convolution that looks back only, `(B, C, T) → (B, O, T)`.

    Output t is made of the inputs `t, t − d, …, t − (k−1)d`; zeros stand before the sequence.
    """

    def __init__(self, in_channels, out_channels, kernel_size=1, dilation=1):
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation)
        self.span = (kernel_size - 1) * dilation

    def forward(self, x):
        """All T columns at once."""
        return super().forward(F.pad(x, (self.span, 0)))

    def step(self, column, queue):
        """One column `(B, C) → (B, O)`; the queue has the `span` columns before it."""
        taps = [queue[i * self.dilation[0]] for i in range(self.kernel_size[0] - 1)]
        taps = torch.stack([*taps, column], 2)
        queue.append(column)  # and the oldest falls out
        return F.linear(taps.flatten(1), self.weight.flatten(1), self.bias)


class WaveNet(nn.Module):
    """Gated residual blocks of dilated causal convolutions: `net(x) → (mu, log_sigma)`.

    The input is moved one step to the right, so that outputs at t see `x_{t−R} … x_{t−1}`, with
    the receptive field `R = 1 + (k−1) Σ dilations`. Doubling the dilations makes it exponential in
    the number of blocks. The paper's skip connections share their weights with the residual ones
    here: the last `h` already is the sum over the blocks.

    Args:
        channels: width of the residual stream.
        dilations: one block for each.
        kernel_size: taps of each dilated convolution; 2 in WaveNet, 3 in Parallel WaveNet.
        max_log_scale: `|log_sigma|` stays below this, by a tanh. Without a bound, one far input
            makes exp(log_sigma) overflow, and every gradient is NaN from there on. At most 20.

    Raises:
        TypeError: when a size is no whole number.
        ValueError: when one is not positive, or there are no dilations.

    """

    def __init__(
        self, channels=32, dilations=(1, 2, 4, 8, 16, 32), kernel_size=2, max_log_scale=5.0
    ):
        super().__init__()
        dilations = tuple(dilations)
        for name, size in {"channels": channels, "kernel_size": kernel_size}.items():
            whole_number(name, size, 1)
        whole_number("the number of dilations", len(dilations), 1)
        for dilation in dilations:
            whole_number("each of dilations", dilation, 1)
        number("max_log_scale", max_log_scale, 0.1, 20)
        self.max_log_scale = max_log_scale
        self.receptive_field = 1 + (kernel_size - 1) * sum(dilations)
        self.embed = CausalConv1d(1, channels)
        self.gates = nn.ModuleList(
            CausalConv1d(channels, 2 * channels, kernel_size, dilation) for dilation in dilations
        )
        self.mixes = nn.ModuleList(CausalConv1d(channels, channels) for _ in dilations)
        self.hidden = CausalConv1d(channels, channels)
        self.out = CausalConv1d(channels, 2)

    @takes(x="B T")
    def forward(self, x):
        """All steps at once, `(B, T) → (B, T), (B, T)`: one pass, whatever T is."""
        return self._run(F.pad(x[:, None], (1, -1)), lambda conv, h: conv(h))

    def start(self, batch_size):
        """Queues for `step`: of each convolution, its latest inputs; zeros before the sequence."""
        queues = {}
        for conv in self.modules():
            if isinstance(conv, CausalConv1d):
                zeros = conv.weight.new_zeros(batch_size, conv.in_channels)
                queues[conv] = deque([zeros] * conv.span, maxlen=conv.span)
        return queues

    def step(self, previous, queues):
        """The next step, `(B,) → (B,), (B,)`, given the value before it (zeros at the start).

        Costs one column of each layer, where `forward` costs T. Gradients flow.
        """
        return self._run(previous[:, None], lambda conv, h: conv.step(h, queues[conv]))

    def _run(self, h, apply):
        # Channels are axis 1 of a sequence (B, C, T) and of a column (B, C) alike.
        h = apply(self.embed, h)
        for gates, mix in zip(self.gates, self.mixes, strict=True):
            signal, gate = apply(gates, h).chunk(2, 1)
            h = h + apply(mix, torch.tanh(signal) * torch.sigmoid(gate))
        h = F.relu(apply(self.hidden, F.relu(h)))
        mu, raw = apply(self.out, h).unbind(1)
        return mu, bounded(raw, self.max_log_scale)


class WaveNetTeacher(nn.Module):
    """Autoregressive Gaussian model, a MAF in time: `x_t = σ_t(x_<t) z_t + μ_t(x_<t)`.

    Both directions return `(value, log_det)`, as those of every flow.

    Args:
        net: a conditioner, `net(v) → (mu, log_sigma)`; a `WaveNet`, or any other.

    """

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        """Data → base in one pass, `(B, T) → (B, T), (B,)`."""
        return maf_forward(x, self.net)

    @takes(z="B T")
    def inverse(self, z, cached=True):
        """Base → data, `(B, T) → (B, T), (B,)`: sampling, when z is standard normal noise.

        Args:
            z: `(B, T)` base points.
            cached: T single columns from queues, for a net that has them; else T whole passes.
                The values agree up to rounding, and gradients flow through both.

        """
        x, log_sigma = _solve(self.net, z, scale_and_shift, cached)
        return x, log_sigma.sum(1)

    def log_prob(self, x):
        """`log p(x)` in nats, `(B, T) → (B,)`, in one pass."""
        return flow_log_likelihood(x, self, standard_normal_log_prob)


class WaveNetStudent(nn.Module):
    """Inverse autoregressive flow in time: `x_t = σ_t(z_<t) z_t + μ_t(z_<t)`.

    The teacher with x and z swapped: its fast direction is the other one.

    Args:
        net: a conditioner, `net(v) → (mu, log_sigma)`; a `WaveNet`, or any other.

    """

    def __init__(self, net):
        super().__init__()
        self.net = net

    def inverse(self, z):
        """Base → data in one pass, `(B, T) → (B, T), (B,)`: sampling."""
        return iaf_inverse(z, self.net)

    @takes(x="B T")
    def forward(self, x, cached=True):
        """Data → base, one step after the other; as `WaveNetTeacher.inverse`."""
        z, log_sigma = _solve(self.net, x, shift_and_scale, cached)
        return z, -log_sigma.sum(1)

    def rsample_with_log_prob(self, z):
        """Samples and their log-density from base points, `(B, T) → (B, T), (B,)`, in one pass."""
        x, log_det = self.inverse(z)
        return x, standard_normal_log_prob(z) - log_det

    def log_prob(self, x):
        """`log p(x)` of given data in nats, `(B, T) → (B,)`: T steps."""
        return flow_log_likelihood(x, self, standard_normal_log_prob)


@takes(z="B T")
def distillation_terms(student, teacher, z):
    """The two entropies of `KL(p_s‖p_t) = H(p_s, p_t) − H(p_s)`, estimated at base points z.

    With `x = student.inverse(z)` the student's `x_t` given `z_<t` is `N(μ_s, σ_s²)`, and the
    teacher's given `x_<t` is `N(μ_t, σ_t²)`. So the expectation over the last noise `z_t` is exact
    at each step, and only the one over `z_<t` is left to sampling:

        H(p_s)      = E_z Σ_t [log σ_s + ½ log 2πe]
        H(p_s, p_t) = E_z Σ_t [log σ_t + ½ log 2π + (σ_s² + (μ_s − μ_t)²) / (2σ_t²)]

    Parallel WaveNet draws several `x_t` for each step instead, as a mixture of logistics has no
    closed form. The teacher's weights get gradients too: give the optimizer the student's alone.

    Args:
        student: `WaveNetStudent`.
        teacher: `WaveNetTeacher`.
        z: `(B, T)` draws of N(0, I).

    Returns:
        cross entropy and entropy in nats, each `(B,)`; the mean of their difference is the loss,
        and each difference is a sum of divergences between Gaussians: it is never negative.

    """
    student_mu, student_log_sigma = student.net(z)
    x = scale_and_shift(z, student_mu, student_log_sigma)
    mu, log_sigma = teacher.net(x)
    variance_ratio = torch.exp(2 * (student_log_sigma - log_sigma))
    # Under autocast both are in half precision, and so would their difference be.
    error = (student_mu.to(x) - mu) * torch.exp(-log_sigma)
    cross_entropy = (log_sigma + 0.5 * (LOG_2PI + variance_ratio + error**2)).sum(1)
    entropy = (student_log_sigma + 0.5 * (LOG_2PI + 1)).sum(1)
    return cross_entropy, entropy


def _solve(net, v, update, cached):
    """`out_t = update(v_t, *net(out) at t)`, step after step: out and log_sigma, `(B, T)` each."""
    if not (cached and hasattr(net, "step")):
        out, (_, log_sigma) = solve_in_order(v, net, update, list(range(v.shape[1])))
        return out, log_sigma
    queues = net.start(len(v))
    out, log_sigma = [torch.zeros_like(v[:, 0])], []
    for column in v.unbind(1):
        mu, log_scale = net.step(out[-1], queues)
        out.append(update(column, mu, log_scale))
        log_sigma.append(log_scale)
    return torch.stack(out[1:], 1), torch.stack(log_sigma, 1)
