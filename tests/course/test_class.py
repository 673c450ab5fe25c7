"""A class is graded whatever one submission does to one step of it, and with numbers of its own."""

import os
import shutil
import stat
import subprocess
import sys
import time

import nbformat
import pytest
from conftest import JAILED, ROOT, needs_sandbox

from benchmarks import kills
from dgm_utils import cli
from dgm_utils.exercises.iwae import EXERCISES
from nbjudge import crew, grade, record
from nbjudge.asking.task import make_task
from nbjudge.course import seeds
from nbjudge.course.folder import Course, CourseError
from nbjudge.course.results import FAILED, GRADED, MANUAL
from nbjudge.execute_and_mark import close_graders
from nbjudge.grade import grade_class
from nbjudge.judging import causes
from nbjudge.reports.feedback import write_feedback
from nbjudge.running import execute
from nbjudge.submissions import intake, sanitize, submission

STUDENTS = ["ann", "ben", "cyd", "dan"]


def graded(course, students=STUDENTS, **options):
    results = grade_class(course, kills.ASSIGNMENT, students, jailed=JAILED, **options)
    return {result.student: result for result in results}


def failing(function, student, error):
    """The function, but for one student it raises."""

    def wrapped(*args, **kwargs):
        if student in map(str, args) or any(f"/{student}/" in str(arg) for arg in args):
            raise error
        return function(*args, **kwargs)

    return wrapped


def test_whatever_breaks_one_submission_is_its_result_and_the_others_go_on(small, monkeypatch):
    broken = {
        "ann": (submission, "fingerprint", OSError("no such disk")),
        "ben": (intake, "take_all", RecursionError("too deep")),
        "cyd": (sanitize, "executed_path", MemoryError()),
        "dan": (record, "grade", KeyError("state")),
    }
    (small.path("submitted") / "fay").mkdir()
    shutil.copytree(
        small.path("submitted", "ann", kills.ASSIGNMENT),
        small.path("submitted", "fay", kills.ASSIGNMENT),
    )
    with monkeypatch.context() as patched:
        for student, (module, step, error) in broken.items():
            patched.setattr(module, step, failing(getattr(module, step), student, error))
        results = graded(small, [*STUDENTS, "fay"])
    assert results["fay"].points == 3
    for student, (*_, error) in broken.items():
        assert results[student].state == FAILED
        assert type(error).__name__ in results[student].reason
    # What was the machine's fault may be gone the next time.
    results = graded(small)
    assert [results[s].points for s in STUDENTS] == [3, 3, 2, 0]


def die_for_cyd(text, **options):
    """`execute_text` in a worker that student code can end."""
    if "sum(dim=0)" in text:
        # The others are on their way by then.
        time.sleep(0.5)
        os._exit(1)
    return execute.execute_text(text, **options)


def test_a_worker_that_dies_is_one_failed_submission(small, monkeypatch):
    monkeypatch.setattr(grade, "execute_text", die_for_cyd)
    results = graded(small, jobs=2)
    assert results["cyd"].state == FAILED
    assert "ended the process that reads it" in results["cyd"].reason
    assert [results[s].points for s in ("ann", "ben", "dan")] == [3, 3, 0]


def die():
    os._exit(1)


def test_workers_that_cannot_start_are_no_submissions_fault(small, monkeypatch):
    monkeypatch.setattr(crew, "begin_worker", die)
    with pytest.raises(CourseError, match="die while they start"):
        graded(small)
    assert not list((small.grading / "graded").rglob("*.json"))


def test_what_ended_by_the_clock_on_the_wall_runs_once_more_alone(small, monkeypatch):
    asked, running = [], []

    def wants_quiet(notebook):
        code = "\n".join(cell.source for cell in notebook.cells)
        asked.append("cyd" if "sum(dim=0)" in code else "another")
        return asked[-1] == "cyd"

    monkeypatch.setattr(crew, "wants_quiet", wants_quiet)
    submit = crew.Crew.submit

    def watched(own, execute, texts):
        running[:] = [future for future in running if not future.done()]
        if asked.count("cyd") == 1 and "sum(dim=0)" in "".join(texts):
            assert not running
        running.append(submit(own, execute, texts))
        return running[-1]

    monkeypatch.setattr(crew.Crew, "submit", watched)
    results = graded(small, jobs=2)
    # The second time is the last, whatever came of it.
    assert asked.count("cyd") == 1
    assert [results[s].points for s in STUDENTS] == [3, 3, 2, 0]


