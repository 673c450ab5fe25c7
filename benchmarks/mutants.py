"""Right notebooks, mutated at random: what people and their editors do to a file, and worse.

A mutant is a JSON text of edits, and an edit is the name of a function below with its arguments, as
in `[["move", [3, 0]], ["encode", ["utf-16"]]]`: so it can be printed, compared and made again.
`mutants()` is the strategy with which hypothesis draws them; `build` makes the files.

Some edits are *inert*: whatever they are combined with, they take nothing away. Others are *mild*:
one of them alone takes nothing away that the grader could not mend. The rest may destroy an answer.
"""

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nbformat
from hypothesis import strategies as st

from benchmarks.classroom import TOPIC

INERT, MILD, HARMFUL = "inert", "mild", "harmful"


@dataclass
class Handed:
    """What is handed in.

    Args:
        notebook: as JSON would hold it; a text once it is not JSON any more.
        released: the students' version.
        name: of the notebook's file.
        encoding: of the notebook's file.
        beside: path → content of the files beside it.

    """

    notebook: Any
    released: dict
    name: bytes = f"{TOPIC}.ipynb".encode()
    encoding: str = "utf-8"
    beside: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def cells(self) -> list[dict]:
        """Those of the notebook; changes to the list are changes to it."""
        return self.notebook.get("cells", [])

    def files(self) -> dict[bytes, bytes]:
        """Path → content of everything."""
        text = json.dumps(self.notebook, ensure_ascii=False)
        if any("\ud800" <= character <= "\udfff" for character in text):
            # Half of a pair can be in a notebook only if it is written as an escape.
            text = json.dumps(self.notebook)
        return {**self.beside, self.name: text.encode(self.encoding, "replace")}


@dataclass(frozen=True)
class _Edit:
    change: Callable
    drawn: st.SearchStrategy
    kind: str


_EDITS: dict[str, _Edit] = {}
_PLACE = st.integers(0, 11)


def _edit(kind, *drawn):
    def keep(function):
        name = function.__name__.strip("_")
        _EDITS[name] = _Edit(function, st.tuples(*drawn), kind)
        return function

    return keep


def mutants() -> st.SearchStrategy[str]:
    """One to four edits."""
    edits = [st.tuples(st.just(name), edit.drawn) for name, edit in _EDITS.items()]
    return st.lists(st.one_of(edits), min_size=1, max_size=4).map(json.dumps)


def build(mutant: str, right: dict, released: dict) -> Handed:
    """Make a mutant.

    Args:
        mutant: its edits.
        right: a right notebook, as JSON; left as it is.
        released: the students' version, as JSON.

    """
    handed = Handed(copy.deepcopy(right), released)
    for name, arguments in json.loads(mutant):
        _EDITS[name].change(handed, *arguments)
    return handed


def takes_nothing(mutant: str) -> bool:
    """Whether all points are due to a mutant, since its edits take nothing away."""
    kinds = [_EDITS[name].kind for name, _ in json.loads(mutant)]
    return kinds.count(INERT) + (kinds.count(MILD) == 1) == len(kinds)


# Cells


@_edit(MILD, _PLACE, _PLACE)
def _move(handed, at, to):
    cells = handed.cells
    if cells:
        cells.insert(to % len(cells), cells.pop(at % len(cells)))


@_edit(MILD, _PLACE, _PLACE)
def _double(handed, at, to):
    if cell := _cell(handed, at):
        handed.cells.insert(to % len(handed.cells), copy.deepcopy(cell))


@_edit(HARMFUL, _PLACE, st.integers(0, 3), st.booleans())
def _split(handed, at, line, marked):
    cell = _cell(handed, at)
    if cell and isinstance(cell.get("source"), str):
        lines = cell["source"].splitlines(keepends=True)
        second = copy.deepcopy(cell) | {"id": "split", "source": "".join(lines[line:])}
        second |= {} if marked else {"metadata": {}}
        cell["source"] = "".join(lines[:line]).rstrip()
        handed.cells.insert(at % len(handed.cells) + 1, second)


@_edit(HARMFUL, _PLACE)
def _merge(handed, at):
    cells = handed.cells
    at = at % max(len(cells), 1)
    if at + 1 < len(cells) and all(isinstance(c.get("source"), str) for c in cells[at : at + 2]):
        cells[at]["source"] += "\n\n" + cells.pop(at + 1)["source"]


@_edit(MILD, _PLACE, st.sampled_from(["code", "markdown", "raw"]))
def _retype(handed, at, kind):
    if cell := _cell(handed, at):
        cell["cell_type"] = kind
        if kind == "code":
            cell |= {"outputs": [], "execution_count": None}
        else:
            cell.pop("outputs", None)
            cell.pop("execution_count", None)


@_edit(HARMFUL, _PLACE)
def _delete(handed, at):
    if handed.cells:
        handed.cells.pop(at % len(handed.cells))


