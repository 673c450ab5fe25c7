"""Log-densities that more than one model needs, in nats; draws of one; and one that has to be fast.

The last axis is that of the dimensions, and every density here is summed over it: the log-density
of a vector is one number. Leading axes broadcast.

**The log of the mean over N Gaussians at M points** (the aggregated posterior, a mixture prior, the
VampPrior) is where most of the time of such models goes, and where two things are to be learnt:

- *Broadcasting is not free.* `z[:, None] - mean` holds M·N·L numbers, 15 GiB at M = N = 10⁴,
  L = 20, and the time goes into moving them. Multiplied out, the quadratic form is
  `−½ Σ_l (z_l − m_l)² / s_l² = z² · (−1/2s²) + z · (m/s²) + const`: the product of an (M, 2L)
  matrix and a (2L, N) matrix, which a processor does at its full speed, in blocks of any size.
- *Multiplied out, it cancels.* At s = 0.001 the terms are 10⁶ times the result. In float32, which
  has seven digits, the answer is wrong by nats and looks like any other; so the products are
  computed in float64, whatever the arguments are. The error is some 1e-16·|z − m̄|²/s² nats, where
  m̄ is the average of the means: 1e-9 at s = 0.001.

Under `torch.autocast` networks compute in half precision, whose three digits are 2 of 545 nats. So
every density leaves autocast, and takes what a network gave it to float32: see `full_precision`.

Sources: Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow" (2016),
appendix C, and Salimans et al., "PixelCNN++" (2017), for the discretised logistic; Hoffman,
Johnson, "ELBO surgery" (2016) and Tomczak, Welling, "VAE with a VampPrior" (2018) for the mean over
N Gaussians.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

LOG_2PI = math.log(2 * math.pi)

# Numbers of one block of the (M, N) matrix: 1 MiB in float64, so that a block stays in the cache
# from the matrix product to the sum. Blocks of 32 MiB take twice as long.
BLOCK = 2**17


def full_precision(function):
    """Decorate a function to leave autocast: it computes in the arguments' dtype, float32 at least.

    It must call no network, which would leave autocast with it. An argument in half precision
    becomes float32, and with it the result: log-densities need more than three digits.
    """

    @functools.wraps(function)
    def precise(*args, **kwargs):
        args = [_at_least_single(arg) for arg in args]
        kwargs = {name: _at_least_single(arg) for name, arg in kwargs.items()}
        tensors = filter(torch.is_tensor, [*args, *kwargs.values()])
        device = next((tensor.device.type for tensor in tensors), "meta")
        # Meta tensors have no numbers, and there is no autocast for them.
        if device == "meta" or not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return precise


def _at_least_single(arg):
    is_half = torch.is_tensor(arg) and arg.dtype in (torch.bfloat16, torch.float16)
    return arg.float() if is_half else arg


@full_precision
def gaussian_log_prob(x, mean, log_var):
    """`log N(x; mean, diag exp(log_var))`, summed over the last axis."""
    # Divided by √s twice and then squared: 1/s² overflows early, and 0 · inf is not a number.
    root = torch.exp(-0.25 * log_var)
    return -0.5 * (((x - mean) * root * root) ** 2 + log_var + LOG_2PI).sum(-1)


def sample_gaussian(mean, log_var, noise):
    """`mean + exp(log_var/2) · noise`: a draw of N(mean, diag exp(log_var)), differentiable."""
    return mean + torch.exp(0.5 * log_var) * noise


@full_precision
def standard_normal_log_prob(z):
    """`log N(z; 0, I)`, summed over the last axis."""
    return -0.5 * (z**2 + LOG_2PI).sum(-1)


@full_precision
def discretized_logistic_log_prob(x, mean, log_scale, num_levels):
    """`log P(x)` of grey levels under a logistic distribution, summed over the last axis.

    The level k = 0 … num_levels − 1 stands for `x = k/(num_levels − 1)`. Its probability is that of
    the cell between the midpoints to its neighbours; the first and the last cell reach to infinity,
    so that the probabilities add to one whatever mean and scale are.

    A difference of two sigmoids loses all its digits in the tails. The product form
    `σ(b) − σ(a) = σ(b) σ(−a) (1 − e^{a−b})` loses none: its logarithm is a sum of finite terms.
    """
    half_cell = 0.5 / (num_levels - 1)
    # Where 1/s would be infinite, its product with 0 would be no number.
    log_scale = log_scale.clamp(min=math.log(torch.finfo(log_scale.dtype).tiny))
    precision = torch.exp(-log_scale)
    log_below = F.logsigmoid((x + half_cell - mean) * precision)
    log_above = F.logsigmoid((mean - x + half_cell) * precision)
    log_inside = log_below + log_above + _log_one_minus_exp(math.log(2 * half_cell) - log_scale)
    log_prob = torch.where(x < half_cell, log_below, log_inside)
    return torch.where(x > 1 - half_cell, log_above, log_prob).sum(-1)


def _log_one_minus_exp(log_y):
    """`log(1 − exp(−y))`: where y rounds to 0 it is log y."""
    y = torch.exp(log_y.clamp(min=-40))
    return torch.where(log_y < -40, log_y, torch.log(-torch.expm1(-y)))


@full_precision
def bounded(raw, limit):
    """`limit · tanh(raw/limit)`: the identity near 0, never beyond ±limit.

    A network's log-variance or log-scale goes through it before exp: exp(89) is infinite in
    float32, and one such point, or one bad step, makes the loss NaN for good.
    """
    return limit * torch.tanh(raw / limit)


@full_precision
def log_sum_gaussians(z, mean, log_var):
    """`log Σ_n N(z; mean_n, diag exp(log_var_n))`, `(..., L), (N, L) ×2 → (...)`, in float64.

    The sum over n of the products of `multiplied_out`, and memory is that of one block, 1 MiB and
    its copies, forward and backward: backward computes the blocks again instead of keeping them.
    """
    points, weights, offsets = multiplied_out(z.reshape(-1, z.shape[-1]), mean, log_var)
    if is_transformed(points, weights, offsets):
        log_sum = torch.logsumexp(torch.addmm(offsets, points, weights.T), 1)
    else:
        log_sum = _LogSumExpOfProduct.apply(points, weights, offsets)
    return log_sum.reshape(z.shape[:-1])


def multiplied_out(z, mean, log_var):
    """Float64 matrices: `log N(z_m; mean_n, exp(log_var_n)) = points_m · weights_n + offsets_n`.

    `(M, L), (N, L) ×2 → (M, 2L), (N, 2L), (N,)`.
    """
    z, mean, log_var = z.double(), mean.double(), log_var.double()
    # What is subtracted from both cancels out of the result, and out of its gradients.
    shift = mean.mean(0).detach()
    z, mean = z - shift, mean - shift
    precision = torch.exp(-log_var)
    points = torch.cat([z**2, z], 1)
    weights = torch.cat([-0.5 * precision, mean * precision], 1)
    offsets = -0.5 * (mean**2 * precision + log_var + LOG_2PI).sum(1)
    return points, weights, offsets


class _LogSumExpOfProduct(torch.autograd.Function):
    """`log Σ_n exp(points_m · weights_n + offsets_n)`, `(M, F), (N, F), (N,) → (M,)`, in blocks.

    Terms below e⁻⁸⁰ of the largest are raised to that: N of them are less than a rounding, and exp
    is 12 to 36 times slower on arguments whose result is nearly or wholly zero.
    """

    @staticmethod
    def forward(points, weights, offsets):
        log_sums = []
        for rows in points.split(_num_rows(weights)):
            logits = torch.addmm(offsets, rows, weights.T)
            highest = logits.amax(1, keepdim=True)
            terms = logits.sub_(highest).clamp_(min=-80).exp_()
            log_sums.append(terms.sum(1).log_() + highest[:, 0])
        return torch.cat(log_sums)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx, grad):
        """The gradient of a log-sum-exp is a softmax: q(n|z_m), times what came from above."""
        points, weights, offsets, log_sum = ctx.saved_tensors
        wanted_points, wanted_weights, _ = ctx.needs_input_grad
        num_rows = _num_rows(weights)
        grad_points = []
        grad_weights, grad_offsets = torch.zeros_like(weights), torch.zeros_like(offsets)
        blocks = zip(*(t.split(num_rows) for t in (points, log_sum, grad)), strict=True)
        for rows, log_sum_of_rows, grad_of_rows in blocks:
            logits = torch.addmm(offsets, rows, weights.T) - log_sum_of_rows[:, None]
            share = logits.clamp(min=-80).exp() * grad_of_rows[:, None]
            if wanted_points:
                grad_points.append(share @ weights)
            if wanted_weights:
                grad_weights = torch.addmm(grad_weights, share.T, rows)
                grad_offsets = grad_offsets + share.sum(0)
        return torch.cat(grad_points) if wanted_points else None, grad_weights, grad_offsets


def _num_rows(weights):
    return max(1, BLOCK // len(weights))


def is_transformed(*tensors):
    """Whether `torch.func` is at work, or forward mode on one of the tensors.

    They go through torch's own operations, to any order, and not through what saves memory in
    backward alone: there the whole matrix is made at once.
    """
    duals = (forward_ad.unpack_dual(tensor) for tensor in tensors)
    active = torch._C._are_functorch_transforms_active()
    return active or any(dual.tangent is not None for dual in duals)


def in_blocks(function, rows, num_columns):
    """`function(rows)` in blocks of rows, `(M, ...) → (M,)`; backward computes each block again.

    For a function that holds a `(rows, num_columns)` matrix and reduces it to one number a row.
    """
    if is_transformed(rows):
        return function(rows)
    blocks = rows.split(max(1, BLOCK // num_columns))
    return torch.cat([checkpoint(function, block, use_reentrant=False) for block in blocks])
