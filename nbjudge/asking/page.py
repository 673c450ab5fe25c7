"""A page: one exercise as its author writes it, in the order in which it is read.

    page = Page(mean_of, "the mean of all entries", points=1, minutes=5, difficulty=1,
                axes="B D -> ()", wrt="x", hints=("…", "…", "…"))

    @page.cases
    def _(draw):
        yield page.case("1, 2, 3", draw.tensor([[1.0, 2.0, 3.0]]), mean=2.0)

    page.must_equal("mean", "1, 2 and 3 have mean 2. Yours is not.")

    @page.must
    def lies_between(value, x):
        \"\"\"A mean lies between the smallest entry and the largest. Yours does not.\"\"\"
        return bool(x.min() <= value <= x.max())

    @page.wrong("size forgotten")
    def _(x):
        \"\"\"You add the entries: {got}; their mean is {expected}.\"\"\"
        return x.sum()

    page.but("detached", "Your numbers are right, but no gradient reaches x.", torch.detach)

Arguments go by name. In a case, what the reference has a parameter for is an argument, and every
other name is a fact: an exact answer, or whatever a statement needs to know. Of the wrong answers
the first that agrees with a student's is named, so their order matters.

The source of a wrong answer is pasted into notebooks, which have `torch`, `F`, `math` and
`itertools` and nothing of the page. So each stands alone: of one that uses a `piece`, and of one
made by `but`, a source that does is written here, and what is judged is that source, compiled.
"""

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

from nbjudge.asking import source
from nbjudge.asking.draw import Draw
from nbjudge.asking.exercise import Exercise, Misconception, Property
from nbjudge.asking.statements import adds_to_one, is_fact
from nbjudge.inside.case import Case


