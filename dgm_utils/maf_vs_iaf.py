"""MAF against IAF: which direction is cheap, and what each is good for.

`forward` goes data → base, `inverse` base → data. A conditioner `net(v)` returns
`(mu, log_sigma)`, each `(B, D)`, autoregressive in the natural order. Everything is in nats.

The masks and the two flows are the ones that the models are made of, in `models/made.py`,
`models/autoregressive.py` and `models/coupling.py`; here is what the comparison needs on top.

Sources: Papamakarios, Pavlakou, Murray, "Masked Autoregressive Flow for Density Estimation" (2017);
Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow" (2016); van den
Oord et al., "Parallel WaveNet" (2017); lecture L6-2021.
"""

import torch

from dgm_utils.models.autoregressive import iaf_forward, iaf_inverse, maf_forward, maf_inverse
from dgm_utils.models.coupling import coupling_forward
from dgm_utils.models.made import made_masks
from dgm_utils.validate import takes, whole_number

__all__ = [
    "coupling_as_maf",
    "coupling_forward",
    "distillation_loss",
    "iaf_forward",
    "iaf_inverse",
    "made_masks",
    "maf_forward",
    "maf_inverse",
    "reverse_kl",
]


def coupling_as_maf(net, split):
    """The conditioner that makes a MAF out of a coupling layer: RealNVP is a special case.

    `x ⊙ exp(s) + t = (x − μ) / σ` with `log σ = −s` and `μ = −t exp(−s)`; the coordinates that
    stay have μ = 0 and σ = 1. All of the rest depends on the first `split` only, so it is
    autoregressive.

    Args:
        net: `(B, split)` → (t, s), each `(B, D − split)`, as in `coupling_forward`.
        split: 0 < split < D.

    Returns:
        conditioner, `(B, D) → (mu, log_sigma)`, each `(B, D)`.

    Raises:
        ValueError: when split is out of range; also when the conditioner is called.

    """
    whole_number("split", split, 1)

    @takes(x="B D")
    def conditioner(x):
        whole_number("split", split, 1, x.shape[1] - 1)
        shift, log_scale = net(x[:, :split])
        stays = torch.zeros_like(x[:, :split])
        mu = torch.cat([stays, -shift * torch.exp(-log_scale)], 1)
        return mu, torch.cat([stays, -log_scale], 1)

    return conditioner


@takes(z="B D")
def reverse_kl(z, base_log_prob, generate, target_log_prob):
    """One-sample estimates of KL(p‖π) of a flow p and a target π, in nats.

    `log p(z) − log|det ∂x/∂z| − log π(x)` at `x = g(z)`. Only g is needed, and no sample of π: an
    IAF, whose g is the cheap direction, is made for it. With an unnormalized π the values are too
    low by the log of its integral.

    Args:
        z: `(B, D)` draws of the base.
        base_log_prob: `(B, D) → (B,)`.
        generate: base → data, `generate(z) → (x, log_det)`.
        target_log_prob: `(B, D) → (B,)`, log π.

    Returns:
        `(B,)`, differentiable in the parameters of all three.

    """
    x, log_det = generate(z)
    return base_log_prob(z) - log_det - target_log_prob(x)


def distillation_loss(z, base_log_prob, student_generate, teacher_log_prob):
    """Probability density distillation, an estimate of KL(p_s‖p_t) = H(p_s, p_t) − H(p_s), in nats.

    The student draws, and knows the density of what it drew; the teacher scores it. Both go their
    fast way when the student is an IAF and the teacher a MAF.

    Args:
        z: `(B, D)` draws of the base.
        base_log_prob: `(B, D) → (B,)`.
        student_generate: base → data, `student_generate(z) → (x, log_det)`.
        teacher_log_prob: `(B, D) → (B,)`.

    Returns:
        `()` average over the batch.

    """
    return reverse_kl(z, base_log_prob, student_generate, teacher_log_prob).mean()
