"""Exact answers to hold estimates and bounds against: closed forms and quadrature, no sampling.

Everything is computed in float64, in nats, and is differentiable: gradients flow to every tensor
argument that asks for them.

- `LinearGaussian`: evidence, posterior, ELBO and its gap in closed form.
- `gauss_hermite`, `grid`, `log_integral`: quadrature over one or two dimensions.
- `exact_iwae_bound`, `exact_q_ew_log_ratio`: the importance weighted bound and the posterior it
  implies, for any number of samples K.
- `quadrature_kl`, `mixture_kl`: KL divergences that have no closed form.
- `unit_cell`, `log_cell_mass`: the probability of a grey level under a continuous density.
- `probabilistic_pca`: the linear-Gaussian model of highest likelihood.

Sources: Tipping, Bishop, "Probabilistic Principal Component Analysis" (1999) for the linear model;
Trefethen, Weideman, "The Exponentially Convergent Trapezoidal Rule" (2014) for the quadrature;
Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders" (2015) for L_K; Cremer, Morris,
Duvenaud, "Reinterpreting Importance-Weighted Autoencoders" (2017) for q_EW.
"""

import math

import numpy as np
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from torch.utils.checkpoint import checkpoint

from dgm_utils.models.densities import is_transformed


class LinearGaussian:
    """The model `p(z) = N(0, I_L)`, `p(x|z) = N(W z + b, s² I_D)`, where all is known exactly.

    Args:
        weight: `(D, L)` the matrix W.
        bias: `(D,)` the vector b.
        noise_std: scalar s > 0, a standard deviation.

    Raises:
        ValueError: when the shapes do not fit, or s is not positive.

    """

    def __init__(self, weight, bias, noise_std):
        self.weight = torch.as_tensor(weight, dtype=torch.float64)
        self.bias = torch.as_tensor(bias, dtype=torch.float64, device=self.weight.device)
        self.noise_std = torch.as_tensor(noise_std, dtype=torch.float64, device=self.weight.device)
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            shapes = f"{tuple(self.weight.shape)} and {tuple(self.bias.shape)}"
            raise ValueError(f"weight must be (D, L) and bias (D,), not {shapes}")
        if self.noise_std.ndim != 0 or not self.noise_std > 0:
            raise ValueError(f"noise_std must be one positive number, not {noise_std}")
        self.identity = torch.eye(
            self.weight.shape[1], dtype=torch.float64, device=self.bias.device
        )

    def log_evidence(self, x):
        """`log p(x) = log N(x; b, W Wᵀ + s² I)`, `(B, D) → (B,)`."""
        identity = torch.eye(len(self.bias), dtype=torch.float64, device=self.bias.device)
        covariance = self.weight @ self.weight.T + self.noise_std**2 * identity
        return MultivariateNormal(self.bias, covariance).log_prob(x.double())

    def posterior(self, x):
        """`p(z|x) = N(mean, covariance)`, `(B, D) → (B, L), (L, L)`.

        The covariance `C = (I + WᵀW/s²)⁻¹` does not depend on x; the mean is `C Wᵀ (x − b) / s²`.
        """
        precision = self.identity + self.weight.T @ self.weight / self.noise_std**2
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        mean = (x.double() - self.bias) @ self.weight @ covariance / self.noise_std**2
        return mean, covariance

    def log_joint(self, x, z):
        """`log p(x|z) + log p(z)`, `x (B, D)`, `z (..., B, L)` → `(..., B)`."""
        z = z.double()
        log_px_given_z = self._log_likelihood(((x.double() - self._decode(z)) ** 2).sum(-1))
        log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
        return log_px_given_z + log_pz

    def elbo(self, x, mean, covariance):
        """ELBO of `q(z|x) = N(mean, covariance)`: reconstruction minus KL(q‖p(z)).

        Args:
            x: `(B, D)` data.
            mean: `(B, L)` means of q.
            covariance: `(L, L)`, or `(B, L, L)` when it differs between data points.

        Returns:
            `(B,)` bound in nats; equals `log_evidence(x) − posterior_kl(x, mean, covariance)`.

        """
        mean, covariance = mean.double(), covariance.double()
        # E_q |x − b − W z|² = |x − b − W mean|² + tr(W C Wᵀ).
        spread = ((self.weight @ covariance) * self.weight).sum((-2, -1))
        error = ((x.double() - self._decode(mean)) ** 2).sum(-1) + spread
        prior = MultivariateNormal(torch.zeros_like(self.identity[0]), self.identity)
        return self._log_likelihood(error) - kl_divergence(
            MultivariateNormal(mean, covariance), prior
        )

    def posterior_kl(self, x, mean, covariance):
        """The ELBO's gap KL(q‖p(z|x)) for `q = N(mean, covariance)`, shapes as in `elbo`."""
        q = MultivariateNormal(mean.double(), covariance.double())
        return kl_divergence(q, MultivariateNormal(*self.posterior(x)))

    def aggregated_posterior(self, x):
        """The mixture `1/N Σ_n p(z|x_n)` of a data set `(N, D)`, a distribution over `(L,)`.

        Its `log_prob` takes `(..., L)` and keeps `(..., N, L)` in memory.
        """
        mean, covariance = self.posterior(x)
        weights = Categorical(logits=torch.zeros_like(mean[:, 0]))
        return MixtureSameFamily(weights, MultivariateNormal(mean, covariance))

    def posterior_mean_variance(self):
        """Variance over `x ~ p(x)` of each unit's posterior mean `E[z_l|x]`, `(L,)`, in [0, 1).

        By the law of total variance it is the prior's variance, 1, less the posterior's.
        """
        _, covariance = self.posterior(self.bias[None])
        return 1 - covariance.diagonal()

    def _decode(self, z):
        return z @ self.weight.T + self.bias

    def _log_likelihood(self, squared_error):
        variance = self.noise_std**2
        constant = len(self.bias) * torch.log(2 * math.pi * variance)
        return -0.5 * (constant + squared_error / variance)


