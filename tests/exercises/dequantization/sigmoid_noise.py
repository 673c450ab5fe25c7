"""Right answers for `sigmoid_noise`, each in another style."""

import math

import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal, SigmoidTransform


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


RIGHT = (
    noise_from_distributions,
    noise_from_softplus,
    noise_from_a_gaussian,
    noise_in_a_loop,
)
