"""An instructor grades in formgrader: autogrades with the button, gives points, sees the total."""

import importlib

import nbformat
import pytest
from browser import needs_chromium, new_page
from conftest import needs_sandbox
from lab import Lab

from nbjudge.course.folder import Course

kills = importlib.import_module("benchmarks.kills")
ASSIGNMENT = kills.ASSIGNMENT
COMMENT = "Right. Why does a weight have mean p(x)?"
ANSWER = """By Jensen's inequality: since the logarithm is concave, the mean of the logs is at most
the log of the mean.

1. Each weight has mean p(x), and so has their average over K draws.
2. So the bound never exceeds the log-likelihood."""
pytestmark = [needs_chromium, needs_sandbox]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    kills.make_course(folder)
    course = Course(folder)
    course.release(ASSIGNMENT)
    path = course.notebook("submitted", ASSIGNMENT, "ann")
    notebook = nbformat.read(path, as_version=4)
    (question,) = (cell for cell in notebook.cells if cell.id == "question")
    question.source = ANSWER
    nbformat.write(notebook, path)
    return course


@pytest.fixture(scope="module")
def said(course, tmp_path_factory):
    """What the pages said on the way, by the name of the step."""
    said = {}
    with Lab(course.root) as lab, new_page() as page:
        # MathJax would come from elsewhere; formgrader's boxes wait for the page to be whole.
        page.route(lambda url: not url.startswith(lab.url), lambda route: route.abort())
        page.goto(f"{lab.url}lab?token={lab.token}")
        page.goto(f"{lab.url}formgrader")
        row = page.locator("tr", has=page.get_by_role("link", name=ASSIGNMENT, exact=True))
        row.locator(".num-submissions a").click()
        student = page.locator("#main-table tr:has(.student-id:text-is('ann'))")
        student.get_by_text("needs autograding").wait_for()
        student.locator(".autograde a").click()
        page.locator("#success-modal").wait_for()
        page.locator("#success-modal").get_by_role("button", name="Close").last.click()
        student.get_by_text("needs manual grading").wait_for()
        said["autograded"] = student.inner_text()

        page.get_by_role("link", name="Manual Grading").click()
        page.locator("#main-table").get_by_role("link", name=ASSIGNMENT).click()
        page.locator("#main-table").get_by_role("link", name=ASSIGNMENT).click()
        with page.expect_response(lambda answer: "/api/comments?" in answer.url):
            page.get_by_role("link", name="Submission #1").click()
        points, comment = page.locator("#question"), page.locator("#question-comment")
        points.wait_for()
        said["answer"] = page.locator(".nbgrader_cell", has=points).inner_text()
        points.fill("2")
        with page.expect_response(lambda answer: "/api/grade/" in answer.url):
            points.press("Tab")
        comment.fill(COMMENT)
        with page.expect_response(lambda answer: "/api/comment/" in answer.url):
            comment.blur()
        comment.scroll_into_view_if_needed()
        # The picture in docs/instructors.md is this one, found in pytest's temporary folder.
        page.screenshot(path=tmp_path_factory.mktemp("shown") / "formgrader.png")

        page.goto(f"{lab.url}formgrader/gradebook/{ASSIGNMENT}/{ASSIGNMENT}")
        page.locator("#main-table tr", has_text="Submission #1").get_by_text("5 / 6").wait_for()
        said["table"] = page.locator("#main-table tr", has_text="Submission #1").inner_text()
        page.goto(f"{lab.url}formgrader/manage_submissions/{ASSIGNMENT}")
        student.get_by_text("graded", exact=True).wait_for()
        said["graded"] = student.inner_text()
    return said


def test_the_button_gives_the_points_of_the_checks(said):
    assert "3 / 6" in said["autograded"]


def test_the_answer_is_shown_beside_the_box_for_its_points(said):
    assert "since the logarithm is concave" in said["answer"]
    assert "/ 3" in said["answer"]


def test_the_total_has_the_points_that_were_given(said):
    assert "5 / 6" in said["table"]
    assert "5 / 6" in said["graded"]


def test_points_and_comment_are_in_the_gradebook(said, course):
    with course.api.gradebook as gradebook:
        grade = gradebook.find_grade("question", ASSIGNMENT, ASSIGNMENT, "ann")
        comment = gradebook.find_comment("question", ASSIGNMENT, ASSIGNMENT, "ann")
        assert (grade.manual_score, grade.needs_manual_grade) == (2, False)
        assert comment.manual_comment == COMMENT


def test_the_student_reads_the_comment(said, course):
    course.feedback("ann", ASSIGNMENT)
    page = course.path("feedback", "ann", ASSIGNMENT) / f"{ASSIGNMENT}.html"
    assert COMMENT in page.read_text()
