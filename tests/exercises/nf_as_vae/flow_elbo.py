"""Right answers for `flow_elbo`, each in another style."""

import torch


def elbo_in_a_loop(log_joint, log_q0, log_dets):
    elbo = log_joint - log_q0
    for log_det in log_dets:
        elbo = elbo + log_det
    return elbo


def elbo_from_one_stack(log_joint, log_q0, log_dets):
    signed = torch.stack([log_joint, -log_q0, *log_dets])
    return signed.sum(dim=0)


RIGHT = (
    elbo_in_a_loop,
    elbo_from_one_stack,
    lambda log_joint, log_q0, log_dets: log_joint - (log_q0 - torch.stack(log_dets, 1).sum(1)),
)
