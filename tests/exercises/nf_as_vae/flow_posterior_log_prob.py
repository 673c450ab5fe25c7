"""Right answers for `flow_posterior_log_prob`, each in another style."""

import functools

import torch


def posterior_in_a_loop(log_q0, log_dets):
    log_q = log_q0
    for log_det in log_dets:
        log_q = log_q - log_det
    return log_q


RIGHT = (
    posterior_in_a_loop,
    lambda log_q0, log_dets: log_q0 - torch.stack(log_dets).sum(dim=0),
    lambda log_q0, log_dets: functools.reduce(torch.sub, log_dets, log_q0),
    lambda log_q0, log_dets: log_q0 - torch.einsum("bk->b", torch.stack(log_dets, dim=1)),
)
