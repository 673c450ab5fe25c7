"""The figures on the page about a graded class, as elements of that page."""

import io
import math
import re
import statistics
from collections import Counter

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

# Blue and orange of Okabe and Ito: told apart by every reader, on light and dark ground.
_BLUE, _ORANGE = "#0072B2", "#E69F00"
# Drawn in this colour, which nothing else has, and then given the colour of the page's text.
_INK = "#010203"
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(
        ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], _INK
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def histogram(points: list[float], top: float) -> Markup:
    """How many students have how many points."""
    step = max(1, math.ceil(top / 25))
    edges = [step * i - 0.5 for i in range(math.floor(top / step) + 2)]
    # Points between two numbers (a corrected score) go with the one above.
    counts = Counter(min(math.floor((p + 0.5) / step), len(edges) - 2) for p in points)
    median = statistics.median(points)
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "points"}):
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axis = figure.subplots()
        heights = [counts[i] for i in range(len(edges) - 1)]
        axis.bar([edge + step / 2 for edge in edges[:-1]], heights, width=0.9 * step, color=_BLUE)
        axis.axvline(median, color=_ORANGE, linewidth=2)
        axis.annotate(
            f"median {median:g}",
            (median, 1),
            (4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="bottom",
        )
        axis.set(xlabel="points for the checks", ylabel="students")
        axis.set_xlim(edges[0] - 0.1, edges[-1])
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.yaxis.get_major_locator().set_params(integer=True)
        said = "; ".join(f"{_range(i, step)} points: {counts[i]}" for i in sorted(counts))
        return _svg(
            figure, "points", f"Histogram of points, median {median:g} of {top:g}. Students: {said}"
        )


def _range(number, step):
    return f"{step * number}" if step == 1 else f"{step * number} to {step * (number + 1) - 1}"


def bars(exercises: list[dict]) -> Markup:
    """The share of students that passed each exercise."""
    shown = [e for e in exercises if e["seen"]]
    shares = [100 * e["passed"] / e["seen"] for e in shown]
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "exercises"}):
        figure = Figure(figsize=(6.4, 0.6 + 0.28 * len(shown)), layout="constrained")
        axis = figure.subplots()
        names = [e["name"] for e in shown]
        axis.barh(names, shares, color=_BLUE)
        rest = [100 - share for share in shares]
        axis.barh(names, rest, left=shares, color=_ORANGE)
        for row, share in enumerate(shares):
            axis.text(102, row, f"{share:.0f} %", va="center")
        axis.invert_yaxis()
        axis.spines.left.set_visible(False)
        axis.tick_params(axis="y", length=0)
        axis.set(xlim=(0, 112), xlabel="% of students: passed (blue), not passed (orange)")
        axis.set_xticks(range(0, 101, 25))
        said = "; ".join(f"{e['name']} {s:.0f} %" for e, s in zip(shown, shares, strict=True))
        return _svg(figure, "exercises", f"Bars: share of students that passed. {said}")


def _svg(figure, name, said):
    """A figure as an element of the page, its text and lines in the page's own colour."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    # The prologue names a document type on a server; the page's own is enough.
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Names of parts must differ between two figures of one page.
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    # As large as the page lets it be.
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = text.replace("<svg", f'<svg role="img" aria-label="{escape(said)}"', 1)
    return Markup(text.replace(_INK, "currentColor"))
