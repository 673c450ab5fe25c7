"""A run that was killed and started again leaves what an undisturbed run leaves."""

import contextlib
import random
import shutil
import sqlite3

import nbformat
import pytest
from conftest import needs_sandbox

from benchmarks import kills
from nbjudge import quirks, record
from nbjudge.course.results import GRADED, MANUAL
from nbjudge.grade import grade_class


class Killed(BaseException):
    """Ends a run where SIGKILL could have ended it."""


@needs_sandbox
def test_kills_at_random_moments_leave_no_trace():
    """`python -m benchmarks.kills --times 1000` does the same with many more."""
    with kills.Rehearsal() as rehearsal:
        undisturbed = rehearsal.undisturbed()
        for seed in (1, 2):
            chain = rehearsal.chain(3, random.Random(seed), undisturbed)
            assert len(chain.kills) == 3
            assert not chain.faults, "\n".join([f"seed {seed}", *chain.kills, *chain.faults])


def test_a_difference_is_seen():
    """What the test above relies on."""
    wanted = {"table": {"ann": {"points": "3"}}, "gradebook: grades": [("ann", 1.0), ("ben", 1.0)]}
    found = {"table": {"ann": {"points": "2"}}, "gradebook: grades": [("ann", 1.0), ("ann", 1.0)]}
    assert not list(kills.differences(wanted, wanted))
    assert len(list(kills.differences(found, wanted))) == 2
    # The same rows, one of them twice.
    twice = {
        "table": wanted["table"],
        "gradebook: grades": [("ann", 1.0), *wanted["gradebook: grades"]],
    }
    assert len(list(kills.differences(twice, wanted))) == 1


def graded(course, students, **options):
    return {r.student: r for r in grade_class(course, "small", students, **options)}


def kill_when_recording(monkeypatch, course, students, **options):
    """Grade until the first submission has been executed and would be recorded."""

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(record, "grade", killed)
        with pytest.raises(Killed):
            graded(course, students, jobs=1, **options)


def written_answer(course, student):
    notebook = nbformat.read(course.notebook("autograded", "small", student), as_version=4)
    return next(cell.source for cell in notebook.cells if cell.id == "question")


@needs_sandbox
def test_a_notebook_that_a_killed_run_executed_is_used_for_its_student_only(small, monkeypatch):
    # Ann and Ben have the same code; Ben has not answered the question.
    kill_when_recording(monkeypatch, small, ["ben"])

    results = graded(small, ["ann", "ben"])

    assert results["ann"].state == MANUAL
    assert written_answer(small, "ann") == "Because the logarithm is concave."
    assert results["ben"].state == GRADED
    assert written_answer(small, "ben") == "Your answer here."


def test_a_person_can_end_a_run_while_a_submission_is_recorded(small, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(quirks, "_init_assignment", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small.autograde("ann", "small")


@needs_sandbox
def test_what_a_killed_regrade_had_begun_is_graded_by_the_next_run(small, monkeypatch):
    graded(small, ["ann", "cyd"])
    kill_when_recording(monkeypatch, small, ["ann", "cyd"], regrade=True)
    recorded = []
    grade = record.grade
    monkeypatch.setattr(record, "grade", lambda *a: recorded.append(a[2]) or grade(*a))

    results = graded(small, ["ann", "cyd"])

    # Neither result is from before the regrade.
    assert sorted(recorded) == ["ann", "cyd"]
    assert results["ann"].points == 3
    assert results["cyd"].points == 2


def test_an_assignment_that_was_half_entered_is_entered_whole(small):
    gradebook = small.grading / "gradebook.db"

    def sources():
        with contextlib.closing(sqlite3.connect(gradebook)) as database:
            return {name for (name,) in database.execute("SELECT name FROM source_cell")}

    whole = sources()
    assert len(whole) > 1
    with contextlib.closing(sqlite3.connect(gradebook)) as database, database:
        database.execute("DELETE FROM source_cell WHERE name = ?", [max(whole)])
    small.enter(kills.ASSIGNMENT)
    assert sources() == whole

    with contextlib.closing(sqlite3.connect(gradebook)) as database, database:
        version = database.execute("SELECT version_num FROM alembic_version").fetchall()
        assert len(version) == 1
        database.execute("DROP TABLE alembic_version")
    small.enter(kills.ASSIGNMENT)
    with contextlib.closing(sqlite3.connect(gradebook)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == version

    shutil.rmtree(small.path("release", assignment=kills.ASSIGNMENT))
    (small.root / ".release-begun").mkdir()
    small.enter(kills.ASSIGNMENT)
    assert small.notebook("release", kills.ASSIGNMENT).is_file()
    assert not list(small.root.glob(".release-*"))