def gauss_hermite(num, dims=1):
    """Nodes and weights of `Σ_i exp(log_weights_i) f(nodes_i) ≈ E f(z)`, `z ~ N(0, I)`.

    Exact for polynomials of degree up to 2·num − 1 in each coordinate.

    Args:
        num: nodes in each dimension, 1 to 300 (beyond, the weights underflow).
        dims: dimensions of z; the number of nodes is num**dims, so 1 or 2 in practice.

    Returns:
        nodes `(num**dims, dims)` and log_weights `(num**dims,)`; the last coordinate runs fastest.

    Raises:
        ValueError: when num is out of range.

    """
    if not 1 <= num <= 300:
        raise ValueError(f"num must lie between 1 and 300, not {num}")
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    log_weights = np.log(weights) - np.log(weights.sum())
    return _product(torch.from_numpy(nodes), torch.from_numpy(log_weights), dims)


def grid(low, high, num, dims=1):
    """Nodes and weights of `Σ_i exp(log_weights_i) f(nodes_i) ≈ ∫ f(z) dz` over `[low, high]^dims`.

    Equally spaced nodes, the trapezoid rule. For a smooth f that has vanished at both ends its
    error falls faster than any power of the spacing h: for a Gaussian of standard deviation s it
    is 2·exp(−2π² s²/h²), so h = s/2 is at float eps and h = s is at 5e-9.

    Args:
        low: lower end of each coordinate.
        high: upper end of each coordinate.
        num: nodes in each dimension, at least 2.
        dims: dimensions of z; the number of nodes is num**dims, so 1 or 2 in practice.

    Returns:
        nodes `(num**dims, dims)` and log_weights `(num**dims,)`; the last coordinate runs fastest.

    Raises:
        ValueError: when low < high or num ≥ 2 fails.

    """
    if not low < high or num < 2:
        raise ValueError(f"need low < high and num ≥ 2, not {low}, {high}, {num}")
    nodes = torch.linspace(low, high, num, dtype=torch.float64)
    log_weights = torch.full_like(nodes, math.log((high - low) / (num - 1)))
    log_weights[[0, -1]] -= math.log(2)
    return _product(nodes, log_weights, dims)


def log_integral(log_f, log_weights):
    """`log Σ_i exp(log_weights_i) f_i` over the first axis, `(n, ...), (n,) → (...)`, stable."""
    shape = (-1,) + (1,) * (log_f.ndim - 1)
    return torch.logsumexp(log_f.double() + log_weights.reshape(shape), 0)


