"""What grading keeps on disk beside submissions and gradebook: where, and how it is written."""

import json
import os
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.coursedir import CourseDirectory

_HALF = ".half-written-"


def kept_folder(course: CourseDirectory, kind: str, assignment: str) -> Path:
    """Where files of a kind are kept for an assignment, beside the folder of submissions."""
    submitted = Path(course.format_path(course.submitted_directory, ".", assignment))
    return submitted.parents[1] / kind / assignment


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{_HALF}{path.name}")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def remove_halves(folder: Path) -> None:
    """Remove what `write_whole` had begun in a process that was killed."""
    for path in folder.glob(f"{_HALF}*"):
        path.unlink()


def as_text(notebook: NotebookNode) -> str:
    """A notebook for no eyes, to be read by `nbformat.v4.reads`; nbformat itself is slow here."""
    # A kernel may send half a surrogate pair, which no file can hold.
    return json.dumps(notebook, ensure_ascii=False).encode("utf-8", "replace").decode()


def read_notebook(path: Path) -> NotebookNode:
    """A notebook that grading has written itself: there is nothing to validate in it."""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))
