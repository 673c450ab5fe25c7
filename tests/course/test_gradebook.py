"""A gradebook that is opened once serves whoever opens it, as if each had opened it alone."""

import contextlib
import sqlite3

import pytest
from nbgrader.api import Gradebook
from sqlalchemy import event

from nbjudge.course.gradebook import ask_less_often, opened_once


@pytest.fixture
def path(tmp_path):
    ask_less_often()
    return tmp_path / "gradebook.db"


@contextlib.contextmanager
def opened(path, course="dgm"):
    with Gradebook(f"sqlite:///{path}", course) as gradebook:
        yield gradebook


@pytest.fixture
def connections(path):
    """A list that grows with each connection to the gradebook, which exists already."""
    with opened(path) as gradebook:
        engine = gradebook.engine
    made = []
    event.listen(engine, "connect", lambda *_: made.append(1))
    return made


def names(path):
    with opened(path) as gradebook:
        return [student.id for student in gradebook.students]


def test_there_is_one_connection_and_none_afterwards(path, connections):
    names(path), names(path)
    assert len(connections) == 2
    with opened_once():
        names(path), names(path), names(path)
    assert len(connections) == 3
    names(path)
    assert len(connections) == 4


def test_the_next_sees_what_was_committed_and_nothing_else(path):
    with opened_once():
        with opened(path) as gradebook:
            gradebook.add_student("ann")
            gradebook.find_student("ann").first_name = "Ann"
        with opened(path) as gradebook:
            assert gradebook.find_student("ann").first_name is None


def test_what_another_process_wrote_in_between_is_seen(path):
    with opened_once():
        with opened(path) as gradebook:
            gradebook.add_student("ann")
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE student SET first_name = 'Ann'")
        with opened(path) as gradebook:
            assert gradebook.find_student("ann").first_name == "Ann"


def test_each_course_is_entered(path):
    with opened_once():
        for course in ("one", "two", "one"):
            with opened(path, course):
                pass
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert set(database.execute("SELECT id FROM course")) == {("one",), ("two",)}
