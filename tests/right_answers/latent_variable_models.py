"""Right answers written in different ways: every check must pass all of them."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)


def naive_with_a_maximum(log_px_given_z):
    largest = log_px_given_z.max(dim=0, keepdim=True).values
    return torch.log(torch.mean(torch.exp(log_px_given_z - largest), dim=0)) + largest.squeeze(0)


def naive_in_a_loop(log_px_given_z):
    total = functools.reduce(torch.logaddexp, log_px_given_z.unbind(0))
    return total - torch.tensor(float(len(log_px_given_z)), dtype=total.dtype).log().item()


class Naive(nn.Module):
    def forward(self, log_px_given_z):
        first = log_px_given_z[0]
        share = torch.log_softmax(log_px_given_z, dim=0)[0]
        return first - share - math.log(log_px_given_z.size(0))


def e_step_in_loops(x, weights, means, variances):
    rows = []
    for point in x:
        logs = []
        for c in range(len(weights)):
            log_joint = weights[c].log()
            for d in range(len(point)):
                log_joint = log_joint - 0.5 * (point[d] - means[c, d]) ** 2 / variances[c, d]
                log_joint = log_joint - 0.5 * torch.log(2 * math.pi * variances[c, d])
            logs.append(log_joint)
        logs = torch.stack(logs)
        share = torch.exp(logs - logs.max())
        rows.append(share / share.sum())
    return torch.stack(rows)


def e_step_from_distributions(x, weights, means, variances):
    components = Independent(Normal(means, variances.sqrt()), 1)
    log_px = MixtureSameFamily(Categorical(weights), components).log_prob(x)
    log_joint = components.log_prob(x.unsqueeze(1)) + Categorical(weights).logits
    return torch.exp(log_joint - log_px.unsqueeze(1))


def e_step_with_expanded_square(x, weights, means, variances):
    precision = 1 / variances
    squares = (
        torch.einsum("nd,cd->nc", x**2, precision)
        - 2 * torch.einsum("nd,cd->nc", x, means * precision)
        + (means**2 * precision).sum(1)
    )
    logits = torch.log(weights) - 0.5 * squares + 0.5 * precision.log().sum(1)
    return torch.exp(logits - torch.logsumexp(logits, dim=1, keepdim=True))


def e_step_from_covariances(x, weights, means, variances):
    columns = [
        w.log() + MultivariateNormal(m, torch.diag(v)).log_prob(x)
        for w, m, v in zip(weights, means, variances, strict=True)
    ]
    return torch.stack(columns, dim=-1).softmax(dim=-1)


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


def reparameterize_in_loops(mean, scale_tril, noise):
    rows = []
    for b in range(len(mean)):
        row = [
            mean[b, i] + sum(scale_tril[b, i, j] * noise[b, j] for j in range(i + 1))
            for i in range(mean.shape[1])
        ]
        rows.append(torch.stack(row))
    return torch.stack(rows)


def kl_from_distributions(mean, log_var):
    q = Normal(mean, torch.exp(0.5 * log_var))
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return kl_divergence(q, prior).sum(dim=1)


def kl_in_a_loop(mean, log_var):
    total = torch.zeros_like(mean[:, 0])
    for m, s in zip(mean.T, log_var.T, strict=True):
        total = total + (m * m + s.exp()) / 2 - s / 2 - 0.5
    return total


def kl_from_entropies(mean, log_var):
    latents = mean.shape[1]
    cross_entropy = latents * math.log(2 * math.pi) + (mean.square() + log_var.exp()).sum(-1)
    entropy = latents * math.log(2 * math.pi * math.e) + log_var.sum(-1)
    return 0.5 * (cross_entropy - entropy)


def bernoulli_in_a_loop(x, logits):
    total = 0
    for pixel, logit in zip(x.T, logits.T, strict=True):
        total = total + pixel * F.logsigmoid(logit) + (1 - pixel) * F.logsigmoid(-logit)
    return total


def bernoulli_with_logaddexp(x, logits):
    return torch.einsum("bd,bd->b", x, logits) - torch.logaddexp(
        logits, torch.zeros_like(logits)
    ).sum(1)


def elbo_from_distributions(x, logits, mean, log_var):
    decoder = Independent(Bernoulli(logits=logits), 1)
    q = Independent(Normal(mean, torch.exp(log_var / 2)), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    return decoder.log_prob(x) - kl_divergence(q, prior)


def elbo_in_a_loop(x, logits, mean, log_var):
    bounds = []
    for b in range(len(x)):
        loss = F.binary_cross_entropy_with_logits(logits[b], x[b], reduction="sum")
        kl = -0.5 * torch.sum(1 + log_var[b] - mean[b].pow(2) - log_var[b].exp())
        bounds.append(-(loss + kl))
    return torch.stack(bounds)


def elbo_with_energy_and_entropy(x, logits, mean, log_var):
    energy = F.logsigmoid((2 * x - 1) * logits).sum(-1)
    energy = energy - 0.5 * (mean**2 + torch.exp(log_var) + math.log(2 * math.pi)).sum(-1)
    return energy + 0.5 * (1 + math.log(2 * math.pi) + log_var).sum(-1)


def score_from_z(f, mean, std, noise):
    z = mean + std * noise
    return f(z) * (z - mean) / std**2


def score_in_a_loop(f, mean, std, noise):
    return torch.stack([f(mean + std * e) * e for e in noise]) / std


def score_by_differentiation(f, mean, std, noise):
    z = mean + std * noise
    # one copy of the mean for each sample, so that each has a score of its own
    means = mean.expand(len(noise)).clone()
    log_prob = Normal(means, std).log_prob(z.clone())
    (score,) = torch.autograd.grad(log_prob.sum(), means, create_graph=True)
    return score * f(z)


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


RIGHT = {
    "naive_log_likelihood": (naive_with_a_maximum, naive_in_a_loop, Naive()),
    "e_step": (
        e_step_from_distributions,
        e_step_in_loops,
        e_step_with_expanded_square,
        e_step_from_covariances,
    ),
    "m_step": (m_step_from_moments, m_step_in_loops, m_step_with_a_detached_mean),
    "reparameterize": (
        lambda mean, scale_tril, noise: mean + (scale_tril @ noise[:, :, None])[:, :, 0],
        lambda mean, scale_tril, noise: mean + (scale_tril * noise.unsqueeze(1)).sum(-1),
        lambda mean, scale_tril, noise: torch.baddbmm(
            mean.unsqueeze(-1), torch.tril(scale_tril), noise.unsqueeze(-1)
        ).squeeze(-1),
    ),
    "gaussian_kl": (kl_from_distributions, kl_in_a_loop, kl_from_entropies),
    "bernoulli_log_likelihood": (
        lambda x, logits: Independent(Bernoulli(logits=logits), 1).log_prob(x),
        bernoulli_in_a_loop,
        bernoulli_with_logaddexp,
        lambda x, logits: -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1),
        lambda x, logits: -F.softplus((1 - 2 * x) * logits).sum(dim=-1),
    ),
    "gaussian_elbo": (elbo_from_distributions, elbo_in_a_loop, elbo_with_energy_and_entropy),
    "score_function_gradient": (score_from_z, score_in_a_loop, score_by_differentiation),
    "pathwise_gradient": (
        pathwise_of_copies,
        pathwise_in_a_loop,
        pathwise_by_jvp,
        pathwise_differentiable_again,
    ),
}
