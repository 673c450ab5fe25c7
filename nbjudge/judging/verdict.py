"""What is said of one function: data that the student, the report and the gradebook read."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The verdict as data, beside what the student reads: the grader's report counts these.
VERDICT_MIME = "application/vnd.nbjudge.verdict+json"

# What a right function does, in the order in which a student reads it.
VALUES = "right values"
EXTREMES = "extreme cases"
GRADIENTS = "gradients"
ANYWHERE = "any dtype and device"
MANNERS = "arguments, calls and memory"
# Duty → whether it is met.
Duties = tuple[tuple[str, bool], ...]
# As exact as the coarser dtype allows that may be a part of the way.
_RTOL = 1e-5
# None stands for what is not finite, or is not there.
Signature = tuple[float | None, ...]


@dataclass(frozen=True)
class Verdict:
    """What is said of one function: the student reads it, the report counts it.

    Args:
        exercise: name of the exercise.
        passed: whether the points are due.
        kind: one word for what went wrong, `"passed"` if nothing did.
        sentence: what happened and what to do about it.
        misconception: name of the known wrong answer that agrees with this one.
        case: the case that shows it, in words.
        got: what the function gave there.
        expected: what the right answer is there.
        printed: what the function printed there.
        line: the one to be looked at, its number and text, where one edit of it makes the function
            right; known in the student's own notebook only.
        duties: whether each duty is met; none where nothing could be judged. See `duties`.
        numbers: the signature of a wrong answer that no mistake explains, in a graded class; see
            `signature`.
        copied: the function is the reference word for word; passes, and the instructor is told.

    """

    exercise: str
    passed: bool
    kind: str = "passed"
    sentence: str = ""
    misconception: str | None = None
    case: str = ""
    got: str = ""
    expected: str = ""
    printed: str = ""
    line: str = ""
    duties: Duties = ()
    numbers: Signature = ()
    copied: bool = False


def missing(duties: Iterable[tuple[str, bool]]) -> tuple[list[str], list[str]]:
    """The duties that are not met; and those that can only be judged once the values are right."""
    found = [duty for duty, met in duties if not met]
    if VALUES not in found:
        return found, []
    later = [duty for duty in found if duty in (EXTREMES, GRADIENTS, ANYWHERE)]
    return [duty for duty in found if duty not in later], later


def same(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    """Whether two signatures are of the same mistake."""
    return len(one) == len(other) and all(
        a is b if a is None or b is None else math.isclose(a, b, rel_tol=_RTOL, abs_tol=_RTOL)
        for a, b in zip(one, other, strict=True)
    )
