"""Right answers written in different ways: every check must pass all of them."""

import functools
import math

import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal, SigmoidTransform


def dequantized_in_loops(x, noise):
    entries = [noise.new_tensor(level) for level in x.flatten().tolist()]
    rows = [level + u for level, u in zip(entries, noise.flatten(), strict=True)]
    return torch.stack(rows).reshape(noise.shape)


def dequantized_between_levels(x, noise):
    x = x.type_as(noise)
    return x * (1 - noise) + (x + 1) * noise


def pmf_from_differences(cdf, x):
    return torch.log(torch.diff(cdf(torch.stack([x, x + 1])), dim=0)).squeeze(0)


def pmf_from_ratios(cdf, x):
    upper = cdf(x + 1)
    return torch.log(upper) + torch.log1p(-cdf(x) / upper)


def pmf_in_a_loop(cdf, x):
    entries = [(cdf(level + 1) - cdf(level)).log() for level in x.reshape(-1)]
    return torch.stack(entries).reshape(x.shape)


def uniform_bound_in_loops(log_prob, x, noise):
    totals = []
    for b in range(len(x)):
        values = [log_prob(x[b] + u) for u in noise[:, b]]
        totals.append(sum(values) / len(values))
    return torch.stack(totals)


def uniform_bound_in_one_batch(log_prob, x, noise):
    s, b, d = noise.shape
    y = (x.to(noise.dtype).repeat(s, 1, 1) + noise).reshape(s * b, d)
    return torch.einsum("sb->b", log_prob(y).view(s, b)) / s


def uniform_bound_draw_by_draw(log_prob, x, noise):
    return torch.stack([log_prob(u + x) for u in noise], dim=1).mean(dim=1)


def noise_from_distributions(eps, shift, log_scale):
    base = Independent(Normal(torch.zeros_like(eps), torch.ones_like(eps)), 1)
    a = shift + torch.exp(log_scale) * eps
    u = torch.sigmoid(a)
    slope = SigmoidTransform().log_abs_det_jacobian(a, u) + log_scale
    return u, base.log_prob(eps) - slope.sum(-1)


def noise_from_softplus(eps, shift, log_scale):
    a = torch.addcmul(shift, eps, log_scale.exp())
    log_normal = -0.5 * torch.einsum("bd,bd->b", eps, eps)
    log_normal = log_normal - 0.5 * eps.shape[1] * math.log(2 * math.pi)
    slope = a.abs() + 2 * F.softplus(-a.abs())
    return 1 / (1 + torch.exp(-a)), log_normal + (slope - log_scale).sum(1)


def noise_from_a_gaussian(eps, shift, log_scale):
    scale = torch.exp(log_scale)
    a = eps * scale + shift
    log_q = Normal(shift, scale).log_prob(a) - F.logsigmoid(a) - F.logsigmoid(-a)
    return a.sigmoid(), log_q.sum(-1)


def noise_in_a_loop(eps, shift, log_scale):
    us, log_q = [], torch.zeros_like(eps[:, 0])
    for e, t, s in zip(eps.unbind(1), shift.unbind(1), log_scale.unbind(1), strict=True):
        a = e * torch.exp(s) + t
        us.append(torch.sigmoid(a))
        log_q = log_q - e**2 / 2 - math.log(2 * math.pi) / 2 - s
        log_q = log_q + F.softplus(a) + F.softplus(-a)
    return torch.stack(us, 1), log_q


def variational_bound_in_loops(log_prob, x, u, log_q):
    total = torch.zeros_like(log_q[0])
    for noise, log_density in zip(u, log_q, strict=True):
        total = total + log_prob(x + noise) - log_density
    return total / len(u)


def variational_bound_in_one_batch(log_prob, x, u, log_q):
    levels = x.to(u.dtype).expand_as(u)
    log_p = log_prob((levels + u).flatten(0, 1)).reshape(log_q.shape)
    return torch.einsum("sb,s->b", log_p - log_q, torch.full_like(log_q[:, 0], 1 / len(u)))


def variational_bound_in_two_averages(log_prob, x, u, log_q):
    return log_prob(x + u).mean(0) - log_q.mean(0)


