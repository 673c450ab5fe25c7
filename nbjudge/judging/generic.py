"""Mistakes that nobody has to record: what is made from the right answer by one small change.

Either of its result (the other sign, a factor, an axis summed) or of one of its arguments (two
exchanged, one left out). A page says the names of the arguments and of the axes; the rest follows.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from nbjudge.asking.exercise import Exercise
from nbjudge.inside.case import Case
from nbjudge.inside.observe import Observation, observe
from nbjudge.inside.tensors import tensors
from nbjudge.judging.axes import axes_of_result, lengths

# Processor seconds of one call of a reference; one that takes more is not called again for this.
_QUICK = 0.2
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_NUMBERS = ": {got} for {expected}."


@dataclass(frozen=True, eq=False)
class Generic:
    """One small change.

    Args:
        name: as the report counts it.
        sentence: what the student reads; `{got}` and `{expected}` become numbers.
        predict: a case and what some answer gives there → what it gives with the change; None
            where the change means nothing.
        whole: whether it is of all of the result, not of one of its parts.

    """

    name: str
    sentence: str
    predict: Callable[[Case, Observation], Observation | None]
    whole: bool = True


def changes_of_result(exercise: Exercise, case: Case, right: Observation) -> Iterator[Generic]:
    """What may have been done to a result, all of it or one of its parts.

    Args:
        exercise: whose page names the axes.
        case: one of its cases.
        right: what is right there.

    """
    sizes = lengths(exercise, case)
    changes = [*_TO_NUMBERS, *_of_lengths(exercise, sizes), *_along_axes(exercise, right)]
    for part, subject in _parts(right.value):
        for name, said, change in changes:
            predict = functools.partial(_predict, change, part)
            sentence = f"{subject[:1].upper()}{subject[1:]} {said}{_NUMBERS}"
            whole = part is None
            yield Generic(name if whole else f"{name}, {subject}", sentence, predict, whole)


def changes_of_arguments(exercise: Exercise, case: Case, right: Observation) -> Iterator[Generic]:
    """For which other arguments the result may be the right one; takes what the other takes."""
    if right.seconds > _QUICK:
        return
    letters = {name: axes for name, axes in exercise.axes.items() if name != "return"}
    numeric = [
        (i, name)
        for i, (name, arg) in enumerate(zip(letters, case.args, strict=False))
        if isinstance(arg, torch.Tensor) and arg.is_floating_point() and arg.numel()
    ]
    for i, name in numeric:
        for j, other in numeric:
            if i < j and letters[name] == letters[other]:
                said = f"with `{name}` and `{other}` exchanged"
                change = functools.partial(_exchanged, i, j)
                yield _called(exercise, f"{name} and {other} exchanged", said, change)
    for i, name in numeric:
        for what, said, change in _changes_of_argument(name, letters[name]):
            change = functools.partial(_with_argument, i, change)
            yield _called(exercise, f"{name} {what}", said, change)


# Of the result: a name, what is said of the result, and the change of a tensor, given the case.

_TO_NUMBERS = [
    ("the other sign", "is right but for its sign", lambda v, case: -v),
    *(
        (f"times {text}", f"is {text} times the right one", lambda v, case, c=factor: c * v)
        for text, factor in (("2", 2.0), ("½", 0.5), ("−2", -2.0), ("−½", -0.5))
    ),
    ("divided by log 2", "is the right one divided by log 2", lambda v, case: v / math.log(2)),
    ("times log 2", "is log 2 times the right one", lambda v, case: v * math.log(2)),
    ("exponential", "is the exponential of the right one", lambda v, case: v.exp()),
    ("logarithm", "is the logarithm of the right one", lambda v, case: v.log()),
    ("square", "is the square of the right one", lambda v, case: v.square()),
    ("square root", "is the square root of the right one", lambda v, case: v.sqrt()),
    ("inverse", "is one divided by the right one", lambda v, case: 1 / v),
    (
        "no negative values",
        "has 0 where the right one is negative",
        lambda v, case: v.clamp(min=0),
    ),
    ("one less it", "is 1 minus the right one", lambda v, case: 1 - v),
    ("absolute value", "is the right one without its sign", lambda v, case: v.abs()),
    (
        "transposed",
        "is the right one with its last two axes exchanged",
        lambda v, case: v.mT if v.ndim >= 2 else None,
    ),
]
_BY_A_LENGTH = [
    ("times {}", "is {} times the right one", lambda v, n: v * n),
    ("divided by {}", "is the right one divided by {}", lambda v, n: v / n),
    ("plus log {}", "is the right one plus log {}", lambda v, n: v + math.log(n)),
    ("minus log {}", "is the right one minus log {}", lambda v, n: v - math.log(n)),
    *(
        (f"{text} ½ {{}} log 2π", f"is the right one {text} ½ {{}} log 2π", change)
        for text, change in (
            ("plus", lambda v, n: v + n * math.log(2 * math.pi) / 2),
            ("minus", lambda v, n: v - n * math.log(2 * math.pi) / 2),
        )
    ),
]
_REDUCED = {"summed": torch.sum, "averaged": torch.mean, "maximized": torch.amax}


def _of_lengths(exercise, sizes):
    """A factor or a summand that is as large as an axis is long."""
    for letter, here in sizes.items():
        for name, said, change in _BY_A_LENGTH:

            def by_length(value, case, letter=letter, change=change):
                length = lengths(exercise, case).get(letter)
                return None if length is None else change(value, length)

            said = f"{said.format(letter)}, with {letter} = {here} here"
            yield name.format(letter), said, by_length


def _along_axes(exercise, right):
    """What may have happened along an axis of the result."""
    axes = max((t.ndim for t in tensors(right.value)), default=0)
    letters = axes_of_result(exercise, 0)
    for axis in range(min(axes, len(_ORDINALS))):
        named = letters and axis < len(letters) and isinstance(right.value, torch.Tensor)
        where = f"the axis {letters[axis]}" if named else f"the {_ORDINALS[axis]} axis"

        def on_axis(change, axis=axis):
            return lambda value, case: change(value) if value.ndim > axis else None

        for verb, reduce in _REDUCED.items():
            for keep in (False, True):
                change = on_axis(functools.partial(reduce, dim=axis, keepdim=keep))
                yield f"{verb} over {where}", f"is the right one {verb} over {where}", change

            def for_all(value, axis=axis, reduce=reduce):
                return reduce(value, dim=axis, keepdim=True).expand_as(value)

            said = f"has the right ones {verb} over {where} everywhere along it"
            yield f"{verb} over {where} for all", said, on_axis(for_all)
        yield (
            f"reversed along {where}",
            f"is the right one in reverse order along {where}",
            on_axis(functools.partial(torch.flip, dims=(axis,))),
        )
        for steps, place in ((1, "one place too late"), (-1, "one place too early")):
            yield (
                f"{place} along {where}",
                f"is the right one {place} along {where}",
                on_axis(functools.partial(torch.roll, shifts=steps, dims=axis)),
            )
        yield (
            f"the first along {where} for all",
            f"has the first entry of the right one everywhere along {where}",
            on_axis(lambda value, axis=axis: value.narrow(axis, 0, 1).expand_as(value)),
        )
        yield (
            f"cumulated along {where}",
            f"is the right one summed up step by step along {where}",
            on_axis(functools.partial(torch.cumsum, dim=axis)),
        )


def _parts(value):
    """What a change may be of, and what it is called: the whole, then each part of several."""
    yield None, "your result"
    if isinstance(value, dict):
        yield from ((key, f"`{key}` of your result") for key in value)
    if isinstance(value, (list, tuple)) and len(value) <= len(_ORDINALS):
        yield from ((i, f"the {_ORDINALS[i]} of your results") for i in range(len(value)))


def _predict(change, part, case, seen):
    changed = _NOTHING
    if part is None:
        changed = _each(seen.value, change, case)
    elif isinstance(seen.value, dict) and part in seen.value:
        changed = {**seen.value, part: _each(seen.value[part], change, case)}
    elif isinstance(seen.value, (list, tuple)) and part < len(seen.value):
        changed = [*seen.value]
        changed[part] = _each(seen.value[part], change, case)
    return None if _lacks(changed) else replace(seen, value=changed)


_NOTHING: Any = object()


def _lacks(value):
    if isinstance(value, dict):
        return any(item is _NOTHING for item in value.values())
    if isinstance(value, list):
        return any(item is _NOTHING for item in value)
    return value is _NOTHING


def _each(value, change, case):
    """A value with its tensors changed; `_NOTHING` where one of them cannot be."""
    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
        changed = change(value, case)
        return _NOTHING if changed is None else changed
    if isinstance(value, (list, tuple)) and value:
        items = [_each(item, change, case) for item in value]
        return _NOTHING if _lacks(items) else items
    if isinstance(value, dict) and value:
        items = {key: _each(item, change, case) for key, item in value.items()}
        return _NOTHING if _lacks(items) else items
    return _NOTHING


# Of the arguments


def _changes_of_argument(name, letters):
    """What a student may have taken an argument for: in a word, in words, and as a change."""
    yield "with the other sign", f"for −`{name}`", torch.neg
    yield "left out", f"if `{name}` were 0", torch.zeros_like
    yield "taken as 1", f"if `{name}` were 1", torch.ones_like
    if name.startswith("log_var"):
        yield "read as log σ", f"if `{name}`, which is log σ², were log σ", lambda arg: 2 * arg
    else:
        yield "doubled", f"for 2 `{name}`", lambda arg: 2 * arg
    yield "halved", f"for ½ `{name}`", lambda arg: arg / 2
    for axis, letter in enumerate(letters.split()):
        if letter.isalpha():
            yield (
                f"reversed along {letter}",
                f"for `{name}` in reverse order along {letter}",
                functools.partial(torch.flip, dims=(axis,)),
            )
            yield (
                f"averaged over {letter} first",
                f"if `{name}` were averaged over {letter} first",
                lambda arg, axis=axis: arg.mean(axis, keepdim=True).expand_as(arg),
            )
            yield (
                f"the first of {letter} for all",
                f"if `{name}` were the same for all of {letter} as for the first",
                lambda arg, axis=axis: arg.narrow(axis, 0, 1).expand_as(arg),
            )


def _called(exercise, name, said, change):
    """The right function, called with other arguments; a formula refuses none of them."""
    function = (*exercise.formulas, exercise.reference)[0]

    def predict(case, right):
        args = change(case.args)
        return args and observe(function, replace(case, args=args, wrt=()))

    return Generic(name, f"Your result is what is right {said}{_NUMBERS}", predict)


def _exchanged(i, j, args):
    if args[i].shape != args[j].shape:
        return None
    args = list(args)
    args[i], args[j] = args[j], args[i]
    return tuple(args)


def _with_argument(i, change, args):
    return (*args[:i], change(args[i]).contiguous(), *args[i + 1 :])
