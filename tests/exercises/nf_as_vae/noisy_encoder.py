"""Right answers for `noisy_encoder`, each in another style."""

import math

import torch
from exercises.nf_as_vae._shared import standard_normal
from torch.autograd import forward_ad
from torch.distributions import MultivariateNormal, Normal


def encoder_with_a_jacobian_in_a_loop(x, forward, sigma, noise):
    start = x if x.requires_grad else x.detach().requires_grad_()
    mean, log_det = forward(start)
    rows = [
        torch.autograd.grad(mean[:, d].sum(), start, create_graph=True)[0]
        for d in range(x.shape[1])
    ]
    z = mean + sigma * torch.einsum("bij,bj->bi", torch.stack(rows, dim=1), noise)
    return z, standard_normal(noise) - x.shape[1] * math.log(sigma) - log_det


def encoder_with_two_backward_passes(x, forward, sigma, noise):
    start = x if x.requires_grad else x.detach().requires_grad_()
    mean, log_det = forward(start)
    # vᵀJ is linear in v; its derivative along ε is Jε
    v = torch.zeros_like(mean, requires_grad=True)
    pulled = torch.autograd.grad(mean, start, v, create_graph=True)[0]
    direction = torch.autograd.grad(pulled, v, noise, create_graph=True)[0]
    log_q = Normal(torch.zeros_like(noise), sigma).log_prob(sigma * noise).sum(dim=1) - log_det
    return mean + sigma * direction, log_q


def encoder_as_a_multivariate_normal(x, forward, sigma, noise):
    samples, densities = [], []
    for row, eps in zip(x, noise, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda v: forward(v[None])[0][0], row, create_graph=True
        )
        mean = forward(row[None])[0][0]
        z = mean + sigma * jacobian @ eps
        # scaled by σ, so that the covariance is of order one
        q = MultivariateNormal(torch.zeros_like(mean), jacobian @ jacobian.T)
        samples.append(z)
        densities.append(q.log_prob(jacobian @ eps) - len(mean) * math.log(sigma))
    return torch.stack(samples), torch.stack(densities)


def encoder_in_forward_mode(x, forward, sigma, noise):
    with forward_ad.dual_level():
        z, log_det = forward(forward_ad.make_dual(x, noise))
        mean, direction = forward_ad.unpack_dual(z)
        log_det = forward_ad.unpack_dual(log_det).primal
    return mean + sigma * direction, standard_normal(noise) - len(x[0]) * math.log(sigma) - log_det


def encoder_with_torch_func(x, forward, sigma, noise):
    jacobians = torch.func.vmap(torch.func.jacrev(lambda row: forward(row[None])[0][0]))(x)
    mean, log_det = forward(x)
    z = mean + sigma * (jacobians @ noise[..., None]).squeeze(-1)
    return z, standard_normal(noise) - x.shape[1] * math.log(sigma) - log_det


def encoder_with_torch_func_jvp(x, forward, sigma, noise):
    (mean, log_det), (direction, _) = torch.func.jvp(forward, (x,), (noise,))
    return (
        mean + sigma * direction,
        standard_normal(noise) - x.shape[1] * math.log(sigma) - log_det,
    )


RIGHT = (
    encoder_with_a_jacobian_in_a_loop,
    encoder_with_two_backward_passes,
    encoder_as_a_multivariate_normal,
    encoder_in_forward_mode,
    encoder_with_torch_func,
    encoder_with_torch_func_jvp,
)
