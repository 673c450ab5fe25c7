"""An exercise is data: what is asked, on which cases, and which wrong answers are known.

Nothing here knows the subject of the course.
"""

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from nbjudge.asking.draw import Draw
from nbjudge.inside.case import Case


@dataclass(frozen=True)
class Property:
    """A statement that every right answer satisfies.

    `holds(case, value)` is True where the statement holds or says nothing of this case. `sentence`
    is said to the student when it does not hold.
    """

    name: str
    sentence: str
    holds: Callable[[Case, Any], bool]


@dataclass(frozen=True, eq=False)
class Misconception:
    """A wrong implementation on record, and what to say to a student who has it.

    The sentence may hold `{got}` and `{expected}`: the numbers of the first place where the two
    differ. The implementation stands alone (it uses `torch`, `F`, `math`, `itertools` and its own
    arguments only), so that its source can be put into a notebook.
    """

    name: str
    sentence: str
    implementation: Callable


class Misconceptions(list):
    """The wrong answers on record for one exercise, each written as a function.

    Used as a decorator with the misconception's name; the function's docstring is the sentence:

        wrong = Misconceptions()

        @wrong("sum for mean")
        def _(x):
            \"\"\"You add the entries: {got}; their mean is {expected}.\"\"\"
            return x.sum()
    """

    def __call__(self, name: str) -> Callable:
        """Record the decorated function under this name."""

        def record(function):
            sentence = " ".join(inspect.getdoc(function).split())
            self.append(Misconception(name, sentence, function))
            return function

        return record


@dataclass(frozen=True)
class Exercise:
    """What is asked of one function.

    Args:
        name: of the function, as the student writes it.
        question: what is asked, in one sentence.
        reference: the right answer.
        formulas: the same as it stands on paper, in one way or several, where the reference is
            written for speed or for extremes; need not be right at those.
        cases: makes the cases from a `Draw`, the simplest first.
        misconceptions: wrong answers on record; every one must fail and be named.
        properties: statements checked beside the comparison with the reference.
        hints: three, each saying more than the one before.
        points: for a pass.
        minutes: that a student needs.
        difficulty: 1 (a line) to 3 (a derivation).
        axes: of each argument by name, and of the result as "return": letters, as in `K B`.
        compare: whether results must equal the reference's. If not, the properties decide, and
            gradients must exist and be finite.
        rtol: relative tolerance for each dtype. float64 stops at 1e-8 because torch's softplus is
            linear above 20, which is 2e-9 off.
        terms: what the right answer is a sum of, in one way or several, the coarsest first: name →
            its numbers on a case.
        picture: draws the verdict from `(case, value, expected value)` triples onto a matplotlib
            axis and returns a sentence that describes it.
        may_use: modules of the reference's own package whose code may run inside the student's
            function; all the others hold answers.
        time_limit: seconds of processor time for all cases of one check.
        for_values: the share of the points for right values on ordinary cases, where a part of the
            points is given; the other duties have equal parts of the rest. None: all or nothing.
        page: the file that it is written in, if that is one of its own.

    """

    name: str
    question: str
    reference: Callable
    cases: Callable[[Draw], Iterable[Case]]
    misconceptions: tuple[Misconception, ...]
    hints: tuple[str, str, str]
    points: int
    minutes: int
    difficulty: int
    formulas: tuple[Callable, ...] = ()
    axes: dict[str, str] = field(default_factory=dict)
    properties: tuple[Property, ...] = ()
    compare: bool = True
    rtol: dict[torch.dtype, float] = field(
        default_factory=lambda: {torch.float64: 1e-8, torch.float32: 1e-4}
    )
    terms: tuple[dict[str, Callable[[Case], torch.Tensor]], ...] = ()
    picture: Callable | None = None
    may_use: tuple[str, ...] = ()
    time_limit: float = 10.0
    for_values: float | None = 0.5
    page: str = ""


def exercises(package: str, *names: str) -> tuple[Exercise, ...]:
    """The exercises of a topic, in order; each is the `page` of a module of that package."""
    modules = [importlib.import_module(f"{package}.{name}") for name in names]
    return tuple(module.page.exercise for module in modules)
