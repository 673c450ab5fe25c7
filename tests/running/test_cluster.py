"""A Dask cluster executes notebooks as the local processes do; marks are given here."""

import nbformat
import pytest
from conftest import needs_sandbox

from dgm_utils.cli import main
from nbjudge.course.folder import Course
from nbjudge.course.results import MANUAL
from nbjudge.grade import grade_class

distributed = pytest.importorskip("distributed", reason="Dask is not installed")
pytestmark = needs_sandbox


@pytest.fixture
def scheduler():
    """Address of a scheduler with one worker, in processes of their own."""
    with distributed.LocalCluster(1, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def test_a_cluster_grades_like_the_pool(course_folder, scheduler):
    course = Course(course_folder)
    course.release("iwae")
    solution = nbformat.read(course.notebook("source", "iwae"), as_version=4)
    path = course.notebook("submitted", "iwae", "ada")
    path.parent.mkdir(parents=True)
    path.write_text(nbformat.writes(solution))
    (result,) = grade_class(course, "iwae", ["ada"], cluster=scheduler)
    assert (result.state, result.points) == (MANUAL, result.max_points)


def test_a_scheduler_that_does_not_answer_is_said_in_one_line(course_folder, capsys):
    course = Course(course_folder)
    course.path("submitted", "ada", "iwae").mkdir(parents=True)
    command = ["--course", str(course_folder), "grade", "iwae", "--cluster", "tcp://127.0.0.1:9"]
    assert main(command) == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
