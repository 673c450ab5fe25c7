"""The linear-Gaussian model, in which evidence, posterior and ELBO have closed forms.

Source: Tipping, Bishop, "Probabilistic Principal Component Analysis" (1999).
"""

import math

import torch
from torch.distributions import (
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
    kl_divergence,
)


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
