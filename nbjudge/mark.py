"""Mark an executed notebook: observations become verdicts. Outside the sandbox; no student code."""

import ast
import hashlib
import importlib
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.utils import determine_grade

from nbjudge.course.safe_files import walk
from nbjudge.errors import UserError
from nbjudge.inside.mime import OBSERVED_MIME
from nbjudge.judging.verdict import VERDICT_MIME
from nbjudge.running.execute import Unfinished, is_graded, why_unreached
from nbjudge.running.sandbox import Contents
from nbjudge.submissions.cells import is_code, parsed

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
        partial: whether a check gives a part of its points for a part of the duties.

    Raises:
        UserError: when they import `check` from several places.

    """

    def __init__(self, *sources: Path, secret: bytes = b"", partial: bool = True):
        notebooks = [nbformat.read(source, as_version=4) for source in sources]
        self._checks = checks_asked(notebooks, secret, partial)
        self._beside = _files_beside(sources)
        code = [cell.source for n in notebooks for cell in n.cells if is_code(cell)]
        self._preloaded = ("torch",) if any("torch" in source for source in code) else ()
        # What a result depends on beside the submission.
        packages = {__package__, *(self._checks.packages() if self._checks else ())}
        files = [*sources, *_files_of(packages)]
        parts = [
            secret,
            VERDICT_MIME.encode(),
            bytes([partial]),
            *(file.read_bytes() for file in files),
        ]
        parts += [part for name, content in self._beside for part in (name.encode(), content)]
        self.version = hashlib.sha256(b"".join(parts)).digest()

    def contents(self, jailed: bool = True, hidden: tuple[str, ...] = ()) -> Contents:
        """What a sandbox for this assignment holds: its cases, and no answers."""
        checks = self._checks
        asked = (checks.tasks(), checks.module, checks.may_import) if checks else (b"", "", ())
        return Contents(*asked, jailed, hidden, self._beside, self._preloaded)

    def mark(self, notebook: NotebookNode, beside: Collection[str] = ()) -> Marked:
        """Put a verdict in place of the outputs of every check; changes the notebook.

        Args:
            notebook: executed.
            beside: names of the files that were handed in beside it.

        Raises:
            Unfinished: when a graded cell was not reached; points would be a guess.

        """
        points = max_points = partial = 0.0
        code = self._checks.code_of(notebook) if self._checks else frozenset()
        for cell in notebook.cells:
            if is_graded(cell) and (reason := why_unreached(notebook, cell)):
                raise Unfinished(reason)
            if self._checks and self._checks.asked_by(cell):
                points += self._checks.mark(cell, notebook, code, beside)
                max_points += float(cell.metadata.nbgrader.get("points", 0))
                continue
            # A check that the student called elsewhere: its record is for no reader. In a graded
            # cell a verdict would be the student's own.
            forged = {OBSERVED_MIME, VERDICT_MIME} if is_graded(cell) else {OBSERVED_MIME}
            if is_code(cell):
                cell.outputs = [o for o in cell.outputs if forged.isdisjoint(o.get("data", {}))]
                if is_graded(cell):
                    score, worth = determine_grade(cell)
                    points, max_points = points + score, max_points + worth
                    partial += score if score < worth else 0.0
        return Marked(notebook, points, max_points, partial)


def exercises_of(source: Path) -> tuple:
    """What the checks of an instructor's notebook ask; nothing if it has none.

    Raises:
        UserError: when they are in a module that cannot be imported.

    """
    notebooks = [nbformat.read(source, as_version=4)]
    if checks := checks_asked(notebooks):
        return checks.exercises
    for module in sorted(_modules_of_check(notebooks)):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"{source} imports `check` from {module}, which cannot be imported here "
                f"({error}): install its package, or put the folder that holds it on PYTHONPATH"
            ) from error
    return ()


def _modules_of_check(notebooks):
    nodes = [node for n in notebooks for cell in n.cells for node in ast.walk(parsed(cell))]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {node.module for node in imports if "check" in [name.name for name in node.names]}


def checks_asked(notebooks: list[NotebookNode], secret: bytes = b"", partial: bool = True):
    """The checks of an instructor's notebooks, see `Checks`.

    None if they import no `check`, and then torch is not imported either.
    """
    modules = _modules_of_check(notebooks)
    if not modules:
        return None
    from nbjudge.checks import checks_of

    return checks_of(notebooks, modules, secret, partial)


def _files_of(packages: set[str]) -> list[Path]:
    """All files of packages; of a module in no package, its own."""
    files = set()
    for package in packages:
        top = sys.modules[package]
        folders = [Path(folder) for folder in getattr(top, "__path__", ())]
        found = [file for folder in folders for file in folder.rglob("*")]
        files.update(found or [Path(top.__file__)])
    return sorted(file for file in files if file.is_file() and file.suffix != ".pyc")


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
