"""Right answers for `iaf_forward`, each in another style."""

import torch


def density_by_repetition(x, net):
    z = x
    for _ in range(x.shape[1]):
        mu, log_sigma = net(z)
        z = (x - mu) / torch.exp(log_sigma)
    return z


def density_by_columns(x, net):
    columns = []
    for i in range(x.shape[1]):
        mu, log_sigma = net(
            torch.stack(columns + [torch.zeros_like(x[:, 0])] * (x.shape[1] - i), 1)
        )
        columns.append((x[:, i] - mu[:, i]) * torch.exp(-log_sigma[:, i]))
    return torch.stack(columns, 1)


def density_with_where(x, net):
    z = torch.zeros_like(x)
    for is_new in torch.eye(x.shape[1], device=x.device, dtype=torch.bool):
        mu, log_sigma = net(z)
        z = torch.where(is_new, x.sub(mu).mul(log_sigma.neg().exp()), z)
    return z


RIGHT = (density_by_repetition, density_by_columns, density_with_where)