def exact_iwae_bound(log_w, log_mass, num_samples):
    """Importance weighted bound `L_K = E log(1/K Σ_k w(z_k))`, `z_k ~ q`, without sampling.

    Frullani's integral `log a = ∫_0^∞ (e^{−t} − e^{−ta}) dt/t` turns the logarithm of a sum into
    the exponential of one, and the expectation of that factorizes over the K samples:
    with `φ(t) = E_q exp(−t w(z))`,

        L_K = ∫_0^∞ [e^{−Kt} − φ(t)^K] dt/t.

    The error is that of the nodes, plus some K · 1e-14 of rounding: the integral over log t adds
    less than 1e-13 (see `SPACING` and `_log_times`). The cost is n times the range of log w; a
    thousand nodes take milliseconds, 40,000 in two dimensions seconds.

    Args:
        log_w: `(n,)` log-weights `log p(x, z_i) − log q(z_i|x)` at the nodes, finite.
        log_mass: `(n,)` mass of q at the nodes, `log q(z_i|x)` plus the log-weight of the
            quadrature; its exponentials sum to one.
        num_samples: K.

    Returns:
        `()` the bound in nats.

    Raises:
        ValueError: when the nodes miss more than 1e-6 of q's mass, a log-weight is not finite,
            or K < 1.

    """
    log_w, log_mass, log_evidence = _normalize(log_w, log_mass, num_samples)
    # φ only falls, so what is cut off is at most φ^K times the rest of the range.
    log_t = _log_times(log_w, log_mass, power=num_samples, log_tolerance=math.log(1e-16))
    log_phi = _log_phi(log_t, log_w, log_mass)
    integrand = torch.exp(-num_samples * log_t.exp()) - torch.exp(num_samples * log_phi)
    return log_evidence + SPACING * integrand.sum()


def exact_q_ew_log_ratio(log_w, log_mass, num_samples):
    """`log q_EW(z|x) − log q(z|x)` at the nodes; add `log_q` to have the log-density of q_EW.

    `q_EW = E_{z_2…z_K} q_IW` is what importance resampling of K samples of q draws from (Cremer et
    al. 2017). With `1/(a + S) = ∫_0^∞ e^{−t(a+S)} dt` the expectation factorizes:

        q_EW(z) = q(z) · K w(z) ∫_0^∞ e^{−t w(z)} φ(t)^{K−1} dt,   φ(t) = E_q exp(−t w(z)).

    It integrates to one, since that integrand, averaged over q, is −d(φ^K)/dt. K = 1 gives q
    back and K → ∞ the posterior, where the ratio is `log_w − log p(x)`.
    Beyond the error of the nodes, that of the log-ratio is some K · 1e-14; a ratio below 1e-40 may
    come out too small. The log of far tails asks for more and wider nodes than the bound does:
    they live on what q finds further out still.

    Args:
        log_w: `(n,)` log-weights, as in `exact_iwae_bound`.
        log_mass: `(n,)` log-mass of q, as in `exact_iwae_bound`. `exp(ratio + log_mass)` is the
            mass of q_EW: the ELBO of q_EW is `(ratio + log_mass).exp() @ (log_w − ratio)`.
        num_samples: K.

    Returns:
        `(n,)` log-ratios in nats.

    Raises:
        ValueError: as `exact_iwae_bound`.

    """
    log_w, log_mass, _ = _normalize(log_w, log_mass, num_samples)
    # ∫ w e^{−tw} dt = 1, so what is cut off is at most K φ^{K−1}.
    log_tolerance = -100 - math.log(num_samples)
    log_t = _log_times(log_w, log_mass, power=num_samples - 1, log_tolerance=log_tolerance)
    log_rest = (num_samples - 1) * _log_phi(log_t, log_w, log_mass)

    def log_sum(log_w):
        exponent = log_w[:, None] + log_t
        return torch.logsumexp(exponent - _exp(exponent) + log_rest, 1)

    return math.log(num_samples * SPACING) + _in_chunks(log_sum, log_w, len(log_t))


def _product(nodes, log_weights, dims):
    """Tensor product of a one-dimensional rule with itself."""
    nodes = torch.stack(torch.meshgrid(*[nodes] * dims, indexing="ij"), -1)
    log_weights = sum(torch.meshgrid(*[log_weights] * dims, indexing="ij"))
    return nodes.reshape(-1, dims), log_weights.reshape(-1)


