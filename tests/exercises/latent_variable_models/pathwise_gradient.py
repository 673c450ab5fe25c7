"""Right answers for `pathwise_gradient`, each in another style."""

import torch


def pathwise_of_copies(f, mean, std, noise):
    means = mean.detach().expand_as(noise).clone().requires_grad_()
    f(means + std * noise).sum().backward()
    return means.grad


def pathwise_in_a_loop(f, mean, std, noise):
    slopes = []
    for e in noise:
        z = (mean + std * e).requires_grad_()
        slopes.append(torch.autograd.grad(f(z), z)[0])
    return torch.stack(slopes)


def pathwise_by_jvp(f, mean, std, noise):
    z = mean + std * noise
    return torch.autograd.functional.jvp(f, z, torch.ones_like(z))[1]


def pathwise_differentiable_again(f, mean, std, noise):
    z = mean + std * noise
    if not z.requires_grad:
        z.requires_grad_()
    value = f(z)
    return torch.autograd.grad(value, z, torch.ones_like(value), create_graph=True)[0]


RIGHT = (
    pathwise_of_copies,
    pathwise_in_a_loop,
    pathwise_by_jvp,
    pathwise_differentiable_again,
)
