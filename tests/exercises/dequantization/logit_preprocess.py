"""Right answers for `logit_preprocess`, each in another style."""

import math

import torch
import torch.nn.functional as F
from torch.distributions import SigmoidTransform


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


RIGHT = (
    logit_from_torch,
    logit_from_softplus,
    logit_from_transforms,
    logit_in_a_loop,
)
