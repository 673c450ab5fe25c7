"""Right answers for `importance_weighted_dequantization`, each in another style."""

import functools
import math

import torch


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


RIGHT = (
    weighted_with_a_maximum,
    weighted_in_a_loop,
    weighted_from_softmax,
    weighted_point_by_point,
)
