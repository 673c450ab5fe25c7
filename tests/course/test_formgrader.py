"""Formgrader's *autograde* button takes the road of `dgm grade`, sandbox included."""

import contextlib
import importlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import nbformat
import psutil
import pytest
import requests
from conftest import ROOT, needs_sandbox
from lab import Lab, environment, until

from nbjudge.course.folder import Course
from nbjudge.execute_and_mark import close_graders

kills = importlib.import_module("benchmarks.kills")
ASSIGNMENT = kills.ASSIGNMENT
pytestmark = needs_sandbox

# Says where it runs, and whether it gets at the gradebook and at the answers.
SPY = """import glob, os, socket, sqlite3
print("host", socket.gethostname())
try:
    sqlite3.connect("file:{course}/grading/gradebook.db?mode=ro", uri=True).execute("SELECT 1")
    print("REACHED the gradebook")
except sqlite3.Error as error:
    print("gradebook:", error)
print("solutions:", glob.glob("{course}/solutions/*/*"))
"""
REFERENCE = "from dgm_utils.iwae import active_units"
SLEEP = ["sleep", "654"]


def cmdline(process):
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def running(processes):
    """Those that have not ended; what nobody has waited for has ended."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:100])
    return found


def make_course(folder, *students):
    """The small course, released, with these submissions."""
    kills.make_course(folder)
    Course(folder).release(ASSIGNMENT)
    for submitted in (folder / "grading" / "submitted").iterdir():
        if submitted.name not in students:
            shutil.rmtree(submitted)


def submit(folder, student, attack, active_units=None):
    """Hand in Ann's notebook with a cell more, and maybe another answer."""
    submitted = folder / "grading" / "submitted"
    name = f"{ASSIGNMENT}/{ASSIGNMENT}.ipynb"
    notebook = nbformat.read(submitted / "ann" / name, as_version=4)
    notebook.cells.insert(1, nbformat.v4.new_code_cell(attack, id="attack"))
    for cell in notebook.cells:
        if active_units and cell.id == "active_units-solution":
            cell.source = active_units
    path = submitted / student / name
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)


class Graded:
    """The same class, graded by the button and by `dgm grade`."""

    students = ("ann", "cyd", "spy")

    def __init__(self, folder):
        self.folder, other = folder / "lab", folder / "dgm"
        make_course(self.folder, "ann", "cyd", "eve")
        self.attack = SPY.format(course=self.folder)
        submit(self.folder, "spy", self.attack, REFERENCE)
        shutil.copytree(self.folder, other)
        command = [sys.executable, "-m", "dgm_utils.cli", "--course", str(other)]
        command += ["grade", ASSIGNMENT, "--jobs", "1"]
        dgm = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
        try:
            with Lab(self.folder) as lab:
                self.refused = lab.press_autograde(ASSIGNMENT, "ann", xsrf=False).status_code
                said = {
                    name: lab.press_autograde(ASSIGNMENT, name) for name in (*self.students, "eve")
                }
                self.said = {name: answer.json() for name, answer in said.items()}
                self.kept = lab.descendants()
                self.code = lab.end(signal.SIGTERM)
                time.sleep(0.5)
                self.survivors = running(self.kept)
                self.left = [path.name for path in lab.temporary.glob("nbj-*")]
            # Eve handed in no notebook.
            assert dgm.wait(60) == 1
        finally:
            dgm.kill()
            dgm.wait()
        self.by_button, self.by_dgm = kills.read_state(self.folder), kills.read_state(other)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    return Graded(tmp_path_factory.mktemp("course"))


def test_the_button_needs_the_cookie_of_the_page(graded):
    assert graded.refused == 403


def test_the_button_succeeds(graded):
    for student in graded.students:
        assert graded.said[student]["success"], graded.said[student]["log"][-3000:]


def test_the_button_records_what_dgm_grade_records(graded):
    tables = [name for name in graded.by_dgm if name.startswith("gradebook: ")]
    assert len(tables) >= 6
    for name in tables:
        # Of what cannot be graded nbgrader notes that it was handed in; `dgm grade` nothing.
        found = [row for row in graded.by_button[name] if row[0] != "eve"]
        assert found == list(graded.by_dgm[name]), name
    scores = [row[3] for row in graded.by_dgm["gradebook: grades"]]
    assert sorted(score for score in scores if score is not None) == [0, 0, 1, 1, 2, 2]


