"""nbgrader's gradebook, asked less often.

nbgrader opens the gradebook some ten times for a submission, each time with an engine that compiles
the same statements again, looks for each table by itself, and asks and commits cell by cell; for a
new gradebook it runs a program of three seconds. Here are its two busiest steps, with one question
and one commit for all cells of a notebook, one engine for each database, and `opened_once`.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import nbgrader.api
from nbformat import NotebookNode
from nbgrader.api import (
    Assignment,
    Base,
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    GradeCell,
    MissingEntry,
    SolutionCell,
    SubmittedAssignment,
    TaskCell,
)
from nbgrader.coursedir import CourseDirectory
from nbgrader.dbutil import ALEMBIC_DIR
from nbgrader.preprocessors import OverwriteCells, SaveAutoGrades
from nbgrader.utils import is_grade, is_solution
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.orm import joinedload, scoped_session, sessionmaker, with_polymorphic

from nbjudge.course.files import kept_folder, write_whole

# The folder that says which answers the gradebook's grades are for.
ANSWERS = "answers"


def newest_version() -> str:
    """The version of the tables that this nbgrader makes, as alembic names it."""
    # Only a new gradebook asks, and every command would wait a tenth of a second for the import.
    from alembic.script import ScriptDirectory

    return ScriptDirectory(ALEMBIC_DIR).get_current_head()


_create_all = Base.metadata.create_all


def create_missing(bind: Engine) -> None:
    """Create the tables that are not there; one question when all are."""
    if not Base.metadata.tables.keys() <= set(inspect(bind).get_table_names()):
        _create_all(bind=bind)


def ask_less_often() -> None:
    """Have nbgrader make one engine for each database, and ask for its tables all at once."""
    Base.metadata.create_all = create_missing
    nbgrader.api.create_engine = _one_engine
    nbgrader.api.get_alembic_version = newest_version


_one_engine = functools.cache(create_engine)

# Within `opened_once`: (address, course) → the engine of a gradebook that was opened there.
_engines: ContextVar[dict[tuple[str, str], Engine] | None] = ContextVar("engines", default=None)
_open, _close = Gradebook.__init__, Gradebook.close


@contextlib.contextmanager
def opened_once() -> Iterator[None]:
    """Whoever opens a gradebook in here gets a session of their own on a connection that stays.

    Only the first of them asks for the tables and the course.
    """
    engines = {}
    token = _engines.set(engines)
    try:
        yield
    finally:
        _engines.reset(token)
        for engine in engines.values():
            engine.dispose()


def _open_once(gradebook, db_url, course_id="default_course", authenticator=None):
    engines, key = _engines.get(), (db_url, course_id)
    if engines is None or key not in engines:
        _open(gradebook, db_url, course_id, authenticator)
        if engines is not None:
            engines[key] = gradebook.engine
        return
    gradebook.course_id, gradebook.authenticator = course_id, authenticator
    gradebook.engine = engines[key]
    gradebook.db = scoped_session(sessionmaker(gradebook.engine))


def _close_session(gradebook):
    if _engines.get() is None:
        _close(gradebook)
    else:
        gradebook.db.remove()


Gradebook.__init__, Gradebook.close = _open_once, _close_session


def note_version(gradebook: Gradebook) -> None:
    """Write down the version of the tables, if a run was killed between making them and that.

    Without it `nbgrader db upgrade` takes the gradebook for one of the first version.
    """
    session = gradebook.db
    session.execute(
        text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL)")
    )
    if not session.execute(text("SELECT version_num FROM alembic_version")).first():
        session.execute(
            text("INSERT INTO alembic_version VALUES (:version)"), {"version": newest_version()}
        )
    session.commit()


class OverwriteTogether(OverwriteCells):
    """nbgrader's `OverwriteCells`: what is locked becomes again what was released."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Overwrite locked cells, and add missing ones if `add_missing_cells` says so."""
        about = resources["nbgrader"]
        self.notebook_id, self.assignment_id = about["notebook"], about["assignment"]
        self.gradebook = Gradebook(about["db_url"])
        with self.gradebook as gradebook:
            notebook = gradebook.find_notebook(self.notebook_id, self.assignment_id)
            graded = [*notebook.grade_cells, *notebook.task_cells]
            gradebook.find_source_cell = _finder(notebook.source_cells)
            gradebook.find_graded_cell = _finder(graded)
            for index, cell in enumerate(nb.cells):
                nb.cells[index], resources = self.preprocess_cell(cell, resources, index)
            if self.add_missing_cells:
                nb, resources = self.add_missing_grade_cells(nb, resources)
                nb, resources = self.add_missing_task_cells(nb, resources)
        return nb, resources


