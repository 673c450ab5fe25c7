"""A course of nbgrader's own kind is graded in the sandbox with the scores that nbgrader gives."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from conftest import NO_SANDBOX, ROOT
from plain_course import ASSIGNMENT, CONFIG, POINTS, STOCK_CONFIG, SUBMISSIONS, make_course, submit


def run(folder, *command, code=0):
    """What a command prints in a course's folder, as in any environment with nbjudge."""
    environment = os.environ | {
        # nbgrader asks a program of its environment for the version of a new gradebook.
        "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def scores(folder):
    """(Student, notebook, cell) → automatic score and whether a person must grade."""
    with closing(sqlite3.connect(folder / "grading" / "gradebook.db")) as database:
        rows = database.execute("""
            SELECT submitted_assignment.student_id, notebook.name, base_cell.name,
                grade.auto_score, grade.needs_manual_grade
            FROM grade
            JOIN base_cell ON base_cell.id = grade.cell_id
            JOIN submitted_notebook ON submitted_notebook.id = grade.notebook_id
            JOIN notebook ON notebook.id = submitted_notebook.notebook_id
            JOIN submitted_assignment ON submitted_assignment.id = submitted_notebook.assignment_id
        """)
        return {tuple(key): (score, bool(manual)) for *key, score, manual in rows}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The course, graded by the command, and what that printed."""
    folder = tmp_path_factory.mktemp("plain")
    make_course(folder, CONFIG)
    run(folder, "nbjudge.cli", "release", ASSIGNMENT)
    for student, submission in SUBMISSIONS.items():
        submit(folder, student, submission)
    return folder, run(folder, "nbjudge.cli", "grade", ASSIGNMENT, *NO_SANDBOX)


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """The same course, graded by nbgrader as it comes."""
    folder = tmp_path_factory.mktemp("stock")
    make_course(folder, STOCK_CONFIG)
    run(folder, "nbgrader", "generate_assignment", ASSIGNMENT)
    for student, submission in SUBMISSIONS.items():
        submit(folder, student, submission)
    run(folder, "nbgrader", "autograde", ASSIGNMENT)
    return scores(folder)


def test_every_cell_has_the_score_that_nbgrader_gives(graded, stock):
    folder, _ = graded
    assert scores(folder) == stock
    assert len(stock) == 7 * len(SUBMISSIONS)


def test_scores_are_those_that_nbgraders_documentation_promises(graded):
    folder, _ = graded
    found = scores(folder)
    assert found["right", "numbers", "mean"] == (2, False)
    assert found["partly", "numbers", "mean"] == (0, False)
    assert found["partly", "numbers", "median"] == (1, False)
    assert found["partly", "numbers", "shout"] == (0, False)
    assert found["partly", "words", "table"] == (None, True)
    assert found["broken", "numbers", "median"] == (0, False)
    assert found["untouched", "words", "why"] == (0, False)
    assert found["half", "words", "why"] == (0, False)


def test_the_results_add_up_over_the_notebooks(graded):
    folder, said = graded
    results = {
        path.stem: json.loads(path.read_text())["result"]
        for path in (folder / "grading" / "graded" / ASSIGNMENT).glob("*.json")
    }
    assert {student: result["points"] for student, result in results.items()} == {
        "right": POINTS,
        "partly": 2,
        "broken": 1,
        "half": 6,
        "untouched": 0,
    }
    assert {result["max_points"] for result in results.values()} == {POINTS}
    assert "mended: Not handed in, and so 0 points for all of it: words.ipynb." in said
    assert results["untouched"]["untouched"] == ["table", "why"]
    assert results["half"]["untouched"] == []


def test_the_page_says_which_tests_share_their_process_with_student_code(graded):
    folder, _ = graded
    assert "report" in run(folder, "nbjudge.cli", "report", ASSIGNMENT)
    page = (folder / "grading" / "reports" / f"{ASSIGNMENT}.html").read_text()
    said = re.search(r"own run in one process with student code.*?</p>", page, re.DOTALL)[0]
    for name in ("numbers: mean", "numbers: median", "numbers: shout", "words: mean"):
        assert f"<code>{name}</code>" in said


def test_every_student_gets_a_page_for_each_notebook(graded):
    folder, _ = graded
    run(folder, "nbjudge.cli", "feedback", ASSIGNMENT)
    pages = (folder / "grading" / "feedback").rglob("*.html")
    assert {(page.parent.parent.name, page.stem) for page in pages} == {
        (student, name) for student, s in SUBMISSIONS.items() for name in s.notebooks
    }


def test_a_second_run_says_the_same_of_everybody_and_feedback_says_who_waits(graded):
    """Of two notebooks one may wait for a person and the other not."""
    folder, said = graded
    # They are printed as they end.
    lines = sorted(line for line in said.splitlines() if "needs a manual grade" in line)
    assert len(lines) >= 2
    again = run(folder, "nbjudge.cli", "grade", ASSIGNMENT, *NO_SANDBOX)
    assert sorted(line for line in again.splitlines() if "needs a manual grade" in line) == lines
    students = [line.split()[0] for line in lines]
    told = run(folder, "nbjudge.cli", "feedback", ASSIGNMENT)
    assert all(student in told for student in students)
