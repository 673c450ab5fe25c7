"""Arguments for cases: drawn from a seed, on a device, in a floating dtype."""

import torch


class Draw:
    """A seeded source of arguments, on a device, in a floating dtype.

    Numbers are drawn on the CPU in float64 and then moved, so that every device and dtype sees the
    same case. Sizes drawn with `integer` differ from seed to seed.
    """

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64, device: str = "cpu"):
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype
        self.device = device

    def tensor(self, values) -> torch.Tensor:
        """Numbers or a tensor, in this source's dtype and on its device."""
        return torch.as_tensor(values, dtype=torch.float64).to(self.device, self.dtype)

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal numbers."""
        return self.tensor(torch.randn(shape, generator=self.generator, dtype=torch.float64))

    def uniform(self, *shape: int) -> torch.Tensor:
        """Numbers uniform on [0, 1)."""
        return self.tensor(torch.rand(shape, generator=self.generator, dtype=torch.float64))

    def bernoulli(self, *shape: int) -> torch.Tensor:
        """Zeros and ones, equally likely, in the floating dtype."""
        return self.tensor(torch.randint(2, shape, generator=self.generator))

    def integer(self, low: int, high: int) -> int:
        """One whole number from `low` to `high`, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))
