"""The checks of an assignment: what they ask inside, and what is said of what they observed.

Of a course without any, nothing here is imported, and torch neither.
"""

import ast
import contextlib
import functools
import importlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, replace

from nbformat import NotebookNode, from_dict

from nbjudge.asking.exercise import Exercise
from nbjudge.asking.task import make_task
from nbjudge.check import Checker, devices
from nbjudge.course.declared import device
from nbjudge.course.seeds import case_seed
from nbjudge.errors import UserError
from nbjudge.inside import wire
from nbjudge.inside.code import Code, code_in
from nbjudge.inside.mime import OBSERVED_MIME
from nbjudge.inside.observe import observe_task
from nbjudge.inside.tensors import Counted
from nbjudge.judging.causes import cause_of
from nbjudge.judging.duties import points_due
from nbjudge.judging.judge import judge
from nbjudge.judging.screen import as_html, as_text, in_short
from nbjudge.judging.sheet import Sheet
from nbjudge.judging.signature import KINDS, signature
from nbjudge.judging.verdict import VERDICT_MIME, Signature, Verdict, same
from nbjudge.running.execute import is_graded
from nbjudge.running.sandbox import visible_modules
from nbjudge.submissions.cells import parsed

NO_ANSWER = "no answer"
# Characters of all code cells; in longer notebooks no copies are looked for.
SOURCE_LIMIT = 100_000


class Checks:
    """What judging the checks of an assignment needs, made once for a class.

    Args:
        module: from which the notebooks import `check`.
        checker: what they import.
        notebooks: the instructor's.
        secret: from which the numbers of the cases follow; see `seeds`.
        partial: whether a part of the points is given for a part of the duties.

    """

    def __init__(
        self,
        module: str,
        checker: Checker,
        notebooks: list[NotebookNode],
        secret: bytes,
        partial: bool,
    ):
        self.module, self.may_import = module, checker.may_import
        self._exercises: dict[str, Exercise] = checker.exercises
        self.exercises = tuple(self._exercises.values())
        self._notebooks, self._secret, self._partial = notebooks, secret, partial
        self._sheets = {name: Sheet(exercise) for name, exercise in self._exercises.items()}

    def packages(self) -> set[str]:
        """Where the checks and the references are."""
        modules = {self.module, *(exercise.reference.__module__ for exercise in self.exercises)}
        return {module.partition(".")[0] for module in modules}

    @functools.cached_property
    def _tasks(self):
        """What every check asks: (name, seed) → task."""
        cells = [cell for notebook in self._notebooks for cell in notebook.cells]
        return {
            (name, seed): make_task(
                self._exercises[name], case_seed(self._secret, name, seed), graded_on()
            )
            for name, seed in {check for cell in cells for check in self.asked_by(cell)}
        }

    def tasks(self) -> bytes:
        """What is asked, as it goes into a sandbox: the cases, and no answers."""
        packages = (self.module.partition(".")[0], __package__)
        return wire.dump_tasks(self._tasks, visible_modules(self.may_import), packages)

    def agree(self, name: str, function: Callable, numbers: Signature) -> bool:
        """Whether a function gives what has this signature, on the cases of one of the checks.

        Args:
            name: of the exercise.
            function: one that may run here.
            numbers: as a verdict has them.

        """
        tasks = [task for (asked, _), task in self._tasks.items() if asked == name]
        seen = (zip(task.cases, observe_task(function, task)[0], strict=False) for task in tasks)
        return any(same(signature(list(observed)), numbers) for observed in seen)

    def asked_by(self, cell: NotebookNode) -> list[tuple[str, int]]:
        """(Name, seed) of every `check(name, seed=…)` in a graded code cell, in order."""
        if not is_graded(cell):
            return []
        found = []
        for statement in parsed(cell).body:
            call = getattr(statement, "value", None)
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check":
                seeds = [key.value.value for key in call.keywords if key.arg == "seed"]
                found.append((call.args[0].id, *(seeds or [0])))
        return found

    def code_of(self, notebook: NotebookNode) -> frozenset[Code]:
        """The code in a notebook's cells; nothing where that is too long to be compiled."""
        sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        # Compiling can take a time that grows with the square of the length.
        return code_in(sources) if sum(map(len, sources)) <= SOURCE_LIMIT else frozenset()

    def mark(
        self,
        cell: NotebookNode,
        notebook: NotebookNode,
        code: frozenset[Code],
        beside: Collection[str],
    ) -> float:
        """Put a verdict in place of the outputs of a cell that has checks; gives its points.

        Args:
            cell: of the notebook; it is changed.
            notebook: executed.
            code: of it.
            beside: names of the files that were handed in beside it.

        """
        worth = float(cell.metadata.nbgrader.get("points", 0))
        checks = self.asked_by(cell)
        verdicts, ranks = [], []
        for number, verdict in enumerate(self._verdicts(cell, checks, code)):
            points = self._points(verdict, worth)
            verdicts.append(verdict)
            ranks.append((points, verdict.passed, number))
            if not verdict.passed and (not points or verdict.kind == "timeout"):
                # It cannot get less; and after a time-out nothing was called any more.
                break
        # The worst is shown, and counts.
        points, _, number = min(ranks)
        shown = verdicts[number]
        if shown.kind == NO_ANSWER:
            cause = cause_of(notebook.cells, cell, beside)
            shown = replace(shown, sentence=f"{shown.sentence} {cause}".strip())
        shown = replace(shown, copied=any(verdict.copied for verdict in verdicts))
        cases = sum(len(self._tasks[check].cases) for check in checks[: len(verdicts)])
        cell.outputs = list(self._outputs(shown, cases, points, worth))
        return points

    def _points(self, verdict, worth):
        if verdict.passed:
            return worth
        for_values = self._exercises[verdict.exercise].for_values if self._partial else None
        return points_due(verdict.duties, worth, for_values)

    def _verdicts(self, cell, checks, code):
        """The verdict on each of a cell's checks, in order."""
        texts = [output.data[OBSERVED_MIME] for output in cell.outputs if _is_record(output)]
        errors = [output for output in cell.outputs if output.output_type == "error"]
        for number, (name, seed) in enumerate(checks):
            if len(texts) > len(checks):
                yield _no_verdict(name, "this cell recorded more checks than it has")
            elif number < len(texts):
                yield self._judge(name, seed, texts[number], code)
            elif errors:
                yield _no_verdict(name, f"{errors[0].ename}: {errors[0].evalue}")
            else:
                yield _no_verdict(name, "nothing was recorded")

    def _judge(self, name, seed, text, code):
        task = self._tasks[name, seed]
        try:
            observations, probe = wire.load_observations(text)
            _check_whole(observations, probe, task)
            observed = [
                (case, replace(seen, code=code))
                for case, seen in zip(task.cases, observations, strict=False)
            ]
            missed = task.cases[len(observed) :]
            verdict = judge(self._sheets[name], observed, probe, missed)
            if verdict.kind in KINDS and not missed:
                verdict = replace(verdict, numbers=signature(observed))
            return verdict
        except Exception as error:
            # Records that were tampered with can be wrong in any way; none is worth a point, and
            # none may stop the class. Honest ones are proved beforehand, by the preflight.
            return _no_verdict(name, f"its record is not what a check writes: {error}")

    def _outputs(self, verdict, cases, points, worth):
        exercise = self._exercises[verdict.exercise]
        data = {
            "text/html": as_html(exercise, verdict, cases),
            "text/plain": as_text(exercise, verdict, cases),
            VERDICT_MIME: asdict(verdict),
        }
        # Validated with the whole notebook: each by itself takes nbformat as long as all together.
        yield from_dict({"output_type": "display_data", "data": data, "metadata": {}})
        if verdict.passed:
            return
        if points:
            # nbgrader reads the number, a person what is said of it.
            said = f"<p>{points:g} of {worth:g} points.</p>"
            data = {"text/html": said, "text/plain": f"{points:g}"}
            about = {"execution_count": None, "data": data, "metadata": {}}
            yield from_dict({"output_type": "execute_result", **about})
        else:
            said = in_short(verdict)
            about = {"ename": "CheckFailed", "evalue": said, "traceback": said.splitlines()}
            yield from_dict({"output_type": "error", **about})