def weighted_with_a_maximum(log_prob, x, u, log_q):
    log_w = log_prob(x.to(u.dtype) + u) - log_q
    largest = log_w.amax(0)
    return torch.log(torch.exp(log_w - largest).mean(0)) + largest


def weighted_in_a_loop(log_prob, x, u, log_q):
    log_w = [log_prob(x + noise) - log_density for noise, log_density in zip(u, log_q, strict=True)]
    return functools.reduce(torch.logaddexp, log_w) - math.log(len(log_w))


def weighted_from_softmax(log_prob, x, u, log_q):
    log_w = log_prob(x + u) - log_q
    return log_w[0] - torch.log_softmax(log_w, 0)[0] - math.log(len(log_w))


def weighted_point_by_point(log_prob, x, u, log_q):
    bounds = []
    for b in range(len(x)):
        log_w = log_prob(x[b] + u[:, b]) - log_q[:, b]
        bounds.append(torch.logsumexp(log_w, 0) - math.log(len(u)))
    return torch.stack(bounds)


def logit_from_torch(y, num_levels, alpha):
    p = alpha + (1 - 2 * alpha) * y / num_levels
    constant = y.shape[1] * (math.log(1 - 2 * alpha) - math.log(num_levels))
    return torch.logit(p), constant - torch.log(p * (1 - p)).sum(1)


def logit_from_softplus(y, num_levels, alpha):
    p = y * ((1 - 2 * alpha) / num_levels) + alpha
    z = torch.log(p / (1 - p))
    log_slope = F.softplus(z) + F.softplus(-z) + math.log((1 - 2 * alpha) / num_levels)
    return z, torch.einsum("bd->b", log_slope)


def logit_from_transforms(y, num_levels, alpha):
    p = torch.lerp(torch.full_like(y, alpha), torch.full_like(y, 1 - alpha), y / num_levels)
    logit = SigmoidTransform().inv
    z = logit(p)
    log_slope = logit.log_abs_det_jacobian(p, z) + math.log((1 - 2 * alpha) / num_levels)
    return z, log_slope.sum(-1)


def logit_in_a_loop(y, num_levels, alpha):
    columns, log_det = [], torch.zeros_like(y[:, 0])
    for column in y.unbind(1):
        p = alpha + (1 - 2 * alpha) / num_levels * column
        columns.append(torch.log(p) - torch.log1p(-p))
        log_det = log_det + math.log(1 - 2 * alpha) - math.log(num_levels)
        log_det = log_det - torch.log(p) - torch.log1p(-p)
    return torch.stack(columns, 1), log_det


def bits_in_a_loop(log_prob, num_dims):
    return torch.stack([-value / math.log(2) / num_dims for value in log_prob])


RIGHT = {
    "uniform_dequantize": (
        lambda x, noise: x + noise,
        dequantized_in_loops,
        dequantized_between_levels,
        lambda x, noise: torch.add(noise, x),
    ),
    "exact_log_pmf": (pmf_from_differences, pmf_from_ratios, pmf_in_a_loop),
    "uniform_bound": (
        uniform_bound_in_loops,
        uniform_bound_in_one_batch,
        uniform_bound_draw_by_draw,
    ),
    "sigmoid_noise": (
        noise_from_distributions,
        noise_from_softplus,
        noise_from_a_gaussian,
        noise_in_a_loop,
    ),
    "variational_bound": (
        variational_bound_in_loops,
        variational_bound_in_one_batch,
        variational_bound_in_two_averages,
    ),
    "importance_weighted_dequantization": (
        weighted_with_a_maximum,
        weighted_in_a_loop,
        weighted_from_softmax,
        weighted_point_by_point,
    ),
    "logit_preprocess": (
        logit_from_torch,
        logit_from_softplus,
        logit_from_transforms,
        logit_in_a_loop,
    ),
    "bits_per_dim": (
        lambda log_prob, num_dims: -log_prob / math.log(2) / num_dims,
        lambda log_prob, num_dims: log_prob * (-math.log2(math.e) / num_dims),
        bits_in_a_loop,
    ),
}
