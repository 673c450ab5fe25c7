"""A part of the duties gives a part of the points: in the gradebook, and wherever it is shown."""

import csv
import io

import pytest
from conftest import JAILED

from benchmarks.classroom import BOUND, TOPIC, answered, make_course, submit
from nbjudge.course.folder import Course
from nbjudge.execute_and_mark import close_graders
from nbjudge.grade import grade_class
from nbjudge.reports.export import grades
from nbjudge.reports.feedback import write_feedback
from nbjudge.reports.read import write_report

NAIVE = "def iwae_bound(log_w):\n    return log_w.exp().mean(0).log()"
DETACHED = BOUND.replace("return ", "return (") + ").detach()"
WRONG = "def iwae_bound(log_w):\n    return torch.logsumexp(log_w, 0)"
# Half of two points, and of the others' quarters as many whole halves as there are.
POINTS = {"ada": 3.0, "bob": 2.5, "cyd": 2.5, "dan": 1.0}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    made = make_course(tmp_path_factory.mktemp("partial"))
    for student, bound in zip(POINTS, (BOUND, NAIVE, DETACHED, WRONG), strict=True):
        submit(made, student, answered(made, bound))
    yield made
    close_graders()


def points(course):
    results = grade_class(course, TOPIC, list(POINTS), jobs=1, jailed=JAILED)
    return {result.student: result.points for result in results}


def table(path):
    return {row["student"]: row for row in csv.DictReader(io.StringIO(path.read_text("utf-8")))}


def test_half_points_reach_the_gradebook_the_report_the_export_and_the_student(course):
    assert points(course) == POINTS
    page, report = write_report(course, TOPIC)
    rows = table(report)
    assert [rows[student]["iwae_bound"] for student in POINTS] == ["2", "1.5", "1.5", "0"]
    assert [rows[student]["not_met"] for student in POINTS] == [
        "",
        "iwae_bound: extreme cases",
        "iwae_bound: gradients",
        "iwae_bound: right values",
    ]
    told = "<td>extreme cases 1, gradients 1, right values 1</td>"
    assert told in page.read_text("utf-8")
    found, _ = grades(course, TOPIC)
    assert {grade.student: grade.points for grade in found} == POINTS
    assert not any(dict(write_feedback(course, TOPIC, list(POINTS), jobs=1)).values())
    feedback = course.path("feedback", "bob", TOPIC) / f"{TOPIC}.html"
    assert "1.5 of 2 points." in feedback.read_text("utf-8")


def test_a_line_of_the_configuration_turns_it_off_and_has_the_class_graded_again(course):
    config = course.root / "nbgrader_config.py"
    config.write_text(config.read_text("utf-8") + "\nc.ExecuteAndMark.partial_credit = False\n")
    assert points(Course(course.root)) == {"ada": 3.0, "bob": 1.0, "cyd": 1.0, "dan": 1.0}
