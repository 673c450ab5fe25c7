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
)


def mixture_from_distributions(z, means, log_vars):
    components = Independent(Normal(means, torch.exp(log_vars / 2)), 1)
    weights = Categorical(logits=torch.zeros_like(means[:, 0]))
    return MixtureSameFamily(weights, components).log_prob(z)


def mixture_in_loops(z, means, log_vars):
    points = []
    for point in z:
        log_densities = []
        for mean, log_var in zip(means, log_vars, strict=True):
            noise = (point - mean) / torch.exp(0.5 * log_var)
            log_density = -0.5 * torch.dot(noise, noise) - 0.5 * log_var.sum()
            log_densities.append(log_density - 0.5 * len(mean) * math.log(2 * math.pi))
        total = functools.reduce(torch.logaddexp, log_densities)
        points.append(total - math.log(len(means)))
    return torch.stack(points)


def mixture_with_expanded_square(z, means, log_vars):
    precision = torch.exp(-log_vars)
    squares = z**2 @ precision.T - 2 * z @ (means * precision).T + (means**2 * precision).sum(1)
    log_volume = log_vars.sum(1) + z.shape[1] * math.log(2 * math.pi)
    log_normal = -0.5 * (squares + log_volume)
    largest = log_normal.amax(1, keepdim=True)
    return torch.log(torch.exp(log_normal - largest).mean(1)) + largest[:, 0]


def mixture_from_covariances(z, means, log_vars):
    components = MultivariateNormal(means, scale_tril=torch.diag_embed(torch.exp(0.5 * log_vars)))
    log_weight = -math.log(means.shape[0])
    return torch.logsumexp(components.log_prob(z[:, None]) + log_weight, dim=-1)


def kl_in_a_loop(log_q, log_p):
    total = 0
    for q, p in zip(log_q, log_p, strict=True):
        total = total + (q - p)
    return total / log_q.shape[0]


def kl_by_einsum(log_q, log_p):
    weights = torch.full_like(log_q[:, 0], 1 / len(log_q))
    return torch.einsum("s,sb->b", weights, log_q - log_p)


def normal_cdf(raw):
    return 0.5 * torch.erfc(-raw / math.sqrt(2))


def softsign(raw):
    return 0.5 + 0.5 * raw / (1 + raw.abs())


def straight_line(raw):
    return F.hardsigmoid(raw * 0.9)


def vampprior_from_distributions(z, pseudo, encoder):
    mean, log_var = encoder(pseudo)
    log_q = Normal(mean, torch.exp(0.5 * log_var)).log_prob(z.unsqueeze(1)).sum(2)
    return torch.logsumexp(log_q, 1) - math.log(pseudo.shape[0])


def vampprior_one_encoding_at_a_time(z, pseudo, encoder):
    rows = []
    for u in pseudo.split(1):
        mean, log_var = encoder(u)
        noise = (z - mean) * torch.exp(-0.5 * log_var)
        rows.append(-0.5 * (noise.square() + log_var + math.log(2 * math.pi)).sum(1))
    return torch.stack(rows).logsumexp(0).sub(math.log(len(rows)))


def vampprior_with_expanded_square(z, pseudo, encoder):
    mean, log_var = encoder(pseudo)
    precision = (-log_var).exp()
    squares = torch.einsum("bl,cl->bc", z**2, precision)
    squares = squares - 2 * torch.einsum("bl,cl->bc", z, mean * precision)
    constant = torch.einsum("cl,cl->c", mean**2, precision) + log_var.sum(1)
    log_q = -0.5 * (squares + constant) - 0.5 * z.shape[1] * math.log(2 * math.pi)
    return log_q.logsumexp(1) - math.log(len(mean))


def sample_from_distributions(pseudo, encoder, component, noise):
    mean, log_var = encoder(pseudo.index_select(0, component))
    return mean.addcmul(log_var.div(2).exp(), noise)


def sample_all_and_choose(pseudo, encoder, component, noise):
    mean, log_var = encoder(pseudo)
    return mean[component] + log_var.exp().sqrt()[component] * noise


def sample_in_a_loop(pseudo, encoder, component, noise):
    rows = []
    for c, eps in zip(component, noise, strict=True):
        mean, log_var = encoder(pseudo[c].unsqueeze(0))
        rows.append(mean[0] + torch.exp(log_var[0] / 2) * eps)
    return torch.stack(rows)


def sample_by_one_hot(pseudo, encoder, component, noise):
    chosen = F.one_hot(component, len(pseudo)).to(pseudo.dtype)
    mean, log_var = encoder(chosen @ pseudo)
    return torch.exp(0.5 * log_var) * noise + mean


