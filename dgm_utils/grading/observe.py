"""Observe: call a function on a case and write down what happened. No opinion.

An `Observation` is plain data: it needs neither the reference nor the oracle, and whoever reads it
needs no student code.
"""

import contextlib
import dis
import hashlib
import io
import os
import signal
import sys
import sysconfig
import threading
import time
import traceback
import types
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from dgm_utils.grading.exercise import Case

PRINTED_LIMIT = 2_000
LINE_LIMIT = 100

# torch imports a second's worth of modules when it first takes a gradient and first computes on the
# meta device. That belongs to the import of this module, not to a student's first check.
_one = torch.ones(1, requires_grad=True)
torch.autograd.grad(_one.clone(), _one, torch.ones(1))
torch.ones(1, device="meta").mean(0)


@dataclass(frozen=True)
class Raised:
    """An exception that came out of the student's function."""

    kind: str
    message: str
    line: str


@dataclass(frozen=True)
class Call:
    """Code that ran and belongs to no installed library.

    `handwritten` is False when the code stands neither in a cell nor in the file it names: it was
    made by `exec` or the like.
    """

    name: str
    fingerprint: str
    handwritten: bool


@dataclass(frozen=True)
class Observation:
    """What one call did.

    `value` holds detached tensors in the structure the function returned; anything that is neither
    a tensor, a plain value nor a container of those is replaced by the name of its type in
    `foreign`. `gradients` has one entry for each position in `case.wrt`: None where nothing flows
    back. `changed` lists the positions of arguments that were changed in place. `files` names every
    file that code came from while the function ran.
    """

    value: Any = None
    foreign: str | None = None
    gradients: tuple[torch.Tensor | None, ...] = ()
    changed: tuple[int, ...] = ()
    raised: Raised | None = None
    timed_out: bool = False
    seconds: float = 0.0
    calls: frozenset[Call] = frozenset()
    files: frozenset[str] = frozenset()
    printed: str = ""


class TimeLimit(BaseException):
    """The time for one check is used up; not an Exception, so that `except Exception` misses it."""


def observe(function, case: Case, seconds: float | None = None) -> Observation:
    """Call `function` on fresh copies of the case's arguments and record the outcome.

    Args:
        function: any callable; it is called positionally.
        case: its arguments are left as they are.
        seconds: wall time after which the call is interrupted (in the main thread of a POSIX
            system; elsewhere there is no limit).

    Returns:
        An observation. Nothing that the function raises comes out of here, `SystemExit` and
        `KeyboardInterrupt` included.

    """
    leaves = [_leaf(arg, i in case.wrt) for i, arg in enumerate(case.args)]
    # A copy of a leaf may be written to, which shows in its version; a leaf may not.
    args = [leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    versions = [arg._version if isinstance(arg, torch.Tensor) else None for arg in args]
    printed = _Printed()
    raised, timed_out, result, gradients = None, False, None, ()
    recorder = _Recorder()
    start = time.perf_counter()
    try:
        with (
            _quiet(printed),
            torch.enable_grad(),
            time_limit(seconds),
            recorder,
        ):
            result = function(*args)
            gradients = _gradients(result, [leaves[i] for i in case.wrt])
    except TimeLimit:
        timed_out = True
    except BaseException as error:
        raised = _describe(error)
    elapsed = time.perf_counter() - start
    value, foreign = _plain(result)
    return Observation(
        value=value,
        foreign=foreign,
        gradients=gradients,
        changed=_changed(args, leaves, versions),
        raised=raised,
        timed_out=timed_out,
        seconds=elapsed,
        calls=recorder.calls(),
        files=recorder.files(),
        printed=printed.getvalue(),
    )


def tensors(value) -> list[torch.Tensor]:
    """All tensors of a value, in order: of a tensor itself, a tuple, a list or a dict."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for key in sorted(value) for t in tensors(value[key])]
    if isinstance(value, (tuple, list)):
        return [t for item in value for t in tensors(item)]
    return []


def _leaf(arg, differentiate):
    if isinstance(arg, (list, tuple)):
        return type(arg)(_leaf(item, False) for item in arg)
    if not isinstance(arg, torch.Tensor):
        return arg
    copy = arg.detach().clone()
    return copy.requires_grad_() if differentiate else copy


def _changed(args, leaves, versions):
    """Positions of the tensors that were written to, through `.data` too."""
    return tuple(
        i
        for i, (arg, leaf, version) in enumerate(zip(args, leaves, versions, strict=True))
        if isinstance(arg, torch.Tensor)
        and (arg._version != version or not (arg.is_meta or torch.equal(arg, leaf)))
    )


def _plain(value):
    """Detached copies of a result, or the name of the first type that is not plain data."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone(), None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value, None
    if isinstance(value, dict) or type(value) in (tuple, list):
        items = value.values() if isinstance(value, dict) else value
        plain = [_plain(item) for item in items]
        foreign = next((name for _, name in plain if name), None)
        if isinstance(value, dict):
            keys = [str(key) for key in value]
            return dict(zip(keys, (v for v, _ in plain), strict=True)), foreign
        return type(value)(v for v, _ in plain), foreign
    return None, f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _gradients(result, leaves):
    """Gradients of a fixed random combination of all outputs, one for each leaf."""
    outputs = [t for t in tensors(result) if t.requires_grad and not t.is_meta]
    if not outputs or not leaves:
        return (None,) * len(leaves)
    cotangents = [cotangent(t) for t in outputs]
    return torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)


