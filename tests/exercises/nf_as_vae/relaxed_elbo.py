"""Right answers for `relaxed_elbo`, each in another style."""

import math

import torch
from exercises.nf_as_vae._shared import standard_normal
from torch.autograd import forward_ad
from torch.distributions import Independent, MultivariateNormal, Normal


def relaxed_in_a_loop(x, forward, inverse, base_log_prob, sigma, noise):
    total = 0
    for eps in noise:
        (mean, log_det), (direction, _) = torch.autograd.functional.jvp(
            forward, x, eps, create_graph=True
        )
        z = mean + sigma * direction
        log_px_given_z = Normal(inverse(z), sigma).log_prob(x).sum(1)
        log_q = Normal(torch.zeros_like(eps), sigma).log_prob(sigma * eps).sum(1) - log_det
        total = total + log_px_given_z + base_log_prob(z) - log_q
    return total / len(noise)


def relaxed_with_cancelled_constants(x, forward, inverse, base_log_prob, sigma, noise):
    start = x if x.requires_grad else x.detach().requires_grad_()
    mean, log_det = forward(start)
    rows = [
        torch.autograd.grad(mean[:, d].sum(), start, create_graph=True)[0]
        for d in range(x.shape[1])
    ]
    z = mean + sigma * torch.einsum("bij,sbj->sbi", torch.stack(rows, dim=1), noise)
    flat = z.reshape(-1, x.shape[1])
    error = (start - inverse(flat).reshape(z.shape)) / sigma
    log_pz = base_log_prob(flat).reshape(z.shape[:2])
    return (log_pz + 0.5 * (noise**2 - error**2).sum(-1)).mean(0) + log_det


def relaxed_row_by_row(x, forward, inverse, base_log_prob, sigma, noise):
    values = []
    for b in range(len(x)):
        row = x[b]
        jacobian = torch.autograd.functional.jacobian(
            lambda v: forward(v[None])[0][0], row, create_graph=True
        )
        mean = forward(row[None])[0][0]
        z = mean + sigma * noise[:, b] @ jacobian.T
        q = MultivariateNormal(
            mean, scale_tril=torch.linalg.cholesky(jacobian @ jacobian.T) * sigma
        )
        decoder = Independent(Normal(inverse(z), sigma), 1)
        values.append((decoder.log_prob(row) + base_log_prob(z) - q.log_prob(z)).mean())
    return torch.stack(values)


def relaxed_in_forward_mode(x, forward, inverse, base_log_prob, sigma, noise):
    repeated, eps = x.repeat_interleave(len(noise), 0), noise.transpose(0, 1).flatten(0, 1)
    with forward_ad.dual_level():
        z, log_det = forward(forward_ad.make_dual(repeated, eps))
        mean, direction = forward_ad.unpack_dual(z)
        log_det = forward_ad.unpack_dual(log_det).primal
    z = mean + sigma * direction
    log_px_given_z = Independent(Normal(inverse(z), sigma), 1).log_prob(repeated)
    log_q = standard_normal(eps) - x.shape[1] * math.log(sigma) - log_det
    elbo = log_px_given_z + base_log_prob(z) - log_q
    return elbo.reshape(len(x), len(noise)).mean(1)


RIGHT = (
    relaxed_in_a_loop,
    relaxed_with_cancelled_constants,
    relaxed_row_by_row,
    relaxed_in_forward_mode,
)
