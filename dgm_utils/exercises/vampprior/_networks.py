"""The encoder that cases hand over."""

import torch
from torch import nn


class Encoder(nn.Module):
    """`u (B, D) → mean (B, L), log_var (B, L)`, row by row, with random weights.

    Means lie within ±`spread`, standard deviations between 0.6 and 1.25.
    """

    def __init__(self, draw, pixels, latents, spread=3.0):
        super().__init__()
        hidden = draw.integer(4, 6)
        self.spread = spread
        self.weight = nn.Parameter(draw.normal(pixels, hidden) / pixels**0.5)
        self.bias = nn.Parameter(0.5 * draw.normal(hidden))
        self.mean_weight = nn.Parameter(draw.normal(hidden, latents))
        self.log_var_weight = nn.Parameter(draw.normal(hidden, latents))
        self.log_var_bias = nn.Parameter(draw.normal(latents))

    def forward(self, u):
        hidden = torch.tanh((2 * u - 1) @ self.weight + self.bias)
        mean = self.spread * torch.tanh(hidden @ self.mean_weight)
        return mean, 0.7 * torch.tanh(hidden @ self.log_var_weight + self.log_var_bias) - 0.3
