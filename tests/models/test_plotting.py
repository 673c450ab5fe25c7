"""The figures' helpers draw what they are given, without a display and without a warning."""

import itertools
import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from colors import WITHOUT_CONES, contrast, distance
from conftest import ROOT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dgm_utils.plotting import (
    BLUE,
    COLORS,
    LINES,
    VERMILION,
    density_2d,
    dilation_diagram,
    image_grid,
    matrix_pattern,
    scatter,
    show,
    use_style,
)

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def capture_display(monkeypatch):
    """What was handed to IPython for display, one entry for each output."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import RichOutput

    shown = []
    shell = InteractiveShell.instance()
    monkeypatch.setattr(
        shell.display_pub,
        "publish",
        lambda data, metadata=None, **_: shown.append(RichOutput(data, metadata)),
    )
    yield shown
    InteractiveShell.clear_instance()


@pytest.fixture
def axis():
    """Axes of a figure that no window shows; drawn whole at the end of the test."""
    with matplotlib.rc_context():
        use_style()
        figure = Figure()
        FigureCanvasAgg(figure)
        yield figure.subplots()
        figure.canvas.draw()


def test_a_figure_is_shown_once_with_its_alternative_text(capture_display):
    figure, _ = plt.subplots()
    show(figure, "an empty pair of axes")
    (shown,) = capture_display
    assert shown.metadata == {"image/png": {"alt": "an empty pair of axes"}}
    assert not plt.fignum_exists(figure.number)


def test_image_grid_shows_each_image_in_its_place(axis):
    images = torch.arange(5 * 2 * 3.0).reshape(5, 2, 3)
    shown = image_grid(axis, images, columns=2, title="five").get_array()
    # Three rows of two images of 2 × 3, with one pixel between them.
    assert shown.shape == (3 * 3 - 1, 2 * 4 - 1)
    assert np.array_equal(shown[0:2, 0:3], images[0])
    assert np.array_equal(shown[3:5, 4:7], images[3])
    assert np.array_equal(shown[6:8, 0:3], images[4])
    assert shown.mask[:, 3].all() and shown.mask[2].all() and shown.mask[6:8, 4:7].all()
    assert axis.get_title() == "five"


def test_image_grid_folds_flat_images(axis):
    flat = torch.arange(12.0).reshape(2, 6)
    shown = image_grid(axis, flat, shape=(2, 3)).get_array()
    assert np.array_equal(shown[:, 4:7], flat[1].reshape(2, 3))
    square = image_grid(axis, torch.arange(4.0)[None]).get_array()
    assert np.array_equal(square, [[0, 1], [2, 3]])


def test_density_2d_puts_each_point_in_its_place(axis):
    calls = []

    def log_prob(x):
        calls.append(len(x))
        return x[:, 0] + 10 * x[:, 1]

    artist = density_2d(axis, log_prob, (0, 2, 1, 3), num=200, names=("a", "b"))
    assert max(calls) <= 10_000 and sum(calls) == 200**2
    density = artist.get_array()
    centre = (np.arange(200) + 0.5) / 100
    np.testing.assert_allclose(np.log(density[0]), centre + 10 * (1 + centre[0]), rtol=1e-4)
    np.testing.assert_allclose(np.log(density[:, 0]), centre[0] + 10 * (1 + centre), rtol=1e-4)
    assert artist.origin == "lower" and artist.get_extent() == [0, 2, 1, 3]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("a", "b")


def test_density_2d_needs_no_gradient(axis):
    scale = torch.ones(2, requires_grad=True)
    density_2d(axis, lambda x: -(x * scale).square().sum(1), (-1, 1, -1, 1), num=10)


def test_scatter(axis):
    points = torch.randn(7, 2, requires_grad=True)
    artist = scatter(axis, points)
    np.testing.assert_array_equal(artist.get_offsets(), points.detach())
    assert axis.get_xlabel() and axis.get_ylabel()


def test_scatter_gives_each_class_its_own_look(axis):
    points, labels = torch.randn(30, 2), torch.arange(30) % 10
    artists = scatter(axis, points, labels, s=3)
    looks = set()
    for label, artist in enumerate(artists):
        np.testing.assert_array_equal(artist.get_offsets(), points[labels == label])
        assert artist.get_sizes() == [3]
        looks.add((tuple(artist.get_facecolor()[0]), artist.get_paths()[0].vertices.tobytes()))
    assert len(looks) == 10
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list("0123456789")


def test_matrix_pattern(axis):
    matrix = torch.tensor([[0.0, 2.0], [-1e-9, 0.0]])
    assert matrix_pattern(axis, matrix, "mask").get_array().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("dilations", "kernel_size"), [((1, 2, 4, 8), 2), ((1, 3), 3)])
def test_dilation_diagram_shows_the_receptive_field(axis, dilations, kernel_size):
    reached = dilation_diagram(axis, dilations, kernel_size, length=18)
    span = (kernel_size - 1) * sum(dilations)
    assert reached == list(range(17 - span, 18))
    # One line for each tap that stays inside, whether bright or grey.
    lines = sum(len(collection.get_segments()) for collection in axis.collections)
    taps = [tap * dilation for dilation in dilations for tap in range(kernel_size)]
    assert lines == sum(18 - tap for tap in taps)
    assert axis.get_yticklabels()[1].get_text() == "dilation 1"


def test_the_palette():
    """Eight colours; those of lines stand off from white paper by 2 to 1 or more."""
    assert len(set(COLORS)) == 8 and set(LINES) < set(COLORS)
    assert all(contrast(color, "white") > 2 for color in LINES)


def nearest(colors, without):
    """The distance of the two colours that are most alike, without this kind of cones."""
    return min(distance(*pair, without) for pair in itertools.combinations(colors, 2))


@pytest.mark.parametrize("without", [None, *WITHOUT_CONES])
def test_any_two_colours_differ_for_every_reader(without):
    assert nearest(COLORS, without) > 15
    # What stands for right and wrong, and for the two models of a figure.
    assert distance(BLUE, VERMILION, without) > 90


def test_readers_without_cones_tell_other_palettes_apart_less():
    """Or the test above would say nothing: to them, pairs of matplotlib's own are nearly one."""
    own = [f"C{n}" for n in range(8)]
    assert nearest(own, None) > 25
    for without in ("protanopia", "deuteranopia"):
        assert nearest(own, without) < 8
        assert distance("red", "green", without) < distance("red", "green") / 2


def test_assignments_and_their_pictures_have_colours_of_the_palette():
    paths = [*ROOT.glob("solutions/*/*.ipynb"), *ROOT.glob("dgm_utils/exercises/**/*.py")]
    used = {color for path in paths for color in re.findall(r"#[0-9A-Fa-f]{6}\b", path.read_text())}
    assert len(used) > 3 and used <= set(COLORS)


def test_bad_input_is_named(axis):
    for message, call in [
        ("images must be", lambda: image_grid(axis, torch.zeros(3, 7))),
        ("images must be", lambda: image_grid(axis, torch.zeros(0, 2, 2))),
        ("extent must be", lambda: density_2d(axis, lambda x: x[:, 0], (1, 0, 0, 1))),
        (
            r"log_prob must map \(M, 2\) to \(M,\)",
            lambda: density_2d(axis, lambda x: x, (0, 1, 0, 1)),
        ),
        (r"points must be \(N, 2\), not \(4, 3\)", lambda: scatter(axis, torch.zeros(4, 3))),
        (r"labels must be \(4,\)", lambda: scatter(axis, torch.zeros(4, 2), torch.zeros(3))),
        (r"matrix must be", lambda: matrix_pattern(axis, torch.zeros(3))),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
