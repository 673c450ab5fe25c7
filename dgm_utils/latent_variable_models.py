"""Latent variable models: naive Monte Carlo, EM, the ELBO and the gradient of an expectation.

Everything is in nats, on the device and in the dtype of the arguments.

Sources: Dempster, Laird, Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm"
(1977); Kingma, Welling, "Auto-Encoding Variational Bayes" (2014), appendix B for the KL; Mohamed
et al., "Monte Carlo Gradient Estimation in Machine Learning" (2020) for the two estimators;
lectures L5-2024 and CS236-2018.
"""

import math

import torch
import torch.nn.functional as F

from dgm_utils.models.densities import full_precision, gaussian_log_prob
from dgm_utils.validate import takes


@takes(log_px_given_z="K B")
@full_precision
def naive_log_likelihood(log_px_given_z):
    """Log of the average likelihood under the prior, `(K, B) → (B,)`, with `z_k ~ p(z)`.

    The average is unbiased for p(x). Its logarithm is too low on average (Jensen: log is concave),
    and most of it may come from the few z_k that explain x at all.
    """
    return torch.logsumexp(log_px_given_z, 0) - math.log(len(log_px_given_z))


@takes(x="N D", weights="C", means="C D", variances="C D")
def e_step(x, weights, means, variances):
    """Responsibilities `q(c|x_n) ∝ weights_c N(x_n; means_c, diag variances_c)`, `→ (N, C)`.

    A softmax of log-densities: far from every component all of the densities underflow to 0, and
    0/0 is no responsibility.

    Args:
        x: `(N, D)` data.
        weights: `(C,)` positive, adding to one.
        means: `(C, D)`.
        variances: `(C, D)` diagonals of the covariances, positive.

    """
    components = zip(means.double(), torch.log(variances.double()), strict=True)
    log_px_given_c = [gaussian_log_prob(x.double(), mean, log_var) for mean, log_var in components]
    return torch.softmax(torch.stack(log_px_given_c, 1) + torch.log(weights), 1).to(x.dtype)


@takes(x="N D", responsibilities="N C")
def m_step(x, responsibilities):
    """Maximum likelihood given the responsibilities, `(N, D), (N, C) → (C,), (C, D), (C, D)`.

    Weights, means, and variances around the new means divided by N_c, the sum of component c's
    responsibilities (not N_c − 1: it is the maximum of the likelihood that EM climbs).
    No component may be empty.
    """
    counts = responsibilities.sum(0)
    weights = counts / len(x)
    means = responsibilities.T @ x / counts[:, None]
    # One component at a time. The mean of the squares less the square of the mean would be one
    # product, and cancel where a component is narrow.
    variances = torch.stack(
        [r @ (x - mean) ** 2 for r, mean in zip(responsibilities.T, means, strict=True)]
    )
    return weights, means, variances / counts[:, None]


@takes(mean="B L", scale_tril="B L L", noise="B L")
def reparameterize(mean, scale_tril, noise):
    """`z = mean + scale_tril · noise`, whose covariance is `scale_tril scale_trilᵀ`.

    `(B, L), (B, L, L), (B, L) → (B, L)`; noise is standard normal, scale_tril lower triangular.
    """
    return mean + torch.einsum("bij,bj->bi", scale_tril, noise)


@takes(mean="B L", log_var="B L")
@full_precision
def gaussian_kl(mean, log_var):
    """`KL(N(mean, diag exp(log_var)) ‖ N(0, I))`, `(B, L) ×2 → (B,)`, in nats."""
    # expm1 keeps the digits of exp(log_var) − 1 when q has almost reached the prior.
    return 0.5 * (mean**2 + torch.expm1(log_var) - log_var).sum(-1)


@takes(x="... D", logits="... B D")
@full_precision
def bernoulli_log_likelihood(x, logits):
    """`log p(x)` of pixels that are 1 with probability sigmoid(logits), `(B, D) ×2 → (B,)`.

    Probabilities are never formed: sigmoid(20) is 1 − 2e-9, which float32 rounds to 1, and the
    logarithm of 1 − 1 is then whatever a library replaces −inf with. Softplus is right to 2e-9.
    Leading axes broadcast: logits `(K, B, D)` of K samples of z give `(K, B)`.
    """
    # A sum of products as one product: x · logits is never stored.
    return torch.einsum("...d,...d->...", x, logits) - F.softplus(logits).sum(-1)


@takes(x="B D", logits="B D", mean="B L", log_var="B L")
def gaussian_elbo(x, logits, mean, log_var):
    """ELBO of a VAE with Gaussian posterior and Bernoulli decoder, `→ (B,)`, in nats.

    The reconstruction is of one sample, `logits = decoder(z)` with z ~ N(mean, diag exp(log_var));
    the KL to the standard normal prior is exact.
    """
    return bernoulli_log_likelihood(x, logits) - gaussian_kl(mean, log_var)


@takes(noise="S")
def score_function_gradient(f, mean, std, noise):
    """Estimates of `∂/∂mean E f(z)`, z ~ N(mean, std²), from the density's gradient.

    `f(z) ∂ log N(z; mean, std²)/∂mean = f(z) (z − mean)/std²`. It needs no derivative of f, and
    depends on what f is where no gradient does: adding a constant to f adds variance.

    Args:
        f: elementwise function, `(S,) → (S,)`.
        mean: scalar.
        std: scalar, positive.
        noise: `(S,)` standard normal, `z = mean + std · noise`.

    Returns:
        `(S,)` one unbiased estimate for each sample.

    """
    return f(mean + std * noise) * noise / std


@takes(noise="S")
def pathwise_gradient(f, mean, std, noise):
    """Estimates of `∂/∂mean E f(z)`, z ~ N(mean, std²), through the sample: f'(mean + std·noise).

    Arguments and result as in `score_function_gradient`; f must be differentiable, and the result
    carries no gradient itself.
    """
    with torch.enable_grad():
        z = (mean + std * noise).detach().requires_grad_()
        # f acts elementwise, so the gradient of the sum is every sample's own derivative. The
        # second term keeps a constant f, which has no graph, differentiable.
        (derivative,) = torch.autograd.grad(f(z).sum() + 0 * z.sum(), z)
    return derivative
