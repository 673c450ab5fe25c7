"""Where an answer came from: the student's own code, a copy of the reference, or the reference."""

import importlib.util
import inspect
import os
from collections.abc import Iterable
from functools import cache

from nbjudge.asking.exercise import Exercise
from nbjudge.inside.code import fingerprint
from nbjudge.inside.observe import Observation

# A function with fewer lines in its body is written the same way by chance.
SHORTEST_COPY = 3
BORROWED, COPIED, OWN = "borrowed", "copied", "own"


def provenance(exercise: Exercise, observed: Iterable[Observation]) -> str:
    """Where an answer came from, whatever it gave.

    Returns:
        `BORROWED`: code of the reference's package ran, or the reference's source was executed.
        `COPIED`: the function is the reference word for word, names of variables included.
        `OWN`: neither.

    """
    observed = list(observed)
    if any(_is_borrowed(exercise, observation) for observation in observed):
        return BORROWED
    return COPIED if any(_is_copy(exercise, observation) for observation in observed) else OWN


def _is_borrowed(exercise, observation):
    package, allowed = _package(exercise.reference.__module__), set(_files(exercise.may_use))
    if inspect.unwrap(exercise.reference) is not exercise.reference:
        # What checks the arguments is wrapped around the reference, and no part of the answer.
        allowed.add(exercise.reference.__code__.co_filename)
    if any(file.startswith(package) and file not in allowed for file in observation.files):
        return True
    mark = _mark(exercise)
    return any(code.fingerprint == mark and not code.handwritten for code in observation.code)


def _is_copy(exercise, observation):
    if all(code.fingerprint != _mark(exercise) for code in observation.code):
        return False
    body = inspect.getsource(exercise.reference).rpartition('"""')[2]
    return len(body.strip().splitlines()) >= SHORTEST_COPY


def _mark(exercise):
    return _fingerprint(exercise.reference)


@cache
def _fingerprint(function):
    return fingerprint(inspect.unwrap(function).__code__)


@cache
def _package(module: str) -> str:
    """The folder of the outermost package that a module belongs to, or the module's own file."""
    spec = importlib.util.find_spec(module.partition(".")[0])
    if spec.submodule_search_locations:
        return os.path.abspath(next(iter(spec.submodule_search_locations))) + os.sep
    return os.path.abspath(spec.origin)


@cache
def _files(modules: tuple[str, ...]) -> frozenset[str]:
    return frozenset(os.path.abspath(importlib.util.find_spec(name).origin) for name in modules)