def hierarchical_from_kl_terms(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    return log_px - (log_qz1 - log_pz1) - (log_qz2 - log_pz2)


def hierarchical_stacked(*terms):
    signs = torch.tensor([1, 1, 1, -1, -1], dtype=terms[0].dtype, device=terms[0].device)
    return signs @ torch.stack(terms)


def hierarchical_in_a_loop(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
    return torch.stack(
        [
            a + (b + c) - (d + e)
            for a, b, c, d, e in zip(log_px, log_pz1, log_pz2, log_qz1, log_qz2, strict=True)
        ]
    )


class VAE(nn.Module):
    def __init__(self, weights, raw):
        super().__init__()
        w1, b1, w2, b2, v1, c1, v2, c2 = weights
        self.first, self.second = self.layer(w1, b1), self.layer(w2, b2)
        self.third, self.fourth = self.layer(v1, c1), self.layer(v2, c2)
        self.raw = nn.Parameter(raw.clone())

    @staticmethod
    def layer(weight, bias):
        layer = nn.Linear(*weight.shape).to(weight)
        layer.weight.data, layer.bias.data = weight.T.clone(), bias.clone()
        return layer

    def encode(self, u):
        mean, log_var = self.second(torch.tanh(self.first(u))).chunk(2, dim=1)
        return Independent(Normal(mean, torch.exp(0.5 * log_var)), 1)

    def forward(self, x, eps):
        q = self.encode(x)
        z = q.mean + q.stddev * eps
        decoder = Independent(Bernoulli(logits=self.fourth(torch.tanh(self.third(z)))), 1)
        components = self.encode(torch.sigmoid(self.raw))
        weights = Categorical(logits=torch.zeros_like(self.raw[:, 0]))
        prior = MixtureSameFamily(weights, components)
        return decoder.log_prob(x) + prior.log_prob(z) - q.log_prob(z)

    def trained(self):
        layers = (self.first, self.second, self.third, self.fourth)
        return [t for layer in layers for t in (layer.weight.T, layer.bias)], self.raw


def train_a_module(batches, noise, weights, raw):
    model = VAE(weights, raw)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0)
    for x, eps in zip(batches, noise, strict=True):
        loss = -model(x, eps).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.trained()


def train_by_hand(batches, noise, weights, raw, learning_rate=0.01):
    """Adam written out, on gradients from torch.autograd.grad."""
    tensors = [tensor.clone() for tensor in (*weights, raw)]
    first = [torch.zeros_like(tensor) for tensor in tensors]
    second = [torch.zeros_like(tensor) for tensor in tensors]
    for step in range(len(batches)):
        tensors = [tensor.detach().requires_grad_() for tensor in tensors]
        x, eps = batches[step], noise[step]
        w1, b1, w2, b2, v1, c1, v2, c2, u = tensors
        both = torch.cat([x, torch.sigmoid(u)])
        mean, log_var = torch.chunk(torch.tanh(both @ w1 + b1) @ w2 + b2, 2, dim=1)
        (mean, means), (log_var, log_vars) = (t.split([len(x), len(u)]) for t in (mean, log_var))
        z = mean + log_var.div(2).exp() * eps
        logits = torch.tanh(z @ v1 + c1) @ v2 + c2
        log_px = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        elbo = log_px + mixture_with_expanded_square(z, means, log_vars) + log_var.sum(1) / 2
        gradients = torch.autograd.grad(-elbo.mean(), tensors)
        with torch.no_grad():
            for i, gradient in enumerate(gradients):
                first[i] = 0.9 * first[i] + 0.1 * gradient
                second[i] = 0.999 * second[i] + 0.001 * gradient**2
                mean_gradient = first[i] / (1 - 0.9 ** (step + 1))
                size = (second[i] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                tensors[i] = tensors[i] - learning_rate * mean_gradient / size
    *trained, raw = tensors
    return trained, raw


def train_with_two_optimizers(batches, noise, weights, raw):
    weights = [nn.Parameter(weight.clone()) for weight in weights]
    raw = nn.Parameter(raw.clone())
    # Pseudo-inputs may be learnt faster, and batches visited in another order.
    optimizers = torch.optim.Adam(weights, lr=0.01), torch.optim.Adam([raw], lr=0.03)
    for i in reversed(range(batches.shape[0])):
        w1, b1, w2, b2, v1, c1, v2, c2 = weights

        def encoder(u, w1=w1, b1=b1, w2=w2, b2=b2):
            return torch.addmm(b2, torch.tanh(torch.addmm(b1, u, w1)), w2).tensor_split(2, 1)

        mean, log_var = encoder(batches[i])
        q = MultivariateNormal(mean, scale_tril=torch.diag_embed(torch.exp(0.5 * log_var)))
        z = mean + torch.exp(0.5 * log_var) * noise[i]
        logits = torch.addmm(c2, torch.tanh(torch.addmm(c1, z, v1)), v2)
        sign = 2 * batches[i] - 1
        log_px = F.logsigmoid(sign * logits).sum(-1)
        log_pz = vampprior_from_distributions(z, raw.sigmoid(), encoder)
        for optimizer in optimizers:
            optimizer.zero_grad()
        (q.log_prob(z) - log_pz - log_px).sum().div(len(z)).backward()
        for optimizer in optimizers:
            optimizer.step()
    return weights, raw


RIGHT = {
    "mixture_log_prob": (
        mixture_from_distributions,
        mixture_in_loops,
        mixture_with_expanded_square,
        mixture_from_covariances,
    ),
    "monte_carlo_kl": (
        kl_in_a_loop,
        kl_by_einsum,
        lambda log_q, log_p: log_q.mean(0) - log_p.mean(0),
    ),
    "pseudo_inputs": (
        lambda raw: (1 + torch.tanh(raw / 2)) / 2,
        normal_cdf,
        softsign,
        straight_line,
        lambda raw: 0.5 + torch.atan(raw) / math.pi,
        lambda raw: torch.exp(-F.softplus(-raw)),
        nn.Sigmoid(),
    ),
    "vampprior_log_prob": (
        vampprior_from_distributions,
        vampprior_one_encoding_at_a_time,
        vampprior_with_expanded_square,
    ),
    "sample_vampprior": (
        sample_from_distributions,
        sample_all_and_choose,
        sample_in_a_loop,
        sample_by_one_hot,
    ),
    "hierarchical_elbo": (
        hierarchical_from_kl_terms,
        hierarchical_stacked,
        hierarchical_in_a_loop,
    ),
    "train_vampprior": (train_a_module, train_by_hand, train_with_two_optimizers),
}