class SaveTogether(SaveAutoGrades):
    """nbgrader's `SaveAutoGrades`: a notebook's grades are there all or none.

    nbgrader keeps the points that a person gave, and after every regrade asks for another look at
    each. Here only where the answer, the automatic score or the maximum has changed.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Record the scores of all cells, and which questions got no answer."""
        about = resources["nbgrader"]
        self.notebook_id, self.assignment_id = about["notebook"], about["assignment"]
        self.student_id, self.db_url = about["student"], about["db_url"]
        self.gradebook = Gradebook(self.db_url)
        path = answers_path(
            CourseDirectory(config=self.config), self.assignment_id, self.student_id
        )
        before, answers = _read_answers(path), _digests(nb)
        if self.notebook_id != self.assignment_id:
            # Of several notebooks of one assignment, two may have cells of the same name.
            answers = {f"{self.notebook_id}: {name}": said for name, said in answers.items()}
        names = {name.rpartition(": ")[2]: name for name in answers}
        with self.gradebook:
            session = self.gradebook.db
            commit, session.commit = session.commit, session.flush
            submission = self.gradebook.find_submission(self.assignment_id, self.student_id)
            notebook = [n for n in submission.notebooks if n.name == self.notebook_id]
            grades = _entries(self.gradebook, notebook, Grade)
            self.gradebook.find_grade = _finder(grades)
            self.gradebook.find_comment = _finder(_entries(self.gradebook, notebook, Comment))
            looked_at = [
                (grade, grade.auto_score)
                for grade in grades
                if grade.manual_score is not None and not grade.needs_manual_grade
            ]
            for index, cell in enumerate(nb.cells):
                self.preprocess_cell(cell, resources, index)
            for grade, auto_score in looked_at:
                name = names.get(grade.cell.name)
                if grade.auto_score == auto_score and before.get(name) == answers.get(name):
                    grade.needs_manual_grade = False
            commit()
        # Last: of a run that is killed before, nothing is believed to have been looked at.
        write_whole(path, json.dumps({**before, **answers}))
        return nb, resources


def answers_path(course: CourseDirectory, assignment: str, student: str) -> Path:
    """Where it is written down which answers the gradebook's grades are for."""
    return kept_folder(course, ANSWERS, assignment) / f"{student}.json"


def _read_answers(path):
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _digests(notebook):
    """Graded cell → digest of what is graded there: a text, or for a check all code."""
    code = [
        cell.source for cell in notebook.cells if is_solution(cell) and cell.cell_type == "code"
    ]
    found = {}
    for cell in filter(is_grade, notebook.cells):
        about = cell.metadata.nbgrader
        graded = [about.points, cell.source, *([] if is_solution(cell) else code)]
        found[about.grade_id] = hashlib.sha256(json.dumps(graded).encode()).hexdigest()
    return found


def grades_of(gradebook: Gradebook, assignment: str, student: str) -> list[Grade]:
    """The grades of a submission, with their cells.

    Raises:
        MissingEntry: when there is no such submission.

    """
    submission = gradebook.find_submission(assignment, student)
    return _entries(gradebook, submission.notebooks, Grade)


def _entries(gradebook, notebooks, kind):
    """What submitted notebooks have of a kind, each with its cell."""
    found = gradebook.db.query(kind).filter(kind.notebook_id.in_([n.id for n in notebooks]))
    cell = with_polymorphic(BaseCell, [GradeCell, SolutionCell, TaskCell], flat=True)
    return found.options(joinedload(kind.cell.of_type(cell))).all()


def waiting_of(gradebook: Gradebook, assignment: str) -> dict[str, bool]:
    """Student → whether a person must grade, for all of whom the gradebook has a notebook."""
    rows = gradebook.db.query(
        SubmittedAssignment.student_id, SubmittedAssignment.needs_manual_grade
    )
    rows = rows.join(SubmittedAssignment.assignment).join(SubmittedAssignment.notebooks)
    return {student: needs for student, needs in rows.filter(Assignment.name == assignment)}


def _finder(entries):
    """Finds among these, by the name of a cell, as the gradebook's methods do."""
    by_name = {entry.name: entry for entry in entries}

    def find(name, notebook, assignment, student=None):
        if name not in by_name:
            raise MissingEntry(f"no such cell: {assignment}/{notebook}/{name}")
        return by_name[name]

    return find
