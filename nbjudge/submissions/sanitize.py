"""Sanitize: a submission in, a notebook out whose locked cells are as they were released."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbconvert import NotebookExporter
from nbformat import NotebookNode
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory

from nbjudge.course.gradebook import opened_once
from nbjudge.course.results import Result
from nbjudge.course.safe_files import as_text, kept_folder
from nbjudge.errors import in_one_line
from nbjudge.submissions.handed_in import SubmissionError
from nbjudge.submissions.intake import Taken
from nbjudge.submissions.submission import Submission

# The folder of notebooks between their execution and their being recorded.
EXECUTED = "executed"


@dataclass(frozen=True)
class Sanitized:
    """A submission that can be executed.

    Args:
        submission: what it was made of.
        texts: name → notebook.
        kept: name → where the executed notebook is kept until it is recorded, so that a run that is
            killed need not execute it again.
        missing: file names of notebooks that were not handed in.

    """

    submission: Submission
    texts: dict[str, str]
    kept: dict[str, Path]
    missing: list[str]


def sanitized(taken: Iterable[Taken | Result]) -> Iterator[Sanitized | Result]:
    """Each once it is asked for; in place of one that cannot be sanitized, its result."""
    for one in taken:
        yield one if isinstance(one, Result) else one.submission.attempt(_sanitize, one)


def _sanitize(taken):
    submission, texts, kept = taken.submission, {}, {}
    about = submission.course.folders, submission.assignment, submission.student
    for path, notebook in taken.notebooks.items():
        notebook = _by_nbgrader(submission, path, notebook)
        texts[path.stem] = as_text(notebook)
        kept[path.stem] = executed_path(*about, notebook, submission.version)
    return Sanitized(submission, texts, kept, taken.missing)


def _by_nbgrader(submission, path, notebook):
    """What nbgrader's sanitizing preprocessors make of a notebook."""
    course, folders = submission.course, submission.course.folders
    folders.assignment_id, folders.student_id = submission.assignment, submission.student
    converter = Autograde(coursedir=folders, config=course.api.config)
    # Only to make the steps: it would copy the notebook three times and write it down.
    exporter = NotebookExporter(config=converter.config)
    for preprocessor in converter.sanitize_preprocessors:
        exporter.register_preprocessor(preprocessor)
    resources = converter.init_single_notebook_resources(str(path))
    try:
        with opened_once():
            for step in exporter._preprocessors:
                notebook, resources = step(notebook, resources)
        nbformat.validate(notebook, relax_add_props=True)
    except SubmissionError:
        raise
    except Exception as error:
        # What nbgrader makes of a notebook that a student has bent is the notebook's fault.
        raise SubmissionError(in_one_line(error)) from error
    return notebook


def executed_path(
    course: CourseDirectory, assignment: str, student: str, notebook: NotebookNode, version: bytes
) -> Path:
    """Where the executed form of a sanitized notebook is kept.

    The name changes with whatever the file's content depends on. It changes with the student too:
    two may have the same code and not the same answers in words, and the file holds both.

    Args:
        course: nbgrader's.
        assignment: its name.
        student: whose it is.
        notebook: sanitized.
        version: of the exercises.

    """
    cells = [
        (cell.cell_type, cell.source, cell.metadata.get("nbgrader", {}).get("grade_id"))
        for cell in notebook.cells
    ]
    name = hashlib.sha256(json.dumps([student, version.hex(), cells]).encode()).hexdigest()
    return kept_folder(course, EXECUTED, assignment) / f"{name}.ipynb"
