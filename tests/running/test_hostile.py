"""A class with every hostile submission we know: each gets what is due, and harms nobody."""

import hashlib
import os
from pathlib import Path

import psutil
import pytest
from conftest import needs_sandbox

from benchmarks import classroom
from benchmarks import hostile as benchmark
from nbjudge.course.results import FAILED
from nbjudge.submissions.sanitize import executed_path

TOPIC = classroom.TOPIC
pytestmark = needs_sandbox

# `python -m benchmarks.hostile` runs the slow ones too, and in more than one order.
KINDS = [hostile for hostile in benchmark.KINDS if not hostile.slow]
OUTPUTS = {"answers", "autograded", "executed", "graded", "gradebook.db", "feedback", "reports"}
# Intake gives a notebook under another name a copy under the right one, in its own folder.
COPIED = {hostile.name for hostile in KINDS if hostile.hand_in}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The class, graded; its files before and after; and the processes that are left."""
    course = classroom.make_course(tmp_path_factory.mktemp("class"))
    course.api.config.ExecuteAndMark.cell_seconds = 5.0
    course.api.config.ExecuteAndMark.notebook_seconds = 60.0
    others = sandboxed()
    with benchmark.hand_in(course, KINDS) as made:
        before = contents(course)
        benchmark.grade(made, seed=0)
        after = contents(course)
        yield made, (before, after), sandboxed() - others


def sandboxed():
    """Sandboxes' processes, other tests' too."""
    return {p for p in psutil.Process().children(recursive=True) if "zygote" in cmdline(p)}


def cmdline(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def contents(course):
    """Digest of every file of the course that grading has no business with."""
    found = {}
    for where, folders, files in os.walk(course.root):
        folder = Path(where)
        parts = folder.relative_to(course.root).parts
        if parts == ("grading",):
            folders[:] = set(folders) - OUTPUTS
            files = set(files) - OUTPUTS
        if len(parts) == 4:
            # A submission: some lie deeper than a path may be long.
            folders.clear()
        for path in (folder / name for name in files):
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 10**8:
                found[path.relative_to(course.root)] = hashlib.sha256(path.read_bytes()).digest()
    return found


def test_every_submission_ends_once(graded):
    made = graded[0]
    assert set(made.results) == set(made.course.submissions(TOPIC))
    assert len(made.results) == len(benchmark.HONEST) + len(KINDS) >= 60
    results = [result for (result,) in made.results.values()]
    assert all(r.reason for r in results if r.state == FAILED)
    assert all((r.points is None) == (r.state == FAILED) for r in results)


@pytest.mark.parametrize("student", benchmark.HONEST)
def test_the_honest_have_the_grades_they_have_alone(graded, student):
    made = graded[0]
    assert not made.wrong_about(student)
    assert made.alone["mistaken"].misconceptions


@pytest.mark.parametrize("hostile", KINDS, ids=[hostile.name for hostile in KINDS])
def test_a_hostile_submission_gets_what_is_due_and_harms_nobody(graded, hostile):
    assert not graded[0].wrong(hostile)


def test_nobody_is_called(graded):
    assert not graded[0].called()


def test_nothing_else_in_the_course_has_changed(graded):
    before, after = graded[1]
    own = {
        path
        for path in after
        if path.name == f"{TOPIC}.ipynb" and COPIED & {*path.parts} and path not in before
    }
    assert {name: digest for name, digest in after.items() if name not in own} == before
    assert len(before) > len(KINDS)


def test_no_process_is_left(graded):
    # The warm process, who holds its tree, and bubblewrap's two.
    assert len(graded[2]) <= 4


def test_the_same_code_with_another_text_is_another_submission(graded):
    """Otherwise one student's written answers could be recorded as another's."""
    course = graded[0].course
    notebook = classroom.answered(course, classroom.BOUND)
    first = executed_path(course.folders, TOPIC, "ada", notebook, b"")
    assert executed_path(course.folders, TOPIC, "ben", notebook, b"") != first
    text = next(cell for cell in notebook.cells if cell.id == classroom.QUESTION)
    text.source += " My own proof."
    assert executed_path(course.folders, TOPIC, "ada", notebook, b"") != first
