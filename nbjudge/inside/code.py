"""Which code ran while a function was called, and whether someone can read it where it stands."""

import dis
import hashlib
import os
import sys
import sysconfig
import threading
import types
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Code:
    """Code that ran and belongs to no installed library.

    `handwritten` is False when the code stands neither in a cell nor in the file it names: it was
    made by `exec` or the like.
    """

    name: str
    fingerprint: str
    handwritten: bool


class Recorder:
    """Collects the code of every Python function that runs, in new threads too.

    Args:
        ignore: files whose code is not collected: those of whoever does the observing.

    """

    def __init__(self, ignore: tuple[str, ...]):
        self._ignored = frozenset(ignore)
        self._ran = set()

    def __enter__(self):
        self._previous = sys.getprofile()
        self._previous_in_threads = threading.getprofile()
        add = self._ran.add

        # Called for whatever Python does, so nothing is asked here that can be asked later.
        def note(frame, event, argument):
            if event == "call":
                add(frame.f_code)

        threading.setprofile(note)
        sys.setprofile(note)
        return self

    def __exit__(self, *exception):
        sys.setprofile(self._previous)
        threading.setprofile(self._previous_in_threads)

    def _codes(self):
        # A thread that the function has left behind may still add to them.
        return [code for code in tuple(self._ran) if code.co_filename not in self._ignored]

    def files(self) -> frozenset[str]:
        """Every file that code came from."""
        return frozenset(code.co_filename for code in self._codes())

    def code(self) -> frozenset[Code]:
        """The code that belongs to no library."""
        cells = _notebook_fingerprints() if self._ran else ()
        ran = set()
        for code in self._codes():
            if not is_library(code.co_filename):
                mark = fingerprint(code)
                handwritten = mark in cells or mark in _file_fingerprints(code.co_filename)
                ran.add(Code(code.co_name, mark, handwritten))
        return frozenset(ran)


def code_in(sources: list[str]) -> frozenset[Code]:
    """What is defined in the source of a notebook's cells, as if all of it had run."""
    marks = set().union(*(_source_fingerprints(source) for source in sources))
    return frozenset(Code("", mark, handwritten=True) for mark in marks)


@lru_cache(maxsize=4096)
def fingerprint(code: types.CodeType) -> str:
    """A hash of what code does: the same for a verbatim copy, wherever it was compiled."""
    # `dis` shows names and constants in place of numbers, and neither lines nor files. How a method
    # is looked up depends on whether its module was imported in the same file, so that is left out.
    body = [
        f"{i.opname.replace('LOAD_METHOD', 'LOAD_ATTR')} {_operand(i.argval)}"
        for i in dis.get_instructions(code)
        if i.opname != "PUSH_NULL"
    ]
    return hashlib.sha256("\n".join(body).encode()).hexdigest()


def _operand(value):
    return fingerprint(value) if isinstance(value, types.CodeType) else repr(value)


def _notebook_fingerprints():
    """Fingerprints of all code typed into the notebook's cells; none outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    cells = shell.user_ns.get("In", []) if shell else []
    return set().union(*map(_cell_fingerprints, cells))


@lru_cache(maxsize=4096)
def _cell_fingerprints(cell):
    from IPython import get_ipython

    lines = cell.splitlines()
    while lines and lines[0].lstrip().startswith("%%"):
        lines.pop(0)
    return _source_fingerprints(get_ipython().transform_cell("\n".join(lines)))


@lru_cache(maxsize=512)
def _file_fingerprints(path):
    try:
        with open(path, encoding="utf-8") as file:
            return _source_fingerprints(file.read())
    except (OSError, UnicodeDecodeError):
        return frozenset()


@lru_cache(maxsize=512)
def _source_fingerprints(source):
    try:
        code = compile(source, "<cell>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    marks, todo = set(), [code]
    while todo:
        code = todo.pop()
        marks.add(fingerprint(code))
        todo += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return frozenset(marks)


_LIBRARY = tuple(
    sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def is_library(path: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return path.startswith((*_LIBRARY, "<frozen"))
