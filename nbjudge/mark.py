"""Mark an executed notebook: observations become verdicts. Outside the sandbox; no student code."""

import ast
import hashlib
import importlib
import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import nbformat
from nbformat import NotebookNode, from_dict

from nbjudge.asking.exercise import Exercise
from nbjudge.asking.task import make_task
from nbjudge.check import devices
from nbjudge.course.declared import device
from nbjudge.course.seeds import case_seed
from nbjudge.inside import wire
from nbjudge.inside.code import code_in
from nbjudge.inside.observe import Counted
from nbjudge.judging.causes import cause_of
from nbjudge.judging.judge import judge
from nbjudge.judging.screen import as_html, as_text, in_short
from nbjudge.judging.sheet import Sheet
from nbjudge.judging.verdict import VERDICT_MIME, Verdict
from nbjudge.running.execute import Unfinished, is_graded, why_unreached
from nbjudge.running.sandbox import Contents, visible_modules

NO_ANSWER = "no answer"
# Characters of all code cells; in longer notebooks no copies are looked for.
SOURCE_LIMIT = 100_000


@dataclass(frozen=True)
class Marks:
    """Points that the checks of a notebook gave, and what they could give."""

    points: float
    max_points: float


class Marker:
    """Everything that judging one assignment needs, made once for a class.

    Args:
        source: the instructor's notebook. It says which checks there are and where they come from.
        secret: from which the numbers of the cases follow; see `seeds`.

    """

    def __init__(self, source: Path, secret: bytes = b""):
        notebook = nbformat.read(source, as_version=4)
        self._module = _module_of_check(notebook)
        checker = importlib.import_module(self._module).check if self._module else None
        self._exercises: dict[str, Exercise] = checker.exercises if checker else {}
        self._may_import = checker.may_import if checker else ()
        # What a result depends on beside the submission.
        modules = {e.reference.__module__ for e in self._exercises.values()}
        modules |= {self._module} if self._module else set()
        files = [source, *(Path(sys.modules[name].__file__) for name in sorted(modules))]
        parts = [secret, VERDICT_MIME.encode(), *(file.read_bytes() for file in files)]
        self.version = hashlib.sha256(b"".join(parts)).digest()
        wanted = {check for cell in notebook.cells for check in _checks(cell)}
        self._tasks = {
            (name, seed): make_task(
                self._exercises[name], case_seed(secret, name, seed), graded_on()
            )
            for name, seed in wanted
        }
        self._sheets = {name: Sheet(exercise) for name, exercise in self._exercises.items()}

    def contents(self, jailed: bool = True, hidden: tuple[str, ...] = ()) -> Contents:
        """What a sandbox for this assignment holds: its cases, and no answers."""
        packages = self._module.partition(".")[0], __package__
        tasks = wire.dump_tasks(self._tasks, visible_modules(self._may_import), packages)
        return Contents(tasks, self._module, self._may_import, jailed, hidden)

    def mark(self, notebook: NotebookNode, beside: Collection[str] = ()) -> Marks:
        """Put a verdict in place of the outputs of every graded check; changes the notebook.

        Args:
            notebook: executed.
            beside: names of the files that were handed in beside it.

        Raises:
            Unfinished: when a check was not reached; points would be a guess.

        """
        points = max_points = 0.0
        sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        # Compiling can take a time that grows with the square of the length.
        short = sum(map(len, sources)) <= SOURCE_LIMIT
        code = code_in(sources) if short else frozenset()
        for cell in notebook.cells:
            checks = _checks(cell)
            if checks and (reason := why_unreached(notebook, cell)):
                raise Unfinished(reason)
            if not checks:
                # A check that the student called elsewhere: its record is for no reader.
                if "outputs" in cell:
                    cell.outputs = [o for o in cell.outputs if not _is_record(o)]
                continue
            verdicts = self._verdicts(cell, checks, code)
            if verdicts[-1].kind == NO_ANSWER:
                cause = cause_of(notebook.cells, cell, beside)
                verdicts[-1] = replace(
                    verdicts[-1], sentence=f"{verdicts[-1].sentence} {cause}".strip()
                )
            cell.outputs = list(self._outputs(checks, verdicts))
            worth = float(cell.metadata.nbgrader.get("points", 0))
            max_points += worth
            points += worth if verdicts[-1].passed else 0.0
        return Marks(points, max_points)

    def _verdicts(self, cell, checks, code):
        """Verdicts on a cell's checks, in order, up to the first that did not pass."""
        texts = [output.data[wire.OBSERVED_MIME] for output in cell.outputs if _is_record(output)]
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


def exercises_of(source: Path) -> tuple[Exercise, ...]:
    """What the checks of an instructor's notebook ask; nothing if it has none."""
    module = _module_of_check(nbformat.read(source, as_version=4))
    return tuple(importlib.import_module(module).check.exercises.values()) if module else ()


def graded_on() -> list[str]:
    """The device that the environment names, or the CPU: a card is not in the sandbox unasked."""
    return devices() if device() else ["cpu"]


def _is_record(output):
    """Whether an output of a cell is what a check observed."""
    return wire.OBSERVED_MIME in output.get("data", {})


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


def _module_of_check(notebook):
    """Where a notebook imports `check` from; nothing if it does not."""
    for cell in notebook.cells:
        for node in ast.walk(_parsed(cell)):
            if isinstance(node, ast.ImportFrom) and "check" in [name.name for name in node.names]:
                return node.module
    return ""


def _checks(cell) -> list[tuple[str, int]]:
    """(Name, seed) of every `check(name, seed=…)` in a graded code cell, in order."""
    if not is_graded(cell):
        return []
    found = []
    for statement in _parsed(cell).body:
        call = getattr(statement, "value", None)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check":
            seeds = [key.value.value for key in call.keywords if key.arg == "seed"]
            found.append((call.args[0].id, *(seeds or [0])))
    return found


def _parsed(cell):
    try:
        return ast.parse(cell.source if cell.cell_type == "code" else "")
    except (SyntaxError, ValueError):
        return ast.parse("")
