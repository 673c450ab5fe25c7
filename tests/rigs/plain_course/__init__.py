"""A course that knows nothing of checks: what nbgrader's documentation describes, and no more.

One assignment of two notebooks, in which two cells have the same name: hidden tests, partial
credit, an answer in words, code for a person to look at, and a task. `SUBMISSIONS` are students who
got it right, partly right, wrong, broken, or handed in one notebook of the two.
"""

from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ASSIGNMENT = "first"
CONFIG = """
from nbjudge.settings import configure

c = get_config()
configure(c, __file__)
"""
# The same folders, and nbgrader as it comes.
STOCK_CONFIG = """
import os

c = get_config()
root = os.path.dirname(os.path.abspath(__file__))
os.makedirs(os.path.join(root, "grading"), exist_ok=True)
c.CourseDirectory.root = root
c.CourseDirectory.submitted_directory = "grading/submitted"
c.CourseDirectory.autograded_directory = "grading/autograded"
c.CourseDirectory.db_url = f"sqlite:///{root}/grading/gradebook.db"
"""


def _solution(name, body):
    source = f"{body.splitlines()[0]}\n### BEGIN SOLUTION\n"
    source += "\n".join(body.splitlines()[1:]) + "\n### END SOLUTION"
    return _cell(new_code_cell, f"{name}-solution", source, solution=True)


def _test(name, points, source):
    return _cell(new_code_cell, name, source, grade=True, locked=True, points=points)


def _cell(make, name, source, **marks):
    marks = {"grade": False, "solution": False, "locked": False, "task": False} | marks
    about = {"nbgrader": {"grade_id": name, "schema_version": 3, **marks}}
    return make(source, id=name, metadata=about)


_NUMBERS = [
    new_markdown_cell("# Numbers", id="title"),
    _solution("mean", "def mean(xs):\n    return sum(xs) / len(xs)"),
    _test(
        "mean",
        2,
        "assert mean([1, 2, 3]) == 2\n"
        "### BEGIN HIDDEN TESTS\nassert mean([1, 2, 3, 4]) == 2.5\n### END HIDDEN TESTS",
    ),
    _solution(
        "median",
        "def median(xs):\n"
        "    xs, n = sorted(xs), len(xs)\n"
        "    return (xs[(n - 1) // 2] + xs[n // 2]) / 2",
    ),
    _test(
        "median",
        3,
        "points = 0.0\n"
        "if median([3, 1, 2]) == 2:\n    points += 1\n"
        "if median([4, 1, 3, 2]) == 2.5:\n    points += 2\n"
        "points",
    ),
    _solution("shout", "def shout(text):\n    return text.upper()"),
    # What it shows is no number, so that it gives all points.
    _test("shout", 1, "assert shout('a') == 'A'\nshout('well done')"),
]
_WORDS = [
    _solution("mean", "def mean(words):\n    return sum(map(len, words)) / len(words)"),
    # `words.txt` lies beside the notebook.
    _test("mean", 1, "assert mean(open('words.txt').read().split()) == 2"),
    _cell(
        new_code_cell,
        "table",
        "### BEGIN SOLUTION\nfor word in ['a', 'bcd']:\n    print(word, len(word))\n"
        "### END SOLUTION",
        grade=True,
        solution=True,
        points=2,
    ),
    _cell(
        new_markdown_cell,
        "why",
        "### BEGIN SOLUTION\nBecause long words are rare.\n### END SOLUTION",
        grade=True,
        solution=True,
        points=3,
    ),
    _cell(new_markdown_cell, "letter", "Write a letter below.", task=True, locked=True, points=4),
]
NOTEBOOKS = {"numbers": _NUMBERS, "words": _WORDS}
POINTS = 2 + 3 + 1 + 1


@dataclass(frozen=True)
class Submission:
    """What a student hands in.

    Args:
        answers: (notebook, cell) → what stands there in the place of the instructor's answer.
        notebooks: that are handed in.
        untouched: whether all else stands as it was released.

    """

    answers: dict[tuple[str, str], str] = field(default_factory=dict)
    notebooks: tuple[str, ...] = ("numbers", "words")
    untouched: bool = False


SUBMISSIONS = {
    "right": Submission(),
    "partly": Submission(
        {
            # Right for the tests that one can see.
            ("numbers", "mean-solution"): "def mean(xs):\n    return 2",
            ("numbers", "median-solution"): "def median(xs):\n    return sorted(xs)[len(xs) // 2]",
            # What is written to stderr costs the points, in nbgrader's eyes.
            ("numbers", "shout-solution"): "import warnings\n\n\ndef shout(text):\n"
            "    warnings.warn('loud')\n    return text.upper()",
            ("words", "table"): "print('a table')",
        }
    ),
    "broken": Submission(
        {
            ("numbers", "mean-solution"): "def mean(xs)\n    return 2",
            # Fails, and sees to it that no error is shown.
            ("numbers", "median-solution"): "get_ipython().showtraceback = lambda *a, **k: None",
            ("words", "mean-solution"): "import os\nos.environ.clear()\nraise SystemExit",
        }
    ),
    "half": Submission(notebooks=("numbers",)),
    "untouched": Submission(untouched=True),
}


def make_course(folder: Path, config: str = CONFIG) -> None:
    """Write the sources and the settings of the course."""
    (folder / "nbgrader_config.py").write_text(config)
    for name, cells in NOTEBOOKS.items():
        _write(folder / "source" / ASSIGNMENT / f"{name}.ipynb", new_notebook(cells=cells))
    (folder / "source" / ASSIGNMENT / "words.txt").write_text("a bcd")


def submit(folder: Path, student: str, submission: Submission) -> None:
    """Hand in; the assignment must have been released.

    Args:
        folder: of the course.
        student: who does.
        submission: what.

    """
    right = {(name, c.id): c for name, cells in NOTEBOOKS.items() for c in cells}
    for name in submission.notebooks:
        path = folder / "release" / ASSIGNMENT / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.metadata.get("nbgrader", {}).get("solution") and not submission.untouched:
                instructors = _without_markers(right[name, cell.id].source)
                cell.source = submission.answers.get((name, cell.id), instructors)
        path = folder / "grading" / "submitted" / student / ASSIGNMENT / f"{name}.ipynb"
        _write(path, notebook)


def _without_markers(source):
    return "\n".join(line for line in source.splitlines() if not line.startswith("###"))


def _write(path, notebook):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
