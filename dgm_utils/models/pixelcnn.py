"""A gated PixelCNN over binary images, conditioned on a latent z: the decoder of a PixelHVAE.

`p(x|z) = Π_i p(x_i | x_<i, z)` over the pixels in raster order, row after row. Two stacks of masked
convolutions run side by side. The vertical stack sees all rows above a pixel, the horizontal one
the pixels on its left and, at every layer, the vertical one. A single stack of masked k×k
convolutions would have a blind spot above and far to the right, however deep it is: a step to the
right always climbs too, by one row for k//2 columns.

What z says is added to the horizontal stack alone. The vertical stack then depends on the image
only, and is computed once for all K samples of z in an importance weighted bound, and once for a
whole row in sampling.

Log-probabilities are in nats.

Sources: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016);
Tomczak, Welling, "VAE with a VampPrior" (2018) for the model it is part of; lecture MIPT-2019.
"""

import torch
from torch import nn

from dgm_utils.latent_variable_models import bernoulli_log_likelihood
from dgm_utils.validate import takes, whole_number


def masks(kind, kernel_size):
    """Masks of the vertical and of the horizontal kernel, `(k, k)` and `(1, k)`, zeros and ones.

    Kind A, for the first layer, hides the pixel's own row from the vertical kernel and the pixel
    itself from the horizontal one. Kind B, for later layers, shows both: their inputs are features
    that have hidden them already.
    """
    last = kernel_size // 2 + (kind == "B")
    vertical, horizontal = torch.zeros(kernel_size, kernel_size), torch.zeros(1, kernel_size)
    vertical[:last] = 1
    horizontal[:, :last] = 1
    return vertical, horizontal


