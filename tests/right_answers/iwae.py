"""Right answers written in different ways: every check must pass all of them."""

import functools
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, Categorical, Independent, MultivariateNormal, Normal


def weights_from_distributions(x, logits, z, mean, log_var):
    decoder = Independent(Bernoulli(logits=logits), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    q = Independent(Normal(mean, torch.exp(log_var / 2)), 1)
    return decoder.log_prob(x) + prior.log_prob(z) - q.log_prob(z)


def weights_in_loops(x, logits, z, mean, log_var):
    rows = []
    for k in range(len(z)):
        row = []
        for b in range(len(x)):
            log_w = (x[b] * F.logsigmoid(logits[k, b])).sum()
            log_w = log_w + ((1 - x[b]) * F.logsigmoid(-logits[k, b])).sum()
            log_w = log_w - 0.5 * torch.dot(z[k, b], z[k, b])
            standardized = (z[k, b] - mean[b]) / torch.exp(0.5 * log_var[b])
            log_w = log_w + 0.5 * torch.dot(standardized, standardized) + log_var[b].sum() / 2
            row.append(log_w)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def weights_with_expanded_square(x, logits, z, mean, log_var):
    cross_entropy = F.binary_cross_entropy_with_logits(
        logits, x.expand_as(logits), reduction="none"
    ).sum(2)
    precision = torch.exp(-log_var)
    squares = (
        torch.einsum("kbl,bl->kb", z**2, precision)
        - 2 * torch.einsum("kbl,bl->kb", z, mean * precision)
        + torch.einsum("bl,bl->b", mean**2, precision)
    )
    log_ratio = 0.5 * (squares + log_var.sum(1)) - 0.5 * torch.einsum("kbl,kbl->kb", z, z)
    return log_ratio - cross_entropy


def weights_from_covariances(x, logits, z, mean, log_var):
    latents = mean.shape[-1]
    log_2pi = latents * math.log(2 * math.pi)
    log_pz = -0.5 * (log_2pi + z.square().sum(-1))
    q = MultivariateNormal(mean, scale_tril=torch.diag_embed(torch.exp(0.5 * log_var)))
    # sign · logit is the logit of the pixel that was seen
    sign = 2 * x - 1
    return F.logsigmoid(sign * logits).sum(-1) + log_pz - q.log_prob(z)


def elbo_in_a_loop(log_w):
    total = torch.zeros_like(log_w[0])
    for row in log_w:
        total = total + row
    return total / len(log_w)


def elbo_by_einsum(log_w):
    k = log_w.shape[0]
    return torch.einsum("kb,k->b", log_w, torch.full_like(log_w[:, 0], 1 / k))


def bound_with_a_maximum(log_w):
    largest = log_w.max(dim=0, keepdim=True).values
    return torch.log(torch.mean(torch.exp(log_w - largest), dim=0)) + largest.squeeze(0)


def bound_with_a_detached_maximum(log_w):
    # the derivative with respect to the constant is 0, so cutting it off changes nothing
    largest = log_w.detach().amax(0)
    return (log_w - largest).exp().sum(0).div(len(log_w)).log() + largest


def bound_in_a_loop(log_w):
    total = functools.reduce(torch.logaddexp, log_w.unbind(0))
    return total - torch.tensor(len(log_w), dtype=log_w.dtype, device=log_w.device).log()


class Bound(nn.Module):
    def forward(self, log_w):
        return -torch.log_softmax(log_w, dim=0)[0] + log_w[0] - math.log(log_w.size(0))


def subset_in_a_loop(log_w, m):
    bounds = [
        torch.logsumexp(torch.stack(rows), dim=0) - math.log(m)
        for rows in itertools.combinations(log_w, m)
    ]
    return sum(bounds) / len(bounds)


def subset_over_permutations(log_w, m):
    # every subset is counted m! times
    orders = torch.tensor(list(itertools.permutations(range(len(log_w)), m)), device=log_w.device)
    largest = log_w[orders].amax(1, keepdim=True)
    means = torch.exp(log_w[orders] - largest).mean(1)
    return (torch.log(means) + largest[:, 0]).mean(0)


def subset_by_recursion(log_w, m):
    def total(start, chosen):
        if len(chosen) == m:
            return torch.logsumexp(log_w[chosen], 0) - math.log(m)
        rest = range(start, len(log_w) - (m - len(chosen)) + 1)
        return sum(total(i + 1, [*chosen, i]) for i in rest)

    return total(0, []) / math.comb(len(log_w), m)


def subset_with_masks(log_w, m):
    subsets = [s for s in itertools.product([0, 1], repeat=len(log_w)) if sum(s) == m]
    masks = torch.tensor(subsets, device=log_w.device, dtype=torch.bool)
    masked = log_w[None].masked_fill(~masks[:, :, None], -math.inf)
    return masked.logsumexp(1).sub(math.log(m)).mean(0)


def gradient_weights_in_a_loop(log_w):
    columns = []
    for column in log_w.T:
        w = torch.exp(column - column.max())
        columns.append(w / w.sum())
    return torch.stack(columns, dim=1)


def gradient_weights_by_differentiation(log_w):
    total = torch.logsumexp(log_w, 0).sum()
    return torch.autograd.grad(total, log_w, create_graph=True)[0]


def q_iw_from_softmax(log_w_first, log_w_rest, log_q_first):
    log_w = torch.vstack([log_w_first.unsqueeze(0), log_w_rest])
    return torch.log_softmax(log_w, 0)[0] + math.log(len(log_w)) + log_q_first


def q_iw_in_a_loop(log_w_first, log_w_rest, log_q_first):
    total = log_w_first
    for row in log_w_rest:
        total = torch.logaddexp(total, row)
    average = total - math.log(1 + log_w_rest.shape[0])
    return log_q_first + (log_w_first - average)


def q_iw_from_ratios(log_w_first, log_w_rest, log_q_first):
    # w / (1/K Σ w_k) = K / Σ w_k/w, and the first term of that sum is 1
    ratios = torch.cat([torch.zeros_like(log_w_first)[None], log_w_rest - log_w_first], dim=0)
    return log_q_first - ratios.logsumexp(0) + math.log(ratios.shape[0])


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


def active_in_a_loop(means, threshold=0.01):
    n = len(means)
    active = []
    for column in means.T:
        mean = column.sum() / n
        active.append(((column - mean) ** 2).sum() / (n - 1) > threshold)
    return torch.stack(active)


def active_from_moments(means, threshold=0.01):
    return (means**2).mean(0) - means.mean(0) ** 2 > threshold


RIGHT = {
    "log_importance_weights": (
        weights_from_distributions,
        weights_in_loops,
        weights_with_expanded_square,
        weights_from_covariances,
    ),
    "multi_sample_elbo": (
        elbo_in_a_loop,
        elbo_by_einsum,
        lambda log_w: torch.sum(log_w, dim=0) / log_w.shape[0],
    ),
    "iwae_bound": (
        bound_with_a_maximum,
        bound_with_a_detached_maximum,
        bound_in_a_loop,
        Bound(),
    ),
    "subset_bound": (
        subset_in_a_loop,
        subset_over_permutations,
        subset_by_recursion,
        subset_with_masks,
    ),
    "iwae_gradient_weights": (
        gradient_weights_in_a_loop,
        gradient_weights_by_differentiation,
        lambda log_w: torch.exp(log_w - torch.logsumexp(log_w, 0)),
        lambda log_w: Categorical(logits=log_w.T).probs.T,
        nn.Softmax(dim=0),
    ),
    "q_iw_log_prob": (q_iw_from_softmax, q_iw_in_a_loop, q_iw_from_ratios),
    "gradient_snr": (snr_in_a_loop, snr_from_moments, snr_from_covariance),
    "active_units": (
        active_in_a_loop,
        active_from_moments,
        lambda means, threshold=0.01: torch.var(means, dim=0, correction=0).gt(threshold),
        lambda means, threshold=0.01: means.std(0) > math.sqrt(threshold),
    ),
}