def cotangent(output: torch.Tensor) -> torch.Tensor:
    """The fixed direction in which an output of this shape is differentiated."""
    generator = torch.Generator().manual_seed(output.numel())
    direction = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return direction.to(output.device, output.dtype)


def _describe(error):
    """Kind, message and the last line of the student's own code, without the error itself."""
    line = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if not _is_library(frame.filename) and frame.filename != __file__ and frame.line:
            line = frame.line.strip()[:LINE_LIMIT]
    try:
        message = str(error)
    except Exception:
        message = "(its message could not be read)"
    return Raised(type(error).__name__, message[:500], line)


_LIBRARY = tuple(
    sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def _is_library(path):
    return path.startswith((*_LIBRARY, "<frozen"))


class _Printed(io.StringIO):
    """Keeps the beginning of what is printed and forgets the rest."""

    def write(self, text):
        return super().write(text[: max(0, PRINTED_LIMIT - self.tell())])


@contextlib.contextmanager
def _quiet(printed):
    # nbgrader gives no points to a cell that wrote to stderr, so a warning must not reach it.
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def time_limit(seconds: float | None):
    """Raise `TimeLimit` in the body after `seconds`, again every half second until it leaves."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    if seconds is None or not hasattr(signal, "SIGALRM") or not on_main_thread:
        yield
        return

    def ring(signum, frame):
        raise TimeLimit

    previous = signal.signal(signal.SIGALRM, ring)
    # The interval is for code that catches everything: it is interrupted again and again.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class _Recorder:
    """Collects the code of every Python function that runs, in new threads too."""

    def __enter__(self):
        self._codes = set()
        self._previous = sys.getprofile()
        self._previous_in_threads = threading.getprofile()
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *exception):
        sys.setprofile(self._previous)
        threading.setprofile(self._previous_in_threads)

    def _note(self, frame, event, argument):
        if event == "call" and frame.f_code.co_filename != __file__:
            self._codes.add(frame.f_code)

    def files(self):
        return frozenset(code.co_filename for code in self._codes)

    def calls(self):
        cells = _notebook_fingerprints()
        calls = set()
        for code in self._codes:
            if not _is_library(code.co_filename):
                mark = fingerprint(code)
                handwritten = mark in cells or mark in _file_fingerprints(code.co_filename)
                calls.add(Call(code.co_name, mark, handwritten))
        return frozenset(calls)


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
    except (SyntaxError, ValueError):
        return frozenset()
    marks, todo = set(), [code]
    while todo:
        code = todo.pop()
        marks.add(fingerprint(code))
        todo += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return frozenset(marks)
