"""Right answers for `distillation_loss`, each in another style."""

import torch


def loss_from_entropies(z, base_log_prob, student_generate, teacher_log_prob):
    x, log_det = student_generate(z)
    entropy = -(base_log_prob(z) - log_det).mean()
    cross_entropy = -teacher_log_prob(x).mean()
    return cross_entropy - entropy


def loss_in_a_loop(z, base_log_prob, student_generate, teacher_log_prob):
    total = 0.0
    for b in range(len(z)):
        x, log_det = student_generate(z[b : b + 1])
        log_student = base_log_prob(z[b : b + 1]) - log_det
        total = total + (log_student - teacher_log_prob(x)).squeeze(0)
    return total / len(z)


def loss_by_dot_product(z, base_log_prob, student_generate, teacher_log_prob):
    x, log_det = student_generate(z)
    log_ratio = base_log_prob(z) - log_det - teacher_log_prob(x)
    return log_ratio @ torch.full_like(log_ratio, 1 / z.shape[0])


RIGHT = (loss_from_entropies, loss_in_a_loop, loss_by_dot_product)