def _normalize(log_w, log_mass, num_samples):
    """Checks; weights divided by `p(x)`, masses by their sum; and log p(x)."""
    log_w, log_mass = log_w.double(), log_mass.double()
    log_total = torch.logsumexp(log_mass, 0)
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, not {num_samples}")
    if not torch.isfinite(log_w).all():
        raise ValueError("log_w has entries that are infinite or NaN")
    if not log_total.abs() < 1e-6:
        total = log_total.exp().item()
        raise ValueError(f"log_mass must hold the whole mass of q: it sums to {total:.9f}, not 1")
    log_mass = log_mass - log_total
    # A constant factor: both integrals are the same for any, and this one sets the scale of t.
    log_evidence = torch.logsumexp(log_mass + log_w, 0).detach()
    return log_w - log_evidence, log_mass, log_evidence


# Spacing of log t. The trapezoid rule integrates exp(−exp(log t)·a) over log t with the error
# 2·Σ_m |Γ(2πim/h)|, whatever a is; averages over a, which is all we integrate, inherit it.
# |Γ(2πi/h)| is 4e-18 at h = 1/4, and 2e-9 at h = 1/2.
SPACING = 0.25


def _log_times(log_w, log_mass, power, log_tolerance):
    """Values of log t that cover the integrals, for weights of mean one.

    Below the first, t·K and t·w for every w are under 1e-17: both integrands have vanished. Above
    the last, t·w > 40 for every w, or already φ(t)^power < tolerance.
    """
    with torch.no_grad():
        low = math.log(1e-17) - math.log(power + 1) - log_w.max().clamp(min=0).item()
        high = math.log(40) - log_w.min().clamp(max=0).item()
        last = high
        first = low
        while last - first > 1:
            middle = (first + last) / 2
            log_phi = torch.logsumexp(log_mass - _exp(middle + log_w), 0)
            if power * log_phi < log_tolerance:
                last = middle
            else:
                first = middle
        steps = math.ceil((last - low) / SPACING)
        return low + SPACING * torch.arange(steps + 1, dtype=log_w.dtype, device=log_w.device)


def _log_phi(log_t, log_w, log_mass):
    """`log φ(t) = log E_q exp(−t w)`, `(T,)`."""

    def log_mean(log_t):
        return torch.logsumexp(log_mass - _exp(log_t[:, None] + log_w), 1)

    return _in_chunks(log_mean, log_t, len(log_w))


def _exp(exponent):
    # exp(300) is infinite for our purpose, and its gradient is not NaN.
    return exponent.clamp(max=300).exp()


