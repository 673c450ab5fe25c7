"""Right answers for `maf_inverse`, each in another style."""

import torch
from torch.distributions import Normal


def sampling_by_repetition(z, net):
    x = torch.zeros_like(z)
    for _ in range(z.shape[1]):
        mu, log_sigma = net(x)
        x = z * torch.exp(log_sigma) + mu
    return x


def sampling_by_columns(z, net):
    b, d = z.shape
    columns = []
    for i in range(d):
        x = torch.cat([*columns, z.new_zeros(b, d - i)], dim=1)
        mu, log_sigma = net(x)
        columns.append((mu + log_sigma.exp() * z)[:, i : i + 1])
    return torch.cat(columns, dim=1)


def sampling_into_copies(z, net):
    x = z
    for i in range(len(z.T)):
        mu, log_sigma = net(x)
        x = x.clone()
        x[:, i] = Normal(mu[:, i], 1.0).mean + log_sigma[:, i].exp() * z[:, i]
    return x


def sampling_by_recursion(z, net):
    def first(i):
        """The coordinates before the i-th, right; what follows is any number."""
        if i == 0:
            return torch.zeros_like(z)
        mu, log_sigma = net(first(i - 1))
        return torch.addcmul(mu, z, log_sigma.exp())

    return first(z.size(-1))


RIGHT = (
    sampling_by_repetition,
    sampling_by_columns,
    sampling_into_copies,
    sampling_by_recursion,
)
