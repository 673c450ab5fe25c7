"""The answer sheet: what the right answer and the wrong ones on record give, case by case."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from nbjudge.asking.exercise import Exercise, Misconception
from nbjudge.errors import UserError
from nbjudge.inside.case import Case
from nbjudge.inside.observe import Observation, observe, values_of
from nbjudge.judging.code import SECONDS
from nbjudge.judging.compare import Compared
from nbjudge.judging.edits import Edit, detached, edits

# All edits of a right answer on one case may take so long, unless they are few.
_SECONDS_OF_EDITS, _FEWEST_EDITS = 2.0, 150
# Cases and what a student's function did on each.
Observed = list[tuple[Case, Observation]]


@dataclass(frozen=True, eq=False)
class Sheet:
    """What is known of an exercise before anybody answers it.

    Whoever judges reads observations here and runs nothing. Each is made when it is first read,
    and once for all who are judged on the same cases: an answer may train a model, and a class has
    hundreds of submissions.

    Args:
        exercise: whose answers these are.

    """

    exercise: Exercise
    # Cases and misconceptions are told apart by identity: those of a task stay the same.
    _right: dict[Case, Observation] = field(default_factory=dict, init=False)
    _wrong: dict[tuple[Misconception, Case], Observation] = field(default_factory=dict, init=False)
    _edits: dict[tuple[Case, ...], list[Edit]] = field(default_factory=dict, init=False)
    _detached: dict[tuple[Case, ...], list[Edit]] = field(default_factory=dict, init=False)
    _edited: dict[tuple[Edit, Case], Observation] = field(default_factory=dict, init=False)

    def right(self, case: Case) -> Observation:
        """What the reference gives on a case.

        Raises:
            UserError: when it raises something, which is its author's to mend.

        """
        if case not in self._right:
            self._right[case] = observe(self.exercise.reference, case)
        if raised := self._right[case].raised:
            where = f" at `{raised.line}`" if raised.line else ""
            raise UserError(
                f"the right answer of {self.exercise.name} raised {raised.kind}: {raised.message}"
                f"{where}, on the case {case.name!r}. That is the course's to mend."
            )
        return self._right[case]

    def wrong(self, misconception: Misconception, case: Case) -> Observation:
        """What a wrong answer on record gives on a case."""
        key = misconception, case
        if key not in self._wrong:
            self._wrong[key] = observe(misconception.implementation, case)
        return self._wrong[key]

    def edits(self, cases: tuple[Case, ...]) -> list[Edit]:
        """What the right answer becomes by one edit, told in words that fit these cases."""
        if cases not in self._edits:
            # Some right answers take long; a student waits for what is said of a wrong one.
            seconds = min(self.right(case).seconds for case in cases)
            most = max(_FEWEST_EDITS, int(_SECONDS_OF_EDITS / max(seconds, 1e-6)))
            self._edits[cases] = list(itertools.islice(edits(self.exercise, cases), most))
        return self._edits[cases]

    def detached(self, cases: tuple[Case, ...]) -> list[Edit]:
        """What it becomes when no gradient goes through one of its steps."""
        if cases not in self._detached:
            self._detached[cases] = list(detached(self.exercise, cases))
        return self._detached[cases]

    def edited(self, edits: list[Edit], case: Case) -> list[Observation]:
        """What the right answer gives on a case after each of some edits."""
        new = [edit for edit in edits if (edit, case) not in self._edited]
        found = values_of((edit.function for edit in new), case, SECONDS)
        self._edited.update(zip(((edit, case) for edit in new), found, strict=True))
        return [self._edited[edit, case] for edit in edits]

    def cut_off(self, edit: Edit, case: Case) -> Observation:
        """What it gives, and its gradients, when one of its steps is detached."""
        if (edit, case) not in self._edited:
            self._edited[edit, case] = observe(edit.function, case, SECONDS)
        return self._edited[edit, case]

    def compared(self, observed: Observed) -> Iterator[Compared]:
        """What was seen beside what is right, one case after the other."""
        for case, seen in observed:
            yield Compared(case, seen, self.right(case), self.exercise.rtol[case.facts["dtype"]])
