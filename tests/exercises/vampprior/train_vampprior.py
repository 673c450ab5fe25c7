"""Right answers for `train_vampprior`, each in another style."""

import torch
import torch.nn.functional as F
from exercises.vampprior._shared import mixture_with_expanded_square, vampprior_from_distributions
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
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


RIGHT = (train_a_module, train_by_hand, train_with_two_optimizers)
