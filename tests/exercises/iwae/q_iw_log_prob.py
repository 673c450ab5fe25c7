"""Right answers for `q_iw_log_prob`, each in another style."""

import math

import torch


def q_iw_from_softmax(log_w_first, log_w_rest, log_q_first):
    log_w = torch.vstack([log_w_first.unsqueeze(0), log_w_rest])
    return torch.log_softmax(log_w, 0)[0] + math.log(len(log_w)) + log_q_first


def q_iw_in_a_loop(log_w_first, log_w_rest, log_q_first):
    total = log_w_first
    for row in log_w_rest:
        total = torch.logaddexp(total, row)
    average = total - math.log(1 + log_w_rest.shape[0])
    return log_q_first + (log_w_first - average)


def q_iw_from_ratios(log_w_first, log_w_rest, log_q_first):
    # w / (1/K Σ w_k) = K / Σ w_k/w, and the first term of that sum is 1
    ratios = torch.cat([torch.zeros_like(log_w_first)[None], log_w_rest - log_w_first], dim=0)
    return log_q_first - ratios.logsumexp(0) + math.log(ratios.shape[0])


RIGHT = (q_iw_from_softmax, q_iw_in_a_loop, q_iw_from_ratios)
