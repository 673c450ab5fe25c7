"""Submissions as people really hand them in come out as the cases' README says, for everybody."""

import csv
import shutil
import subprocess
import sys
from datetime import datetime

import pytest
from conftest import JAILED, ROOT

from nbjudge.course.folder import Course
from nbjudge.course.results import FAILED, MANUAL

MAKE = ROOT.parent / "shared" / "cases" / "make.py"
pytestmark = [
    pytest.mark.skipif(not MAKE.is_file(), reason="there is no ../shared/cases/make.py"),
    pytest.mark.skipif(not JAILED, reason="in these cases a kernel ends itself"),
]
# Right notebooks, before and after all others.
HONEST = ("a-first", "z-last")
# Their twist costs nothing; whether the page of feedback can be made is another matter.
WHOLE = [
    "c01-widgets-without-state",
    "c02-picture-lost",
    "c03-exit",
    "c04-bent-schema",
    "c05-bom",
    "c06-two-notebooks",
    "c07-written-below-the-stub",
    "c09-gradients-off",
    "c10-time-0",
    "c10-time-3",
    "c10-time-4",
    "c11-umlaut-in-latin-1",
    *HONEST,
]
UNKNOWN_TIMES = ["c10-time-1", "c10-time-2"]


class Cases:
    """The class of cases: the course, and what each command printed and wrote."""

    def __init__(self, folder):
        self.course = Course(folder)
        make = [sys.executable, MAKE, "grading/submitted"]
        subprocess.run(make, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for student in HONEST:
            path = self.course.notebook("submitted", "iwae", student)
            path.parent.mkdir(parents=True)
            shutil.copy(self.course.notebook("source", "iwae"), path)
        self.said = {}
        for command in ("grade", "feedback", "report", "export"):
            self.said[command] = self.run(command)
        self.rows, self.grades = self._rows("iwae.csv"), self._rows("iwae-grades.csv")
        self.exercises = self._rows("iwae-exercises.csv")
        self.report = (self.course.grading / "reports" / "iwae.html").read_text(encoding="utf-8")

    def run(self, command, *options):
        """`dgm`: everything that is printed, and the exit code."""
        dgm = [sys.executable, "-m", "dgm_utils.cli", "--course", self.course.root, command, "iwae"]
        done = subprocess.run([*dgm, *options], cwd=ROOT, capture_output=True, text=True)
        return done.stdout + done.stderr, done.returncode

    def _rows(self, name):
        with (self.course.grading / "reports" / name).open(encoding="utf-8") as file:
            return {row["student"]: row for row in csv.DictReader(file)}

    def points(self, student):
        """(Points, the most there are) of all checks."""
        row = self.rows[student]
        return row["points"], row["max_points"]

    def page(self, student):
        """The page of feedback; None if there is none."""
        path = self.course.path("feedback", student, "iwae") / "iwae.html"
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def time(self, student):
        """When it came, as the gradebook has it."""
        with self.course.api.gradebook as gradebook:
            return gradebook.find_submission("iwae", student).timestamp


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    for name in ("solutions", "assignments"):
        shutil.copytree(ROOT / name, folder / name)
    return Cases(folder)


@pytest.mark.parametrize("student", WHOLE)
def test_a_right_notebook_has_all_points_and_waits_for_a_person(cases, student):
    points, most = cases.points(student)
    assert points == most != ""
    # Its answers in words.
    assert cases.rows[student]["state"] == MANUAL


def test_everybody_has_a_page_of_feedback_or_a_reason(cases):
    said, code = cases.said["feedback"]
    graded = {student for student, row in cases.rows.items() if row["state"] != FAILED}
    lacking = {student for student in graded if cases.page(student) is None}
    # The picture was lost before it was handed in.
    assert lacking <= {"c02-picture-lost"}
    assert code == (1 if lacking else 0)
    for student in lacking:
        (line,) = [line for line in said.splitlines() if student in line]
        assert "photo.png" in line
    assert graded >= {*WHOLE, "c08-helper-file"}


def test_everybody_is_in_report_and_export(cases):
    students = set(cases.course.submissions("iwae"))
    assert set(cases.rows) == set(cases.grades) == students
    assert set(cases.exercises) == students
    for said, code in cases.said.values():
        assert code in (0, 1)
        assert "Traceback" not in said
    for student in WHOLE:
        assert "by hand" in cases.grades[student]["remark"]


def test_a_cell_that_ends_the_kernel_costs_nothing_whenever_it_is_graded(cases):
    for _ in range(2):
        said, _ = cases.run("grade", "--regrade", "--student", "c03-exit")
        points, most = cases.points("c03-exit")
        assert f"{points} / {most}" in said


def test_of_two_notebooks_the_filled_one_is_graded_and_it_is_said(cases):
    line, grade = cases.rows["c06-two-notebooks"], cases.grades["c06-two-notebooks"]
    for said in (line["mended"], cases.said["grade"][0], cases.report, grade["remark"]):
        assert "iwae (1).ipynb" in said


def test_the_answers_own_error_is_quoted(cases):
    points, most = cases.points("c08-helper-file")
    assert 0 < float(points) < float(most)
    page = cases.page("c08-helper-file")
    assert "No module named" in page
    # That there is such a file, and that it is not used.
    assert "my_helpers" in page
    assert "lies beside the notebook" in page


@pytest.mark.parametrize("student", ["c10-time-0", "c10-time-3", "c10-time-4"])
def test_a_time_with_a_zone_is_read(cases, student):
    assert cases.time(student) == datetime(2026, 3, 1, 18)


@pytest.mark.parametrize("student", UNKNOWN_TIMES)
def test_a_time_that_cannot_be_read_is_said(cases, student):
    row = cases.rows[student]
    assert "timestamp.txt" in row["reason"] + row["mended"]
    assert "timestamp.txt" in cases.grades[student]["remark"]
    assert cases.grades[student]["penalty"] == ""
