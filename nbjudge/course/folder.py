"""The course folder: where assignments, submissions and the gradebook lie, through nbgrader."""

import contextlib
import copy
import fcntl
import filecmp
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import MissingEntry
from nbgrader.apps import NbGraderAPI
from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from traitlets.config.loader import Config, PyFileConfigLoader

from nbjudge.course.convert import AutogradeExecuted, CourseError, NotConverted, convert
from nbjudge.course.declared import command, declared
from nbjudge.course.gradebook import note_version
from nbjudge.course.safe_files import notebooks_in
from nbjudge.course.save import answers_path

CONFIG = "nbgrader_config.py"
_MAKING = ".release-"
# In a path nbgrader takes these for a pattern or a variable, and SQLAlchemy for part of an address;
# in a student's id only the first.
_SPECIAL, _SPECIAL_IN_ID = "*?$%", "*"


class Course:
    """A course folder and nbgrader's programming interface to it.

    Args:
        start: the course folder or any folder inside it.

    Raises:
        CourseError: when no nbgrader configuration is found there or above.

    """

    def __init__(self, start: Path | str = "."):
        start = Path(start).resolve()
        found = [folder for folder in (start, *start.parents) if (folder / CONFIG).is_file()]
        if not found:
            raise CourseError(
                f"no {CONFIG} in {start} or above it: run {command()} in the course folder"
            )
        self.root = found[0]
        if special := sorted(set(_SPECIAL) & set(str(self.root))):
            raise CourseError(
                f"the path of the course, {self.root}, holds {' '.join(special)}, which nbgrader "
                "does not take for a part of a name: move or rename its folder"
            )
        config = PyFileConfigLoader(CONFIG, path=str(self.root)).load_config()
        with contextlib.redirect_stderr(io.StringIO()):
            self.api = NbGraderAPI(config=config)
        self.folders = self.api.coursedir

    def path(self, folder: str, student: str = ".", assignment: str = ".") -> Path:
        """A folder of the course: `source`, `release`, `submitted`, `autograded`, `feedback`."""
        directory = getattr(self.folders, f"{folder}_directory")
        return Path(self.folders.format_path(directory, student, assignment))

    @property
    def grading(self) -> Path:
        """The folder that holds submissions, gradebook, feedback and reports."""
        return self.path("submitted").parent

    @property
    def gradebook(self) -> str:
        """Where it is: a file, or a database's address without the password."""
        address = make_url(self.folders.db_url)
        in_a_file = address.get_backend_name() == "sqlite"
        return address.database if in_a_file else address.render_as_string(hide_password=True)

    def assignments(self) -> list[str]:
        """Names of the assignments: folders with notebooks in the source folder."""
        found = {path.parent.name for path in self.path("source").glob("*/*.ipynb")}
        return sorted(name for name in found if not name.startswith("."))

    def notebooks(self, assignment: str) -> list[str]:
        """Names of an assignment's notebooks, without `.ipynb`."""
        return [path.stem for path in notebooks_in(self.path("source", assignment=assignment))]

    def require(self, assignment: str) -> None:
        """Raise CourseError unless the course has this assignment."""
        if assignment not in self.assignments():
            known = ", ".join(self.assignments()) or "none yet"
            folder = self.path("source").relative_to(self.root)
            raise CourseError(f"no assignment {assignment!r} in {folder}/; there are: {known}")

    def notebook(
        self, folder: str, assignment: str, student: str = ".", name: str | None = None
    ) -> Path:
        """A notebook of an assignment in one of the course's folders.

        Args:
            folder: as for `path`.
            assignment: its name.
            student: whose.
            name: of the notebook; None is the one that is called as the assignment is.

        """
        return self.path(folder, student, assignment) / f"{name or assignment}.ipynb"

    def release(self, assignment: str) -> None:
        """Make the student's version and enter the assignment into the gradebook.

        Raises:
            CourseError: when nbgrader refuses; the released version stays as it was.

        """
        self.require(assignment)
        released = self.path("release", assignment=assignment)
        with self._generated(assignment, self.api.config) as made:
            shutil.rmtree(released, ignore_errors=True)
            released.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(made, released)

    def enter(self, assignment: str) -> None:
        """Make sure that the gradebook knows the assignment; one that it knows stays as it is."""
        self.require(assignment)
        with self._alone():
            for left in self.root.glob(f"{_MAKING}*"):
                # Of a run that was killed.
                shutil.rmtree(left, ignore_errors=True)
            with self.api.gradebook as gradebook:
                note_version(gradebook)
            if not self._is_entered(assignment):
                self.release(assignment)

    @contextlib.contextmanager
    def _alone(self):
        """Among all that use one PostgreSQL: of two who enter an assignment at once, one fails."""
        address = make_url(self.folders.db_url)
        if address.get_backend_name() != "postgresql":
            yield
            return
        try:
            connection = create_engine(address, poolclass=NullPool).connect()
        except (ImportError, DBAPIError) as error:
            reason = str(getattr(error, "orig", error)).splitlines()[0]
            raise CourseError(f"no gradebook at {self.gradebook}: {reason}") from None
        with connection:
            # Ends with the connection, and so also with a process that is killed.
            connection.execute(text("SELECT pg_advisory_lock(hashtext('nbjudge enter'))"))
            yield

    def _is_entered(self, assignment):
        """Whether the gradebook knows every cell; it learns them one by one, sources last."""
        wanted = {}
        for name in self.notebooks(assignment):
            released = self.notebook("release", assignment, name=name)
            if not released.is_file():
                return False
            wanted[name] = _names(released)
        with self.api.gradebook as gradebook:
            there = _cells_of(gradebook, assignment)
        return all(name in there and names <= there[name] for name, names in wanted.items())

    def is_released(self, assignment: str) -> bool:
        """Whether the student's version is what its source makes today, byte for byte."""
        self.require(assignment)
        names = [f"{name}.ipynb" for name in self.notebooks(assignment)]
        config = copy.deepcopy(self.api.config)
        config.GenerateAssignment.no_database = True
        config.SaveCells.enabled = False
        # Of the course, before `_generated` lays its own in the place of it.
        released = self.path("release", assignment=assignment)
        with self._generated(assignment, config) as made:
            return filecmp.cmpfiles(made, released, names, shallow=False)[0] == names

    @contextlib.contextmanager
    def _generated(self, assignment, config):
        """The student's version in a temporary folder beside the course's own."""
        before = self.folders.release_directory
        with tempfile.TemporaryDirectory(dir=self.root, prefix=_MAKING) as folder:
            self.folders.assignment_id = assignment
            self.folders.release_directory = folder
            try:
                try:
                    convert(GenerateAssignment(coursedir=self.folders, config=config))
                except NotConverted as error:
                    reason = self._why_frozen(assignment) or error
                    raise CourseError(f"{assignment} cannot be released: {reason}") from error
                yield self.path("release", assignment=assignment)
            finally:
                self.folders.release_directory = before

    def _why_frozen(self, assignment):
        """Why nbgrader refuses other cells than those it has grades for; None if it is not that."""
        names = self.notebooks(assignment)
        wanted = {
            cell
            for name in names
            for cell in _named(
                name, assignment, _names(self.notebook("source", assignment, ".", name))
            )
        }
        with self.api.gradebook as gradebook:
            known = _cells_of(gradebook, assignment)
            there = {cell for name in known for cell in _named(name, assignment, known[name])}
            graded = gradebook.find_assignment(assignment).num_submissions if known else 0
        changes = [
            f"{verb}: {', '.join(sorted(names))}"
            for verb, names in (("added", wanted - there), ("removed", there - wanted))
            if names
        ]
        if not graded or not changes:
            return None
        return (
            f"{'; '.join(changes)}; but the gradebook has grades of {graded} students for the old "
            "cells. Put the old cells back, or give the new version a name of its own, or forget "
            f"the grades, those given by hand too (`nbgrader db assignment remove {assignment} "
            f"--force`), then release and grade again: see {declared().manual}"
        )

    def submissions(self, assignment: str) -> list[str]:
        """Students with a folder for this assignment, notebook or not.

        Raises:
            CourseError: when there is no such assignment, folder or submission.

        """
        self.require(assignment)
        submitted = self.path("submitted")
        files = " and ".join(f"{name}.ipynb" for name in self.notebooks(assignment))
        where = f"{submitted.relative_to(self.root)}/STUDENT/{assignment}/{files}"
        if not submitted.is_dir():
            raise CourseError(f"there is no folder {submitted}: collect notebooks as {where}")
        students = sorted(
            folder.name
            for folder in submitted.iterdir()
            if not folder.name.startswith(".") and os.path.isdir(folder / assignment)
        )
        if not students:
            raise CourseError(f"nobody submitted {assignment}: put notebooks at {where}")
        return students

    @contextlib.contextmanager
    def claimed(self, assignment: str) -> Iterator[None]:
        """While this process grades an assignment in this folder, no other does.

        Raises:
            CourseError: when another process does so.

        """
        path = self.grading / "graded" / assignment / ".in-use"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as file:
            try:
                # Ends with the process, also when that is killed.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CourseError(
                    f"{assignment} is being graded in this folder by another process: wait for its "
                    "end, then run this again"
                ) from None
            yield

    def autograde(
        self, student: str, assignment: str, executed: dict[str, NotebookNode] | None = None
    ) -> None:
        """Have nbgrader autograde a submission, as formgrader's button does.

        Args:
            student: whose.
            assignment: its name.
            executed: name → the notebook that nbgrader's sanitizing preprocessors made of the
                submitted one, executed, if that was done before; it is not done again.

        Raises:
            NotConverted: when nbgrader cannot.
            KeyboardInterrupt: when a person wants this to end.

        """
        self.folders.assignment_id, self.folders.student_id = assignment, student
        about = {"coursedir": self.folders, "parent": self.api}
        converter = AutogradeExecuted(executed, **about) if executed else Autograde(**about)
        converter.force = converter.create_student = True
        convert(converter)

    def feedback(self, student: str, assignment: str) -> None:
        """Write the page that a student gets back.

        Raises:
            NotConverted: when nbgrader cannot.

        """
        self.folders.assignment_id, self.folders.student_id = assignment, student
        converter = GenerateFeedback(coursedir=self.folders, parent=self.api)
        # Formgrader has another.
        converter.update_config(Config({"HTMLExporter": {"template_name": "feedback"}}))
        converter.force = True
        convert(converter)

    def forget(self, student: str, assignment: str) -> None:
        """Remove a submission: its folder, what was made of it, and its grades."""
        shutil.rmtree(self.path("submitted", student, assignment), ignore_errors=True)
        (self.grading / "graded" / assignment / f"{student}.json").unlink(missing_ok=True)
        answers_path(self.folders, assignment, student).unlink(missing_ok=True)
        self.remove_student_files(student, assignment)
        with self.api.gradebook as gradebook, contextlib.suppress(MissingEntry):
            gradebook.remove_submission(assignment, student)

    def remove_student_files(self, student: str, assignment: str) -> None:
        """Forget what earlier runs made of a submission; the submission itself stays."""
        for folder in ("autograded", "feedback"):
            shutil.rmtree(self.path(folder, student, assignment), ignore_errors=True)


def unusable(student: str) -> str:
    """Why a folder's name cannot be a student's id; empty if it can."""
    wanted = "rename the folder"
    try:
        student.encode()
    except UnicodeEncodeError:
        return f"the folder's name is not UTF-8 text: {wanted}"
    if set(_SPECIAL_IN_ID) & set(student):
        return f"the folder's name holds *, which nbgrader does not take for a part of it: {wanted}"
    if student != student.strip() or not student.isprintable():
        return (
            f"the folder's name begins or ends with a blank or holds what cannot be seen: {wanted}"
        )
    return ""


def _cells_of(gradebook, assignment):
    """Notebook → names of its cells, as far as the gradebook knows them."""
    try:
        notebooks = gradebook.find_assignment(assignment).notebooks
    except MissingEntry:
        return {}
    return {n.name: {cell.name for cell in n.source_cells} for n in notebooks}


def _named(notebook, assignment, cells):
    """Names of cells, for people; with the notebook's where it does not go without saying."""
    return cells if notebook == assignment else {f"{notebook}: {cell}" for cell in cells}


def _names(path):
    """Of the cells that nbgrader knows in a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells} - {None}
