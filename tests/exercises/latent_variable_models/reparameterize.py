"""Right answers for `reparameterize`, each in another style."""

import torch

RIGHT = (
    lambda mean, scale_tril, noise: mean + (scale_tril @ noise[:, :, None])[:, :, 0],
    lambda mean, scale_tril, noise: mean + (scale_tril * noise.unsqueeze(1)).sum(-1),
    lambda mean, scale_tril, noise: torch.baddbmm(
        mean.unsqueeze(-1), torch.tril(scale_tril), noise.unsqueeze(-1)
    ).squeeze(-1),
)