def test_a_folder_that_cannot_be_a_students_is_refused_alone(small):
    folder = small.path("submitted")
    names = ["a*n", " ann", "be\nn", os.fsdecode(b"\xdcml")]
    for name in names:
        (folder / "ann").rename(folder / name)
        results = graded(small, small.submissions(kills.ASSIGNMENT))
        assert results[name].state == FAILED
        assert "rename the folder" in results[name].reason
        assert results["ben"].points == 3
        (folder / name).rename(folder / "ann")


@pytest.mark.parametrize("name", ["a*b", "what?", "$HOME", "50%"])
def test_a_path_that_nbgrader_cannot_read_is_refused_at_the_start(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    kills.make_course(folder)
    with pytest.raises(CourseError, match="move or rename its folder"):
        Course(folder)


def test_whatever_else_stands_in_a_path_or_an_id_is_a_name(tmp_path):
    folder = tmp_path / "DGM [2026], {ü} #1"
    folder.mkdir()
    kills.make_course(folder)
    course = Course(folder)
    course.enter(kills.ASSIGNMENT)
    names = ["ann[1]", "b{x}", "c?", "d%20$HOME", "e#1", "f, g"]
    for name in names:
        shutil.copytree(course.path("submitted") / "ann", course.path("submitted") / name)
    try:
        results = graded(course, names)
        assert {name: results[name].points for name in names} == dict.fromkeys(names, 3)
        assert list(write_feedback(course, kills.ASSIGNMENT, names, jobs=1)) == [
            (name, "") for name in names
        ]
    finally:
        close_graders()


def test_a_second_grader_is_told_to_wait(small):
    with (
        small.claimed(kills.ASSIGNMENT),
        pytest.raises(CourseError, match="by another process"),
        small.claimed(kills.ASSIGNMENT),
    ):
        pass
    with small.claimed(kills.ASSIGNMENT):
        pass


def test_what_was_left_as_released_is_told_from_any_other_0(small):
    results = graded(small, ["ann", "ben"])
    assert (results["ann"].state, results["ann"].untouched) == (MANUAL, ())
    assert (results["ben"].state, results["ben"].untouched) == (GRADED, ("question",))
    assert graded(small, ["ben"])["ben"] == results["ben"]


# Seeds that are a course's own


def test_a_course_has_one_secret_of_its_own(tmp_path):
    courses = [tmp_path / name for name in ("one", "other")]
    found = []
    for folder in courses:
        folder.mkdir()
        kills.make_course(folder)
        (folder / "grading" / seeds.FILE).unlink()
        course = Course(folder)
        found.append(seeds.secret_of(course.folders))
        assert seeds.secret_of(course.folders) == found[-1]
        mode = (folder / "grading" / seeds.FILE).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        assert [p.name for p in (folder / "grading").iterdir() if "secret" in p.name] == [
            seeds.FILE
        ]
    assert found[0] != found[1]


def test_a_secret_that_was_spoiled_is_said(small):
    (small.grading / seeds.FILE).write_text("1234")
    with pytest.raises(seeds.UserError, match="64 digits"):
        graded(small)


def test_the_cases_of_a_class_are_nobody_elses():
    exercise = next(e for e in EXERCISES if e.name == "iwae_bound")

    def cases(secret, seed):
        task = make_task(exercise, seeds.case_seed(secret, exercise.name, seed))
        return [tuple(case.args[0].shape) for case in task.cases], task.cases[-1].args[0]

    assert seeds.case_seed(b"a", "iwae_bound", 0) == 0
    sizes = {str(cases(bytes([number]), 1)[0]) for number in range(8)}
    assert len(sizes) > 1
    first, again = cases(b"a", 1)[1], cases(b"a", 1)[1]
    assert first.equal(again)
    others = [seeds.case_seed(b"b", "iwae_bound", 1), seeds.case_seed(b"a", "iwae_bound", 2)]
    others += [seeds.case_seed(b"a", "another", 1), 1]
    assert len({seeds.case_seed(b"a", "iwae_bound", 1), *others}) == 5
    assert all(0 <= seed < 2**63 for seed in others)


# Why a check gave nothing


def with_outputs(*cells):
    """Cells with (source, error or None, nbgrader's marks)."""
    made = []
    for source, error, marks in cells:
        cell = nbformat.v4.new_code_cell(source, metadata={"nbgrader": marks})
        if error:
            name, value = error
            cell.outputs = [nbformat.v4.new_output("error", ename=name, evalue=value)]
        made.append(cell)
    return made


MISSING = ("NameError", "name 'f' is not defined")
CHECK = ("check(f)", MISSING, {"grade": True})


@pytest.mark.parametrize(
    ("source", "error", "beside", "words"),
    [
        (
            "def f(x):\n    return x +",
            ("SyntaxError", "invalid syntax (3057439.py, line 2)"),
            (),
            "The cell of your answer ended with SyntaxError in line 2, `return x +`: "
            "invalid syntax.",
        ),
        (
            "from my_helpers import f",
            ("ModuleNotFoundError", "No module named 'my_helpers'"),
            {"my_helpers.py"},
            "No module named 'my_helpers'. A file of that name lies beside the notebook, but the "
            "notebook is graded alone: put what it needs of `my_helpers` into a cell.",
        ),
        (
            "import my_helpers",
            ("ModuleNotFoundError", "No module named 'my_helpers'"),
            {"photo.jpg"},
            "ended with ModuleNotFoundError: No module named 'my_helpers'.",
        ),
    ],
)
def test_the_answers_own_error_is_quoted(source, error, beside, words):
    cells = with_outputs((source, error, {"solution": True}), CHECK)
    assert causes.cause_of(cells, cells[-1], beside).endswith(words)


def test_an_earlier_error_is_quoted_where_a_name_is_missed():
    first = ("import scipy", ("ModuleNotFoundError", "No module named 'scipy'"), {})
    answer = ("def f(x): return x", None, {"solution": True})
    cells = with_outputs(first, answer, CHECK)
    assert causes.cause_of(cells, cells[-1]).startswith("An earlier cell ended with ModuleNot")
    other = with_outputs(first, answer, ("check(f)", ("KernelDied", "It died."), {}))
    assert causes.cause_of(other, other[-1]) == ""


@pytest.mark.parametrize(
    "line", ["check = lambda f: None", "def check(f): pass", "del check", "%reset -f"]
)
def test_whoever_takes_the_name_of_the_check_is_told_so(line):
    answer = ("def f(x): return x", None, {"solution": True})
    check = ("check(f, seed=1)", ("TypeError", "unexpected keyword argument 'seed'"), {})
    cells = with_outputs((f"x = 1\n{line}", None, {}), answer, check)
    said = causes.cause_of(cells, cells[-1])
    assert said.startswith("The course's `check` was taken away by a cell of yours, at `")
    assert line in said
    other = with_outputs(("check == 1\ncheckpoint = 2", None, {}), answer, check)
    assert causes.cause_of(other, other[-1]) == ""


@needs_sandbox
def test_a_helper_beside_the_notebook_is_named_to_the_student(small):
    path = small.notebook("submitted", kills.ASSIGNMENT, "ann")
    notebook = nbformat.read(path, 4)
    answer = next(c for c in notebook.cells if c.id == "multi_sample_elbo-solution")
    (path.parent / "my_helpers.py").write_text(answer.source)
    answer.source = "from my_helpers import multi_sample_elbo"
    nbformat.write(notebook, path)
    assert graded(small, ["ann"])["ann"].points == 2
    text = small.notebook("autograded", kills.ASSIGNMENT, "ann").read_text()
    assert "lies beside the notebook" in text


# The command line


def run(small, *arguments, **environment):
    command = [sys.executable, "-m", "dgm_utils.cli", "--course", str(small.root), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, env=environment)


NO_SANDBOX = [] if JAILED else ["--no-sandbox"]


def test_a_terminal_that_is_not_utf_8_and_a_log_are_readable(small):
    path = small.notebook("submitted", kills.ASSIGNMENT, "eve")
    path.with_name("\x1b[31mred\N{SNOWMAN}.txt").write_text("")
    path.unlink()
    done = run(small, "grade", kills.ASSIGNMENT, *NO_SANDBOX, PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert b"eve" in done.stdout and b"failed" in done.stdout
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\r" not in done.stdout
    assert done.stderr == b""


def test_a_reader_that_has_seen_enough_ends_it_quietly(small, monkeypatch, capfd):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert cli.main(["--course", str(small.root), "release", kills.ASSIGNMENT]) == 141
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("broken", ["source", "settings"])
def test_nbgraders_own_reason_is_given_and_not_a_log_that_nobody_sees(small, broken):
    path = small.notebook("source", kills.ASSIGNMENT)
    if broken == "source":
        path.write_text(path.read_text().replace('"schema_version": 3', '"schema_version": 99'))
    else:
        small.api.config.ClearSolutions.begin_solution_delimeter = 3
    with pytest.raises(CourseError) as raised:
        small.release(kills.ASSIGNMENT)
    assert "Please see" not in str(raised.value)
    assert "cannot be released: " in str(raised.value)
