"""Right answers for `gradient_snr`, each in another style."""

import torch


def snr_in_a_loop(gradients):
    ratios = []
    for column in gradients.unbind(1):
        mean = column.sum() / len(column)
        variance = ((column - mean) ** 2).sum() / (len(column) - 1)
        ratios.append(abs(mean) / variance.sqrt())
    return torch.stack(ratios)


def snr_from_moments(gradients):
    s = gradients.shape[0]
    mean = torch.einsum("sp->p", gradients) / s
    variance = (torch.einsum("sp,sp->p", gradients, gradients) - s * mean**2) / (s - 1)
    return torch.sqrt(mean**2 / variance)


def snr_from_covariance(gradients):
    covariance = torch.cov(gradients.T).reshape(gradients.shape[1], -1)
    return gradients.mean(dim=0).abs() * covariance.diagonal().rsqrt()


RIGHT = (snr_in_a_loop, snr_from_moments, snr_from_covariance)
