"""The axes that a page names: how long they are in a case, and what a wrong shape says of them."""

import torch

from nbjudge.asking.exercise import Exercise
from nbjudge.inside.case import Case


def lengths(exercise: Exercise, case: Case) -> dict[str, int]:
    """Length of each axis that an argument has: letter → number, in the order of the arguments."""
    found = {}
    for letters, arg in zip(exercise.axes.values(), case.args, strict=False):
        if isinstance(arg, torch.Tensor):
            named = _named(letters)
            if len(named) == arg.ndim:
                for letter, length in zip(named, arg.shape, strict=True):
                    if letter.isalpha():
                        found.setdefault(letter, length)
    return found


def axes_of_result(exercise: Exercise, part: int) -> list[str] | None:
    """Letters of a part of the result, in order; None where the page does not name them all."""
    parts = exercise.axes.get("return", "_").split(",")
    named = _named(parts[part]) if part < len(parts) else ["_"]
    return named if all(letter.isalpha() for letter in named) else None


def explain_shape(
    exercise: Exercise, case: Case, part: int, got: torch.Size, want: torch.Size
) -> str:
    """What a wrong shape says of the axes; empty where nothing can be said for certain.

    Args:
        exercise: whose page names the axes.
        case: on which the shape came out.
        part: number of the tensor in the result.
        got: the shape that came.
        want: the shape that is due.

    """
    due = axes_of_result(exercise, part)
    if due is None or len(due) != len(want):
        return ""
    if [n for n in got if n != 1] == [n for n in want if n != 1] and len(got) > len(want):
        return "An axis of length 1 is left: leave out `keepdim=True`, or index it away."
    found = _letters(got, lengths(exercise, case))
    if found is None:
        return ""
    missing = [letter for letter in due if letter not in found]
    extra = [letter for letter in found if letter not in due]
    sizes = dict(zip((*found, *due), (*got, *want), strict=True))
    if missing and extra:
        return (
            f"{sizes[extra[0]]} is the length of {extra[0]}: it has a number for each of "
            f"{extra[0]}, where one for each of {_with_length(missing, sizes)} is due. Look at "
            "the axis of your sum or mean."
        )
    if missing:
        return f"It has no axis {_with_length(missing, sizes)}, each of which has its own result."
    if extra:
        return f"The axis {_with_length(extra, sizes)} is still there, and should not be."
    return f"Its axes are ({', '.join(found)}) where ({', '.join(due)}) are due: put them in order."


def _named(letters):
    """The letters of one argument or part; `()` has none."""
    return [] if letters.strip() == "()" else letters.split()


def _letters(shape, sizes):
    """The letter of each axis of a shape, where its length belongs to one letter only."""
    found = []
    for length in shape:
        of_length = [letter for letter, size in sizes.items() if size == length]
        if len(of_length) != 1:
            return None
        found += of_length
    return found if len(set(found)) == len(found) else None


def _with_length(letters, sizes):
    return " and ".join(f"{letter} (length {sizes[letter]})" for letter in letters)
