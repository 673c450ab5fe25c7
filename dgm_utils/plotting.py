"""What the figures of the lectures share: one style, one palette, a few things drawn often.

Each helper takes the axes to draw on, and tensors or arrays to draw; it returns the artist that
holds the data. Colours are those of Okabe and Ito (2008), which readers with any common kind of
colour blindness tell apart; for magnitudes the map is viridis, whose lightness rises evenly, so
that it survives a black-and-white printer.
"""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from matplotlib.collections import LineCollection

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = COLORS = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
# Lines take dark colours first: yellow on white is hard to see, and black is kept for the truth.
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)


def use_style():
    """Set matplotlib's defaults for the lectures: palette, sizes, light grid, no clipped labels."""
    matplotlib.rcParams.update(
        {
            "axes.prop_cycle": matplotlib.cycler(color=LINES),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "0.9",
            "figure.constrained_layout.use": True,
            "figure.dpi": 80,
            "figure.figsize": (6, 4),
            "font.size": 10,
            "image.cmap": "viridis",
            "legend.frameon": False,
        }
    )


def show(figure, alt):
    """Show a finished figure in the notebook, once, and close it.

    Args:
        figure: a matplotlib figure.
        alt: what it shows, in a sentence, for readers who do not see it; exported pages carry it.

    """
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def image_grid(axis, images, columns=10, shape=None, title=None):
    """Grey images in rows and columns, black is 0 and white the largest value.

    Args:
        axis: axes to draw on.
        images: `(N, H, W)`, or `(N, H·W)` together with `shape`.
        columns: images in a row.
        shape: `(H, W)` of flat images; None when they are square, or not flat.
        title: above the grid.

    Raises:
        ValueError: when the images are empty, or are no rectangles of that shape.

    """
    images = _array(images)
    if images.ndim == 2:
        side = round(images.shape[1] ** 0.5)
        shape = (side, side) if shape is None else tuple(shape)
        if shape[0] * shape[1] == images.shape[1]:
            images = images.reshape(-1, *shape)
    if images.ndim != 3 or images.size == 0 or columns < 1:
        raise ValueError(
            "images must be (N, H, W), or (N, H·W) with their shape, and columns at least 1, "
            f"not {images.shape}, {shape} and {columns}"
        )
    num, height, width = images.shape
    columns = min(columns, num)
    rows = -(-num // columns)
    # One picture is drawn much faster than many axes; NaN leaves the margins white.
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for index, image in enumerate(images):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        canvas[top : top + height, left : left + width] = image
    axis.set_axis_off()
    _set_title(axis, title)
    return axis.imshow(canvas, cmap="gray", interpolation="nearest")


def density_2d(axis, log_prob, extent, num=200, title=None, names=("$x_1$", "$x_2$")):
    """The density exp(log_prob) on a grid of the plane.

    Args:
        axis: axes to draw on.
        log_prob: `(M, 2) → (M,)` in nats; called in pieces of 10⁴ points, without gradients.
        extent: `(left, right, bottom, top)`.
        num: points along each side.
        title: above the plot.
        names: labels of the axes.

    Raises:
        ValueError: when extent is empty, or log_prob returns another shape.

    """
    left, right, bottom, top = extent
    if not (left < right and bottom < top):
        raise ValueError(f"extent must be (left < right, bottom < top), not {extent}")
    # Values belong to the middle of a pixel.
    across = left + (right - left) * (torch.arange(num) + 0.5) / num
    up = bottom + (top - bottom) * (torch.arange(num) + 0.5) / num
    points = torch.cartesian_prod(up, across).flip(1)
    with torch.no_grad():
        values = torch.cat([log_prob(piece) for piece in points.split(10_000)])
    if values.shape != (num * num,):
        raise ValueError(f"log_prob must map (M, 2) to (M,), but gave {tuple(values.shape)}")
    _label(axis, names, title)
    axis.grid(False)
    density = np.exp(_array(values)).reshape(num, num)
    return axis.imshow(density, origin="lower", extent=extent, aspect="auto")


def scatter(axis, points, labels=None, title=None, names=("$x_1$", "$x_2$"), **options):
    """Points of the plane; with labels 0, 1, …, each class in its own colour and with a legend.

    Args:
        axis: axes to draw on.
        points: `(N, 2)`.
        labels: `(N,)` integers, or None.
        title: above the plot.
        names: labels of the axes.
        **options: handed to `axis.scatter`, which draws small dots otherwise.

    Returns:
        the artist, or a list of them, one for each class.

    Raises:
        ValueError: when points are not `(N, 2)`, or labels not `(N,)`.

    """
    points = _array(points)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must be (N, 2), not {points.shape}")
    options = {"s": 6, "linewidths": 0, "alpha": 0.7, **options}
    _label(axis, names, title)
    if labels is None:
        return axis.scatter(*points.T, **{"color": BLUE, **options})
    labels = _array(labels)
    if labels.shape != points.shape[:1]:
        raise ValueError(f"labels must be ({len(points)},), not {labels.shape}")
    artists = []
    for number, label in enumerate(np.unique(labels)):
        # Ten digits and eight colours: a second round of the palette has another marker.
        style = {"color": COLORS[number % 8], "marker": "o^s"[number // 8 % 3], "label": f"{label}"}
        artists.append(axis.scatter(*points[labels == label].T, **{**style, **options}))
    axis.legend(markerscale=2, fontsize="small")
    return artists


def matrix_pattern(axis, matrix, title=None, names=("input", "output")):
    """Which entries of a mask or Jacobian are not zero, `(rows, columns)`; zero is white."""
    matrix = _array(matrix)
    if matrix.ndim != 2:
        raise ValueError(f"matrix must be (rows, columns), not {matrix.shape}")
    _label(axis, names, title)
    axis.locator_params(integer=True)
    axis.grid(False)
    return axis.imshow(matrix != 0, cmap="gray_r", vmin=0, vmax=1.5, interpolation="nearest")


def dilation_diagram(axis, dilations, kernel_size=2, length=16):
    """A stack of dilated causal convolutions: every connection, and those of the last output.

    Returns:
        the columns of the input which the last output sees, a sorted list.

    """
    reached, strong, weak = {length - 1}, [], []
    for level in range(len(dilations), 0, -1):
        taps = [tap * dilations[level - 1] for tap in range(kernel_size)]
        lines = {
            t: [((t - tap, level - 1), (t, level)) for tap in taps if t >= tap]
            for t in range(length)
        }
        for t in range(length):
            (strong if t in reached else weak).extend(lines[t])
        reached = {t - tap for t in reached for tap in taps if t >= tap}
    axis.add_collection(LineCollection(weak, colors="0.85", linewidths=0.8))
    axis.add_collection(LineCollection(strong, colors=BLUE, linewidths=1.6))
    for level in range(len(dilations) + 1):
        axis.plot(range(length), [level] * length, "o", color=BLACK, markersize=4)
    names = ["input", *[f"dilation {dilation}" for dilation in dilations]]
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("time step")
    axis.locator_params(axis="x", integer=True)
    axis.grid(False)
    return sorted(reached)


def _array(values):
    """A NumPy array of numbers on the CPU, whatever came."""
    if torch.is_tensor(values):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def _label(axis, names, title):
    axis.set_xlabel(names[0])
    axis.set_ylabel(names[1])
    _set_title(axis, title)


def _set_title(axis, title):
    if title is not None:
        axis.set_title(title)
