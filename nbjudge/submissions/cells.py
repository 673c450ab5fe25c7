"""Cells of a notebook, as nbgrader marks them and as a student may have bent them."""

import ast
import itertools
import re
from collections.abc import Iterator

from nbformat import NotebookNode

from nbjudge.submissions.note import MENDED_ID

# In characters: no released cell is as long.
LONG = 50_000


def new_cell(kind, source, cell_id, metadata=None) -> NotebookNode:
    """A cell without outputs."""
    # nbformat's functions would validate it.
    cell = NotebookNode(
        cell_type=kind, id=cell_id, source=source, metadata=metadata or NotebookNode()
    )
    if kind == "code":
        cell.outputs, cell.execution_count = [], None
    return cell


def tidy(notebook: NotebookNode) -> list[str]:
    """Give each cell an id of its own, as nbformat 4.5 wants; what is to be said of that."""
    said = []
    if notebook.metadata.get("orig_nbformat"):
        said.append(
            "The notebook was saved in an old format, from before nbformat 4; it was converted."
        )
    notebook.nbformat, notebook.nbformat_minor = 4, max(notebook.get("nbformat_minor", 5), 5)
    taken, repeated = {MENDED_ID}, False
    for cell in notebook.cells:
        cell.setdefault("metadata", NotebookNode())
        own = cell.get("id")
        usable = isinstance(own, str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", own)
        if not usable or own in taken:
            repeated |= bool(usable)
            # Marked as free until all cells that have an id of their own are known.
            cell.id = ""
        else:
            taken.add(own)
    free = free_ids(taken)
    for cell in notebook.cells:
        cell.id = cell.id or next(free)
    if repeated:
        said.append("Cells that shared an id got ids of their own.")
    return said


def free_ids(taken) -> Iterator[str]:
    """Ids that no cell has."""
    names = (f"cell-{number}" for number in itertools.count(1))
    return (name for name in names if name not in taken)


def unmark(cell: NotebookNode) -> None:
    """Take from a cell what nbgrader wrote beside it."""
    for name in ("nbgrader", "deletable", "editable"):
        cell.metadata.pop(name, None)


def grade_id_of(cell: NotebookNode) -> str | None:
    """The name that nbgrader gave a cell, if it has one."""
    marks = cell.metadata.get("nbgrader")
    found = marks.get("grade_id") if isinstance(marks, dict) else None
    return found if isinstance(found, str) else None


def is_code(cell: NotebookNode) -> bool:
    """Whether it is a cell of code."""
    return cell.cell_type == "code"


def text_of(cell: NotebookNode) -> tuple[str, str]:
    """What two cells have in common that differ in white space only."""
    source = cell.source
    return cell.cell_type, source if len(source) > LONG else " ".join(source.split())


def opening_of(cell: NotebookNode) -> tuple[str, str]:
    """The first line of a cell, without a comment."""
    return cell.cell_type, cell.source.lstrip().partition("\n")[0].partition("#")[0].strip()


def parsed(cell: NotebookNode) -> ast.Module:
    """The code of a cell; empty where there is none, or none that can be read."""
    try:
        return ast.parse(cell.source if is_code(cell) else "")
    except (SyntaxError, ValueError):
        return ast.parse("")
