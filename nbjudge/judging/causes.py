"""Why a check gave nothing: the error of the student's own cell that made it so, in a sentence."""

import re
from collections.abc import Collection

from nbformat import NotebookNode

# How IPython ends the message of a syntax error: a file that nobody has, and the line.
_PLACE = re.compile(r" \([^()]*, line (\d+)\)$")
_MODULE = re.compile(r"No module named '([\w.]+)'|cannot import name .* from '([\w.]+)'")
# What makes another thing of the name that a check is called by.
_HIDES = re.compile(
    r"^[ \t]*(?:def check\b.*|check *=(?!=).*|del check\b|%reset\b.*)", re.MULTILINE
)
_LONGEST = 200


def cause_of(cells: list[NotebookNode], check: NotebookNode, beside: Collection[str] = ()) -> str:
    """What went wrong before a check that gave nothing.

    Args:
        cells: of the executed notebook.
        check: the cell of the check, one of them.
        beside: names of the files that were handed in beside the notebook.

    Returns:
        A sentence or two: the line that took `check` away; or the error of the cell that holds the
        answer; or, where the check misses a name, the first error of any cell before it; empty if
        there is none.

    """
    before = cells[: next(i for i, cell in enumerate(cells) if cell is check)]
    before = [cell for cell in before if cell.cell_type == "code"]
    for cell in before:
        locked = cell.metadata.get("nbgrader", {}).get("locked")
        if not locked and (found := _HIDES.search(cell.source)):
            return (
                f"The course's `check` was taken away by a cell of yours, at `{found[0].strip()}`: "
                "leave that name to the course, and run it again."
            )
    answers = [cell for cell in before if cell.metadata.get("nbgrader", {}).get("solution")]
    if answers and (error := _error(answers[-1])):
        return _said("The cell of your answer", answers[-1], error, beside)
    missed = _error(check)
    if not missed or missed.ename != "NameError":
        return ""
    for cell in before:
        graded = cell.metadata.get("nbgrader", {}).get("grade")
        if not graded and (error := _error(cell)):
            return _said("An earlier cell", cell, error, beside)
    return ""


def _error(cell):
    return next((o for o in cell.get("outputs", ()) if o.output_type == "error"), None)


def _said(which, cell, error, beside):
    message = " ".join(str(error.evalue).split())
    where = ""
    if place := _PLACE.search(message):
        message = message[: place.start()]
        where = f" in line {place[1]}{_quoted(cell.source, int(place[1]))}"
    what = f"{error.ename}{where}: {message}"[:_LONGEST].rstrip(".: ")
    return f"{which} ended with {what}.{_beside(message, beside)}"


def _quoted(source, number):
    lines = source.splitlines()
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    return f", `{line[:80]}`" if line else ""


def _beside(message, beside):
    """What is to be said of a module that lies beside the notebook."""
    found = _MODULE.search(message)
    module = (found[1] or found[2]).partition(".")[0] if found else ""
    if module and ({f"{module}.py", module} & set(beside)):
        return (
            f" A file of that name lies beside the notebook, but the notebook is graded alone: put "
            f"what it needs of `{module}` into a cell."
        )
    return ""
