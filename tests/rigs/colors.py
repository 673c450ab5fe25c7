"""Colours as eyes see them: contrast, and what is left of a difference without one kind of cone."""

import re

import numpy as np
from matplotlib.colors import to_rgb

# Severity 1.0 of Machado, Oliveira and Fernandes (2009), for linear RGB.
WITHOUT_CONES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# Linear sRGB → XYZ, divided by the white of D65.
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_XYZ /= _XYZ.sum(1, keepdims=True)


def linear(color):
    """Linear RGB of a colour as matplotlib writes it."""
    values = np.array(to_rgb(color))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def luminance(color):
    return linear(color) @ (0.2126, 0.7152, 0.0722)


def contrast(color, other):
    """WCAG's contrast ratio, from 1 to 21."""
    low, high = sorted((luminance(color), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def cielab(color, without=None):
    """CIE L*a*b* of a colour, for everybody or for a reader with this kind of colour blindness."""
    seen = linear(color)
    if without is not None:
        seen = np.clip(WITHOUT_CONES[without] @ seen, 0, 1)
    x, y, z = (np.cbrt(v) if v > (6 / 29) ** 3 else v * 841 / 108 + 4 / 29 for v in _XYZ @ seen)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(color, other, without=None):
    """The distance of 1976 in L*a*b*: 2.3 is just noticed, 100 is black against white."""
    return float(np.linalg.norm(cielab(color, without) - cielab(other, without)))


def over(below, css, opacity=1.0):
    """A browser's `rgb(…)` or `rgba(…)`, laid over an opaque colour; an opaque colour."""
    red, green, blue, *alpha = map(float, re.findall(r"[\d.]+", css))
    alpha = opacity * (alpha[0] if alpha else 1.0)
    mixed = alpha * np.array([red, green, blue]) / 255 + (1 - alpha) * np.array(below)
    return tuple(mixed)
