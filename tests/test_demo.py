"""The demo's class through nbgrader: every student gets what is due, whoever sits beside them."""

import csv

import nbformat
import pytest
from conftest import TOPICS

from dgm_utils.cli import main
from dgm_utils.grading.autograde import FAILED, MANUAL, grade, grade_class
from dgm_utils.grading.course import Course


def test_points_are_as_expected(course_folder, capsys):
    topic = "iwae"
    other = course_folder / "grading" / "submitted" / "ada" / topic / f"{topic}.ipynb"
    other.parent.mkdir(parents=True)
    other.write_text("a real student's work")

    assert main(["--course", str(course_folder), "demo", topic]) == 0, capsys.readouterr().err

    report = (course_folder / "grading" / "reports" / f"{topic}.csv").read_text()
    table = list(csv.DictReader(report.splitlines()))
    by_student = {row["student"]: row for row in table}
    assert by_student["demo-instructor"]["points"] == by_student["demo-instructor"]["max_points"]
    assert by_student["demo-untouched"]["points"] == "0"
    assert all(float(row["points"]) > 0 for name, row in by_student.items() if "-student-" in name)
    assert by_student["demo-no-notebook"]["state"] == FAILED
    assert by_student["demo-no-notebook"]["points"] == ""
    assert "not JSON" in by_student["demo-no-notebook"]["reason"]
    feedback = course_folder / "grading" / "feedback"
    graded = [row["student"] for row in table if row["state"] != FAILED]
    assert all((feedback / name / topic / f"{topic}.html").is_file() for name in graded)
    # The demo leaves the submissions of real students alone.
    assert other.read_text() == "a real student's work"


@pytest.mark.parametrize("topic", TOPICS)
def test_the_solution_scores_full_and_the_release_nothing(course_folder, topic):
    course = Course(course_folder)
    course.release(topic)
    for folder, student in (("source", "whole"), ("release", "untouched")):
        submit(course, student, nbformat.read(course.notebook(folder, topic), 4), topic)
    results = {r.student: r for r in grade_class(course, topic, ["whole", "untouched"])}
    assert results["whole"].points == results["whole"].max_points > 0
    assert results["untouched"].points == 0
    assert results["untouched"].max_points == results["whole"].max_points


def submit(course, student, notebook, topic="iwae"):
    path = course.notebook("submitted", topic, student)
    path.parent.mkdir(parents=True)
    path.write_text(notebook if isinstance(notebook, str) else nbformat.writes(notebook))


def solution(course):
    return nbformat.read(course.notebook("source", "iwae"), as_version=4)


def with_first_cell(notebook, source):
    notebook.cells.insert(0, nbformat.v4.new_code_cell(source, id="first"))
    return notebook


def twice(notebook):
    graded = next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade"))
    notebook.cells.append(nbformat.from_dict({**graded, "id": "again"}))
    return notebook


def test_a_broken_submission_fails_with_a_reason_and_harms_nobody(course_folder):
    course = Course(course_folder)
    course.release("iwae")
    submit(course, "dies", with_first_cell(solution(course), "import os; os._exit(1)"))
    submit(course, "twice", twice(solution(course)))
    submit(course, "empty", "")
    submit(course, "whole", solution(course))
    course.path("submitted", "absent", "iwae").mkdir(parents=True)

    results = {student: grade(course, "iwae", student) for student in course.submissions("iwae")}

    reasons = {name: r.reason for name, r in results.items() if r.state == FAILED}
    assert reasons == {
        "absent": "no file iwae.ipynb",
        "dies": "the kernel died while a cell was running",
        "empty": "iwae.ipynb is not a notebook: it is not JSON text",
        "twice": "a graded cell stands twice in the notebook",
    }
    assert all(results[name].points is None for name in reasons)
    assert results["whole"].state == MANUAL
    assert results["whole"].points == results["whole"].max_points > 0
