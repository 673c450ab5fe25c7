"""Observe: call a function on a case and write down what happened. No opinion.

An `Observation` is plain data: it needs neither the reference nor the oracle, and whoever reads it
needs no student code.
"""

import contextlib
import io
import signal
import threading
import time
import traceback
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dgm_utils.grading.calls import Call, Recorder, is_library
from dgm_utils.grading.exercise import Case, Task

PRINTED_LIMIT = 2_000
LINE_LIMIT = 100


def warm_up() -> None:
    """Have torch import what it imports when it first takes a gradient and meets the meta device.

    That is a second's worth of modules, and not for a student's first check to wait for.
    """
    one = torch.ones(1, requires_grad=True)
    torch.autograd.grad(one.clone(), one, torch.ones(1))
    torch.ones(1, device="meta").mean(0)


@dataclass(frozen=True)
class Raised:
    """An exception that came out of the student's function."""

    kind: str
    message: str
    line: str


@dataclass(frozen=True)
class Observation:
    """What one call did.

    `value` holds detached tensors in the structure the function returned; anything that is neither
    a tensor, a plain value nor a container of those is replaced by the name of its type in
    `foreign`. `gradients` has one entry for each tensor in the arguments at `case.wrt` (see
    `differentiated`): None where nothing flows back. `changed` lists the positions of arguments
    that were changed in place. `files` names every file that code came from while the function
    ran. `counts` says how often each `Counted` argument was called, by position; `largest`, how
    many numbers the largest tensor held.
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
    counts: tuple[tuple[int, int], ...] = ()
    largest: int = 0


class Counted(torch.nn.Module):
    """A network that counts how often it is called."""

    def __init__(self, net: torch.nn.Module):
        super().__init__()
        self.net = net
        self.count = 0

    def forward(self, *args):
        """Call the network."""
        self.count += 1
        return self.net(*args)


class _Largest(TorchDispatchMode):
    """Watches the size of every tensor that is computed."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        # A view holds no numbers of its own.
        if not func.is_view:
            sizes = [t.untyped_storage().nbytes() // t.element_size() for t in tensors(result)]
            self.numel = max([self.numel, *sizes])
        return result


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
    args = [_copy(leaf) for leaf in leaves]
    versions = [[t._version for t in tensors(arg)] for arg in args]
    counted = {i: arg for i, arg in enumerate(args) if isinstance(arg, Counted)}
    for net in counted.values():
        net.count = 0
    largest = _Largest()
    printed = _Printed()
    raised, timed_out, result, gradients, counts = None, False, None, (), ()
    recorder = Recorder(ignore=__file__)
    start = time.perf_counter()
    try:
        with (
            _quiet(printed),
            torch.enable_grad(),
            time_limit(seconds),
            recorder,
        ):
            with largest if case.max_numel else contextlib.nullcontext():
                result = function(*args)
                if case.probe and result is not None:
                    result = case.probe(result, *args)
            counts = tuple((i, net.count) for i, net in counted.items())
            gradients = _gradients(result, [t for _, t in differentiated(case, leaves)])
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
        counts=counts,
        largest=largest.numel,
    )


def observe_task(function, task: Task) -> tuple[list[Observation], Observation | None]:
    """Observe a function on the cases of a task, then on its probe; stops after a time-out."""
    observed, left = [], task.seconds
    for case in task.cases:
        observed.append(observe(function, case, seconds=left))
        left -= observed[-1].seconds
        if observed[-1].timed_out:
            return observed, None
    return observed, observe(function, task.probe, seconds=left) if task.probe else None


def differentiated(case: Case, args) -> list[tuple[int, torch.Tensor]]:
    """The tensors whose gradients are taken, each with the position of its argument."""
    return [
        (i, tensor)
        for i in case.wrt
        for tensor in (
            args[i].parameters() if isinstance(args[i], torch.nn.Module) else tensors(args[i])
        )
    ]


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
        return type(arg)(_leaf(item, differentiate) for item in arg)
    if not isinstance(arg, torch.Tensor):
        return arg
    copy = arg.detach().clone()
    return copy.requires_grad_() if differentiate else copy


def _copy(leaf):
    if isinstance(leaf, (list, tuple)):
        return type(leaf)(_copy(item) for item in leaf)
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def _changed(args, leaves, versions):
    """Positions of the arguments that were written to, through `.data` or as a list too."""
    return tuple(
        i
        for i, (arg, leaf, version) in enumerate(zip(args, leaves, versions, strict=True))
        if [t._version for t in tensors(arg)] != version
        or not all(
            a.is_meta or torch.equal(a, b) for a, b in zip(tensors(arg), tensors(leaf), strict=True)
        )
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
    cotangents = [cotangent(t, position) for position, t in enumerate(outputs)]
    return torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)


def cotangent(output: torch.Tensor, position: int = 0) -> torch.Tensor:
    """The fixed direction in which the output at this position is differentiated.

    Every position has its own: in a sum of all outputs, gradients might cancel.
    """
    generator = torch.Generator().manual_seed(1000 * position + output.numel())
    direction = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return direction.to(output.device, output.dtype)


def _describe(error):
    """Kind, message and the last line of the student's own code, without the error itself."""
    line = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if not is_library(frame.filename) and frame.filename != __file__ and frame.line:
            line = frame.line.strip()[:LINE_LIMIT]
    try:
        message = str(error)
    except Exception:
        message = "(its message could not be read)"
    return Raised(type(error).__name__, message[:500], line)


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
