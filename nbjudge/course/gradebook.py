"""nbgrader's gradebook, asked less often.

nbgrader opens the gradebook some ten times for a submission, each time with an engine that compiles
the same statements again, looks for each table by itself, and asks and commits cell by cell; for a
new gradebook it runs a program of three seconds. Here are one engine for each database,
`opened_once`, and what `overwrite` and `save` need to ask once for all cells of a notebook.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar

import nbgrader.api
from nbgrader.api import (
    Assignment,
    Base,
    BaseCell,
    Grade,
    Gradebook,
    GradeCell,
    MissingEntry,
    SolutionCell,
    SubmittedAssignment,
    TaskCell,
)
from nbgrader.dbutil import ALEMBIC_DIR
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.orm import joinedload, scoped_session, sessionmaker, with_polymorphic


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


def grades_of(gradebook: Gradebook, assignment: str, student: str) -> list[Grade]:
    """The grades of a submission, with their cells.

    Raises:
        MissingEntry: when there is no such submission.

    """
    submission = gradebook.find_submission(assignment, student)
    return entries(gradebook, submission.notebooks, Grade)


def entries(gradebook: Gradebook, notebooks: list, kind: type) -> list:
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
    waiting = {}
    # A row for each notebook, of which one may wait and another not.
    for student, needs in rows.filter(Assignment.name == assignment):
        waiting[student] = waiting.get(student, False) or needs
    return waiting


def finder(found: Iterable) -> Callable:
    """Finds among these, by the name of a cell, as the gradebook's methods do."""
    by_name = {entry.name: entry for entry in found}

    def find(name, notebook, assignment, student=None):
        if name not in by_name:
            raise MissingEntry(f"no such cell: {assignment}/{notebook}/{name}")
        return by_name[name]

    return find
