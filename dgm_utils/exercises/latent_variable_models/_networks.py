"""The functions f that cases hand over, with parameters; a student's function calls them."""

import torch
from torch import nn


class Polynomial(nn.Module):
    """`Σ_i coefficients_i z^i`, elementwise; the coefficients are parameters."""

    def __init__(self, coefficients):
        super().__init__()
        self.coefficients = nn.Parameter(torch.as_tensor(coefficients, dtype=torch.float64))

    def forward(self, z):
        """The values, `(...) → (...)`."""
        return sum(c * z**i for i, c in enumerate(self.coefficients))


class Network(nn.Module):
    """A network from one number to one, elementwise: `Σ_h out_h tanh(slope_h z + shift_h)`."""

    def __init__(self, width, generator):
        super().__init__()
        weights = torch.randn(3, width, generator=generator, dtype=torch.float64)
        self.slope, self.shift, self.out = (nn.Parameter(w.clone()) for w in weights)

    def forward(self, z):
        """The values, `(...) → (...)`."""
        hidden = torch.tanh(z.unsqueeze(-1) * self.slope + self.shift)
        return (hidden * self.out).sum(-1)


class Wave(nn.Module):
    """`sin(frequency · z)`, elementwise."""

    def __init__(self, frequency):
        super().__init__()
        self.frequency = nn.Parameter(torch.tensor(frequency, dtype=torch.float64))

    def forward(self, z):
        """The values, `(...) → (...)`."""
        return torch.sin(self.frequency * z)


class Step(nn.Module):
    """1 above the threshold and 0 below: no derivative says where it is."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold, dtype=torch.float64))

    def forward(self, z):
        """The values, `(...) → (...)`."""
        return (z > self.threshold).to(z.dtype)
