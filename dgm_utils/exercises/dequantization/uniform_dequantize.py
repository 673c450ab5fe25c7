"""`uniform_dequantize`: levels with noise, as wide as one level, added to them."""

import torch

from dgm_utils import dequantization
from dgm_utils.exercises.dequantization._shared import levels, noise
from nbjudge.asking.page import Page

page = Page(
    dequantization.uniform_dequantize,
    "levels x plus noise u of U[0, 1), in the noise's dtype",
    points=1,
    minutes=3,
    difficulty=1,
    axes="..., ... -> ...",
    wrt="noise",
    hints=(
        "The noise is as wide as the distance between two levels, which is 1.",
        "Nothing is rescaled. The levels are integers, the result has the dtype of the noise.",
        "A sum; `x.to(noise.dtype)` says which dtype it has.",
    ),
)


@page.cases
def _(draw):
    args = (torch.tensor([0, 3, 255], device=draw.device), draw.tensor([0.25, 0.5, 0.75]))
    yield page.case("three levels", *args, y=[0.25, 3.5, 255.75])
    b, d = draw.integer(3, 4), draw.integer(5, 7)
    yield page.case("a batch", levels(draw, 16, b, d), noise(draw, b, d))
    args = (levels(draw, 255, b, d, dtype=torch.uint8), noise(draw, b, d))
    yield page.case("levels held as bytes", *args)
    args = (levels(draw, 16, d, dtype=torch.int32), noise(draw, d))
    yield page.case("levels held as int32, one axis", *args)
    args = (levels(draw, 1, 2, b, 4, 4, dtype=torch.int16), noise(draw, 2, b, 4, 4))
    yield page.case("binary images, four axes", *args)
    args = (draw.tensor(levels(draw, 16, b, d)), noise(draw, b, d))
    yield page.case("levels held as floats", *args)
    args = (levels(draw, 7, d, b).T, noise(draw, d, b).T)
    yield page.case("arguments that are not contiguous in memory", *args)


@page.must
def lie_in_the_cell(y, x):
    """x + u lies in the cell [x, x + 1), so rounding down must give x back. Yours does not."""
    return bool(((x <= y) & (y < x + 1.0)).all())


page.must_equal(
    "y",
    "The levels 0, 3, 255 with the noise ¼, ½, ¾ become 0.25, 3.5, 255.75. Yours do not.",
)


@page.formula
def _(x, noise):
    return x + noise


@page.right
def _(x, noise):
    return x.to(noise.dtype) + noise


@page.wrong("noise added to rescaled levels")
def _(x, noise):
    """You divide the levels by 256 first, so the noise is 256 levels wide: {got}; one level
    wide means added to the levels themselves, {expected}.
    """
    return x / 256 + noise


page.but(
    "rescaled to the unit interval",
    "You add the noise and then divide by 256: {got}; nothing is rescaled here, so that a cell "
    "has volume 1, {expected}.",
    lambda y: y / 256,
)


@page.wrong("noise as narrow as on rescaled levels")
def _(x, noise):
    """You divide the noise by 256, as if the levels were in [0, 1]: {got}; neighbouring levels
    are 1 apart here, and the noise fills all of that, {expected}.
    """
    return x + noise / 256


page.but(
    "noise around zero",
    "You centre the noise on the level: {got}; here the cell of x is [x, x + 1), with x at its "
    "lower end, {expected}.",
    lambda y: y - 0.5,
)


@page.wrong("noise two levels wide")
def _(x, noise):
    """You stretch the noise to [−1, 1), so that neighbouring cells overlap: {got}; the noise is
    already as wide as one level, {expected}.
    """
    return x + 2 * noise - 1


@page.wrong("noise rounded to whole numbers")
def _(x, noise):
    """You turn the noise into the dtype of x, and integers drop everything after the point; turn
    x into the dtype of the noise.
    """
    return x + noise.to(x.dtype)


page.but(
    "detached",
    "Your numbers are right, but you detach the noise; learned noise needs its gradient.",
    torch.detach,
)
