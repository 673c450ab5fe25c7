"""How nbgrader executes and marks a submission: in the sandbox, with verdicts from outside.

`nbgrader_config.py` puts `ExecuteAndMark` in the place of nbgrader's own `Execute`, so that
`nbgrader autograde`, formgrader's button and `nbjudge grade` take the same road.
"""

import atexit
import contextlib
import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import MissingEntry
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Bool, Float

from nbjudge.course.convert import ALREADY
from nbjudge.course.overwrite import OverwriteTogether
from nbjudge.course.safe_files import notebooks_in
from nbjudge.course.seeds import secret_of
from nbjudge.errors import UserError
from nbjudge.mark import Marker
from nbjudge.running.execute import Rules, execute, execute_all
from nbjudge.running.sandbox import Sandbox

_MOST_FILES = 1000


class PreflightError(UserError):
    """The course's own notebooks do not get the points they must get; nobody is graded."""


class Grader:
    """One assignment, ready to be graded: a marker and a sandbox.

    Args:
        sources: the instructor's notebooks, which must get all points.
        releases: the students' notebooks, which must get none.
        jailed: whether student code is shut in.
        rules: limits for each notebook.
        secret: from which the numbers of the cases follow; see `seeds`.
        hidden: folders that nothing in the sandbox may see.
        partial: whether a check gives a part of its points for a part of the duties.
        restore: gives a notebook of some name its locked cells as they are graded, hidden tests
            too; None leaves them.

    """

    def __init__(
        self,
        sources: list[Path],
        releases: list[Path],
        jailed: bool = True,
        rules: Rules | None = None,
        secret: bytes = b"",
        hidden: tuple[str, ...] = (),
        partial: bool = True,
        restore: Callable[[NotebookNode, str], NotebookNode] | None = None,
    ):
        self.rules = rules or Rules()
        self.marker = Marker(*sources, secret=secret, partial=partial)
        self.contents = self.marker.contents(jailed, hidden)
        self.sandbox = Sandbox(self.contents)
        try:
            self._preflight(sources, releases, restore or (lambda notebook, _: notebook))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the sandbox."""
        self.sandbox.close()

    def execute(self, notebook: NotebookNode) -> NotebookNode:
        """Run a notebook in the sandbox."""
        return execute(notebook, str(self.sandbox.folder), self.contents.jailed, self.rules)

    def _preflight(self, sources, releases, restore):
        """What breaks the course's own notebooks would give a whole class zeros."""
        paths = [*sources, *releases]
        notebooks = execute_all(
            [restore(nbformat.read(path, as_version=4), path.stem) for path in paths],
            str(self.sandbox.folder),
            self.contents.jailed,
            self.rules,
        )
        for number, (path, notebook) in enumerate(zip(paths, notebooks, strict=True)):
            marked = self.marker.mark(notebook)
            right = number < len(sources)
            # A test that gives points in parts may give some of them for what was handed out.
            points = marked.points if right else marked.points - marked.partial
            if points != (marked.max_points if right else 0.0):
                raise PreflightError(
                    f"{path} got {points:g} of {marked.max_points:g} points; it must get "
                    f"{'all' if right else 'none'} of them. {_first_error(notebook)}".strip()
                )


def _first_error(notebook):
    errors = (
        f"{output.ename}: {output.evalue}"
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "error"
    )
    return next(errors, "")


class ExecuteAndMark(NbGraderPreprocessor):
    """Runs the code cells in the sandbox and puts verdicts in place of the checks' outputs."""

    sandbox = Bool(True, help="False runs student code unprotected").tag(config=True)
    cell_seconds = Float(60, help="seconds of processor time for one cell").tag(config=True)
    notebook_seconds = Float(900, help="the same for all cells and restarts").tag(config=True)
    partial_credit = Bool(
        True, help="whether a check gives a part of its points for a part of the duties"
    ).tag(config=True)

    def grader(self, course: CourseDirectory, assignment: str) -> Grader:
        """What grades this assignment under this configuration."""
        rules = Rules(self.cell_seconds, self.notebook_seconds)
        return grader_for(course, assignment, self.sandbox, rules, self.partial_credit)

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Execute a sanitized notebook, unless that was done already, and mark it."""
        course = CourseDirectory(config=self.config)
        assignment = resources["nbgrader"]["assignment"]
        grader = self.grader(course, assignment)
        student = resources["nbgrader"]["student"]
        executed = nb if resources["nbgrader"].get(ALREADY) else grader.execute(nb)
        submitted = Path(course.format_path(course.submitted_directory, student, assignment))
        return grader.marker.mark(executed, _names_in(submitted)).notebook, resources


def _names_in(folder):
    """Of the first files in a folder; it is a student's, so there may be anything."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in itertools.islice(entries, _MOST_FILES)}
    except OSError:
        return set()


def hidden_folders(course: CourseDirectory) -> tuple[str, ...]:
    """What no student code may see of a course: all of it, also what lies elsewhere."""
    kinds = course.submitted_directory, course.source_directory, course.release_directory
    folders = {course.root, *(course.format_path(kind, ".", ".") for kind in kinds)}
    tops = {os.path.realpath(folder) for folder in folders}
    within = {a for a in tops for b in tops if a != b and Path(a).is_relative_to(b)}
    return tuple(sorted(tops - within))


_graders: dict[tuple, Grader] = {}


def grader_for(
    course: CourseDirectory,
    assignment: str,
    jailed: bool,
    rules: Rules | None = None,
    partial: bool = True,
) -> Grader:
    """The grader of an assignment; one at a time is kept, from one submission to the next."""
    sources, releases = (
        notebooks_in(Path(course.format_path(folder, ".", assignment)))
        for folder in (course.source_directory, course.release_directory)
    )
    # What else lies there was not released, or is not made from a source any more.
    named = {path.name for path in sources} & {path.name for path in releases}
    sources, releases = ([p for p in paths if p.name in named] for paths in (sources, releases))
    secret, hidden = secret_of(course), hidden_folders(course)
    # By content as well: Jupyter's server lives long enough to see an assignment change.
    contents = tuple((path, path.read_bytes()) for path in (*sources, *releases))
    key = contents, jailed, rules, secret, partial
    if key not in _graders:
        close_graders()
        restore = functools.partial(_restored, course, assignment)
        _graders[key] = Grader(sources, releases, jailed, rules, secret, hidden, partial, restore)
    return _graders[key]


def _restored(course, assignment, notebook, name):
    """A notebook with locked cells as the gradebook has them, where it knows the assignment."""
    about = {"notebook": name, "assignment": assignment, "db_url": course.db_url}
    with contextlib.suppress(MissingEntry):
        OverwriteTogether().preprocess(notebook, {"nbgrader": about})
    return notebook


@atexit.register
def close_graders() -> None:
    """End every sandbox that was kept."""
    while _graders:
        _graders.popitem()[1].close()
