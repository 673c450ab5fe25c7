"""A small course to try the grader on: two functions of `iwae`, and one question in words.

Nothing is trained in it, so that a class of many submissions is graded in seconds.
"""

import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from nbjudge.course.folder import Course

ROOT = Path(__file__).resolve().parent.parent
TOPIC = "iwae"
# The points of `multi_sample_elbo` and of `iwae_bound`, and the exercises' code.
POINTS = {"multi_sample_elbo": 1.0, "iwae_bound": 2.0}
ELBO = "def multi_sample_elbo(log_w):\n    return log_w.mean(0)"
BOUND = "def iwae_bound(log_w):\n    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])"
WRONG = "def iwae_bound(log_w):\n    return log_w.mean(0)"
# The written task, and an answer to it.
QUESTION, WRITTEN = "proof-monotone", "Jensens Ungleichung, für alle K."
_KEPT = {"imports", "multi_sample_elbo", "iwae_bound", QUESTION}


def make_course(folder: Path) -> Course:
    """Make the course in an empty folder, and release its assignment."""
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    source = small(nbformat.read(ROOT / "solutions" / TOPIC / f"{TOPIC}.ipynb", 4))
    path = folder / "solutions" / TOPIC / f"{TOPIC}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(nbformat.writes(source), encoding="utf-8")
    course = Course(folder)
    course.release(TOPIC)
    return course


def small(notebook: NotebookNode) -> NotebookNode:
    """Leave of the assignment's notebook what this course has; the notebook is changed."""

    def wanted(cell):
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        return name.removesuffix("-solution").removesuffix("-check") in _KEPT

    notebook.cells = [cell for cell in notebook.cells if wanted(cell)]
    return notebook


def answered(course: Course, bound: str, attack: str = "", written: str = "") -> NotebookNode:
    """The released notebook with answers.

    Args:
        course: that `make_course` made.
        bound: code of `iwae_bound`; the other function is answered rightly.
        attack: code of a cell after the imports; none if it is empty.
        written: the answer in words; the stub stays if it is empty.

    """
    notebook = nbformat.read(course.notebook("release", TOPIC), 4)
    answers = {"multi_sample_elbo-solution": ELBO, "iwae_bound-solution": bound}
    answers |= {QUESTION: written} if written else {}
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    if attack:
        notebook.cells.insert(1, nbformat.v4.new_code_cell(attack, id="attack"))
    return notebook


def submit(course: Course, student: str, content: NotebookNode | str | bytes) -> Path:
    """Put a notebook, or what is to look like one, where a student hands it in; returns where."""
    path = course.notebook("submitted", TOPIC, student)
    path.parent.mkdir(parents=True)
    content = nbformat.writes(content) if isinstance(content, dict) else content
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
