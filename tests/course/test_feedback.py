"""A page that cannot be made costs nobody else's, and is named with its reason."""

import base64
import importlib
import json
import shutil

import nbformat
import pytest
from conftest import NO_SANDBOX
from nbformat.v4 import new_code_cell, new_markdown_cell

from dgm_utils.cli import main
from nbjudge.course.folder import Course
from nbjudge.reports.feedback import Limits, write_feedback

kills = importlib.import_module("benchmarks.kills")
ASSIGNMENT = kills.ASSIGNMENT
STUDENTS = ["ann", "ben", "cyd", "dan"]
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n and more").decode()


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graded") / "course"
    kills.make_course(folder)
    # Eve handed in no notebook.
    assert main(["--course", str(folder), "grade", ASSIGNMENT, *NO_SANDBOX]) == 1
    return folder


@pytest.fixture
def course(graded, tmp_path):
    return Course(shutil.copytree(graded, tmp_path / "course"))


def change(course, student, how):
    """An autograded notebook as an older release left it, or a person changed it."""
    path = course.notebook("autograded", ASSIGNMENT, student)
    notebook = nbformat.read(path, as_version=4)
    how(notebook)
    path.chmod(0o600)
    path.write_text(json.dumps(notebook))


def page(course, student):
    path = course.path("feedback", student, ASSIGNMENT) / f"{ASSIGNMENT}.html"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def test_everybody_gets_a_page(course):
    assert dict(write_feedback(course, ASSIGNMENT, STUDENTS)) == dict.fromkeys(STUDENTS, "")
    for student in STUDENTS:
        assert "Comments" in page(course, student) or "Score" in page(course, student)
        # Formulas are drawn by one program, and the policy knows where from.
        assert "/mathjax/2.7.7/MathJax.js?config=" in page(course, student)
        assert "unsafe-eval" not in page(course, student)
    assert not list(course.grading.glob(".feedback-*"))


def test_widgets_without_a_state_and_a_lost_picture_are_no_reason(course):
    def widgets(notebook):
        kind = "application/vnd.jupyter.widget-state+json"
        notebook.metadata["widgets"] = {kind: {"a1": {"model_name": "HBoxModel"}}}

    def lost(notebook):
        notebook.cells.append(new_markdown_cell("See ![p](attachment:photo.png)"))

    def kept(notebook):
        cell = new_markdown_cell("See ![p](attachment:my%20photo.png)")
        cell.attachments = {"my photo.png": {"image/png": PICTURE}}
        notebook.cells.append(cell)

    change(course, "ann", widgets)
    change(course, "ben", lost)
    change(course, "cyd", kept)
    assert dict(write_feedback(course, ASSIGNMENT, STUDENTS)) == dict.fromkeys(STUDENTS, "")
    assert "the picture photo.png is not in the notebook" in page(course, "ben")
    assert f'src="data:image/png;base64,{PICTURE}"' in page(course, "cyd")


def test_a_page_that_cannot_be_made_is_named_and_the_old_one_goes(course):
    list(write_feedback(course, ASSIGNMENT, STUDENTS))
    path = course.notebook("autograded", ASSIGNMENT, "ben")
    path.chmod(0o600)
    path.write_text("no notebook")
    found = dict(write_feedback(course, ASSIGNMENT, STUDENTS))
    assert "NotJSONError" in found.pop("ben")
    assert found == dict.fromkeys(["ann", "cyd", "dan"], "")
    assert page(course, "ben") is None
    assert page(course, "cyd")


def test_a_page_over_a_limit_costs_only_itself(course):
    def long(notebook):
        notebook.cells[1:1] = [new_code_cell("x = [1, 2, 3]\n" * 60) for _ in range(1900)]

    change(course, "ben", long)
    # One process for all of them: its successor makes the pages that are left.
    made = write_feedback(course, ASSIGNMENT, STUDENTS, jobs=1, limits=Limits(cpu=4))
    found = dict(made)
    assert found.pop("ben") == "took more than 4 seconds of processor time"
    assert found == dict.fromkeys(["ann", "cyd", "dan"], "")
    assert page(course, "ben") is None


def test_a_page_that_hangs_or_needs_too_much_memory_costs_only_itself(course):
    def large(notebook):
        notebook.cells[0].source = "x" * 200_000_000

    change(course, "ben", large)
    made = write_feedback(course, ASSIGNMENT, STUDENTS, jobs=1, limits=Limits(memory=700 * 2**20))
    found = dict(made)
    assert "memory" in found.pop("ben")
    assert found == dict.fromkeys(["ann", "cyd", "dan"], "")
    made = write_feedback(course, ASSIGNMENT, ["ben"], jobs=1, limits=Limits(wall=0.01))
    assert dict(made) == {"ben": "was not made within 0.01 seconds"}


def test_sixty_thousand_cells_are_not_all_shown(course):
    def cells(notebook):
        cell = {"cell_type": "markdown", "metadata": {}, "source": "[" * 300}
        notebook.cells += [cell | {"id": f"x{number}"} for number in range(60_000)]

    change(course, "ben", cells)
    assert dict(write_feedback(course, ASSIGNMENT, ["ben"])) == {"ben": ""}
    assert "more cells are in the submission and not shown here" in page(course, "ben")
