"""`pseudo_inputs`: images in [0, 1] from numbers that an optimizer may move anywhere."""

import torch

from dgm_utils import vampprior
from nbjudge.asking.page import Page

page = Page(
    vampprior.pseudo_inputs,
    "pixels in [0, 1] from unconstrained numbers, one by one, shape (C, D)",
    points=1,
    minutes=5,
    difficulty=1,
    axes="C D -> C D",
    wrt="raw",
    compare=False,
    hints=(
        "Adam may move `raw` anywhere on the real line; find a smooth function from the line to "
        "the interval from 0 to 1 that keeps rising.",
        "A decoder's logits are turned into the probabilities of pixels in the same way.",
        "One call: `torch.sigmoid`.",
    ),
)


@page.cases
def _(draw):
    # What was seen for which number, in any case: one function answers all of them.
    seen = {}

    def case(name, raw, first=False, **about):
        return page.case(name, raw, seen=seen, first=first, **about)

    seven = draw.tensor(torch.linspace(-3, 3, 7, dtype=torch.float64))[None]
    yield case("seven numbers from −3 to 3", seven, first=True)
    yield case("one number", draw.tensor([[2.0]]))
    c, d = draw.integer(2, 4), draw.integer(5, 8)
    # Quarters, so that equal numbers come back in other rows, columns and cases.
    quarters = torch.randint(-12, 13, (c, d), generator=draw.generator) / 4
    yield case("numbers within ±3, some of them equal", draw.tensor(quarters))
    yield case("the same numbers in another order", draw.tensor(quarters.flip(0, 1)))
    yield case("every number the same", draw.tensor(torch.full((d, c), 1.0)))
    yield case("numbers of all sizes", 5 * draw.normal(d, c))
    yield case(
        "numbers up to ±1000",
        draw.tensor([[-1000.0, -90.0, -3.0], [3.0, 90.0, 1000.0]]),
        extreme=True,
    )
    far = draw.tensor([-30.0, -3.0, 0.0, 1.0, 3.0, 30.0])
    yield case("an argument that is not contiguous in memory", far.reshape(3, 2).T)


@page.must
def have_the_form_of_the_numbers(pixels, raw):
    """There must be one pixel for each number, in the same shape and dtype and on the same device.
    Yours come back otherwise.
    """
    return (pixels.shape, pixels.dtype, pixels.device) == (raw.shape, raw.dtype, raw.device)


@page.must
def be_finite(pixels):
    """Every number has a pixel, the largest too. Yours are not all finite: look for an exp that
    overflows.
    """
    return bool(pixels.isfinite().all())


@page.must
def lie_in_the_unit_interval(pixels):
    """Pixels lie in [0, 1]. Yours do not."""
    return bool(((pixels >= 0) & (pixels <= 1)).all())


@page.must
def be_elementwise(pixels, raw, seen, first):
    """The same number must give the same pixel wherever it stands and whatever stands beside it.
    Yours do not.
    """
    tolerance = 1e-5 if pixels.dtype == torch.float32 else 1e-9
    pairs = zip(raw.flatten().tolist(), pixels.flatten().tolist(), strict=True)
    if first:
        # A class is judged on the same cases: here the next function begins.
        seen.clear()
    return all(abs(seen.setdefault(number, pixel) - pixel) <= tolerance for number, pixel in pairs)


def in_order(raw, pixels):
    """The raw numbers in order, and the pixels in the same order."""
    raw, order = raw.flatten().sort()
    return raw, pixels.flatten()[order]


@page.must
def never_decrease(pixels, raw):
    """A larger number must not give a smaller pixel. Yours does."""
    _, pixels = in_order(raw, pixels)
    return bool((pixels.diff() >= -4 * torch.finfo(pixels.dtype).eps).all())


@page.must
def increase_inside(pixels, raw):
    """From −3 to 3 a larger number must give a larger pixel, or nothing can be learnt there. Yours
    is flat somewhere.
    """
    raw, pixels = in_order(raw, pixels)
    later = (raw[None] - raw[:, None] > 0.2) & (raw[:, None] >= -3) & (raw[None] <= 3)
    inside = raw.abs() < 2.9
    # Whatever lies within ±3 has room on both sides, so 0 and 1 are not reached there.
    room = (pixels[inside] > 0) & (pixels[inside] < 1)
    return bool((pixels[None] > pixels[:, None])[later].all() and room.all())


@page.right
def _(raw):
    return torch.sigmoid(raw)


@page.wrong("cut off at 0 and 1")
def _(raw):
    """You cut off at 0 and 1. The range is right, but a number beyond gives a pixel with
    gradient 0, which never comes back; map the whole line to [0, 1] by a function that keeps
    rising.
    """
    return raw.clamp(0, 1)


@page.wrong("no limits")
def _(raw):
    """You return the numbers as they are; pixels lie in [0, 1], so squash them."""
    return raw * 1.0


@page.wrong("tanh")
def _(raw):
    """You use tanh, whose values lie between −1 and 1; pixels lie in [0, 1]."""
    return torch.tanh(raw)


@page.wrong("softmax")
def _(raw):
    """You use a softmax, which makes the pixels of an image compete: they add to 1, and a pixel
    depends on all others; apply one function to each number by itself.
    """
    return torch.softmax(raw, -1)


@page.wrong("rescaled by minimum and maximum")
def _(raw):
    """You rescale by the smallest and the largest number of the image, so a pixel depends on
    the others; apply one function to each number by itself.
    """
    low, high = raw.amin(1, keepdim=True), raw.amax(1, keepdim=True)
    return (raw - low) / (high - low + 1e-8)


@page.wrong("standardized first")
def _(raw):
    """You subtract the mean and divide by the standard deviation of all numbers first, so a
    pixel depends on the others; apply one function to each number by itself.
    """
    return torch.sigmoid((raw - raw.mean()) / (raw.std(correction=0) + 1e-5))


@page.wrong("exponentials that overflow")
def _(raw):
    """You write the sigmoid as eᵃ / (1 + eᵃ), which is inf / inf for large a, not a number;
    `torch.sigmoid` knows both ends.
    """
    return torch.exp(raw) / (1 + torch.exp(raw))


@page.wrong("black and white")
def _(raw):
    """You make pixels 0 or 1 with a comparison, through which no gradient flows; grey values
    between 0 and 1 can be learnt.
    """
    return (raw > 0).to(raw.dtype)


@page.wrong("decreasing")
def _(raw):
    """Your pixels grow darker as the number rises; the map must never decrease."""
    return torch.sigmoid(-raw)


page.but(
    "detached",
    "Your pixels are right, but you detach them, so the pseudo-inputs cannot be learnt.",
    torch.detach,
)
