"""Right answers written in different ways: every check must pass all of them."""

import math

import torch
import torch.nn.functional as F
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)


def log_gaussian(z, mean, log_var):
    """One sample under one posterior."""
    standardized = (z - mean) / torch.exp(0.5 * log_var)
    total = -0.5 * torch.dot(standardized, standardized) - 0.5 * log_var.sum()
    return total - 0.5 * len(z) * math.log(2 * math.pi)


def pairs_in_loops(z, mean, log_var):
    rows = []
    for sample in z:
        pairs = zip(mean, log_var, strict=True)
        rows.append(torch.stack([log_gaussian(sample, m, v) for m, v in pairs]))
    return torch.stack(rows)


def pairs_from_distributions(z, mean, log_var):
    q = Independent(Normal(mean, torch.exp(log_var / 2)), 1)
    return q.log_prob(z.unsqueeze(1))


def pairs_with_expanded_square(z, mean, log_var):
    precision = torch.exp(-log_var)
    squares = (
        torch.einsum("ml,nl->mn", z**2, precision)
        - 2 * torch.einsum("ml,nl->mn", z, mean * precision)
        + torch.einsum("nl,nl->n", mean**2, precision)
    )
    return -0.5 * (squares + log_var.sum(1) + z.shape[1] * math.log(2 * math.pi))


def pairs_from_covariances(z, mean, log_var):
    q = MultivariateNormal(mean, scale_tril=torch.diag_embed(torch.exp(0.5 * log_var)))
    return q.log_prob(z[:, None])


def pairs_from_a_loss(z, mean, log_var):
    m, n = len(z), len(mean)
    z = z.repeat_interleave(n, 0)
    var = torch.exp(log_var).repeat(m, 1)
    loss = F.gaussian_nll_loss(mean.repeat(m, 1), z, var, full=True, eps=0, reduction="none")
    return -loss.sum(1).reshape(m, n)


def aggregate_with_expanded_square(z, mean, log_var):
    return torch.logsumexp(pairs_with_expanded_square(z, mean, log_var), 1) - math.log(len(mean))


def aggregate_one_latent_at_a_time(z, mean, log_var):
    log_q = z.new_zeros(len(z), len(mean))
    for z_l, mean_l, log_var_l in zip(z.T, mean.T, log_var.T, strict=True):
        log_q = log_q + Normal(mean_l, torch.exp(0.5 * log_var_l)).log_prob(z_l[:, None])
    largest = log_q.amax(1, keepdim=True)
    return torch.log(torch.exp(log_q - largest).mean(1)) + largest.squeeze(1)


def aggregate_one_posterior_at_a_time(z, mean, log_var):
    total = None
    for mean_n, log_var_n in zip(mean, log_var, strict=True):
        log_q = -0.5 * ((z - mean_n) ** 2 / log_var_n.exp() + log_var_n).sum(-1)
        total = log_q if total is None else torch.logaddexp(total, log_q)
    return total - math.log(len(mean)) - 0.5 * z.shape[1] * math.log(2 * math.pi)


def aggregate_one_sample_at_a_time(z, mean, log_var):
    rows = []
    for sample in z:
        log_q = -0.5 * ((sample - mean) ** 2 / log_var.exp() + log_var).sum(-1)
        rows.append(log_q.logsumexp(0))
    constant = math.log(len(mean)) + 0.5 * z.shape[1] * math.log(2 * math.pi)
    return torch.stack(rows) - constant


def aggregate_from_mixtures_in_blocks(z, mean, log_var):
    components = Independent(Normal(mean, torch.exp(0.5 * log_var)), 1)
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros_like(mean[:, 0])), components)
    return torch.cat([mixture.log_prob(block) for block in z.split(100)])


def aggregate_as_one_product(z, mean, log_var):
    precision = torch.exp(-log_var)
    features = torch.cat([z**2, z, torch.ones_like(z[:, :1])], dim=1)
    constant = (mean**2 * precision + log_var + math.log(2 * math.pi)).sum(1, keepdim=True)
    weights = torch.cat([-0.5 * precision, mean * precision, -0.5 * constant], dim=1)
    log_uniform = -torch.log(torch.full_like(mean[:, 0], len(mean)))
    return torch.logsumexp(features @ weights.T + log_uniform, dim=1)


def kl_from_distributions(mean, log_var):
    q = Normal(mean, torch.exp(0.5 * log_var))
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return kl_divergence(q, prior).sum(1).mean()


def kl_in_loops(mean, log_var):
    total = 0
    for mean_n, log_var_n in zip(mean, log_var, strict=True):
        for m, v in zip(mean_n, log_var_n, strict=True):
            total = total + (m * m + torch.exp(v) - 1 - v) / 2
    return total / len(mean)


def kl_from_covariances(mean, log_var):
    latents = mean.shape[1]
    covariance = torch.diag_embed(torch.exp(log_var))
    trace = torch.einsum("nll->n", covariance)
    return 0.5 * (trace + (mean**2).sum(1) - latents - log_var.sum(1)).mean(0)


def information_from_distributions(z, mean, log_var):
    own = Independent(Normal(mean, torch.exp(0.5 * log_var)), 1).log_prob(z)
    log_each = pairs_from_distributions(z, mean, log_var)
    return torch.mean(own - torch.logsumexp(log_each, dim=1)) + math.log(len(z))


def information_in_loops(z, mean, log_var):
    terms = []
    for i in range(len(z)):
        log_each = [log_gaussian(z[i], mean[n], log_var[n]) for n in range(len(z))]
        terms.append(log_each[i] - torch.stack(log_each).logsumexp(0) + math.log(len(z)))
    return sum(terms) / len(terms)