def test_the_button_gives_the_verdicts_that_dgm_grade_gives(graded):
    assert set(graded.by_dgm["autograded"]) == set(graded.students)
    assert graded.by_button["autograded"] == graded.by_dgm["autograded"]
    assert "sum over the samples" in str(graded.by_button["autograded"]["cyd"])


def test_what_is_no_notebook_gets_a_reason_and_no_points(graded):
    assert not graded.said["eve"]["success"]
    assert "it is not JSON text" in graded.said["eve"]["log"]
    rows = [row for row in graded.by_button["gradebook: grades"] if row[0] == "eve"]
    assert all(row[3:6] == (None, None, None) for row in rows)


def test_student_code_behind_the_button_is_shut_in(graded):
    (output,) = next(
        outputs
        for _, source, outputs in graded.by_button["autograded"]["spy"]
        if "SELECT" in source
    )
    assert output["text"] == (
        "host grading\ngradebook: unable to open database file\nsolutions: []\n"
    )
    # The reference is not there to be imported; the other answer is the spy's own.
    assert "No module named 'dgm_utils.iwae'" in str(graded.by_button["autograded"]["spy"])
    scores = {
        cell: score
        for student, _, cell, score, *_ in graded.by_button["gradebook: grades"]
        if student == "spy"
    }
    assert scores["active_units-check"] == 0
    assert scores["multi_sample_elbo-check"] == 1


def test_the_same_code_outside_the_sandbox_gets_what_it_wants(graded):
    """Or the test above would say nothing."""
    spy = [sys.executable, "-c", f"{graded.attack}\n{REFERENCE}\nprint(active_units)"]
    done = subprocess.run(spy, env=environment(), capture_output=True, text=True)
    assert "REACHED the gradebook" in done.stdout
    assert f"{ASSIGNMENT}.ipynb" in done.stdout
    assert "<function active_units" in done.stdout, done.stderr


def test_a_server_that_is_told_to_end_leaves_no_sandbox(graded):
    # One was kept for the next submission: bubblewrap's two processes, who holds the tree of the
    # warm process, and the warm process.
    names = [" ".join(cmdline(process)) for process in graded.kept]
    assert len(graded.kept) == 4, names
    assert graded.code == 0
    assert not graded.survivors
    assert not graded.left


def test_what_was_released_anew_is_graded_anew(tmp_path):
    """The server keeps a grader for the next submission; by then the assignment may be another."""
    make_course(tmp_path, "ann")
    course = Course(tmp_path)
    try:
        assert course.api.autograde(ASSIGNMENT, "ann")["success"]
        source = course.notebook("source", ASSIGNMENT)
        changed = source.read_text().replace("check(active_units)", "check(active_units, seed=3)")
        source.write_text(changed)
        course.release(ASSIGNMENT)
        outcome = course.api.autograde(ASSIGNMENT, "ann")
        assert outcome["success"], outcome["log"][-3000:]
    finally:
        close_graders()
    cells = nbformat.read(course.notebook("autograded", ASSIGNMENT, "ann"), as_version=4).cells
    (check,) = [cell for cell in cells if cell.id == "active_units-check"]
    assert check.source == "check(active_units, seed=3)"
    assert "passed on" in check.outputs[0].data["text/plain"]


def test_a_killed_server_takes_running_student_code_with_it(tmp_path):
    make_course(tmp_path, "ann")
    submit(tmp_path, "sleeper", f"import subprocess\nsubprocess.run({SLEEP})")
    with Lab(tmp_path) as lab:

        def press():
            # The server dies before it answers.
            with contextlib.suppress(requests.ConnectionError):
                lab.press_autograde(ASSIGNMENT, "sleeper")

        pressing = threading.Thread(target=press)
        pressing.start()
        sleeping = until(
            lambda: [process for process in lab.descendants() if cmdline(process) == SLEEP],
            lambda: f"it does not sleep: {lab.said()}",
        )
        processes = lab.descendants()
        assert [p for p in sleeping[0].parents() if cmdline(p)[:1] == ["bwrap"]]
        lab.end(signal.SIGKILL)
        until(lambda: not running(processes), lambda: f"there still run {running(processes)}", 10)
        pressing.join()