class Page:
    """What is asked of one function; `exercise` is made of it.

    Args:
        reference: the right answer. Students write a function of its name and parameters.
        question: what is asked, in one sentence.
        points: for a pass.
        minutes: that a student needs.
        difficulty: 1 (a line) to 3 (a derivation).
        hints: three, each saying more than the one before.
        axes: of the arguments, in the reference's order, and of the result, as in
            `"B D, K B D, _ -> K B"`. The same letter means the same size; `...` in front stands for
            any axes, `()` for a single number, `_` for what is no tensor. Several tensors of a
            result are separated by commas too.
        wrt: names of the arguments whose gradients are compared, unless a case says otherwise.
        compare: see `Exercise`, as for the rest.
        rtol: its own, if the exercise needs one.
        may_use: modules, such as the one with the networks that cases hand over.
        time_limit: in seconds, if it is another one.
        for_values: the share of the points for right values; None for all or nothing.

    Raises:
        ValueError: here and below, for what does not fit: what came, and what is expected.

    """

    def __init__(
        self,
        reference: Callable,
        question: str,
        *,
        points: int,
        minutes: int,
        difficulty: int,
        hints: tuple[str, str, str],
        axes: str = "",
        wrt: str = "",
        compare: bool = True,
        rtol: dict[torch.dtype, float] | None = None,
        may_use: tuple[types.ModuleType, ...] = (),
        time_limit: float | None = None,
        for_values: float | None = 0.5,
    ):
        self.name = reference.__name__
        self._reference = reference
        self._signature = inspect.signature(reference)
        self._wrt = self._positions("wrt", wrt.split())
        own = {"rtol": rtol, "time_limit": time_limit}
        self._asked = {
            "name": self.name,
            "question": question,
            "reference": reference,
            "hints": hints,
            "points": points,
            "minutes": minutes,
            "difficulty": difficulty,
            "axes": self._axes(axes) if axes else {},
            "compare": compare,
            "for_values": for_values,
            "page": sys._getframe(1).f_code.co_filename,
            "may_use": tuple(module.__name__ for module in may_use),
            **{key: value for key, value in own.items() if value is not None},
        }
        self._cases = self._picture = None
        self._formulas: list[Callable] = []
        self._terms: list[dict[str, Callable[[Case], torch.Tensor]]] = []
        self._properties: dict[str, Property] = {}
        # Name of a property → the arguments and facts that it speaks of.
        self._needs: dict[str, tuple[str, ...]] = {}
        self._misconceptions: dict[str, Misconception] = {}
        self._pieces: dict[str, Callable] = {}
        # One that stands alone, if the reference's own source does not.
        self.answer: Callable | None = None

    @property
    def exercise(self) -> Exercise:
        """The exercise that the page describes, as far as it is written."""
        if self._cases is None:
            self._refuse("it has no cases: write a generator of cases under `@page.cases`")
        return Exercise(
            cases=self._cases,
            properties=tuple(self._properties.values()),
            misconceptions=tuple(self._misconceptions.values()),
            picture=self._picture,
            terms=tuple(self._terms),
            formulas=(*filter(None, [self.answer]), *self._formulas),
            **self._asked,
        )

    # Cases

    def cases(self, generator: Callable[[Draw], Iterator[Case]]) -> Callable:
        """Record the decorated generator, which takes a `Draw`, the simplest case first."""

        def checked(draw):
            known = {"dtype", *self._signature.parameters}
            for case in generator(draw):
                known.update(case.facts)
                yield case
            for statement, needs in self._needs.items():
                if unknown := [name for name in needs if name not in known]:
                    self._refuse(
                        f"{statement!r} speaks of `{unknown[0]}`, which no case has; there are "
                        f"{', '.join(sorted(known))}"
                    )

        self._cases = checked
        return generator

    def case(
        self,
        name: str,
        /,
        *args: Any,
        wrt: str | None = None,
        passes: dict[str, tuple[int, int]] | None = None,
        project: dict[str, Callable] | None = None,
        max_numel: int | None = None,
        probe: Callable | None = None,
        extreme: bool = False,
        **named: Any,
    ) -> Case:
        """One call of the function.

        Args:
            name: what is special about it, in a few words that the student reads.
            args: arguments in the order of the reference's parameters.
            wrt: names of the arguments whose gradients are compared, if others than the page says;
                the empty string for none.
            passes: name of an argument → how often it may be passed through, see `Case`.
            project: name of an argument → what of its gradient is compared, see `Case`.
            max_numel: see `Case`.
            probe: see `Case`.
            extreme: see `Case`.
            named: arguments by the names of the reference's parameters; all other names are facts.

        """
        parameters = self._signature.parameters
        given = {key: value for key, value in named.items() if key in parameters}
        facts = {key: value for key, value in named.items() if key not in parameters}
        where = f"the case {name!r}"
        try:
            bound = self._signature.bind(*args, **given)
        except TypeError as error:
            self._refuse(
                f"{where}: {error}; arguments are {', '.join(parameters)}, and these are facts: "
                f"{', '.join(facts) or 'none'}"
            )
        if bound.kwargs:
            # One in front of them was left out; arguments are passed by position.
            bound.apply_defaults()

        def by_position(named):
            named = named or {}
            return dict(zip(self._positions(where, named), named.values(), strict=True))

        return Case(
            name,
            bound.args,
            self._wrt if wrt is None else self._positions(where, wrt.split()),
            facts,
            by_position(passes),
            by_position(project),
            max_numel,
            probe,
            extreme,
        )

    def must(self, predicate: Callable[..., bool]) -> Callable:
        """Record the decorated function as a property, called by its name with blanks.

        Its first parameter is the student's value, the others are arguments and facts by name. Of
        a case that lacks one of them it says nothing. The docstring is said when it does not hold.
        """
        name = predicate.__name__.replace("_", " ")
        parameters = list(inspect.signature(predicate).parameters)
        if not parameters:
            self._refuse(f"{name!r} takes nothing: its first parameter is the student's value")
        needs = parameters[1:]

        def holds(case, value):
            known = self._known(case)
            if any(need not in known for need in needs):
                return True
            return predicate(value, **{need: known[need] for need in needs})

        self._require(name, self._sentence(predicate), holds, needs)
        return predicate

    def must_equal(self, fact: str, sentence: str, **how: Any) -> None:
        """The value is the exact answer that a case has as a fact.

        Args:
            fact: its name. Of a case without it nothing is said.
            sentence: said to the student when it does not hold.
            how: `part`, `double` and `single`, as `statements.is_fact` takes them.

        """
        part = f" of {how['part']}" if "part" in how else ""
        self._require(f"equal to {fact}{part}", sentence, is_fact(fact, **how), [fact])

    def must_add_to_one(self, fact: str, sentence: str, **how: Any) -> None:
        """All entries of `exp(value + fact)` add to 1; see `statements.adds_to_one`."""
        self._require(f"adds to one with {fact}", sentence, adds_to_one(fact, **how), [fact])

    def terms(self, of: dict[str, Callable[..., torch.Tensor]], /) -> None:
        """What the right answer is a sum of: name → numbers, a function of arguments by name."""
        found = {}
        for name, function in of.items():
            needs = list(inspect.signature(function).parameters)
            self._positions(f"the term {name!r}", needs)
            found[name] = lambda case, function=function, needs=needs: function(
                *map(self._known(case).get, needs)
            )
        self._terms.append(found)

    def _require(self, name, sentence, holds, needs):
        if name in self._properties:
            self._refuse(f"two properties are called {name!r}: give each a name of its own")
        self._properties[name] = Property(name, " ".join(sentence.split()), holds)
        self._needs[name] = tuple(needs)

    def _known(self, case):
        """What a case has by name: arguments, also those left to their defaults, and facts."""
        bound = self._signature.bind(*case.args)
        bound.apply_defaults()
        return bound.arguments | case.facts

    def piece(self, function: Callable) -> Callable:
        """Record the decorated function as one that several wrong answers call."""
        self._pieces[function.__name__] = function
        return function

    def right(self, function: Callable) -> Callable:
        """Record the decorated function as the right answer that `but` starts from.

        It is needed where the reference uses what a notebook has not. Write it in front of them.
        """
        self._same_parameters("the right answer", function)
        self.answer = function
        return function

    def formula(self, function: Callable) -> Callable:
        """Record the decorated function as the answer on paper, see `Exercise`; repeatable."""
        self._same_parameters("the formula", function)
        self._formulas.append(function)
        return function

    def wrong(self, name: str) -> Callable:
        """Record the decorated function as a wrong answer of this name.

        Its docstring is said to the student, `{got}` and `{expected}` replaced by numbers. It uses
        `torch`, `F`, `math`, `itertools`, its arguments and pieces of the page.
        """

        def record(function):
            self._same_parameters(repr(name), function)
            sentence = self._sentence(function, name)
            implementation = function
            if any(used in self._pieces for used in source.names_elsewhere(function.__code__)):
                implementation = self._standing_alone(name, source.definition_of(function))
            else:
                self._require_alone(name, function)
            self._go_wrong(name, sentence, implementation)
            return function

        return record

    def but(self, name: str, sentence: str, operation: Callable, /) -> None:
        """Record the right answer, changed by one operation on its result.

        Args:
            name: of the wrong answer.
            sentence: as the docstring of `wrong`.
            operation: written down in this call: a function's name, as in `torch.detach`, or a
                lambda, whose first parameter is the right result and whose others are arguments.

        """
        definition = source.definition_of(self.answer or inspect.unwrap(self._reference))
        if not source.returns_once(definition):
            self._refuse(
                f"{name!r} starts from a right answer that does not return once, at its end: "
                "write one that does under `@page.right`"
            )
        caller = sys._getframe(1)
        how = source.third_argument(caller.f_code.co_filename, caller.f_lineno)
        self._positions(f"the operation of {name!r}", source.change_result(definition, how))
        self._go_wrong(name, sentence, self._standing_alone(name, definition))

    def _go_wrong(self, name, sentence, implementation):
        if name in self._misconceptions:
            self._refuse(f"two wrong answers are called {name!r}: give each a name of its own")
        sentence = " ".join(sentence.split())
        self._misconceptions[name] = Misconception(name, sentence, implementation)

    def _standing_alone(self, name, definition):
        """A function with this definition, and with the pieces that it needs inside."""
        definition.name = self.name
        made = source.with_pieces(definition, self._pieces, f"<{self.name}: {name}>")
        self._require_alone(name, made)
        return made

    def _require_alone(self, name, function):
        if used := source.foreign(function):
            self._refuse(
                f"{name!r} uses `{used}`, which a notebook has not: write it with torch, F, "
                "math, itertools and the arguments, or make it a `@page.piece`; if it comes "
                "from the reference, write one without it under `@page.right`"
            )

    def picture(self, draw: Callable) -> Callable:
        """Record the decorated function, which draws the verdict; see `Exercise`."""
        self._picture = draw
        return draw

    def _axes(self, axes):
        arguments, arrow, result = axes.partition("->")
        parts = [part.strip() for part in arguments.split(",")]
        if not arrow or len(parts) != len(self._signature.parameters):
            self._refuse(
                f"axes are {axes!r}; they take a part for each of "
                f"{', '.join(self._signature.parameters)}, separated by commas, and after -> the "
                "result"
            )
        named = dict(zip(self._signature.parameters, parts, strict=True))
        return {**named, "return": result.strip()}

    def _positions(self, where, names):
        parameters = list(self._signature.parameters)
        for name in names:
            if name not in parameters:
                self._refuse(f"{where} names {name!r}; the arguments are {', '.join(parameters)}")
        return tuple(map(parameters.index, names))

    def _same_parameters(self, what, function):
        got, wanted = inspect.signature(function).parameters, self._signature.parameters
        if list(got) != list(wanted):
            self._refuse(
                f"{what} takes ({', '.join(got)}); the reference takes ({', '.join(wanted)})"
            )

    def _sentence(self, function, name=""):
        if not function.__doc__:
            self._refuse(
                f"{name or function.__name__!r} has no docstring, which is what the student reads"
            )
        return inspect.getdoc(function)

    def _refuse(self, reason):
        raise ValueError(f"the page of {self.name}: {reason}")