class MaskedConv2d(nn.Conv2d):
    """A convolution whose kernel is multiplied by a mask; height and width stay as they are."""

    def __init__(self, in_channels, out_channels, mask):
        padding = tuple(size // 2 for size in mask.shape)
        super().__init__(in_channels, out_channels, tuple(mask.shape), padding=padding)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        """`(B, C, H, W) → (B, O, H, W)`."""
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class PixelCNN(nn.Module):
    """`p(x|z)` of binary images; x is `(B, D)` with `D = height · width` pixels in raster order.

    Pixel (i, j) sees the pixels left of it in its row and all of the rows above it, as far as
    `reach = num_layers · (kernel_size // 2)` rows and columns away. What is further reaches it
    through z alone, so a small reach leaves z more to say.

    Args:
        height: rows of the image.
        width: columns of the image.
        num_latents: length of z; 0 for a PixelCNN without a latent.
        channels: width of each stack.
        num_layers: the first has masks of kind A, the others of kind B.
        kernel_size: odd.

    Raises:
        TypeError: when a size is no whole number.
        ValueError: when one is not positive, or kernel_size is even or less than 3.

    """

    def __init__(self, height, width, num_latents=0, channels=32, num_layers=5, kernel_size=5):
        super().__init__()
        sizes = {"height": height, "width": width, "channels": channels, "num_layers": num_layers}
        for name, size in sizes.items():
            whole_number(name, size, 1)
        whole_number("num_latents", num_latents, 0)
        whole_number("kernel_size", kernel_size, 3)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, not {kernel_size}")
        self.shape, self.num_dims, self.num_latents = (height, width), height * width, num_latents
        self.reach = num_layers * (kernel_size // 2)
        self.layers = nn.ModuleList()
        for number in range(num_layers):
            vertical, horizontal = masks("B" if number else "A", kernel_size)
            inputs = channels if number else 1
            self.layers.append(
                nn.ModuleDict(
                    {
                        "vertical": MaskedConv2d(inputs, 2 * channels, vertical),
                        "horizontal": MaskedConv2d(inputs, 2 * channels, horizontal),
                        "down": nn.Conv2d(2 * channels, 2 * channels, 1),
                        "mix": nn.Conv2d(channels, channels, 1),
                    }
                )
            )
        self.from_z = nn.Linear(num_latents, channels * self.num_dims) if num_latents else None
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, 1, 1)
        )

    @takes(x="B .num_dims")
    def forward(self, x, z=None):
        """Logits of `p(x_i = 1 | x_<i, z)`, in one pass.

        Args:
            x: `(B, D)` pixels, 0 or 1.
            z: `(..., B, L)`; leading axes are samples of z for the same x. None without a latent.

        Returns:
            `(..., B, D)` logits.

        Raises:
            TypeError: when x or z is no floating tensor.
            ValueError: when a shape does not fit, or the batch is empty.

        """
        features = self._features(x, z)
        image = x.unflatten(1, (1, *self.shape))
        logits = self._horizontal(image, self._vertical(image), features)
        return logits.reshape(*(() if z is None else z.shape[:-2]), *x.shape)

    def log_prob(self, x, z=None):
        """`log p(x|z)` in nats, `(B, D), (..., B, L) → (..., B)`; arguments as in `forward`."""
        return bernoulli_log_likelihood(x, self(x, z))

    @torch.no_grad()
    @takes(noise="B .num_dims")
    def sample(self, noise, z=None):
        """Draw images of 0 and 1, pixel after pixel, without gradients, `(B, D) → (B, D)`.

        `x_i = 1` where `noise_i < p(x_i = 1 | x_<i, z)`. The vertical stack runs once for each row,
        the horizontal one once for each pixel, and both on what is within reach only.

        Args:
            noise: `(B, D)` draws of U[0, 1).
            z: `(B, L)`, or None.

        """
        features = self._features(noise, z)
        if z is not None and z.ndim != 2:
            raise ValueError(f"z must have the shape (B, L) in sampling, not {tuple(z.shape)}")
        noise = noise.unflatten(1, self.shape)
        image = torch.zeros_like(noise)[:, None]
        height, width = self.shape
        for i in range(height):
            # All that row i can see: its features come out as those of a whole pass.
            rows = self._vertical(image[:, :, max(0, i - self.reach) : i + 1])
            rows = [row[:, :, -1:] for row in rows]
            for j in range(width):
                seen = slice(max(0, j - self.reach), j + 1)
                said = None if z is None else features[:, :, i : i + 1, seen]
                left = image[:, :, i : i + 1, seen]
                logits = self._horizontal(left, [row[..., seen] for row in rows], said)
                image[:, 0, i, j] = (noise[:, i, j] < torch.sigmoid(logits[:, 0, 0, -1])).to(noise)
        return image.flatten(1)

    def _features(self, x, z):
        """What z says at each pixel, `(..., B, L) → (K·B, C, H, W)`; None without a latent."""
        if self.num_latents == 0:
            if z is not None:
                raise ValueError("z must be None: this PixelCNN has num_latents = 0")
            return None
        self._check_latents(x, z)
        return self.from_z(z.flatten(0, -2)).unflatten(1, (-1, *self.shape))

    @takes(x="B D", z="... B .num_latents")
    def _check_latents(self, x, z):
        """The decorator does it."""

    def _vertical(self, image):
        """Of each layer, what the vertical stack hands to the horizontal one, `(B, 2C, H, W)`."""
        handed, v = [], image
        for layer in self.layers:
            features = layer["vertical"](v)
            handed.append(layer["down"](features))
            v = _gate(features)
        return handed

    def _horizontal(self, image, handed, z_features):
        """Logits `(K·B, 1, H, W)`."""
        first, *others = self.layers
        h = first["mix"](_gate(first["horizontal"](image) + handed[0]))
        if z_features is not None:
            h = (z_features.unflatten(0, (-1, len(h))) + h).flatten(0, 1)
        for layer, rows in zip(others, handed[1:], strict=True):
            # The same rows for each of the K samples: broadcast, not copied.
            features = layer["horizontal"](h).unflatten(0, (-1, len(rows))) + rows
            h = h + layer["mix"](_gate(features).flatten(0, 1))
        return self.head(h)


def _gate(features):
    signal, gate = features.chunk(2, -3)
    return torch.tanh(signal) * torch.sigmoid(gate)
