"""Observe: call a function on a case and write down what happened. No opinion.

An `Observation` is plain data: it needs neither the reference nor the oracle, and whoever reads it
needs no student code.
"""

import contextlib
import io
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nbjudge.inside.case import Case, Task
from nbjudge.inside.clock import WALL, TimeLimit, time_limit
from nbjudge.inside.code import Code, Recorder, is_library
from nbjudge.inside.neutral import neutral_state
from nbjudge.inside.plain import LINE_LIMIT, MESSAGE_LIMIT, NAME_LIMIT, PRINTED_LIMIT, plain
from nbjudge.inside.tensors import Counted, cotangent, differentiated, like, tensors

# Code that observes is no part of an answer.
_OWN = tuple(map(str, Path(__file__).parent.glob("*.py")))


def prepare_torch() -> None:
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
    `foreign`; so is one with more parts than any answer has. `gradients` has one entry for each
    tensor in the arguments at `case.wrt` (see `differentiated`): None where nothing flows back.
    `changed` lists the positions of arguments that were changed in place. `timed_out` says that it
    did not finish, `hung` that it waited until its wall time was over; `seconds` are the
    processor's. Where it was traced, `code` is what ran of no installed library, and `files` names
    every file that code came from. `drew` says that it took random numbers of torch's own
    generator. `passes` says how often each `Counted` argument was passed through, by position;
    `largest`, how many numbers the largest tensor held.
    """

    value: Any = None
    foreign: str | None = None
    gradients: tuple[torch.Tensor | None, ...] = ()
    changed: tuple[int, ...] = ()
    raised: Raised | None = None
    timed_out: bool = False
    hung: bool = False
    seconds: float = 0.0
    code: frozenset[Code] = frozenset()
    files: frozenset[str] = frozenset()
    printed: str = ""
    drew: bool = False
    passes: tuple[tuple[int, int], ...] = ()
    largest: int = 0


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


def observe(
    function, case: Case, seconds: float | None = None, traced: bool = False
) -> Observation:
    """Call `function` on fresh copies of the case's arguments and record the outcome.

    Args:
        function: any callable; it is called positionally.
        case: its arguments are left as they are.
        seconds: of the processor's time, after which the call is interrupted; see `time_limit`.
        traced: whether it is noted which code ran; that takes time at every call of a function.

    Returns:
        An observation. Nothing that the function raises comes out of here, `SystemExit` and
        `KeyboardInterrupt` included.

    """
    with neutral_state():
        return _observe(function, case, seconds, None, traced)


def values_of(functions: Iterable, case: Case, seconds: float) -> list[Observation]:
    """What many functions return on one case; nothing else of them is recorded.

    Args:
        functions: of our own, which is what makes the short way right.
        case: its arguments are left as they are.
        seconds: of the processor's time, for each.

    """
    with neutral_state(), _quiet(_Printed()):
        generator = torch.get_rng_state()
        values = []
        for function in functions:
            torch.set_rng_state(generator)
            values.append(_value_of(function, case, seconds))
    return values


def _value_of(function, case, seconds):
    args = [_copy(arg) for arg in case.args]
    try:
        with time_limit(seconds):
            result = function(*args)
            if case.probe and result is not None:
                result = case.probe(result, *args)
            value, foreign = plain(result)
    except TimeLimit:
        return Observation(timed_out=True)
    except Exception as error:
        return Observation(raised=Raised(type(error).__name__, "", ""))
    return Observation(value=value, foreign=foreign)


def observe_task(
    function, task: Task, traced: bool = False
) -> tuple[list[Observation], Observation | None]:
    """Observe a function on the cases of a task, then on its probe; stops after a time-out.

    Args:
        function: as for `observe`.
        task: cases, probe and time.
        traced: as for `observe`.

    """
    observed, left = [], task.seconds
    end = time.monotonic() + WALL * task.seconds
    with neutral_state():
        for case in task.cases:
            observed.append(_observe(function, case, left, end - time.monotonic(), traced))
            left -= observed[-1].seconds
            if observed[-1].timed_out:
                return observed, None
        if task.probe is None:
            return observed, None
        return observed, _observe(function, task.probe, left, end - time.monotonic(), traced)


def _observe(function, case, seconds, wall, traced):
    """`observe`, in whatever state this is."""
    leaves = [_leaf(arg, i in case.wrt) for i, arg in enumerate(case.args)]
    # A copy of a leaf may be written to, which shows in its version; a leaf may not.
    args = [_copy(leaf) for leaf in leaves]
    versions = [[t._version for t in tensors(arg)] for arg in args]
    counted = {i: arg for i, arg in enumerate(args) if isinstance(arg, Counted)}
    for net in counted.values():
        net.count = 0
    largest = _Largest()
    printed = _Printed()
    raised = stopped = value = foreign = None
    gradients, passes = (), ()
    recorder = Recorder(ignore=_OWN)
    tracing = recorder if traced else contextlib.nullcontext()
    generator = torch.get_rng_state()
    start = time.process_time()
    try:
        with _quiet(printed), torch.enable_grad(), time_limit(seconds, wall), tracing:
            with largest if case.max_numel else contextlib.nullcontext():
                result = function(*args)
                if case.probe and result is not None:
                    result = case.probe(result, *args)
            passes = tuple((i, net.count) for i, net in counted.items())
            value, foreign = plain(result)
            differentiable = None if foreign else result
            gradients = _gradients(differentiable, [t for _, t in differentiated(case, leaves)])
    except TimeLimit as error:
        stopped = error
    except BaseException as error:
        raised = _describe(error, case.args)
    return Observation(
        value=value,
        foreign=foreign,
        gradients=gradients,
        changed=_changed(args, leaves, versions),
        raised=raised,
        timed_out=stopped is not None,
        hung=stopped is not None and stopped.hung,
        seconds=time.process_time() - start,
        code=recorder.code(),
        files=recorder.files(),
        printed=printed.getvalue(),
        drew=_has_moved(generator),
        passes=passes,
        largest=largest.numel,
    )


def _leaf(arg, differentiate):
    if isinstance(arg, (list, tuple)):
        return like(arg, [_leaf(item, differentiate) for item in arg])
    if not isinstance(arg, torch.Tensor):
        return arg
    copy = arg.detach().clone()
    return copy.requires_grad_() if differentiate else copy


def _copy(leaf):
    if isinstance(leaf, (list, tuple)):
        return like(leaf, [_copy(item) for item in leaf])
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def _has_moved(state):
    """Whether numbers were drawn from torch's generator since it was in this state."""
    try:
        return not torch.equal(state, torch.get_rng_state())
    except Exception:
        # The function has left a mode behind that turns the answer into something else.
        return False


