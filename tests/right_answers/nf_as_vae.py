"""Right answers written in different ways: every check must pass all of them."""

import functools
import math

import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.distributions import Independent, MultivariateNormal, Normal


def likelihood_in_a_loop(x, forward, base_log_prob):
    values = []
    for row in x:
        z, log_det = forward(row[None])
        values.append(base_log_prob(z) + log_det)
    return torch.cat(values)


def likelihood_from_the_jacobian(x, forward, base_log_prob):
    start = x if x.requires_grad else x.detach().requires_grad_()
    z, _ = forward(start)
    rows = [
        torch.autograd.grad(z[:, d].sum(), start, create_graph=True)[0] for d in range(z.shape[1])
    ]
    return base_log_prob(z) + torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet


def planar_as_in_the_paper(z, u, w, b):
    along = torch.dot(w, u)
    u_hat = u + (F.softplus(along) - 1 - along) * w / torch.norm(w) ** 2
    activation = torch.tanh(F.linear(z, w.unsqueeze(0), b))
    psi = (1 - activation**2) * w
    return z + activation * u_hat, torch.log(torch.abs(1 + psi @ u_hat))


def planar_in_loops(z, u, w, b):
    m = torch.logaddexp((w * u).sum(), torch.zeros_like(b)) - 1
    u_hat = u + (m - (w * u).sum()) * w / (w * w).sum()
    points, log_dets = [], []
    for row in z:
        a = (w * row).sum() + b
        points.append(row + u_hat * torch.tanh(a))
        # det(I + û tanh' wᵀ), the whole matrix
        if len(w) < 10:
            matrix = torch.diag(torch.ones_like(w)) + torch.outer(
                u_hat, (1 - torch.tanh(a) ** 2) * w
            )
            log_dets.append(torch.logdet(matrix))
        else:
            log_dets.append(torch.log1p((1 - torch.tanh(a) ** 2) * (w @ u_hat)))
    return torch.stack(points), torch.stack(log_dets)


def planar_by_einsum(z, u, w, b):
    along = torch.einsum("l,l->", w, u)
    stretch = F.softplus(along)
    direction = F.normalize(w, dim=0)
    # the part of u across w stays, the part along w is replaced
    across = u - (direction @ u) * direction
    u_hat = across + (stretch - 1) * direction / torch.linalg.norm(w)
    a = torch.einsum("bl,l->b", z, w) + b
    slope = 4 * torch.sigmoid(2 * a) * torch.sigmoid(-2 * a)
    return z + torch.einsum("b,l->bl", torch.tanh(a), u_hat), torch.log1p(slope * (stretch - 1))


def planar_from_the_jacobian(z, u, w, b):
    start = z if z.requires_grad else z.detach().requires_grad_()
    along = w @ u
    u_hat = u + (F.softplus(along) - 1 - along) * w / (w @ w)
    moved = start + torch.tanh(start @ w + b).outer(u_hat)
    # the determinant is the product of the stretch along û, everything else stays
    slope = torch.autograd.grad((moved @ w).sum(), start, create_graph=True)[0] @ w / (w @ w)
    return moved, slope.log()


def posterior_in_a_loop(log_q0, log_dets):
    log_q = log_q0
    for log_det in log_dets:
        log_q = log_q - log_det
    return log_q


def elbo_in_a_loop(log_joint, log_q0, log_dets):
    elbo = log_joint - log_q0
    for log_det in log_dets:
        elbo = elbo + log_det
    return elbo


def elbo_from_one_stack(log_joint, log_q0, log_dets):
    signed = torch.stack([log_joint, -log_q0, *log_dets])
    return signed.sum(dim=0)


def decoder_in_loops(x, z, inverse, sigma):
    values = []
    for row, point in zip(x, z, strict=True):
        mean = inverse(point[None])[0]
        value = 0
        for a, m in zip(row, mean, strict=True):
            value = value - (a - m) ** 2 / (2 * sigma**2) - math.log(sigma * math.sqrt(2 * math.pi))
        values.append(value)
    return torch.stack(values)


def decoder_by_einsum(x, z, inverse, sigma):
    error = x - inverse(z)
    squares = torch.einsum("bd,bd->b", error, error)
    return -0.5 * squares / sigma**2 - 0.5 * x.shape[-1] * math.log(2 * math.pi * sigma**2)


def standard_normal(noise):
    return -0.5 * (noise**2).sum(-1) - 0.5 * noise.shape[-1] * math.log(2 * math.pi)


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


RIGHT = {
    "flow_log_likelihood": (
        likelihood_in_a_loop,
        likelihood_from_the_jacobian,
        lambda x, f, base: sum((f(x)[1], base(f(x)[0]))),
    ),
    "planar_transform": (
        planar_as_in_the_paper,
        planar_in_loops,
        planar_by_einsum,
        planar_from_the_jacobian,
    ),
    "flow_posterior_log_prob": (
        posterior_in_a_loop,
        lambda log_q0, log_dets: log_q0 - torch.stack(log_dets).sum(dim=0),
        lambda log_q0, log_dets: functools.reduce(torch.sub, log_dets, log_q0),
        lambda log_q0, log_dets: log_q0 - torch.einsum("bk->b", torch.stack(log_dets, dim=1)),
    ),
    "flow_elbo": (
        elbo_in_a_loop,
        elbo_from_one_stack,
        lambda log_joint, log_q0, log_dets: log_joint - (log_q0 - torch.stack(log_dets, 1).sum(1)),
    ),
    "noisy_decoder_log_prob": (
        lambda x, z, inverse, sigma: Normal(inverse(z), sigma).log_prob(x).sum(dim=-1),
        decoder_in_loops,
        decoder_by_einsum,
    ),
    "noisy_encoder": (
        encoder_with_a_jacobian_in_a_loop,
        encoder_with_two_backward_passes,
        encoder_as_a_multivariate_normal,
        encoder_in_forward_mode,
        encoder_with_torch_func,
        encoder_with_torch_func_jvp,
    ),
    "relaxed_elbo": (
        relaxed_in_a_loop,
        relaxed_with_cancelled_constants,
        relaxed_row_by_row,
        relaxed_in_forward_mode,
    ),
}
