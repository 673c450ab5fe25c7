"""What can be wrong with what was observed on one case, in words on which a student can act."""

import functools
import inspect
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from nbjudge.asking.exercise import Exercise
from nbjudge.inside.case import Case
from nbjudge.inside.observe import Observation
from nbjudge.inside.tensors import tensors
from nbjudge.judging.axes import explain_shape
from nbjudge.judging.compare import LONGEST_TEXT, Compared, as_texts, close_gradients, worst

# What is wrong with where and how a result is kept, and not with its numbers.
OF_THE_PLACE = ("dtype", "device")
_ONE_DIGIT = 0.1
_MOST_NAMES = 8


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        kind: in one word.
        sentence: what is said of it.
        got: what the function gave, and
        expected: what is right there: the numbers that show it best.
        at: the case on which it was found, if it was on one.
        described: that case in words.

    """

    kind: str
    sentence: str
    got: str = ""
    expected: str = ""
    at: Compared | None = None
    described: str = ""


def gave_nothing(exercise: Exercise, c: Compared) -> Finding | None:
    """Why there is no result that could be looked at."""
    return _call_failed(exercise, c) or _wrong_type(exercise, c)


def bad_manners(exercise: Exercise, c: Compared) -> Iterator[Finding]:
    """What was done to the arguments, and what the way took."""
    for manner in (_changed_argument, _wrong_passes, _too_large):
        if finding := manner(exercise, c):
            yield finding


def wrong_result(exercise: Exercise, c: Compared) -> Iterator[Finding]:
    """What is wrong with the value, which is of the right type."""
    if not exercise.compare:
        result = _broken_property(exercise, c)
    else:
        result = _wrong_form(exercise, c) or _wrong_numbers(exercise, c)
    if result:
        yield result
        if result.kind in OF_THE_PLACE and not c.roughly_right():
            yield Finding("value", "The numbers are wrong besides.")


def _call_failed(exercise, c):
    seen = c.seen
    if seen.timed_out and seen.hung:
        return Finding(
            "timeout",
            f"{exercise.name} waited and did not go on: it sleeps, or waits for a lock, another "
            "process or an input.",
        )
    if seen.timed_out:
        return Finding(
            "timeout",
            f"{exercise.name} did not finish within {exercise.time_limit:g} seconds of processor "
            "time. Look for a loop that never ends, or for one over single numbers in "
            "the place of a product or sum of whole tensors.",
        )
    if seen.raised is None or (seen.changed and "inplace operation" in seen.raised.message):
        # Autograd noticed that an argument was overwritten; that is said in plainer words.
        return None
    # Of torch's many lines the first says what it is.
    message = seen.raised.message.strip().partition("\n")[0]
    kind, line = seen.raised.kind, seen.raised.line
    if kind == "NotImplementedError" and not message:
        return Finding(
            "unimplemented",
            f"{exercise.name} is not written yet: replace `raise NotImplementedError()` "
            "with your code.",
        )
    if kind == "KeyboardInterrupt":
        return Finding("raised", f"{exercise.name} was interrupted before it gave a result.")
    where = f" at `{line}`" if line else ""
    what = f"{kind}: {message}" if message else kind
    return Finding("raised", f"{exercise.name} raised {what}{where}.")


def _wrong_type(exercise, c):
    seen, wanted = c.seen, _type_name(c.right.value)
    if seen.foreign:
        advice = ""
        if seen.foreign.startswith("numpy."):
            advice = " Stay in torch: no gradient flows through numpy."
        if seen.foreign.startswith("torch.return_types."):
            advice = " Reductions such as max and min along an axis return a pair: take `.values`."
        return Finding(
            "type",
            f"{exercise.name} returned a {seen.foreign}; it should return {wanted}.{advice}",
            got=f"a {seen.foreign}",
            expected=wanted,
        )
    if seen.value is None and c.right.value is not None:
        return Finding("type", f"{exercise.name} returned None. Is the return statement missing?")
    if not c.same_structure:
        got = _type_name(seen.value)
        sentence = f"{exercise.name} returned {got}; it should return {wanted}."
        return Finding("type", sentence, got, wanted)
    return None


def _changed_argument(exercise, c):
    if not c.seen.changed:
        return None
    names = " and ".join(f"`{_argument_names(exercise)[i]}`" for i in c.seen.changed)
    return Finding(
        "mutation",
        f"{exercise.name} changed its argument {names} in place, which spoils it for whoever uses "
        "it next. Make a new tensor instead of writing into the old one (no `+=`, `x[...] =`, "
        "or methods that end in an underscore).",
    )


def _wrong_passes(exercise, c):
    for position, count in c.seen.passes:
        least, most = c.case.passes.get(position, (0, math.inf))
        if not least <= count <= most:
            name = _argument_names(exercise)[position]
            wanted = f"exactly {most}" if least == most else f"at most {most}"
            return Finding(
                "calls",
                f"{exercise.name} called `{name}` {count} times here; it takes {wanted}.",
                got=f"{count} calls",
                expected=f"{wanted} calls",
            )
    return None


def _too_large(exercise, c):
    most, largest = c.case.max_numel, c.seen.largest
    if most is None or largest <= most:
        return None
    return Finding(
        "memory",
        f"{exercise.name} made a tensor of {largest:,} numbers on the way; "
        f"{most:,} are enough. Avoid an axis for every pair and every dimension at once.",
        got=f"{largest:,} numbers",
        expected=f"at most {most:,} numbers",
    )


def _wrong_form(exercise, c):
    for part, (got, want) in enumerate(c.tensors):
        if got.shape != want.shape:
            more = explain_shape(exercise, c.case, part, got.shape, want.shape)
            return Finding(
                "shape",
                f"The result has shape {tuple(got.shape)}; it should have {tuple(want.shape)}. "
                f"{more}".strip(),
                got=f"shape {tuple(got.shape)}",
                expected=f"shape {tuple(want.shape)}",
            )
        if got.device != want.device:
            return Finding(
                "device",
                f"The result is on {got.device}, the arguments are on {want.device}. Create new "
                "tensors with `device=` of an argument.",
                got=str(got.device),
                expected=str(want.device),
            )
        if got.dtype != want.dtype:
            return Finding(
                "dtype",
                f"The result is {_dtype(got)} where it should be {_dtype(want)}. Keep the dtype of "
                "the arguments: create new tensors with `dtype=` of an argument.",
                got=_dtype(got),
                expected=_dtype(want),
            )
    return None


def _wrong_numbers(exercise, c):
    if c.identical:
        # Where the right answer breaks a property, so does this one.
        return _broken_property(exercise, c)
    return (
        _own_noise(exercise, c)
        or _not_finite(c)
        or _low_precision(c)
        or _broken_property(exercise, c)
        or _wrong_value(c)
    )


def _broken_property(exercise, c):
    for statement in exercise.properties:
        if not statement.holds(c.case, c.seen.value):
            # Where many answers are right, the reference's own numbers would mislead.
            numbers = c.shown() if exercise.compare else ("", "")
            return Finding("property", statement.sentence, *numbers)
    return None


def _own_noise(exercise, c):
    if not c.seen.drew or c.right.drew or c.tensors_agree():
        return None
    return Finding(
        "noise",
        f"{exercise.name} draws random numbers of its own (`randn_like`, `rsample`, dropout), so "
        "it gives another result at every call. All the noise that it needs is in its arguments.",
        *c.shown(),
    )


def _not_finite(c):
    for got, want in c.tensors:
        if want.isfinite().all() and not got.isfinite().all():
            at = worst(got, want)
            got, want = as_texts(got[at], want[at])
            return Finding(
                "not finite",
                f"The result is not finite ({got}) although the truth is ({want}). Look for a "
                "step that over- or underflows: exp of a large number, log of zero or of a "
                "negative number, 0 divided by 0.",
                got,
                want,
            )
    return None


def _low_precision(c):
    if c.case.facts["dtype"] != torch.float64 or c.tensors_agree() or not c.tensors_agree(1e-5):
        return None
    got, want = c.shown()
    return Finding(
        "precision",
        f"Right to about five digits only ({got} for {want}): somewhere the computation goes "
        "through float32, or through a small constant added for safety.",
        got,
        want,
    )


def _wrong_value(c):
    if c.same_plain_values and c.tensors_agree():
        return None
    got, want = c.shown()
    return Finding("value", f"The result is {got} where it should be {want}.", got, want)


def wrong_gradient(exercise: Exercise, c: Compared) -> Finding | None:
    """What is wrong with the gradients, where the value is right."""
    names = _argument_names(exercise)
    for position, got, want in c.gradients():
        name = names[position]
        if got is None:
            return Finding(
                "no gradient",
                f"The values are right, but no gradient reaches `{name}`. Something cuts it off: "
                "detach, item, numpy, no_grad, torch.tensor of a tensor, or a comparison.",
                got="no gradient",
                expected=f"a gradient in {name}",
            )
        if (got.shape, got.dtype) != (want.shape, want.dtype):
            # Autograd never gives this; who writes a record by hand could, and nothing is in an
            # empty tensor that could differ.
            return Finding("gradient", f"The gradient with respect to `{name}` has a wrong form.")
        # In 32 bits an extreme case may cancel all digits but one.
        coarse = c.case.extreme and want.dtype != torch.float64
        rtol = _ONE_DIGIT if coarse else c.rtol
        right = close_gradients(got, want, rtol) if exercise.compare else bool(got.isfinite().all())
        if not right:
            at = worst(got, want)
            reason = (
                "Part of the computation may be detached, or a value was replaced by a constant."
                if got.isfinite().all()
                else "A step has no finite derivative there: the root or the log of 0, or a number "
                "too large. `torch.where` differentiates the branch that it does not take, too."
            )
            got, want = as_texts(got[at], want[at])
            return Finding(
                "gradient",
                f"The values are right, but the gradient with respect to `{name}` is {got} where "
                f"it should be {want}. {reason}",
                got=f"{got} (gradient)",
                expected=f"{want} (gradient)",
            )
    return None


def wrong_device(probe: Observation) -> Finding | None:
    """What the device probe says; nothing when the function looks at numbers, as it may."""
    raised = probe.raised
    if raised and ("device" in raised.message and "cpu" in raised.message):
        line = f" at `{raised.line}`" if raised.line else ""
    elif any(not t.is_meta for t in tensors(probe.value)):
        line = ""
    else:
        return None
    return Finding(
        "device",
        "The function works on the CPU only: it creates a tensor there, or hands one to NumPy or a "
        f"plot{line}, whatever the device of its arguments. Create new tensors with `device=` of "
        "an argument, and call `.cpu()` before NumPy.",
    )


# Words


def _argument_names(exercise):
    """Names of the reference's parameters, in order."""
    return _parameters(exercise.reference)