_INSERTED = [
    "# My notes: see the lecture.",
    "print('hello ' * 1000)",
    "1 / 0",
    "",
    "%matplotlib inline",
    "%load_ext autoreload\n%autoreload 2",
    "!echo shell",
    "?print",
    "def broken(:",
    "import no_such_module",
    "raise SystemExit",
    "input('your name? ')",
    "print('\ud800', '\x00', '\u202e')",
    "%%javascript\nalert(1)",
    "import warnings; warnings.warn('old')",
    "x = torch.randn(3)",
    "help(print)",
    "assert False",
]


@_edit(INERT, _PLACE, st.sampled_from(_INSERTED), st.sampled_from(["code", "markdown", "raw"]))
def _insert(handed, at, source, kind):
    cell = {"cell_type": kind, "id": f"more-{len(handed.cells)}", "metadata": {}, "source": source}
    cell |= {"outputs": [], "execution_count": None} if kind == "code" else {}
    handed.cells.insert(at % (len(handed.cells) + 1), cell)


@_edit(HARMFUL, _PLACE, st.sampled_from([None, "", 5, [], [["x"]], {"a": "b"}, "gone"]))
def _source(handed, at, value):
    if cell := _cell(handed, at):
        _set(cell, "source", value)


@_edit(INERT)
def _lines(handed):
    """As JupyterLab writes files: the source as a list of lines."""
    for cell in handed.cells:
        if isinstance(cell.get("source"), str):
            cell["source"] = cell["source"].splitlines(keepends=True)


# What stands beside the code

_STRANGE = st.sampled_from([None, [], {}, "text", 5, True, [{}], {"name": 7}, "gone"])


@_edit(MILD, _PLACE, _STRANGE)
def _metadata(handed, at, value):
    if cell := _cell(handed, at):
        _set(cell, "metadata", value)


@_edit(MILD)
def _stripped(handed):
    """As Colab and other editors save."""
    for cell in handed.cells:
        cell["metadata"] = {}


@_edit(INERT, _PLACE, st.sampled_from(["tags", "collapsed", "name", "jupyter", "x"]), _STRANGE)
def _more_metadata(handed, at, key, value):
    cell = _cell(handed, at)
    if cell and isinstance(cell.get("metadata"), dict):
        _set(cell["metadata"], key, value)


_MARKS = ["grade_id", "points", "grade", "solution", "locked", "schema_version", "task", "checksum"]
_VALUES = ["imports", "iwae_bound-check", "iwae_bound-solution", "../x", 100, -1, 1e308, False]


@_edit(MILD, _PLACE, st.sampled_from(_MARKS), st.one_of(st.sampled_from(_VALUES), _STRANGE))
def _mark(handed, at, key, value):
    """What nbgrader wrote of a cell."""
    cell = _cell(handed, at)
    marks = cell and isinstance(cell.get("metadata"), dict) and cell["metadata"].get("nbgrader")
    if isinstance(marks, dict):
        _set(marks, key, value)


@_edit(MILD, _PLACE, _STRANGE)
def _nbgrader(handed, at, value):
    cell = _cell(handed, at)
    if cell and isinstance(cell.get("metadata"), dict):
        _set(cell["metadata"], "nbgrader", value)


_IDS = ["", "a b", 5, None, "x" * 200, "ü", "imports", "iwae_bound-check", "gone", [], "mended"]


@_edit(MILD, _PLACE, st.sampled_from(_IDS))
def _id(handed, at, value):
    if cell := _cell(handed, at):
        _set(cell, "id", value)


@_edit(MILD)
def _no_ids(handed):
    """As nbformat before 4.5."""
    for cell in handed.cells:
        cell.pop("id", None)


_OUTPUTS = [
    None,
    [],
    {},
    "text",
    [{}],
    [None],
    [{"output_type": "stream"}],
    [{"output_type": "stream", "name": "stdout", "text": ["a", 1]}],
    [{"output_type": "display_data", "data": None, "metadata": {}}],
    [{"output_type": "error", "ename": 1}],
    [{"output_type": "pyout", "text": "3", "prompt_number": 1}],
    "gone",
]


@_edit(INERT, _PLACE, st.sampled_from(_OUTPUTS))
def _outputs(handed, at, value):
    """On any cell, markdown too."""
    if cell := _cell(handed, at):
        _set(cell, "outputs", value)


_KEYS = ["execution_count", "attachments", "collapsed", "prompt_number", "level", "input", "extra"]


@_edit(INERT, _PLACE, st.sampled_from(_KEYS), _STRANGE)
def _key(handed, at, key, value):
    if cell := _cell(handed, at):
        _set(cell, key, value)


@_edit(HARMFUL, _PLACE, st.sampled_from([None, "heading", "html", "Code", 5, "gone"]))
def _cell_type(handed, at, value):
    if cell := _cell(handed, at):
        _set(cell, "cell_type", value)


_ABOUT = [
    "kernelspec",
    "language_info",
    "widgets",
    "celltoolbar",
    "orig_nbformat",
    "title",
    "authors",
]
_KERNELS = [
    {"name": "ir", "language": "R", "display_name": "R"},
    {"name": "python2"},
    {"name": "../../x", "display_name": "<b>", "language": "python"},
    {"application/vnd.jupyter.widget-state+json": {"a": {"model_name": "HBoxModel"}}},
]


