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
"""

from dgm_utils.oracles.importance_weighting import exact_iwae_bound, exact_q_ew_log_ratio
from dgm_utils.oracles.linear_gaussian import LinearGaussian, probabilistic_pca
from dgm_utils.oracles.quadrature import (
    gauss_hermite,
    grid,
    log_cell_mass,
    log_integral,
    mixture_kl,
    quadrature_kl,
    unit_cell,
)

__all__ = [
    "LinearGaussian",
    "exact_iwae_bound",
    "exact_q_ew_log_ratio",
    "gauss_hermite",
    "grid",
    "log_cell_mass",
    "log_integral",
    "mixture_kl",
    "probabilistic_pca",
    "quadrature_kl",
    "unit_cell",
]
