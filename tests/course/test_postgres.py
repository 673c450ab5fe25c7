"""A gradebook in PostgreSQL holds what one in SQLite holds, whoever writes into it."""

import importlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import NO_SANDBOX, ROOT
from sqlalchemy import MetaData, create_engine

from nbjudge.course.folder import Course

pytest.importorskip(
    "psycopg2", reason="PostgreSQL's driver is missing: pip install --editable .[cluster]"
)
kills = importlib.import_module("benchmarks.kills")
ASSIGNMENT = kills.ASSIGNMENT

# Debian keeps the server's programs out of the path, in a folder for each version.
_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parts[4]))
_PATH = os.pathsep.join([*map(str, reversed(_PROGRAMS)), os.environ.get("PATH", "")])
_MISSING = [x for x in ("initdb", "pg_ctl", "createdb") if not shutil.which(x, path=_PATH)]
# PostgreSQL refuses to run as root.
AS = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
PASSWORD = "not-a-secret"
pytestmark = pytest.mark.skipif(
    bool(_MISSING), reason="no PostgreSQL server (on Debian or Ubuntu: apt install postgresql)"
)


class Server:
    """A PostgreSQL server of our own; a context manager that removes all of it."""

    def __init__(self):
        # Not pytest's folder, into which only the one who runs the tests may look.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._run("pg_ctl", "stop", "--mode=immediate", "-D", self._data, check=False)
        shutil.rmtree(self._folder)

    def _start(self):
        self._data = self._folder / "data"
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if AS:
            for path in (self._folder, password):
                shutil.chown(path, AS["user"], AS["group"])
        how = ["--auth=scram-sha-256", "--username=grader", f"--pwfile={password}"]
        self._run("initdb", "--no-sync", "--encoding=UTF8", *how, "-D", self._data)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        options = f"-c listen_addresses=127.0.0.1 -p {self._port} -k {self._folder} -c fsync=off"
        log = self._folder / "log"
        self._run("pg_ctl", "start", "--wait", "-D", self._data, "-l", log, "-o", options)

    def _run(self, name, *arguments, check=True):
        program = shutil.which(name, path=_PATH)
        # A server that keeps a pipe open would be waited for.
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                [program, *map(str, arguments)],
                cwd=self._folder,
                env=os.environ | {"PGPASSWORD": PASSWORD},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                **AS,
            )
            said.seek(0)
            assert not check or done.returncode == 0, f"{name}: {said.read()}"

    def new_database(self, name):
        """Its address, as the README writes it."""
        self._run("createdb", "-h", "127.0.0.1", "-p", self._port, "-U", "grader", name)
        return f"postgresql://grader:{PASSWORD}@127.0.0.1:{self._port}/{name}"


class Run:
    """`dgm` in a process of its own, at work; `end` waits and gives what it printed, sorted."""

    def __init__(self, course, gradebook, *arguments):
        environment = {n: value for n, value in os.environ.items() if n != "DGM_GRADEBOOK"}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dgm_utils.cli", "--course", str(course), *arguments],
            cwd=ROOT,
            env=environment | ({"DGM_GRADEBOOK": gradebook} if gradebook else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self):
        # One of the submissions is no notebook, which makes 1 of 0.
        out, err = self._process.communicate(timeout=120)
        assert self._process.returncode in (0, 1), err
        return sorted(out.splitlines())


def grade(course, gradebook, *students):
    only = [word for student in students for word in ("--student", student)]
    return Run(course, gradebook, "grade", ASSIGNMENT, "--jobs", "1", *NO_SANDBOX, *only)


def rows(gradebook):
    """Every row of every table, as it is."""
    address = gradebook.replace("postgresql:", "postgresql+psycopg2:")
    engine, tables = create_engine(address), MetaData()
    with engine.connect() as database:
        tables.reflect(database)
        found = {
            table.name: [dict(row) for row in database.execute(table.select()).mappings()]
            for table in tables.sorted_tables
        }
    engine.dispose()
    return found