def information_from_softmax(z, mean, log_var):
    # the probability of the right index, against a blind guess
    log_index = torch.log_softmax(pairs_with_expanded_square(z, mean, log_var), dim=1)
    return math.log(len(z)) + torch.einsum("ii->", log_index) / len(z)


def information_as_cross_entropy(z, mean, log_var):
    target = torch.arange(len(z), device=z.device)
    return math.log(len(z)) - F.cross_entropy(pairs_from_distributions(z, mean, log_var), target)


def from_index_with_categorical(z, mean, log_var):
    log_q = pairs_from_distributions(z, mean, log_var)
    return math.log(len(z)) - Categorical(logits=log_q).entropy().mean()


def from_index_in_loops(z, mean, log_var):
    total = 0
    for sample in z:
        log_q = torch.stack([log_gaussian(sample, mean[n], log_var[n]) for n in range(len(z))])
        log_index = log_q - torch.logsumexp(log_q, 0)
        total = total - torch.dot(torch.exp(log_index), log_index)
    return math.log(len(z)) - total / len(z)


def from_index_as_divergence(z, mean, log_var):
    # KL(q(n|z) ‖ uniform) is log N less the entropy
    log_index = torch.log_softmax(pairs_with_expanded_square(z, mean, log_var), 1)
    log_ratio = log_index + math.log(len(z))
    return torch.einsum("in,in->", log_index.exp(), log_ratio) / len(z)


def from_index_by_log_sum_exp(z, mean, log_var):
    # entropy of a softmax: log Z − E log-density
    log_q = pairs_from_covariances(z, mean, log_var)
    index = torch.softmax(log_q, dim=-1)
    entropy = torch.logsumexp(log_q, dim=-1) - (index * log_q).sum(-1)
    return (math.log(len(z)) - entropy).mean()


def marginal_from_distributions(z, mean, log_var):
    components = Independent(Normal(mean, torch.exp(0.5 * log_var)), 1)
    q = MixtureSameFamily(Categorical(logits=torch.zeros_like(mean[:, 0])), components)
    prior = Independent(Normal(torch.zeros_like(z[0]), torch.ones_like(z[0])), 1)
    return (q.log_prob(z) - prior.log_prob(z)).mean()


def marginal_in_loops(z, mean, log_var):
    total = 0
    for sample in z:
        log_each = [log_gaussian(sample, mean[n], log_var[n]) for n in range(len(z))]
        log_q = torch.stack(log_each).logsumexp(0) - math.log(len(z))
        origin = torch.zeros_like(sample)
        total = total + log_q - log_gaussian(sample, origin, origin)
    return total / len(z)


def marginal_with_expanded_square(z, mean, log_var):
    log_q = aggregate_with_expanded_square(z, mean, log_var)
    constant = 0.5 * z.shape[1] * math.log(2 * math.pi)
    return log_q.mean() + 0.5 * torch.einsum("nl,nl->", z, z) / len(z) + constant


def surgery_from_distributions(reconstruction, z, mean, log_var):
    own = Independent(Normal(mean, torch.exp(0.5 * log_var)), 1).log_prob(z)
    prior = Independent(Normal(torch.zeros_like(z), torch.ones_like(z)), 1).log_prob(z)
    aggregate = aggregate_from_mixtures_in_blocks(z, mean, log_var)
    return {
        "elbo": (reconstruction + prior - own).mean(),
        "marginal_kl": (aggregate - prior).mean(),
        "mutual_information": (own - aggregate).mean(),
        "reconstruction": reconstruction.mean(),
    }


def surgery_in_loops(reconstruction, z, mean, log_var):
    reconstructed = sum(reconstruction) / len(reconstruction)
    information = information_in_loops(z, mean, log_var)
    marginal = marginal_in_loops(z, mean, log_var)
    return dict(
        reconstruction=reconstructed,
        mutual_information=information,
        marginal_kl=marginal,
        elbo=reconstructed - (information + marginal),
    )


def surgery_with_expanded_square(reconstruction, z, mean, log_var):
    log_each = pairs_with_expanded_square(z, mean, log_var)
    log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
    log_aggregate = torch.logsumexp(log_each, 1) - math.log(len(z))
    parts = {}
    parts["reconstruction"] = reconstruction.mean()
    parts["marginal_kl"] = (log_aggregate - log_prior).mean()
    parts["mutual_information"] = torch.diag(log_each - log_aggregate[:, None]).mean()
    parts["elbo"] = torch.mean(reconstruction + log_prior - torch.diag(log_each))
    return parts


RIGHT = {
    "pairwise_log_prob": (
        pairs_in_loops,
        pairs_from_distributions,
        pairs_with_expanded_square,
        pairs_from_covariances,
        pairs_from_a_loss,
    ),
    "log_aggregated_posterior": (
        aggregate_with_expanded_square,
        aggregate_one_latent_at_a_time,
        aggregate_one_posterior_at_a_time,
        aggregate_one_sample_at_a_time,
        aggregate_from_mixtures_in_blocks,
        aggregate_as_one_product,
    ),
    "average_kl": (
        kl_from_distributions,
        kl_in_loops,
        kl_from_covariances,
        lambda mean, log_var: -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum() / len(mean),
    ),
    "mutual_information": (
        information_from_distributions,
        information_in_loops,
        information_from_softmax,
        information_as_cross_entropy,
    ),
    "mutual_information_from_index": (
        from_index_with_categorical,
        from_index_in_loops,
        from_index_as_divergence,
        from_index_by_log_sum_exp,
    ),
    "marginal_kl": (
        marginal_from_distributions,
        marginal_in_loops,
        marginal_with_expanded_square,
    ),
    "elbo_surgery": (
        surgery_from_distributions,
        surgery_in_loops,
        surgery_with_expanded_square,
    ),
}
