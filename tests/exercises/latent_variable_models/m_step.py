"""Right answers for `m_step`, each in another style."""

import torch


def m_step_in_loops(x, responsibilities):
    weights, means, variances = [], [], []
    for share in responsibilities.T:
        count = share.sum()
        mean = sum(r * point for r, point in zip(share, x, strict=True)) / count
        variance = sum(r * (point - mean) ** 2 for r, point in zip(share, x, strict=True)) / count
        weights.append(count / len(x))
        means.append(mean)
        variances.append(variance)
    return torch.stack(weights), torch.stack(means), torch.stack(variances)


def m_step_from_moments(x, responsibilities):
    # normalized over the data, so that averages are matrix products
    share = responsibilities / responsibilities.sum(dim=0, keepdim=True)
    means = torch.einsum("nc,nd->cd", share, x)
    second = torch.einsum("nc,nd->cd", share, x * x)
    return responsibilities.mean(dim=0), means, second - means**2


def m_step_with_a_detached_mean(x, responsibilities):
    # the mean minimizes the squares, so its own part of the gradient is 0
    counts = responsibilities.sum(0).unsqueeze(-1)
    means = (responsibilities.unsqueeze(-1) * x.unsqueeze(1)).sum(0) / counts
    deviations = x.unsqueeze(1) - means.detach()
    variances = (responsibilities.unsqueeze(-1) * deviations.square()).sum(0) / counts
    return [counts.squeeze(-1) / responsibilities.sum(), means, variances]


RIGHT = (m_step_from_moments, m_step_in_loops, m_step_with_a_detached_mean)
