"""Answers in words, wherever a student has put them: they must reach the person who grades.

nbgrader gives 0 points, finally, to a written task whose cell was left as released. So what stands
beside that cell is moved into it; and where an answer may lie elsewhere, a line in the cell says
so, after which it waits for a person.
"""

import itertools
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from nbformat import NotebookNode

from nbjudge.submissions.definitions import is_prose

# Text of the student's own that is no answer by its place may still be one by its length.
_AN_ANSWER = 40
# Pictures that are looked for in one text.
_MOST = 1_000
# A name may hold parentheses, as browsers' copies do.
_REFERENCE = re.compile(r"attachment:((?:[^\s()\"'<>\]]++|\([^\s()\"'<>\]]*+\))++)")


def may_be_words(cell: NotebookNode) -> bool:
    """Whether a cell that was not released may be an answer in words."""
    if cell.cell_type == "code":
        return is_prose(cell.source)
    return bool(cell.source.strip() or cell.get("attachments"))


def is_long(cell: NotebookNode) -> bool:
    """Whether a cell of text is more than a heading or a remark."""
    if cell.cell_type == "code":
        return False
    letters = len(cell.source) - cell.source.count(" ")
    return letters >= _AN_ANSWER or bool(cell.get("attachments"))


def move_into(answer: NotebookNode, cells: Iterable[NotebookNode]) -> None:
    """Make the texts and pictures of other cells the source of an answer."""
    pictures = answer.pop("attachments", {})
    texts = []
    for cell in cells:
        source = cell.source.strip("\n")
        for name, picture in cell.get("attachments", {}).items():
            kept = _free_name(name, picture, pictures)
            if kept != name:
                # JupyterLab calls every pasted picture `image.png`.
                source = _renamed(source, name, kept)
            pictures[kept] = picture
        texts.append(source)
    answer.source = "\n\n".join(text for text in texts if text.strip())
    if pictures:
        answer.attachments = NotebookNode(pictures)
    show_all(answer)


def adopt(cell: NotebookNode, other: NotebookNode) -> None:
    """Give a cell the pictures of a copy that is dropped."""
    pictures = other.get("attachments")
    if pictures:
        cell.attachments = NotebookNode({**pictures, **cell.get("attachments", {})})


def show_all(cell: NotebookNode) -> None:
    """Show every picture that is attached to a cell and that its text does not name."""
    named = _named(cell.source)
    hidden = [name for name in cell.get("attachments", {}) if name not in named]
    lines = (f"\n\n![{_plain(name)}](attachment:{quote(name)})" for name in hidden)
    cell.source = "".join([cell.source, *lines]).lstrip("\n")


def complete(cell: NotebookNode, pictures: dict[str, NotebookNode]) -> list[str]:
    """Attach the pictures that a text names and that were lost on the way, say by copying it.

    Args:
        cell: of text.
        pictures: name → picture, of all cells.

    Returns:
        Names of those that are nowhere.

    """
    there = cell.get("attachments", {})
    lost = [name for name in _named(cell.source) if name not in there]
    found = {name: pictures[name] for name in lost if name in pictures}
    if found:
        cell.attachments = NotebookNode({**there, **found})
    return [name for name in lost if name not in found]


def attached(cells: Iterable[NotebookNode]) -> dict[str, NotebookNode]:
    """Name → picture, of all that are attached to some cells; of a name the first."""
    found: dict[str, NotebookNode] = {}
    for cell in cells:
        for name, picture in cell.get("attachments", {}).items():
            found.setdefault(name, picture)
    return found


def _named(source):
    found = itertools.islice(_REFERENCE.finditer(source), _MOST)
    return dict.fromkeys(unquote(match[1]) for match in found)


def _renamed(source, name, new):
    def reference(match):
        return f"attachment:{quote(new)}" if unquote(match[1]) == name else match[0]

    return _REFERENCE.sub(reference, source)


def _free_name(name, picture, taken):
    path, number, free = PurePosixPath(name), len(taken), name
    while free in taken and taken[free] != picture:
        number += 1
        free = f"{path.stem}-{number}{path.suffix}"
    return free


def _plain(name):
    return "".join(c if c.isalnum() or c in ".-_ " else "_" for c in name)[:80]