def named(tables):
    """The same, but in place of a random id stands the row that has it, and the order is fixed."""
    meant, found = {}, {}
    for name, content in tables.items():
        found[name] = []
        for row in content:
            shown = {key: meant.get(value, value) for key, value in row.items()}
            if re.fullmatch("[0-9a-f]{32}", str(shown.get("id"))):
                number = shown.pop("id")
                meant[number] = f"{name} {shown}"
            found[name].append(shown)
        found[name].sort(key=str)
    return found


def test_a_random_id_is_told_from_another_by_its_row():
    """What the comparisons below rely on."""

    def tables(one, other, given):
        cells = [{"id": one, "name": "a"}, {"id": other, "name": "b"}]
        return named({"cell": cells, "grade": [{"id": "f" * 32, "cell_id": given, "score": 1.0}]})

    first, second, third = "1" * 32, "2" * 32, "3" * 32
    assert tables(first, second, first) == tables(second, third, second)
    assert tables(first, second, first) == tables(second, first, second)
    assert tables(first, second, first) != tables(first, second, second)


@pytest.fixture(scope="module")
def server():
    with Server() as started:
        yield started


class Graded:
    """The small class graded twice: into SQLite, and into PostgreSQL."""

    def __init__(self, folder, server):
        self.lite, self.course = folder / "lite", folder / "postgres"
        self.gradebook = server.new_database("gradebook")
        for course in (self.lite, self.course):
            kills.make_course(course)
        runs = [grade(self.lite, None), grade(self.course, self.gradebook)]
        self.lite_said, self.said = [run.end() for run in runs]
        self.lite_rows = rows(f"sqlite:///{self.lite}/grading/gradebook.db")
        self.rows = rows(self.gradebook)


@pytest.fixture(scope="module")
def graded(tmp_path_factory, server):
    return Graded(tmp_path_factory.mktemp("class"), server)


def test_postgres_records_what_sqlite_records(graded):
    assert named(graded.rows) == named(graded.lite_rows)
    # Four of the five handed in a notebook, with two functions and a question.
    assert len(graded.rows["grade"]) == len(graded.rows["comment"]) == 4 * 3
    scores = [row["auto_score"] for row in graded.rows["grade"] if row["auto_score"] is not None]
    assert sum(scores) == 3 + 3 + 2 + 0


def test_with_postgres_nothing_is_written_into_a_file_of_sqlite(graded):
    assert (graded.lite / "grading" / "gradebook.db").is_file()
    assert not list(graded.course.rglob("*.db"))


def test_a_class_ends_the_same_with_postgres(graded):
    here, there = kills.read_state(graded.course), kills.read_state(graded.lite)
    for part in ("table", "results", "autograded"):
        assert here[part] == there[part], part
    assert len(here["table"]) == 5


def test_a_second_run_grades_nothing_again(graded):
    def written():
        notebooks = (graded.course / "grading" / "autograded").rglob("*.ipynb")
        return {path: path.stat().st_mtime_ns for path in notebooks}

    before = written()
    assert len(before) == 4
    assert grade(graded.course, graded.gradebook).end() == graded.said
    assert written() == before
    # Ids included, which would be new.
    assert rows(graded.gradebook) == graded.rows


def test_two_processes_that_record_at_once_leave_the_gradebook_of_one(
    graded, server, tmp_path, monkeypatch
):
    """Each in a course folder of its own, as on two machines; the assignment was entered before."""
    gradebook = server.new_database("halves")
    courses = [tmp_path / name for name in ("one", "other")]
    for course in courses:
        kills.make_course(course)
    monkeypatch.setenv("DGM_GRADEBOOK", gradebook)
    Course(courses[0]).release(ASSIGNMENT)
    shutil.copytree(courses[0] / "assignments", courses[1] / "assignments")
    halves = [("ann", "cyd", "eve"), ("ben", "dan")]
    runs = [grade(course, gradebook, *who) for course, who in zip(courses, halves, strict=True)]
    said = [line for run in runs for line in run.end()]
    assert all(any(line.startswith(f"{who}  ") for line in said) for who in sum(halves, ()))
    assert named(rows(gradebook)) == named(graded.rows)


def test_formgraders_settings_name_the_driver(graded, monkeypatch):
    monkeypatch.setenv("DGM_GRADEBOOK", graded.gradebook)
    assert Course(graded.course).folders.db_url.startswith("postgresql+psycopg2://grader:")
