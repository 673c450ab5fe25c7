"""The checks of an assignment: what they ask inside, and what is said of what they observed.

Of a course without any, nothing here is imported, and torch neither.
"""

import ast
import contextlib
import functools
import importlib
from collections.abc import Collection, Iterable
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
from nbjudge.inside.tensors import Counted
from nbjudge.judging.causes import cause_of
from nbjudge.judging.judge import judge
from nbjudge.judging.screen import as_html, as_text, in_short
from nbjudge.judging.sheet import Sheet
from nbjudge.judging.verdict import VERDICT_MIME, Verdict
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

    """

    def __init__(self, module: str, checker: Checker, notebooks: list[NotebookNode], secret: bytes):
        self.module, self.may_import = module, checker.may_import
        self._exercises: dict[str, Exercise] = checker.exercises
        self.exercises = tuple(self._exercises.values())
        self._notebooks, self._secret = notebooks, secret
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
    ) -> bool:
        """Put a verdict in place of the outputs of a cell that has checks; whether it passed.

        Args:
            cell: of the notebook; it is changed.
            notebook: executed.
            code: of it.
            beside: names of the files that were handed in beside it.

        """
        checks = self.asked_by(cell)
        verdicts = self._verdicts(cell, checks, code)
        if verdicts[-1].kind == NO_ANSWER:
            cause = cause_of(notebook.cells, cell, beside)
            said = f"{verdicts[-1].sentence} {cause}".strip()
            verdicts[-1] = replace(verdicts[-1], sentence=said)
        cell.outputs = list(self._outputs(checks, verdicts))
        return verdicts[-1].passed

    def _verdicts(self, cell, checks, code):
        """Verdicts on a cell's checks, in order, up to the first that did not pass."""
        texts = [output.data[OBSERVED_MIME] for output in cell.outputs if _is_record(output)]
        errors = [output for output in cell.outputs if output.output_type == "error"]
        verdicts = []
        for number, (name, seed) in enumerate(checks):
            if len(texts) > len(checks):
                verdict = _no_verdict(name, "this cell recorded more checks than it has")
            elif number < len(texts):
                verdict = self._judge(name, seed, texts[number], code)
            elif errors:
                verdict = _no_verdict(name, f"{errors[0].ename}: {errors[0].evalue}")
            else:
                verdict = _no_verdict(name, "nothing was recorded")
            verdicts.append(verdict)
            if not verdict.passed:
                break
        return verdicts

    def _judge(self, name, seed, text, code):
        task = self._tasks[name, seed]
        try:
            observations, probe = wire.load_observations(text)
            _check_whole(observations, probe, task)
            observed = [
                (case, replace(seen, code=code))
                for case, seen in zip(task.cases, observations, strict=False)
            ]
            return judge(self._sheets[name], observed, probe)
        except Exception as error:
            # Records that were tampered with can be wrong in any way; none is worth a point, and
            # none may stop the class. Honest ones are proved beforehand, by the preflight.
            return _no_verdict(name, f"its record is not what a check writes: {error}")

    def _outputs(self, checks, verdicts):
        last = verdicts[-1]
        last = replace(last, copied=any(verdict.copied for verdict in verdicts))
        exercise = self._exercises[last.exercise]
        cases = sum(len(self._tasks[check].cases) for check in checks[: len(verdicts)])
        data = {
            "text/html": as_html(exercise, last, cases),
            "text/plain": as_text(exercise, last, cases),
            VERDICT_MIME: asdict(last),
        }
        # Validated with the whole notebook: each by itself takes nbformat as long as all together.
        yield from_dict({"output_type": "display_data", "data": data, "metadata": {}})
        if not last.passed:
            said = in_short(last)
            about = {"ename": "CheckFailed", "evalue": said, "traceback": said.splitlines()}
            yield from_dict({"output_type": "error", **about})


def checks_of(
    notebooks: list[NotebookNode], modules: Iterable[str], secret: bytes = b""
) -> Checks | None:
    """The checks of an instructor's notebooks, if there are any.

    Args:
        notebooks: the instructor's.
        modules: from which they import what is called `check`.
        secret: from which the numbers of the cases follow.

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
    return next((Checks(*one, notebooks, secret) for one in found.items()), None)


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