def _in_chunks(function, rows, columns):
    """`function(rows)` in pieces of 64 MB, computed again in backward instead of being kept.

    Blocks above 32 MB go back to the system at once; smaller ones would fragment the heap.
    """
    if is_transformed(rows):
        return function(rows)
    pieces = rows.split(max(1, 2**23 // columns))
    return torch.cat([checkpoint(function, piece, use_reentrant=False) for piece in pieces])


def quadrature_kl(log_q, log_p, log_weights):
    """`KL(q ‖ p) = ∫ q (log q − log p)` on given nodes, `(n, ...) ×2, (n,) → (...)`.

    Args:
        log_q: `(n, ...)` log-density of q at the nodes.
        log_p: `(n, ...)` log-density of p there, finite where q has mass.
        log_weights: `(n,)` of the rule, from `grid` or `unit_cell`.

    Raises:
        ValueError: when the nodes miss more than 1e-6 of q's mass.

    """
    log_q, log_p = log_q.double(), log_p.double()
    shape = (-1,) + (1,) * (log_q.ndim - 1)
    mass = (log_q + log_weights.reshape(shape)).exp()
    error = (mass.sum(0) - 1).abs().max().item()
    if not error < 1e-6:
        raise ValueError(f"the nodes must hold the whole mass of q: they miss {error:.1e} of it")
    return (mass * (log_q - log_p)).sum(0)


def mixture_kl(mean, log_var, means, log_vars, num=2001):
    """KL from a Gaussian to an equal mixture of Gaussians, for which there is no closed form.

    The nodes lie within 12 standard deviations of q, spaced by 24/(num − 1) of them: 0.012 unless
    told otherwise. The error is at rounding as long as no component is narrower than two spacings.

    Args:
        mean: `(L,)` of q, L = 1 or 2.
        log_var: `(L,)` of q.
        means: `(C, L)` of the mixture.
        log_vars: `(C, L)` of the mixture.
        num: nodes in each dimension; num² in two.

    Returns:
        `()` the KL in nats.

    Raises:
        ValueError: when the shapes do not fit.

    """
    if mean.ndim != 1 or len(mean) > 2 or means.ndim != 2 or means.shape[1:] != mean.shape:
        shapes = f"{tuple(mean.shape)} and {tuple(means.shape)}"
        raise ValueError(f"mean must be (L,) with L = 1 or 2 and means (C, L), not {shapes}")
    nodes, log_weights = grid(-12, 12, num, len(mean))
    std = torch.exp(0.5 * log_var.double())
    log_q = Normal(0.0, 1.0).log_prob(nodes).sum(1)
    components = Independent(Normal(means.double(), torch.exp(0.5 * log_vars.double())), 1)
    weights = Categorical(logits=torch.zeros_like(components.mean[:, 0]))
    log_p = MixtureSameFamily(weights, components).log_prob(mean.double() + std * nodes)
    # Both densities in units of q's standard deviations.
    return quadrature_kl(log_q, log_p + torch.log(std).sum(), log_weights)


def unit_cell(num, dims=1):
    """Gauss-Legendre nodes and weights of `Σ_i exp(log_weights_i) f(nodes_i) ≈ ∫_[0,1]^dims f`.

    Exact for polynomials of degree up to 2·num − 1 in each coordinate.

    Args:
        num: nodes in each dimension, 1 to 300.
        dims: the number of nodes is num**dims, so 1 or 2 in practice.

    Returns:
        nodes `(num**dims, dims)` and log_weights `(num**dims,)`; the last coordinate runs fastest.

    Raises:
        ValueError: when num is out of range.

    """
    if not 1 <= num <= 300:
        raise ValueError(f"num must lie between 1 and 300, not {num}")
    nodes, weights = np.polynomial.legendre.leggauss(num)
    return _product(torch.from_numpy(nodes + 1) / 2, torch.from_numpy(weights / 2).log(), dims)


def log_cell_mass(log_prob, x, num=40):
    """Exact `log P(x) = log ∫_[0,1]^D p(x + u) du` of a density cut into unit cells.

    For an entire log-density the error falls faster than any power: 40 nodes are at rounding for a
    Gaussian of standard deviation 1/15 within the cell.

    Args:
        log_prob: density `(..., D) → (...)`, in float64.
        x: `(B, D)` lower corners of the cells, D = 1 or 2.
        num: nodes in each dimension.

    Returns:
        `(B,)` log-probabilities in nats.

    """
    nodes, log_weights = unit_cell(num, x.shape[1])
    return log_integral(log_prob(x.double() + nodes[:, None]), log_weights)


def probabilistic_pca(x, num_latents):
    """The `LinearGaussian` model of highest likelihood, in closed form (Tipping, Bishop 1999).

    The bias is the mean; s² is the average of the eigenvalues of the covariance (divided by N)
    beyond the first L; the columns of W are the first L eigenvectors, each of squared length
    eigenvalue − s². Any rotation of the latents is as good.

    Args:
        x: `(N, D)` data.
        num_latents: L, from 1 to D − 1.

    Raises:
        ValueError: when num_latents is out of range, or the data have no variance left for s².

    """
    x = x.double()
    if not 1 <= num_latents < x.shape[1]:
        raise ValueError(f"num_latents must lie between 1 and {x.shape[1] - 1}, not {num_latents}")
    centred = x - x.mean(0)
    eigenvalues, eigenvectors = torch.linalg.eigh(centred.T @ centred / len(x))
    variance = eigenvalues[:-num_latents].mean()
    if not variance > 1e-12 * eigenvalues[-1]:
        raise ValueError(f"x has no variance beyond {num_latents} directions: s would be 0")
    lengths = (eigenvalues[-num_latents:] - variance).sqrt()
    return LinearGaussian(eigenvectors[:, -num_latents:] * lengths, x.mean(0), variance.sqrt())