def _changed(args, leaves, versions):
    """Positions of the arguments that were written to, through `.data` or as a list too."""
    return tuple(
        i
        for i, (arg, leaf, version) in enumerate(zip(args, leaves, versions, strict=True))
        if not _same(arg, leaf, version)
    )


def _same(arg, leaf, version):
    try:
        now, before = tensors(arg), tensors(leaf)
        return [t._version for t in now] == version and all(
            a.is_meta or (a.dtype == b.dtype and torch.equal(a, b))
            for a, b in zip(now, before, strict=True)
        )
    except Exception:
        # It holds what can be neither walked through nor compared: a list that holds itself.
        return False


def _gradients(result, leaves):
    """Gradients of a fixed random combination of all outputs, one for each leaf."""
    outputs = [t for t in tensors(result) if t.requires_grad and not t.is_meta]
    if not outputs or not leaves:
        return (None,) * len(leaves)
    cotangents = [cotangent(t, position) for position, t in enumerate(outputs)]
    return torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)


def _describe(error, args):
    """Kind, message and the last line of the student's own code, without the error itself."""
    line, others = "", {*_OWN, *_files_of(args)}
    for frame in traceback.extract_tb(error.__traceback__):
        if not is_library(frame.filename) and frame.filename not in others and frame.line:
            line = frame.line.strip()[:LINE_LIMIT]
    try:
        message = str(error)
    except BaseException:
        message = "(its message could not be read)"
    return Raised(type(error).__name__[:NAME_LIMIT], message[:MESSAGE_LIMIT], line)


def _files_of(args):
    """Where the networks and functions come from that a case hands over."""
    for arg in args:
        if isinstance(arg, torch.nn.Module):
            handed = [type(module).forward for module in arg.modules()]
        else:
            handed = [arg] if callable(arg) else []
        yield from (f.__code__.co_filename for f in handed if hasattr(f, "__code__"))


class _Printed(io.StringIO):
    """Keeps the beginning of what is printed and forgets the rest."""

    def write(self, text):
        return super().write(text[: max(0, PRINTED_LIMIT - self.tell())])


@contextlib.contextmanager
def _quiet(printed):
    # nbgrader gives no points to a cell that wrote to stderr.
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield
