"""Claim 4.4: bits per dimension with uniform and with variational noise, the flow being the same.

A RealNVP on the logits of the dequantized levels; the noise is uniform, or a conditional flow that
is trained with it (Flow++). What is measured is each model's own bound on the likelihood of the
test set's levels.

Some pixels are 0 in all training images and lit in one of the test set, where the flow is narrow.
The base is logistic, whose tails are linear, and no coupling scales by more than e²: with scales
up to e⁵ a single one of the 10,000 images could cost almost as much as all others together.

Sources: Ho et al., "Flow++" (2019), section 3.1 and table 3; Dinh, Krueger, Bengio, "NICE" (2015)
for the base; Kingma, Dhariwal, "Glow" (2018) for the start.
"""

import torch

from dgm_utils.dequantization import bits_per_dim, log_sigmoid_slope, logit_preprocess
from dgm_utils.models.coupling import RealNVP
from dgm_utils.models.dequantize import UniformDequantizer, VariationalDequantizer
from dgm_utils.nf_as_vae import flow_log_likelihood

_COMMON = {
    "alpha": 0.05,
    "bound": 2.0,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "max_norm": 10.0,
    "draws": 10,
}
# On 1,500 digits more epochs overfit: the test set's bits/dim rise again.
_SIZES = {
    "digits": {"layers": 6, "hidden": 128, "noise_hidden": 128, "epochs": 50},
    "mnist": {"layers": 6, "hidden": 256, "noise_hidden": 128, "epochs": 200, "compile": True},
}
ROWS = {
    f"{data}, {noise} noise": {**_COMMON, **sizes, "data": data, "noise": noise}
    for data, sizes in _SIZES.items()
    for noise in ("uniform", "variational")
}


class Dequantized(torch.nn.Module):
    """A flow on the logits of dequantized levels, and the noise that dequantizes them.

    Args:
        config: of a row.
        num_dims: D.
        num_levels: of the images.

    """

    def __init__(self, config, num_dims, num_levels):
        super().__init__()
        hidden = (config["hidden"],) * 2
        self.flow = RealNVP(num_dims, config["layers"], hidden_sizes=hidden, bound=config["bound"])
        if config["noise"] == "uniform":
            self.noise = UniformDequantizer()
        else:
            self.noise = VariationalDequantizer(num_dims, num_levels, config["noise_hidden"])
        self.num_levels, self.alpha = num_levels, config["alpha"]
        self.register_buffer("mean", torch.zeros(num_dims))
        self.register_buffer("std", torch.ones(num_dims))

    def logits(self, y):
        """Of levels with noise, `(B, D) → (B, D), (B,)`: a sum may be rounded up to N itself."""
        return logit_preprocess(
            y.clamp(max=self.num_levels * (1 - 1e-7)), self.num_levels, self.alpha
        )

    @torch.no_grad()
    def start_at_the_data(self, x):
        """Give the flow logits with mean 0 and standard deviation 1, `(N, D)` levels.

        Glow's first layer starts the same way. A pixel that is nearly always 0 would need thousands
        of steps to shrink.
        """
        v, _ = self.logits(x + torch.rand_like(x))
        self.mean.copy_(v.mean(0))
        self.std.copy_(v.std(0).clamp(min=0.05))

    def bound(self, x, noise):
        """`log p(x + u) − log q(u|x)`, `(B, D) levels, (S, B, D) → (S, B)`, in nats."""
        u, log_q = self.noise(x, noise)
        v, log_det = self.logits((x + u).flatten(0, 1))
        log_det = log_det - self.std.log().sum()
        # The sigmoid's slope is the logistic density.
        log_p = flow_log_likelihood((v - self.mean) / self.std, self.flow, log_sigmoid_slope)
        return (log_p + log_det).reshape(log_q.shape) - log_q


def run(config, work):
    """Train flow and noise together, and measure the bound on the test set."""
    images = work.images(config["data"], "train")
    x = images.x.flatten(1).float().to(work.device)
    model = Dequantized(config, x.shape[1], images.num_levels).to(x.device)
    model.start_at_the_data(x)

    def loss(batch):
        noise = model.noise.draw((1, *batch.shape)).to(batch.device)
        return -model.bound(batch, noise).mean()

    work.fit(model, loss, x, config)
    return measure(model, work, config)


@torch.no_grad()
def measure(model, work, config):
    """Bits per dimension of the test set, averaged over some draws of the noise for each image."""
    x = work.images(config["data"], "test").x.flatten(1).float().to(work.device)
    generator = work.generator(1)
    bounds = []
    for block in x.split(500):
        noise = model.noise.draw((config["draws"], *block.shape), generator)
        bounds.append(model.bound(block, noise).mean(0))
    bits = bits_per_dim(torch.cat(bounds), x.shape[1])
    return {
        "bits_per_dim": bits.mean().item(),
        "standard_error": (bits.std() / len(bits) ** 0.5).item(),
    }
