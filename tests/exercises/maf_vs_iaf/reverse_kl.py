"""Right answers for `reverse_kl`, each in another style."""

import torch


def kl_from_its_parts(z, base_log_prob, generate, target_log_prob):
    x, log_det = generate(z)
    log_p = base_log_prob(z).sub(log_det)
    return log_p - target_log_prob(x)


def kl_in_a_loop(z, base_log_prob, generate, target_log_prob):
    values = []
    for row in z.split(1):
        x, log_det = generate(row)
        values.append(-(target_log_prob(x) + log_det - base_log_prob(row)))
    return torch.cat(values)


def kl_summed(z, base_log_prob, generate, target_log_prob):
    x, log_det = generate(z)
    return torch.stack([base_log_prob(z), -log_det, -target_log_prob(x)]).sum(0)


RIGHT = (kl_from_its_parts, kl_in_a_loop, kl_summed)
