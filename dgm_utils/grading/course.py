"""The course folder: where assignments, submissions and the gradebook lie, through nbgrader."""

import contextlib
import copy
import filecmp
import io
import logging
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import MissingEntry
from nbgrader.apps import NbGraderAPI
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.utils import capture_log
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, SAWarning
from traitlets.config.loader import PyFileConfigLoader

from dgm_utils.grading.errors import UserError
from dgm_utils.grading.gradebook import answers_path, note_version

CONFIG = "nbgrader_config.py"
_MAKING = ".release-"


class CourseError(UserError):
    """Something about the course folder."""


class _AutogradeSanitized(Autograde):
    """The second half of nbgrader's converter; the first was done before, and its hook."""

    def run_pre_convert_hook(self):
        """What it would find was found; beside it a student may have handed in other notebooks."""
        wanted = f"{self.coursedir.assignment_id}.ipynb"
        self.notebooks = [path for path in self.notebooks if Path(path).name == wanted]

    def convert_single_notebook(self, notebook_filename):
        resources = self.init_single_notebook_resources(notebook_filename)
        self._sanitizing = False
        self._init_preprocessors()
        output, resources = self.exporter.from_notebook_node(self.sanitized, resources)
        self.write_single_notebook(output, resources)


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
            raise CourseError(f"no {CONFIG} in {start} or above it: run dgm in the course folder")
        self.root = found[0]
        config = PyFileConfigLoader(CONFIG, path=str(self.root)).load_config()
        # nbgrader 0.9.6 with SQLAlchemy 2.1; the rows it warns about are written.
        warnings.filterwarnings("ignore", "Object of type <Submitted", SAWarning)
        # nbgrader logs to the console as well; what matters of it comes back as a result.
        logging.getLogger("traitlets").setLevel(logging.CRITICAL)
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
        """Names of the assignments that have a notebook of the same name in the source folder."""
        return sorted(
            n.stem for n in self.path("source").glob("*/*.ipynb") if n.parent.name == n.stem
        )

    def require(self, assignment: str) -> None:
        """Raise CourseError unless the course has this assignment."""
        if assignment not in self.assignments():
            known = ", ".join(self.assignments()) or "none yet"
            folder = self.path("source").relative_to(self.root)
            raise CourseError(f"no assignment {assignment!r} in {folder}/; there are: {known}")

    def notebook(self, folder: str, assignment: str, student: str = ".") -> Path:
        """The notebook of an assignment in one of the course's folders."""
        return self.path(folder, student, assignment) / f"{assignment}.ipynb"

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
            connection.execute(text("SELECT pg_advisory_lock(hashtext('dgm enter'))"))
            yield

    def _is_entered(self, assignment):
        """Whether the gradebook knows every cell; it learns them one by one, sources last."""
        released = self.notebook("release", assignment)
        if not released.is_file():
            return False
        names = _names(released)
        with self.api.gradebook as gradebook:
            try:
                notebook = gradebook.find_notebook(assignment, assignment)
            except MissingEntry:
                return False
            return names <= {cell.name for cell in notebook.source_cells}

    def is_released(self, assignment: str) -> bool:
        """Whether the student's version is what its source makes today, byte for byte."""
        self.require(assignment)
        released = self.notebook("release", assignment)
        config = copy.deepcopy(self.api.config)
        config.GenerateAssignment.no_database = True
        config.SaveCells.enabled = False
        with self._generated(assignment, config) as made:
            return released.is_file() and filecmp.cmp(made / released.name, released, shallow=False)

    @contextlib.contextmanager
    def _generated(self, assignment, config):
        """The student's version in a temporary folder beside the course's own."""
        before = self.folders.release_directory
        with tempfile.TemporaryDirectory(dir=self.root, prefix=_MAKING) as folder:
            self.folders.assignment_id = assignment
            self.folders.release_directory = folder
            try:
                converter = GenerateAssignment(coursedir=self.folders, config=config)
                outcome = capture_log(converter)
                if not outcome["success"]:
                    reason = self._why_frozen(assignment) or error_of(outcome)
                    raise CourseError(f"{assignment} cannot be released: {reason}")
                yield self.path("release", assignment=assignment)
            finally:
                self.folders.release_directory = before

    def _why_frozen(self, assignment):
        """Why nbgrader refuses other cells than those it has grades for; None if it is not that."""
        wanted = _names(self.notebook("source", assignment))
        with self.api.gradebook as gradebook:
            try:
                notebook = gradebook.find_notebook(assignment, assignment)
            except MissingEntry:
                return None
            there = {cell.name for cell in notebook.source_cells}
            graded = len(notebook.submissions)
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
            "--force`), then release and grade again: see docs/instructors.md"
        )

    def submissions(self, assignment: str) -> list[str]:
        """Students with a folder for this assignment, notebook or not.

        Raises:
            CourseError: when there is no such assignment, folder or submission.

        """
        self.require(assignment)
        submitted = self.path("submitted")
        where = f"{submitted.relative_to(self.root)}/STUDENT/{assignment}/{assignment}.ipynb"
        if not submitted.is_dir():
            raise CourseError(f"there is no folder {submitted}: collect notebooks as {where}")
        students = sorted(f.parent.name for f in submitted.glob(f"*/{assignment}") if f.is_dir())
        if not students:
            raise CourseError(f"nobody submitted {assignment}: put notebooks at {where}")
        return students

    def autograde(
        self, student: str, assignment: str, sanitized: NotebookNode | None = None
    ) -> dict:
        """Have nbgrader autograde a submission, as formgrader's button does.

        Args:
            student: whose.
            assignment: its name.
            sanitized: the notebook that nbgrader's sanitizing preprocessors made of the submission,
                if they were run before; they are not run again.

        Returns:
            nbgrader's outcome: `success`, `error`, `log`.

        Raises:
            KeyboardInterrupt: when a person wants this to end.

        """
        self.folders.assignment_id, self.folders.student_id = assignment, student
        converter = _AutogradeSanitized if sanitized else Autograde
        converter = converter(coursedir=self.folders, parent=self.api)
        converter.force = converter.create_student = True
        converter.sanitized = sanitized
        outcome = capture_log(converter)
        # nbgrader takes this for one more error of the submission.
        if outcome.get("error", "").splitlines()[-1:] == ["KeyboardInterrupt"]:
            raise KeyboardInterrupt
        return outcome

    def feedback(self, student: str, assignment: str) -> None:
        """Write the page that a student gets back.

        Raises:
            CourseError: when nbgrader cannot.

        """
        outcome = self.api.generate_feedback(assignment, student)
        if not outcome["success"]:
            raise CourseError(f"no feedback for {student}: {error_of(outcome)}")

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


def _names(path):
    """Of the cells that nbgrader knows in a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells} - {None}


def error_of(outcome: dict) -> str:
    """The error behind an nbgrader result that was no success, in one line.

    nbgrader logs the cause and then raises an exception of its own that only points to the log.
    """
    # nbgrader's log is indented.
    lines = [x.strip() for x in (outcome.get("log", "") + outcome["error"]).splitlines()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Missing\w*)\b", line)]
    causes = [line for line in errors if "Please see the" not in line] or errors or lines[-1:]
    return causes[-1].strip()[:200]
