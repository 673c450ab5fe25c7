"""The demo's class through nbgrader: every student gets what is due, whoever sits beside them."""

import csv
import subprocess
import sys

import nbformat
import pytest
from conftest import JAILED, NO_SANDBOX, TOPICS

from dgm_utils.cli import main
from nbjudge.course.folder import Course
from nbjudge.course.results import FAILED, MANUAL
from nbjudge.grade import grade_class


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
    # The demo leaves the submissions of real students alone.
    assert other.read_text() == "a real student's work"


@pytest.mark.parametrize("topic", TOPICS)
def test_the_solution_scores_full_and_the_release_nothing(course_folder, topic):
    course = Course(course_folder)
    course.release(topic)
    for folder, student in (("source", "whole"), ("release", "untouched")):
        submit(course, student, nbformat.read(course.notebook(folder, topic), 4), topic)
    results = {
        r.student: r for r in grade_class(course, topic, ["whole", "untouched"], jailed=JAILED)
    }
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


def test_a_broken_submission_costs_what_it_broke_and_harms_nobody(course_folder):
    course = Course(course_folder)
    course.release("iwae")
    submit(course, "dies", with_first_cell(solution(course), "import os; os._exit(1)"))
    submit(course, "empty", "")
    submit(course, "whole", solution(course))
    course.path("submitted", "absent", "iwae").mkdir(parents=True)

    students = course.submissions("iwae")
    results = {r.student: r for r in grade_class(course, "iwae", students, jailed=JAILED)}

    reasons = {name: r.reason for name, r in results.items() if r.state == FAILED}
    assert reasons == {
        "absent": "no file iwae.ipynb",
        "empty": "iwae.ipynb is empty: save the notebook and hand it in again",
    }
    assert all(results[name].points is None for name in reasons)
    assert results["whole"].state == MANUAL
    assert results["whole"].points == results["whole"].max_points > 0
    # The first cell is the only one that is lost.
    assert results["dies"].points == results["whole"].points


def test_feedback_is_a_page_for_each_graded_student(course_folder, capsys):
    course = Course(course_folder)
    course.release("iwae")
    submit(course, "whole", solution(course))
    submit(course, "empty", "")
    assert main(["--course", str(course_folder), "grade", "iwae", *NO_SANDBOX]) == 1
    assert main(["--course", str(course_folder), "feedback", "iwae"]) == 0
    pages = course_folder.glob("grading/feedback/*/iwae/iwae.html")
    assert [page.parent.parent.name for page in pages] == ["whole"]
    assert "passed on" in next(course_folder.glob("grading/feedback/*/iwae/iwae.html")).read_text()
    said = capsys.readouterr().out
    assert "empty  no page: iwae.ipynb is empty" in said
    assert "manual grade: whole\n" in said
    # What fails since has none any more.
    course.notebook("submitted", "iwae", "whole").write_text("{")
    assert main(["--course", str(course_folder), "grade", "iwae", *NO_SANDBOX]) == 1
    assert main(["--course", str(course_folder), "feedback", "iwae"]) == 0
    assert not list(course_folder.glob("grading/feedback/*/iwae/iwae.html"))
    assert "whole  no page: iwae.ipynb is not a notebook" in capsys.readouterr().out


def test_stock_nbgrader_takes_the_same_road(course_folder):
    """`nbgrader autograde` and `dgm grade` leave the same gradebook."""
    course = Course(course_folder)
    course.release("iwae")
    wrong = solution(course)
    cell = next(c for c in wrong.cells if c.id == "iwae_bound-solution")
    cell.source = "def iwae_bound(log_w):\n    return log_w.mean(0)"
    submit(course, "right", solution(course))
    submit(course, "wrong", wrong)

    assert main(["--course", str(course_folder), "grade", "iwae", *NO_SANDBOX]) == 0
    ours = scores(course)
    for student in ("right", "wrong"):
        course.remove_student_files(student, "iwae")
        with course.api.gradebook as gradebook:
            gradebook.remove_submission("iwae", student)
    command = [sys.executable, "-m", "nbgrader", "autograde", "iwae"]
    command += [f"--ExecuteAndMark.sandbox={JAILED}"]
    subprocess.run(command, cwd=course_folder, check=True, capture_output=True)
    assert scores(course) == ours
    assert len({name for name, *_ in ours}) == 2


def scores(course):
    with course.api.gradebook as gradebook:
        return sorted(
            (grade.student.id, grade.name, grade.auto_score, grade.needs_manual_grade)
            for submission in gradebook.assignment_submissions("iwae")
            for notebook in submission.notebooks
            for grade in notebook.grades
        )
