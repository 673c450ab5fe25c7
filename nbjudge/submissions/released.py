"""The released notebook of an assignment, cell by cell: what a submission is held against."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.coursedir import CourseDirectory

from nbjudge.course.declared import command
from nbjudge.course.safe_files import notebooks_in
from nbjudge.submissions.cells import text_of
from nbjudge.submissions.definitions import Definitions, bound, parsed


@dataclass
class Target:
    """A cell of the released notebook.

    Args:
        cell: as released.
        number: its place.
        check: number of the graded cell that comes next, which is the check of a solution.
        names: what a solution defines.

    """

    cell: NotebookNode
    number: int
    check: int | None = None
    names: frozenset[str] = field(default_factory=frozenset)

    @property
    def key(self):
        """By what it is found, in a submission too."""
        return self.cell.id

    @property
    def marks(self):
        """What nbgrader wrote beside it."""
        return self.cell.metadata.get("nbgrader", {})

    @property
    def name(self):
        """In quotes, for a sentence."""
        return f"`{self.marks['grade_id']}`"

    @property
    def known(self):
        """Whether nbgrader knows it; the others are text and pictures that may go."""
        return bool(self.marks.get("grade_id"))

    @property
    def locked(self):
        """Whether no student may change it."""
        return self.known and bool(self.marks.get("locked"))

    @property
    def answer(self):
        """Whether a student answers in it."""
        return self.known and bool(self.marks.get("solution"))

    @property
    def written(self):
        """Whether that is an answer in words."""
        return self.answer and not self.code

    @functools.cached_property
    def text(self):
        """What a copy has in common with it; see `text_of`."""
        return text_of(self.cell)

    @property
    def is_check(self):
        """Whether it is the check of a function."""
        return self.locked and self.code and bool(self.marks.get("grade"))

    @property
    def counts(self):
        """Whether there are points for it, or it is an answer to what has."""
        return self.answer or bool(self.marks.get("grade"))

    @property
    def code(self):
        """Whether it is a cell of code."""
        return self.cell.cell_type == "code"

    def is_unchanged(self, cell: NotebookNode) -> bool:
        """Whether a submitted cell is as this one, white space aside."""
        # White space alone does not make a cell ten times as long.
        longest = 10 * (len(self.cell.source) + 100)
        return len(cell.source) < longest and text_of(cell) == self.text


def targets_of(release: NotebookNode) -> list[Target]:
    """The cells of a released notebook, in order."""
    targets = [Target(cell, number) for number, cell in enumerate(release.cells)]
    check = None
    for target in reversed(targets):
        if target.answer and target.code and not target.marks.get("grade"):
            target.check, target.names = check, bound(parsed(target.cell.source))
        elif target.known and target.marks.get("grade"):
            check = target.number
    return targets


def definitions_of(targets: list[Target]) -> Definitions:
    """What finds in code the names that the solutions define."""
    return Definitions(name for target in targets for name in target.names)


def release_path(course: CourseDirectory, assignment: str, name: str) -> Path:
    """Where the students' version of an assignment's notebook lies.

    Args:
        course: nbgrader's.
        assignment: its name.
        name: of the notebook, without its ending.

    """
    return Path(course.format_path(course.release_directory, ".", assignment)) / f"{name}.ipynb"


def release_paths(course: CourseDirectory, assignment: str) -> list[Path]:
    """The students' versions of all notebooks of an assignment.

    Raises:
        FileNotFoundError: when it was not released; the message says how to.

    """
    folder = release_path(course, assignment, assignment).parent
    if found := notebooks_in(folder):
        return found
    raise FileNotFoundError(f"no notebook in {folder}: run `{command()} release {assignment}`")


def read_release(path: Path) -> NotebookNode:
    """The students' version of an assignment.

    Raises:
        FileNotFoundError: when it was not released; the message says how to.

    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: run `{command()} release {path.parent.name}`")
    # A copy for each caller would cost more than reading it; it is looked at only.
    return _read_release(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read_release(path, modified):
    return nbformat.read(path, as_version=4)