def checks_of(
    notebooks: list[NotebookNode], modules: Iterable[str], secret: bytes, partial: bool
) -> Checks | None:
    """The checks of an instructor's notebooks, if there are any.

    Args:
        notebooks: the instructor's.
        modules: from which they import what is called `check`.
        secret: from which the numbers of the cases follow.
        partial: whether a part of the points is given for a part of the duties.

    Raises:
        UserError: when they import checks from several places.

    """
    found = {}
    for module in sorted(modules):
        # An instructor's own helper may have that name, and may lie where only the notebook is.
        with contextlib.suppress(ImportError):
            found[module] = getattr(importlib.import_module(module), "check", None)
    found = {module: check for module, check in found.items() if isinstance(check, Checker)}
    if len(found) > 1:
        raise UserError(
            f"the notebooks of one assignment take `check` from one module, not from "
            f"{' and '.join(found)}"
        )
    return next((Checks(*one, notebooks, secret, partial) for one in found.items()), None)


def _is_record(output: NotebookNode) -> bool:
    """Whether an output of a cell is what a check observed."""
    return OBSERVED_MIME in output.get("data", {})


def graded_on() -> list[str]:
    """The device that the environment names, or the CPU: a card is not in the sandbox unasked."""
    return devices() if device() else ["cpu"]


def _check_whole(observations, probe, task):
    """A record from which something is missing would pass the duty that needs it."""
    cut_short = observations and observations[-1].timed_out
    if task.probe and probe is None and not cut_short:
        raise wire.WireError("the device probe is missing")
    for case, seen in zip(task.cases, observations, strict=False):
        counted = [i for i, arg in enumerate(case.args) if isinstance(arg, Counted)]
        finished = not (seen.raised or seen.timed_out)
        if finished and [position for position, _ in seen.passes] != counted:
            raise wire.WireError("the calls of a network were not counted")
        if finished and case.max_numel and not seen.largest:
            raise wire.WireError("the size of tensors was not watched")
    if len(observations) > len(task.cases) or (
        len(observations) < len(task.cases) and not cut_short
    ):
        raise wire.WireError(f"{len(observations)} observations of {len(task.cases)} cases")


def _no_verdict(name, reason):
    reason = " ".join(reason.split())[:300].rstrip(".")
    return Verdict(
        name, passed=False, kind=NO_ANSWER, sentence=f"The check of {name} gave nothing: {reason}."
    )
