"""What several test modules need: the course's topics, and functions as a student has them."""

import importlib
import importlib.util
import itertools
import os
import shutil
from pathlib import Path

# Two test processes on two cores: more threads would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from nbjudge.course.folder import Course
from nbjudge.execute_and_mark import close_graders
from nbjudge.running.sandbox import why_not

# Where there is no sandbox, what it protects is not tested, but grading is.
JAILED = not why_not()
NO_SANDBOX = [] if JAILED else ["--no-sandbox"]
needs_sandbox = pytest.mark.skipif(not JAILED, reason=why_not() or "there is a sandbox")
ROOT = Path(__file__).resolve().parent.parent
TOPICS = sorted(path.stem for path in ROOT.glob("dgm_utils/exercises/[a-z]*"))
EXERCISES_OF = {
    topic: importlib.import_module(f"dgm_utils.exercises.{topic}").EXERCISES for topic in TOPICS
}
EXERCISES = [exercise for topic in TOPICS for exercise in EXERCISES_OF[topic]]
RIGHT = {
    exercise.name: importlib.import_module(f"exercises.{topic}.{exercise.name}").RIGHT
    for topic in TOPICS
    for exercise in EXERCISES_OF[topic]
}
HEADER = "import itertools\nimport math\n\nimport torch\nimport torch.nn.functional as F\n\n\n"


def pytest_collection_modifyitems(items):
    """With `--dist loadgroup`: one process for a file, whose tests may share a fixture.

    The checks are half of all the work; they share what is known of an exercise, and no more.
    """
    for item in items:
        group = item.path.name
        if group == "test_checks.py":
            exercise = getattr(item, "callspec", None) and item.callspec.params.get("exercise")
            group += f", {exercise.name}" if exercise else ""
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def written(tmp_path):
    """Put source into a file of its own and return the function it defines, as if typed there."""
    numbers = itertools.count()

    def write(source, name):
        path = tmp_path / f"student_{next(numbers)}.py"
        path.write_text(HEADER + source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, name)

    return write


@pytest.fixture
def course_folder(tmp_path):
    """A copy of the course without any submission."""
    folder = tmp_path / "course"
    folder.mkdir()
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    for name in ("solutions", "assignments"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def released():
    """The students' version of the assignment with which the tests of submissions play."""
    return importlib.import_module("submissions").read_released()


@pytest.fixture
def submitted(released):
    """That notebook, in which one function and one proof are answered."""
    return importlib.import_module("submissions").fill_in(released)


@pytest.fixture
def folder(tmp_path):
    """The empty folder of a submission of that assignment."""
    path = tmp_path / "submitted" / "ada" / importlib.import_module("submissions").TOPIC
    path.mkdir(parents=True)
    return path


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """Where the small course lies: always there, so that one sandbox serves all tests of it."""
    yield tmp_path_factory.mktemp("small")
    close_graders()


@pytest.fixture
def small(small_folder):
    """The small course of `benchmarks.kills`; five submissions, none graded."""
    kills = importlib.import_module("benchmarks.kills")
    for path in small_folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kills.make_course(small_folder)
    course = Course(small_folder)
    course.enter(kills.ASSIGNMENT)
    return course
