"""`check(function)`: both halves of a check, side by side in the student's kernel."""

import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace

import torch

from nbjudge.asking.exercise import Exercise
from nbjudge.asking.task import make_task
from nbjudge.course.declared import declared, device
from nbjudge.errors import UserError
from nbjudge.inside.neutral import neutral_state
from nbjudge.inside.observe import observe_task, prepare_torch
from nbjudge.judging.judge import judge
from nbjudge.judging.line import wrong_line
from nbjudge.judging.screen import WIDTH, as_html, as_text, draw, in_short
from nbjudge.judging.sheet import Observed, Sheet
from nbjudge.judging.stamp import Edition, misfit
from nbjudge.judging.verdict import VERDICT_MIME, Verdict


class _NoTraceback(Exception):
    """An error whose message is all there is to see."""

    def _render_traceback_(self):
        """What IPython prints in place of a traceback."""
        return str(self).splitlines()


class CheckFailed(_NoTraceback, AssertionError):
    """A check that did not pass."""


class VersionError(_NoTraceback):
    """A notebook and the installed package that do not fit together."""


class Checker:
    """`check(function)` for the exercises of one topic.

    Args:
        exercises: of the topic.
        may_import: modules of the course that the notebook may import while it is graded.
        edition: of the course's package, which `made_with` compares with.

    Raises:
        ValueError: when two exercises have one name, by which a check tells them apart.

    """

    def __init__(
        self,
        exercises: Iterable[Exercise],
        may_import: Iterable[str] = (),
        edition: Edition | None = None,
    ):
        self._edition = edition
        self.exercises: dict[str, Exercise] = {}
        for exercise in exercises:
            if exercise.name in self.exercises:
                raise ValueError(f"two exercises are called {exercise.name!r}: rename one of them")
            self.exercises[exercise.name] = exercise
        self.may_import = tuple(may_import)
        self._passed: dict[str, Callable] = {}
        if _in_notebook():
            prepare_torch()

    def __call__(self, function: Callable, seed: int = 0) -> None:
        """Check a function and show the outcome.

        Args:
            function: the student's, bound to the exercise's name in the notebook.
            seed: makes the cases; another seed gives other numbers and sizes.

        Raises:
            CheckFailed: when the function does not pass.
            TypeError, ValueError: when it is unclear which exercise this is.

        """
        exercise = self._which(function, sys._getframe(1).f_globals)
        with neutral_state():
            sheet = Sheet(exercise)
            observed, verdict = _run(sheet, function, seed)
            if not verdict.passed:
                line = wrong_line(sheet, function, observed, verdict.kind)
                verdict = replace(verdict, line=line)
            shown = _in_notebook() and not verdict.passed
            picture = draw(sheet, observed) if shown else ""
        self._passed.pop(exercise.name, None)
        if verdict.passed:
            self._passed[exercise.name] = function
        text = as_text(exercise, verdict, len(observed))
        if _in_notebook():
            _display(verdict, text, as_html(exercise, verdict, len(observed), picture))
        elif verdict.passed:
            print(text)
        if not verdict.passed:
            _hide_tracebacks()
            raise CheckFailed(in_short(verdict) if _in_notebook() else text)

    def passed(self, *functions: Callable) -> bool:
        """Whether the last check of each of these functions passed, and none was changed since."""
        return all(any(f is p for p in self._passed.values()) for f in functions)

    def hint(self, exercise: str | Callable, number: int = 1) -> None:
        """Print one of the three hints of an exercise.

        Args:
            exercise: the function or its name.
            number: 1, 2 or 3; each says more than the one before.

        """
        name = exercise if isinstance(exercise, str) else getattr(exercise, "__name__", "")
        if name not in self.exercises:
            raise ValueError(f"there is no exercise {name!r}; there are {self._names()}")
        hints = self.exercises[name].hints
        if number not in range(1, len(hints) + 1):
            raise ValueError(f"hints are numbered 1 to {len(hints)}; got {number!r}")
        print("\n".join(textwrap.wrap(f"Hint {number}: {hints[number - 1]}", WIDTH)))

    def made_with(self, version: str) -> None:
        """Say that the notebook was made with this version of the package, as its imports do.

        Args:
            version: for which the notebook was last changed.

        Raises:
            VersionError: when the installed package is too old for it or too new.

        """
        if self._edition and (said := misfit(version, self._edition)):
            _hide_tracebacks()
            raise VersionError(said)

    def _which(self, function, caller) -> Exercise:
        """The exercise whose name this object bears where `check` was called."""
        if not callable(function):
            raise TypeError(
                f"check takes the function itself, as in check({next(iter(self.exercises))}); "
                f"got {function!r}"
            )
        names = [name for name in self.exercises if caller.get(name) is function]
        if len(names) > 1:
            # Otherwise the answer to one exercise would be graded as the answer to another.
            raise ValueError(
                f"{' and '.join(names)} are the same function; each exercise needs its own"
            )
        name = names[0] if names else getattr(function, "__name__", "")
        if name not in self.exercises:
            raise ValueError(
                f"no exercise is called {name!r}; name your function one of {self._names()}"
            )
        return self.exercises[name]

    def _names(self):
        return ", ".join(self.exercises)


def run(exercise: Exercise, function: Callable, seed: int = 0) -> tuple[Observed, Verdict]:
    """Observe a function on all cases, then judge what was seen."""
    return _run(Sheet(exercise), function, seed)


def _run(sheet, function, seed):
    task = make_task(sheet.exercise, seed, devices())
    observations, probe = observe_task(function, task, traced=True)
    observed = list(zip(task.cases, observations, strict=False))
    return observed, judge(sheet, observed, probe, task.cases[len(observed) :])


def devices():
    """The CPU, and the card where there is one; the environment may name a single one instead."""
    chosen = device()
    if not chosen:
        return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"{declared().device} is {chosen!r}, which torch cannot use here; unset it or use 'cpu'"
        ) from error
    return [chosen]


def _in_notebook():
    ipython = sys.modules.get("IPython")
    return hasattr(ipython and ipython.get_ipython(), "kernel")


def _display(verdict: Verdict, text: str, html: str) -> None:
    from IPython.display import display

    data = {"text/html": html, "text/plain": text, VERDICT_MIME: asdict(verdict)}
    display(data, raw=True)


def _hide_tracebacks():
    """Outside IPython too, these errors print their message and no traceback."""
    previous = sys.excepthook
    if getattr(previous, "hides_tracebacks", False):
        return

    def hook(kind, error, trace):
        if issubclass(kind, _NoTraceback):
            print(error, file=sys.stderr)
        else:
            previous(kind, error, trace)

    hook.hides_tracebacks = True
    sys.excepthook = hook
