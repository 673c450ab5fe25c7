"""Mark an executed notebook: observations become verdicts. Outside the sandbox; no student code."""

import ast
import contextlib
import hashlib
import importlib
import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import nbformat
from nbformat import NotebookNode, from_dict
from nbgrader.utils import determine_grade

from nbjudge.asking.exercise import Exercise
from nbjudge.asking.task import make_task
from nbjudge.check import Checker, devices
from nbjudge.course.declared import device
from nbjudge.course.safe_files import walk
from nbjudge.course.seeds import case_seed
from nbjudge.errors import UserError
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
# Bytes of all files beside the notebooks.
BESIDE_LIMIT = 50_000_000


@dataclass(frozen=True)
class Marked:
    """An executed notebook with verdicts, the points that they give, and what they could give.

    Args:
        notebook: with a verdict in place of the outputs of every check.
        points: of all.
        max_points: that there are.
        partial: of the points, those of cells that gave a part of theirs.

    """

    notebook: NotebookNode
    points: float
    max_points: float
    partial: float = 0.0


class Marker:
    """Everything that judging one assignment needs, made once for a class.

    A graded cell with no check in it has tests of the instructor's own. They ran beside student
    code, and are scored by what they put out, as nbgrader does it.

    Args:
        sources: the instructor's notebooks. They say which checks there are, and where they come
            from, if there are any.
        secret: from which the numbers of the cases follow; see `seeds`.

    Raises:
        UserError: when they import `check` from several places.

    """

    def __init__(self, *sources: Path, secret: bytes = b""):
        notebooks = [nbformat.read(source, as_version=4) for source in sources]
        self._module, checker = _checker_of(notebooks)
        self._exercises: dict[str, Exercise] = checker.exercises if checker else {}
        self._may_import = checker.may_import if checker else ()
        # What a result depends on beside the submission: the packages of checks and references.
        modules = {e.reference.__module__ for e in self._exercises.values()}
        modules |= {self._module} if self._module else set()
        files = [*sources, *_files_behind(modules)]
        self._beside = _files_beside(sources)
        parts = [secret, VERDICT_MIME.encode(), *(file.read_bytes() for file in files)]
        parts += [part for name, content in self._beside for part in (name.encode(), content)]
        self.version = hashlib.sha256(b"".join(parts)).digest()
        cells = [cell for notebook in notebooks for cell in notebook.cells]
        wanted = {check for cell in cells for check in self._checks(cell)}
        self._tasks = {
            (name, seed): make_task(
                self._exercises[name], case_seed(secret, name, seed), graded_on()
            )
            for name, seed in wanted
        }
        self._sheets = {name: Sheet(exercise) for name, exercise in self._exercises.items()}

    def contents(self, jailed: bool = True, hidden: tuple[str, ...] = ()) -> Contents:
        """What a sandbox for this assignment holds: its cases, and no answers."""
        packages = tuple({self._module.partition(".")[0], __package__} - {""})
        tasks = wire.dump_tasks(self._tasks, visible_modules(self._may_import), packages)
        return Contents(tasks, self._module, self._may_import, jailed, hidden, self._beside)

    def mark(self, notebook: NotebookNode, beside: Collection[str] = ()) -> Marked:
        """Put a verdict in place of the outputs of every check; changes the notebook.

        Args:
            notebook: executed.
            beside: names of the files that were handed in beside it.

        Raises:
            Unfinished: when a graded cell was not reached; points would be a guess.

        """
        points = max_points = partial = 0.0
        sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        # Compiling can take a time that grows with the square of the length.
        short = sum(map(len, sources)) <= SOURCE_LIMIT
        code = code_in(sources) if short else frozenset()
        for cell in notebook.cells:
            checks = self._checks(cell)
            if is_graded(cell) and (reason := why_unreached(notebook, cell)):
                raise Unfinished(reason)
            if not checks:
                if "outputs" in cell:
                    # A check that the student called elsewhere: its record is for no reader.
                    cell.outputs = [o for o in cell.outputs if not _is_record(o)]
                if is_graded(cell) and cell.cell_type == "code":
                    # A verdict here would be the student's own.
                    cell.outputs = [
                        o for o in cell.outputs if VERDICT_MIME not in o.get("data", {})
                    ]
                    score, worth = determine_grade(cell)
                    points, max_points = points + score, max_points + worth
                    partial += score if score < worth else 0.0
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
        return Marked(notebook, points, max_points, partial)

    def _checks(self, cell):
        return _checks_in(cell) if self._module else []

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
    _, checker = _checker_of([nbformat.read(source, as_version=4)])
    return tuple(checker.exercises.values()) if checker else ()


def graded_on() -> list[str]:
    """The device that the environment names, or the CPU: a card is not in the sandbox unasked."""
    return devices() if device() else ["cpu"]


def _files_behind(modules: set[str]) -> list[Path]:
    """All files of the packages to which modules belong; of a module in no package, its own."""
    files = set()
    for name in {name.partition(".")[0] for name in modules}:
        top = sys.modules[name]
        folders = [Path(folder) for folder in getattr(top, "__path__", ())]
        found = [file for folder in folders for file in folder.rglob("*")]
        files.update(found or [Path(top.__file__)])
    return sorted(file for file in files if file.is_file() and file.suffix != ".pyc")


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


def _files_beside(sources):
    """What lies beside an instructor's notebooks, and is released with them: data, helpers."""
    folder, found = sources[0].parent, []
    for entry in walk(folder):
        path = Path(entry.path)
        name = path.relative_to(folder)
        hidden = any(part.startswith((".", "__pycache__")) for part in name.parts)
        if entry.is_file() and not hidden and path.suffix != ".ipynb":
            found.append((name.as_posix(), path.read_bytes()))
    if sum(len(content) for _, content in found) > BESIDE_LIMIT:
        raise UserError(
            f"the files beside the notebooks in {folder} are more than {BESIDE_LIMIT:,} bytes "
            "together, which every submission would take of the memory"
        )
    return tuple(sorted(found))


def _checker_of(notebooks):
    """The module from which notebooks import `check`, and that; nothing and None without one."""
    nodes = [n for notebook in notebooks for c in notebook.cells for n in ast.walk(_parsed(c))]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    named = {node.module for node in imports if "check" in [name.name for name in node.names]}
    found = {}
    for module in sorted(named):
        # An instructor's own helper may have that name, and may lie where only the notebook is.
        with contextlib.suppress(ImportError):
            found[module] = getattr(importlib.import_module(module), "check", None)
    found = {module: check for module, check in found.items() if isinstance(check, Checker)}
    if len(found) > 1:
        raise UserError(
            f"the notebooks of one assignment take `check` from one module, not from "
            f"{' and '.join(found)}"
        )
    return next(iter(found.items()), ("", None))


def _checks_in(cell) -> list[tuple[str, int]]:
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
