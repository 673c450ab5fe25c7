"""Mistakes made of the right answer's own code by one edit: a sign, a factor, an axis, a name.

A reference is an expression or a few. Most wrong answers are that expression with one thing in it
changed, so each change that a person might make is made, run, and kept to be compared with what a
student's function gave. What is said of an edit speaks of the card's names and axes and of named
terms, found in numbers (see `words`), and quotes no line of the reference.
"""

import ast
import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from nbjudge.asking.exercise import Exercise
from nbjudge.inside.case import Case
from nbjudge.judging.code import Part, expression, is_a_length, places, then
from nbjudge.judging.edits_of_code import additions_of, edits_of, lacks_of, variables_of
from nbjudge.judging.words import Words

# Of some functions the source is not at hand, or no `def`, or not to be edited.
_UNREADABLE = OSError, TypeError, ValueError, SyntaxError


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit of a function.

    Args:
        said: how its result comes out, in words.
        function: the edited one.
        at: name of the function that was edited, itself or one that it calls, and number of the
            line in it.

    """

    said: str
    function: Callable
    at: tuple[str, int]


def edits(exercise: Exercise, cases: tuple[Case, ...]) -> Iterator[Edit]:
    """Every edit of an exercise's right answer, and of what that calls.

    Args:
        exercise: whose page names arguments, axes and terms.
        cases: of one dtype, on which steps are known again.

    """
    ways = edits_of, variables_of, additions_of
    yield from _made(exercise, solutions(exercise), cases, *ways)


def solutions(exercise: Exercise) -> tuple[Callable, ...]:
    """The right answers that are edited."""
    return exercise.formulas or (exercise.reference,)


def repairs(exercise: Exercise, function: Callable, cases: tuple[Case, ...]) -> Iterator[Edit]:
    """Every edit of a wrong answer, and what it may lack at the end of a line."""
    yield from _made(exercise, (function,), cases, lacks_of, edits_of)


def detached(exercise: Exercise, cases: tuple[Case, ...]) -> Iterator[Edit]:
    """The right answer with no gradient through one of the steps that have a name."""
    yield from _made(exercise, solutions(exercise), cases, _detachments_of)


def _made(exercise, functions, cases, *ways):
    """All edits of one way before those of the next."""
    read = []
    for function in functions:
        with contextlib.suppress(*_UNREADABLE):
            part = Part(function)
            read.append((part, Words(exercise, part, cases)))
    for of_node, (part, words) in itertools.product(ways, read):
        with contextlib.suppress(*_UNREADABLE):
            yield from _of_part(part, words, of_node)


def _of_part(part, words, of_node):
    # Another number says the least of what a person did.
    for place in sorted(places(part.tree), key=lambda p: isinstance(p.node, ast.Constant)):
        if is_a_length(place.parent):
            # What it is taken for is said of the length.
            continue
        at = part.tree.name, place.node.lineno
        for node, said in of_node(place.node, words):
            if function := _compiled(part, place, node):
                yield Edit(said, function, at)
    for name, below in part.parts.items():
        for edit in _of_part(below, words, of_node):
            yield replace(edit, function=part.compiled(**{name: edit.function}))


def _compiled(part, place, node):
    """The function with another node in that place; None if it is no program."""
    ast.fix_missing_locations(ast.copy_location(node, place.node))
    try:
        with place.holding(node):
            return part.compiled()
    except (SyntaxError, TypeError, ValueError):
        return None


def _detachments_of(node, words):
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
        names = [name for name in node.targets[0].elts if isinstance(name, ast.Name)]
        cut = [expression(f"{name.id}.detach()") for name in names]
        both = ast.Assign([node.targets[0]], ast.Tuple(cut, ast.Load()))
        yield then(node, both), f"when {words.of(node.value) or 'a result'} is detached"
    is_step = isinstance(node, (ast.Call, ast.Name, ast.BinOp, ast.Attribute))
    if is_step and isinstance(getattr(node, "ctx", ast.Load()), ast.Load) and words.of(node):
        yield expression("v.detach()", v=node), f"when {words.of(node)} is detached"
