"""One screen for a verdict: plain text everywhere, HTML in a notebook."""

import base64
import html
import io
import textwrap

from nbjudge.asking.exercise import Exercise
from nbjudge.judging.sheet import Observed, Sheet
from nbjudge.judging.verdict import Verdict, missing

# nbgrader's validator cuts lines at 87 characters.
WIDTH = 80

# Blue and vermilion of Okabe and Ito: told apart by every reader, on light and dark ground. Only
# the border has them; the title says the same in words, in the colour of the theme's text.
_PASSED, _FAILED = "#0072b2", "#d55e00"
_GRID = "display:grid;grid-template-columns:max-content 1fr;column-gap:1em;margin:0"


def as_text(exercise: Exercise, verdict: Verdict, cases: int) -> str:
    """The verdict in plain text, no line longer than `WIDTH`."""
    if verdict.passed:
        return f"✓ {exercise.name}: passed on {cases} cases"
    lines = [f"✗ {exercise.name}: not yet", *_wrap(verdict.sentence)]
    for label, text in _evidence(exercise, verdict):
        lines += _labelled(label, text)
    lines += _wrap(f'Stuck? `check.hint("{exercise.name}")` gives the first of three hints.')
    return "\n".join(lines)


def in_short(verdict: Verdict) -> str:
    """Name and sentence only: what the error of a failed check says under the full screen."""
    return "\n".join(_wrap(f"{verdict.exercise}: {verdict.sentence}", indent=""))


def as_html(exercise: Exercise, verdict: Verdict, cases: int, picture: str = "") -> str:
    """The verdict for a notebook; everything that came from the student is escaped.

    Where JupyterLab does not trust a notebook it takes away the role, the label and the grid; what
    is left is a title, a paragraph and a list of labels and values, in this order.
    """
    if verdict.passed:
        title = f"✓ <code>{exercise.name}</code>: passed on {cases} cases"
        return _box(exercise, _PASSED, f"<b>{title}</b>")
    rows = "".join(
        f'<dt style="opacity:.7;white-space:nowrap">{label}</dt>'
        f'<dd style="margin:0;white-space:pre-wrap">{_code(text)}</dd>'
        for label, text in _evidence(exercise, verdict)
    )
    return _box(
        exercise,
        _FAILED,
        f"<b>✗ <code>{exercise.name}</code>: not yet</b>"
        f'<p style="margin:.4em 0">{_code(verdict.sentence)}</p>'
        f'<dl style="{_GRID}">{rows}</dl>'
        f"{picture}{_nested_hints(exercise.hints)}",
    )


def draw(sheet: Sheet, observed: Observed) -> str:
    """The exercise's picture of these observations as an HTML image, if there is one to draw."""
    picture = sheet.exercise.picture
    if picture is None:
        return ""
    triples = [
        (c.case, c.seen.value, c.right.value) for c in sheet.compared(observed) if c.same_form
    ]
    if not triples:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.0), dpi=100, layout="constrained")
    description = picture(figure.subplots(), triples)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(description, quote=True)
    return f'<img style="background:white" alt="{alt}" src="data:image/png;base64,{data}">'


def _evidence(exercise, verdict):
    rows = [("asked", exercise.question)]
    if verdict.case:
        rows.append(("case", verdict.case))
    if verdict.got:
        rows += [("yours", verdict.got), ("right", verdict.expected)]
    if verdict.line:
        rows.append(("look at", verdict.line))
    if verdict.printed:
        rows.append(("printed", verdict.printed))
    if any(met for _, met in verdict.duties):
        met = [duty for duty, is_met in verdict.duties if is_met]
        now, later = missing(verdict.duties)
        rows += [("met", "; ".join(met)), ("not yet", "; ".join(now)), ("then", "; ".join(later))]
    return [(label, text) for label, text in rows if text]


def _wrap(text, indent="  "):
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _labelled(label, text):
    wrapped = textwrap.wrap(text, WIDTH - 11) or [""]
    return [f"  {label:<8} {wrapped[0]}", *(f"{'':11}{line}" for line in wrapped[1:])]


def _code(text):
    """Escaped text with `backticks` turned into code."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))


def _nested_hints(hints):
    """Each hint holds the next, so that they open one after another."""
    inner = ""
    for number, hint in reversed(list(enumerate(hints, 1))):
        inner = (
            f'<details style="margin:.4em 0 0 .8em"><summary>Hint {number}</summary>'
            f"{_code(hint)}{inner}</details>"
        )
    return inner


def _box(exercise, colour, content):
    """A bar of this colour beside the content; a screen reader says what begins here."""
    return (
        f'<div role="group" aria-label="Check of {exercise.name}" '
        f'style="border-left:4px solid {colour};padding:.3em .8em">{content}</div>'
    )