@functools.cache
def _parameters(function):
    return list(inspect.signature(function).parameters)


def in_words(exercise: Exercise, case: Case) -> str:
    """A case by its name, and the arguments with their shapes or values."""
    parts = []
    for name, arg in zip(_argument_names(exercise), case.args, strict=False):
        if isinstance(arg, torch.Tensor):
            parts.append(f"{name} {tuple(arg.shape)}")
        elif isinstance(arg, (bool, int, float, str)):
            parts.append(f"{name} = {arg}")
        elif isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], torch.Tensor):
            parts.append(f"{name} {len(arg)} tensors {tuple(arg[0].shape)}")
        elif isinstance(arg, (list, tuple)):
            parts.append(f"{name} = {list(arg)}")
        else:
            parts.append(name)
    return f"{case.name}: {', '.join(parts)}, {str(case.facts['dtype']).removeprefix('torch.')}"


def _dtype(tensor):
    return str(tensor.dtype).removeprefix("torch.")


def _type_name(value):
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"a dict with the keys {_listed(map(str, value))}"
    if isinstance(value, (tuple, list)):
        return f"{len(value)} values ({_listed(map(_type_name, value))})"
    return f"a plain {type(value).__name__}"


def _listed(names):
    """The first of what may be many."""
    first = list(itertools.islice(names, _MOST_NAMES + 1))
    more = ["…"] if len(first) > _MOST_NAMES else []
    return ", ".join([name[:LONGEST_TEXT] for name in first[:_MOST_NAMES]] + more)