@_edit(INERT, st.sampled_from(_ABOUT), st.one_of(st.sampled_from(_KERNELS), _STRANGE))
def _about(handed, key, value):
    """Of the whole notebook."""
    if isinstance(handed.notebook.get("metadata"), dict):
        _set(handed.notebook["metadata"], key, value)


@_edit(INERT, st.sampled_from(["metadata", "worksheets", "extra", "signature"]), _STRANGE)
def _top(handed, key, value):
    _set(handed.notebook, key, value)


@_edit(INERT, st.sampled_from([0, 1, 2, 3, 4, 5, 6, 99, -1, "5", None, 4.2, True, "gone"]))
def _minor(handed, value):
    _set(handed.notebook, "nbformat_minor", value)


@_edit(HARMFUL, st.sampled_from([1, 2, 3, 5, 99, "4", None, 4.5, "gone"]))
def _major(handed, value):
    _set(handed.notebook, "nbformat", value)


@_edit(HARMFUL)
def _as_version_3(handed):
    """As IPython 2 saved it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            handed.notebook = nbformat.convert(nbformat.from_dict(handed.notebook), 3)
        except Exception:
            # It was bent before, and nbformat refuses it.
            return


# Files

_ENCODINGS = ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"]


@_edit(INERT)
def _mark_of_utf_8(handed):
    handed.encoding = "utf-8-sig"


@_edit(HARMFUL, st.sampled_from(_ENCODINGS))
def _encode(handed, encoding):
    handed.encoding = encoding


_NAMES = [
    "iwae (1).ipynb",
    "IWAE.ipynb",
    "iwae.IPYNB",
    "Übung.ipynb",
    "\udcdcbung.ipynb",
    "-rf.ipynb",
    " iwae.ipynb",
    "a\nb.ipynb",
    "[a]*?.ipynb",
    "$HOME.ipynb",
    "\x1b[31mred.ipynb",
    "x" * 240 + ".ipynb",
    "iwae.ipynb.json",
    "iwae.ipynb.txt",
]


@_edit(INERT, st.sampled_from(_NAMES))
def _rename(handed, name):
    handed.name = name.encode("utf-8", "surrogateescape")


@_edit(HARMFUL, st.sampled_from([".iwae.ipynb", "iwae", "iwae.py", "iwae.ipynb.zip"]))
def _rename_beyond_recognition(handed, name):
    handed.name = name.encode()


@_edit(INERT, st.sampled_from(["iwae.ipynb", "iwae (1).ipynb", "iwae-Copy1.ipynb", "a.ipynb"]))
def _untouched_beside(handed, name):
    """The released notebook lies there as well."""
    handed.beside[name.encode()] = json.dumps(handed.released).encode()


@_edit(MILD, st.sampled_from(["iwae.ipynb", "iwae (1).ipynb", "a.ipynb"]))
def _same_beside(handed, name):
    """What there is now lies there as well."""
    handed.beside[name.encode()] = json.dumps(handed.notebook).encode()


_TIMES = ["2026-03-01 18:00:00 UTC", "2026-03-01 19:00:00 +0100", "2026-03-01T18:00:00Z"]
_NO_TIMES = [
    b"",
    b"2026-03-01 20:15:00 CEST",
    b"2026-03-01 7:00 PM",
    b"0000-00-00 00:00:00 UTC",
    b"9999-12-31 23:59:59 -2359",
    b"yesterday",
    b"\xff\xfe",
    b"2026-03-01 18:00:00 UTC\n" * 1000,
    "２０２６-03-01 18:00:00 UTC".encode(),
    b"1e999",
    b"-1",
    b"\x00",
]


@_edit(INERT, st.sampled_from(_TIMES))
def _timestamp(handed, time):
    handed.beside[b"timestamp.txt"] = time.encode()


@_edit(HARMFUL, st.sampled_from(_NO_TIMES).map(lambda time: time.decode("latin-1")))
def _no_time(handed, time):
    handed.beside[b"timestamp.txt"] = time.encode("latin-1")


_BESIDE = [
    "torch.py",
    "math.py",
    "photo.png",
    "data/points.csv",
    "iwae.ipynb~",
    ".ipynb_checkpoints/iwae-checkpoint.ipynb",
    "feedback.html",
    "iwae.html",
    "not-collected.txt",
    "a\nb.txt",
    "\udcff.txt",
    "not a notebook.ipynb",
]


@_edit(INERT, st.sampled_from(_BESIDE))
def _beside(handed, name):
    handed.beside[name.encode("utf-8", "surrogateescape")] = b"raise ValueError('not mine')\n"


def _cell(handed, at):
    return handed.cells[at % len(handed.cells)] if handed.cells else None


def _set(holder, key, value):
    """Set an entry, or take it away."""
    if value == "gone":
        holder.pop(key, None)
    else:
        holder[key] = copy.deepcopy(value)
