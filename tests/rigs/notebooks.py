"""What every committed notebook keeps to: `python tests/rigs/notebooks.py [NOTEBOOK …]`.

All notebooks if none is named. It prints a line for each fault and fails if there is one. The hook
before a commit, `make lint` and the tests ask here.
"""

import json
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 1_000_000
# nbgrader's own, and the book's tags; JupyterLab adds others when a cell is folded or scrolled.
CELL_METADATA = {"nbgrader", "deletable", "editable", "tags"}
NOTEBOOK_METADATA = {"kernelspec", "language_info"}


def notebooks():
    """The paths of all lectures, assignments and solutions."""
    return sorted(ROOT.glob("[las]*/**/[!.]*.ipynb"))


def faults(path):
    """What is wrong with a notebook, a sentence each; where it lies says what it may hold."""
    # Not through nbformat's reader, which mends in silence what is asked about here.
    try:
        notebook = nbformat.from_dict(json.loads(path.read_text(encoding="utf-8")))
        found = [*_ids(notebook.cells), *_metadata(notebook)]
    except (ValueError, AttributeError) as error:
        return [f"is no notebook: {error}"]
    if path.resolve().is_relative_to(ROOT / "lectures"):
        return found + _executed(notebook, path)
    return found + _bare(notebook)


def _ids(cells):
    ids = [cell.get("id") for cell in cells]
    found = ["a cell has no id: save it in JupyterLab"] if None in ids else []
    twice = sorted({i for i in ids if i and ids.count(i) > 1})
    return found + [f"two cells have the id {i}: change one" for i in twice]


def _metadata(notebook):
    found = []
    if extra := sorted(set(notebook.metadata) - NOTEBOOK_METADATA):
        found.append(f"has the metadata {', '.join(extra)}: remove it")
    if extra := sorted(set(notebook.metadata.get("language_info", {})) - {"name"}):
        found.append(f"says of its language {', '.join(extra)}: keep its name alone")
    for cell in notebook.cells:
        if extra := sorted(set(cell.metadata) - CELL_METADATA):
            found.append(f"cell {cell.get('id')} has the metadata {', '.join(extra)}: remove it")
    return found


def _bare(notebook):
    """A solution or an assignment is committed as if it had never run."""
    return [
        f"cell {cell.get('id')} has an output or an execution count: clear all outputs"
        for cell in notebook.cells
        if cell.get("outputs") or cell.get("execution_count") is not None
    ]


def _executed(notebook, path):
    """A lecture is committed as a whole run left it."""
    found = []
    if path.stat().st_size >= MAX_BYTES:
        found.append(f"is not smaller than {MAX_BYTES} bytes: show fewer or smaller figures")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append(f"was not run from top to bottom: python lectures/execute.py {path.name}")
    for cell in code:
        if any(o.output_type == "error" or o.get("name") == "stderr" for o in cell.outputs):
            found.append(f"cell {cell.get('id')} shows an error or a warning: mend it, run again")
    return found


def main(names):
    """Print the faults of these notebooks; the exit code is 1 if there are any."""
    lines = [f"{path}: {fault}" for path in map(Path, names) for fault in faults(path)]
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or notebooks()))
