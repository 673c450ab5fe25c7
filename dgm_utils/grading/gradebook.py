"""nbgrader's gradebook, asked less often.

nbgrader opens the gradebook some ten times for a submission, each time with an engine that compiles
the same statements again, looks for each table by itself, and asks and commits cell by cell; for a
new gradebook it runs a program of three seconds. Here are its two busiest steps, with one question
and one commit for all cells of a notebook, and one engine for each database.
"""

import functools

import nbgrader.api
from alembic.script import ScriptDirectory
from nbformat import NotebookNode
from nbgrader.api import Base, Grade, Gradebook, GradeCell, MissingEntry
from nbgrader.dbutil import ALEMBIC_DIR
from nbgrader.preprocessors import OverwriteCells, SaveAutoGrades
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.orm import joinedload


def newest_version() -> str:
    """The version of the tables that this nbgrader makes, as alembic names it."""
    return ScriptDirectory(ALEMBIC_DIR).get_current_head()


_create_all = Base.metadata.create_all


def create_missing(bind: Engine) -> None:
    """Create the tables that are not there; one question when all are."""
    if not Base.metadata.tables.keys() <= set(inspect(bind).get_table_names()):
        _create_all(bind=bind)


Base.metadata.create_all = create_missing
nbgrader.api.create_engine = functools.cache(create_engine)
nbgrader.api.get_alembic_version = newest_version


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
    """nbgrader's `SaveAutoGrades`: a notebook's grades are there all or none."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Record the scores of all cells, and which questions got no answer."""
        about = resources["nbgrader"]
        self.notebook_id, self.assignment_id = about["notebook"], about["assignment"]
        self.student_id, self.db_url = about["student"], about["db_url"]
        self.gradebook = Gradebook(self.db_url)
        with self.gradebook:
            session = self.gradebook.db
            commit, session.commit = session.commit, session.flush
            for index, cell in enumerate(nb.cells):
                self.preprocess_cell(cell, resources, index)
            commit()
        return nb, resources


def grades_of(gradebook: Gradebook, assignment: str, student: str) -> list[Grade]:
    """The grades of a submission, with their cells.

    Raises:
        MissingEntry: when there is no such submission.

    """
    submission = gradebook.find_submission(assignment, student)
    notebooks = [notebook.id for notebook in submission.notebooks]
    grades = gradebook.db.query(Grade).filter(Grade.notebook_id.in_(notebooks))
    return grades.options(joinedload(Grade.cell.of_type(GradeCell))).all()


def _finder(cells):
    """Finds a cell by its name, as the gradebook's methods do, among these."""
    by_name = {cell.name: cell for cell in cells}

    def find(name, notebook, assignment):
        if name not in by_name:
            raise MissingEntry(f"no such cell: {assignment}/{notebook}/{name}")
        return by_name[name]

    return find
