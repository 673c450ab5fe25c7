"""The cell at the top of a graded notebook that says what was mended in it."""

from collections.abc import Iterable

from nbformat import NotebookNode

MENDED_ID = "mended-before-grading"
_HEADING = "**This notebook was mended before grading.**"


def note(sentences: Iterable[str]) -> NotebookNode:
    """The cell that tells student and instructor what was mended."""
    lines = [_HEADING, "", *(f"- {sentence}" for sentence in sentences)]
    # nbformat's function would validate it.
    return NotebookNode(
        cell_type="markdown", id=MENDED_ID, source="\n".join(lines), metadata=NotebookNode()
    )


def mended(notebook: NotebookNode) -> list[str]:
    """The sentences that `note` left in a graded notebook."""
    sources = [cell.source for cell in notebook.cells if cell.get("id") == MENDED_ID]
    lines = "\n".join(sources).splitlines()
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")]
