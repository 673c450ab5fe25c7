"""Which line of a student's function is wrong: the one in which a single edit makes it right.

Nothing is claimed where edits of several lines do, or none. This runs the student's code again, so
it is for the student's own notebook, and not for a class.
"""

import ast
import contextlib
import inspect
import itertools
import time
import types
from collections.abc import Callable

import torch

from nbjudge.inside.observe import values_of
from nbjudge.inside.tensors import tensors
from nbjudge.judging.code import SECONDS, Part
from nbjudge.judging.edits import repairs, solutions
from nbjudge.judging.mistakes import EVIDENCE, same_values
from nbjudge.judging.sheet import Observed, Sheet
from nbjudge.judging.words import notes

# Processor seconds for all of it; whoever wrote a long function waits no longer.
_BUDGET = 0.5
_AT_ONCE = 50
_COMPUTES = {"torch", "math", "itertools", "functools", "operator", "numpy"}
_PLAIN = (int, float, str, tuple, torch.dtype, torch.device, torch.Tensor)
# What does something in the world.
_DOES = {"input", "open", "exec", "eval", "exit", "quit", "breakpoint", "setattr", "delattr"}
_WRITES = {"save", "savez", "savetxt", "tofile", "write"}
# What is wrong is a number, and not how it came about.
_OF_NUMBERS = ("value", "property", "misconception", "shape")


def wrong_line(sheet: Sheet, function: Callable, observed: Observed, kind: str) -> str:
    """The line of a function that one edit makes right; empty if there is no such line.

    Args:
        sheet: of the exercise.
        function: the student's, which did not pass.
        observed: what it did.
        kind: of the verdict.

    """
    if kind not in _OF_NUMBERS or not sheet.exercise.compare:
        return ""
    if not _may_be_repeated(function):
        return ""
    end = time.process_time() + _BUDGET
    cases = _failed_first(sheet, observed)
    found, innocent = set(), _right_so_far(sheet.exercise, function, cases[:EVIDENCE])
    edits = repairs(sheet.exercise, function, cases[:1])
    while some := tuple(itertools.islice(edits, _AT_ONCE)):
        seen = values_of((edit.function for edit in some), cases[0], SECONDS)
        for edit, value in zip(some, seen, strict=True):
            # An edit of a line that is right may make up for another one.
            if edit.at in found | innocent:
                continue
            if _is_right(sheet, cases[0], value) and _makes_right(sheet, edit, cases[1:]):
                found.add(edit.at)
        if len(found) > 1:
            return ""
        # Another line might have been found still.
        if time.process_time() > end:
            return ""
    return _quoted(function, *found.pop()) if found else ""


def _right_so_far(exercise, function, cases):
    """Lines that assign what is a step of the right answer too, or the length of something.

    Which of two lengths is meant shows where it is used.
    """
    right = []
    with contextlib.suppress(OSError, TypeError, ValueError, SyntaxError):
        whole = Part(function)
        for case in cases:
            steps = [step for f in solutions(exercise) for step in notes(Part(f), case).values()]
            noted = notes(whole, case)
            here = {
                (part.tree.name, statement.lineno)
                for part in whole.all()
                for statement in ast.walk(part.tree)
                if isinstance(statement, ast.Assign)
                if _is_count(noted.get(id(statement.value)))
                or any(_same(noted.get(id(statement.value)), step) for step in steps)
            }
            right.append(here)
    return set.intersection(*right) if right else set()


def _is_count(value):
    if isinstance(value, tuple):
        return all(map(_is_count, value))
    return isinstance(value, int)


def _same(value, step):
    if isinstance(value, tuple) and isinstance(step, tuple):
        return len(value) == len(step) and all(map(_same, value, step))
    alike = isinstance(value, torch.Tensor) and isinstance(step, torch.Tensor)
    return alike and value.shape == step.shape and torch.allclose(value, step.to(value.dtype))


def _may_be_repeated(function):
    """Whether a function computes and does nothing else, so that it may run hundreds of times.

    It uses modules that compute, other functions of its kind, and plain values.
    """
    try:
        parts = list(Part(function).all())
    except (OSError, TypeError, ValueError, SyntaxError):
        return False
    for part in parts:
        for node in part.nodes.values():
            if isinstance(node, ast.Attribute) and node.attr in _WRITES:
                return False
            if isinstance(node, ast.Name) and node.id in part.scope and node.id not in part.parts:
                if not _computes(part.scope[node.id]):
                    return False
            elif isinstance(node, ast.Name) and node.id in _DOES:
                return False
    return True


def _computes(value):
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0] in _COMPUTES
    of = getattr(value, "__module__", None) or ""
    return isinstance(value, _PLAIN) or of.partition(".")[0] in _COMPUTES


def _failed_first(sheet, observed):
    """Cases of the dtype in which it failed first, that one in front."""
    failed = [c.case for c in sheet.compared(observed) if not same_values(c.seen, c.right, c.rtol)]
    if not failed:
        return ()
    first = failed[0]
    others = [case for case, _ in observed if case is not first]
    return first, *(case for case in others if case.facts["dtype"] == first.facts["dtype"])


def _makes_right(sheet, edit, cases):
    """Whether an edit gives what is right on all cases but those where it overflows."""
    right = 1
    for case in cases:
        (value,) = values_of([edit.function], case, SECONDS)
        if _is_right(sheet, case, value):
            right += 1
        elif all(t.isfinite().all() for t in tensors(value.value)):
            return False
    return right >= EVIDENCE


def _is_right(sheet, case, value):
    rtol = sheet.exercise.rtol[case.facts["dtype"]]
    return same_values(value, sheet.right(case), rtol)


def _quoted(function, name, number):
    """Number and text of a line; a function that it calls is named."""
    source = inspect.unwrap(function)
    if name != source.__name__:
        source = source.__globals__[name]
    lines, _ = inspect.getsourcelines(source)
    where = f"line {number}" if source is inspect.unwrap(function) else f"line {number} of `{name}`"
    return f"{where}: {lines[number - 1].strip()}"
