"""What nothing inside a sandbox may see, wherever it lies; and that nobody is graded otherwise."""

import itertools
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, needs_sandbox
from test_sandbox import NOTHING, data

from nbjudge.inside import probe
from nbjudge.running import mounts, sandbox
from nbjudge.running.sandbox import Contents, Sandbox, SandboxError

PACKAGE = ROOT / "dgm_utils"


def contents(*hidden):
    return Contents(NOTHING, "dgm_utils.exercises.iwae", (), hidden=tuple(map(str, hidden)))


@pytest.fixture
def bound(monkeypatch):
    """A folder that the sandboxes of this process show; Python's own is every process's."""
    # A process that waits for the next sandbox was started without it.
    sandbox._close_spare()
    # Over /tmp a kernel has one of its own.
    with tempfile.TemporaryDirectory(prefix="dgm-test-", dir="/var/tmp") as folder:
        monkeypatch.setattr(mounts, "_SYSTEM", (*mounts._SYSTEM, folder))
        yield Path(folder)


def make_course(folder):
    """What a student would like to read."""
    (folder / "solutions" / "iwae").mkdir(parents=True)
    (folder / "grading").mkdir()
    for name in ("nbgrader_config.py", "solutions/iwae/iwae.ipynb", "grading/gradebook.db"):
        (folder / name).write_text("secret")
    return folder


@needs_sandbox
def test_a_course_is_covered_under_a_path_that_is_bound(bound, monkeypatch):
    copy = bound / "packages" / "dgm_utils"
    course = make_course(bound / "a course")
    shutil.copytree(PACKAGE / "exercises", copy)
    monkeypatch.setattr(sys, "path", [*sys.path, str(copy.parent)])
    with Sandbox(contents(course, course / "grading")) as box:
        said = data(
            box,
            f"""
            import json, os
            found = [path for path, _, files in os.walk({str(bound)!r}) if files]
            print(json.dumps([found, os.listdir({str(copy)!r})]))
            """,
        )
    assert said == [[], []]


@needs_sandbox
def test_a_course_around_pythons_own_folder_is_covered_but_for_that():
    course = Path(sys.prefix).parent
    outside = {path.name for path in course.iterdir()}
    with Sandbox(contents(course)) as box:
        inside = data(box, f"import json, os\nprint(json.dumps(os.listdir({str(course)!r})))")
    assert inside == [Path(sys.prefix).name]
    assert outside > set(inside)


@needs_sandbox
def test_a_course_that_is_not_covered_lets_nobody_in(bound, monkeypatch):
    course = make_course(bound / "course")
    monkeypatch.setattr(mounts, "_covers", lambda hidden: iter(()))
    with pytest.raises(SandboxError, match=r"would see .*, which belongs to the course.* nobody"):
        Sandbox(contents(course))


@needs_sandbox
def test_answers_that_nobody_knew_of_let_nobody_in(bound):
    shutil.copytree(PACKAGE / "exercises", bound / "backup" / "dgm_utils" / "exercises")
    with pytest.raises(SandboxError, match=r"another copy of dgm_utils.*backup.* nobody"):
        Sandbox(contents())


@needs_sandbox
def test_a_spare_process_that_hides_too_little_is_not_taken(tmp_path):
    sandbox.warm_up(hidden=(str(tmp_path / "one"),))
    spare = sandbox._spare[True]
    with Sandbox(contents(tmp_path / "other")) as box:
        assert box.folder != spare.folder
    assert not spare.folder.exists()
    sandbox.warm_up(hidden=(str(tmp_path / "one"), str(tmp_path / "other")))
    spare = sandbox._spare[True]
    with Sandbox(contents(tmp_path / "other")) as box:
        assert box.folder == spare.folder


# Seen from within, without a sandbox around it


def found(top):
    return list(probe.search([], ["dgm_utils"], str(top)))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("src/dgm_utils/iwae.py", "another copy"),
        ("build/lib/dgm_utils/iwae.py", "another copy"),
        ("lib/python3.9/site-packages/dgm_utils/__pycache__/iwae.cpython-39.pyc", "another copy"),
        ("lib/python3.9/site-packages/dgm_utils-0.1-py3.9.egg/dgm_utils/iwae.py", "another copy"),
        ("wheels/dgm_utils-0.2.0-py3-none-any.whl", "a packed copy"),
        ("dist/dgm-utils-0.2.0.tar.gz", "a packed copy"),
    ],
)
def test_answers_are_found_wherever_they_lie(tmp_path, path, said):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("def iwae_bound(): ...")
    (only,) = found(tmp_path)
    assert only.startswith(said) and str(tmp_path) in only


def test_the_folder_of_a_course_is_found(tmp_path):
    make_course(tmp_path / "2025")
    assert found(tmp_path) == [f"the folder of a course, in {tmp_path}/2025"]


def test_what_is_covered_or_only_named_alike_is_not_seen(tmp_path):
    (tmp_path / "dgm_utils").mkdir()
    (tmp_path / "dgm_utils_of_mine").mkdir()
    (tmp_path / "dgm_utils_of_mine" / "iwae.py").touch()
    (tmp_path / "dgm_utils-0.2.0.dist-info").mkdir()
    assert found(tmp_path) == []


def test_a_place_is_looked_at_but_for_what_is_mounted_there(tmp_path, monkeypatch):
    make_course(tmp_path / "course")
    assert len(list(probe.search([str(tmp_path / "course")], [], str(tmp_path / "none")))) == 3
    shown = {str(tmp_path / "course" / name) for name in ("solutions", "grading")}
    monkeypatch.setattr(probe, "_mounted", lambda: shown)
    (seen,) = probe.search([str(tmp_path / "course")], [], str(tmp_path / "none"))
    assert seen.startswith(f"{tmp_path}/course/nbgrader_config.py")


def test_a_search_that_breaks_off_has_not_seen_nothing(monkeypatch):
    monkeypatch.setattr(probe, "search", lambda *_: 1 / 0)
    assert "could not be looked at" in probe.end(probe.begin([], []))


# What is put where


def steps(hidden, monkeypatch, prefix):
    """The steps in which bubblewrap makes the file system."""
    monkeypatch.setattr(sys, "prefix", str(prefix))
    return mounts.arguments({}, (str(hidden),))


def test_a_container_s_folder_is_covered_and_its_python_shown(tmp_path, monkeypatch):
    course = make_course(tmp_path / "usr" / "src" / "app")
    (course / ".venv").mkdir()
    monkeypatch.setattr(mounts, "_SYSTEM", (str(tmp_path / "usr"),))
    said = steps(course, monkeypatch, course / ".venv")
    usr, app, venv = (str(tmp_path / "usr"), str(course), str(course / ".venv"))
    pairs = [pair for pair in itertools.pairwise(said) if pair[1] in (app, venv)]
    shown = ("--ro-bind-try", venv), (venv, venv)
    assert pairs == [("--tmpfs", app), *shown, ("--remount-ro", app)]
    assert said.index(usr) < said.index(app)


def test_what_is_hidden_is_covered_at_every_name_that_it_has(tmp_path, monkeypatch):
    course = make_course(tmp_path / "usr" / "lib" / "course")
    (tmp_path / "lib").symlink_to(tmp_path / "usr" / "lib")
    (tmp_path / "link").symlink_to(course)
    monkeypatch.setattr(mounts, "_SYSTEM", (str(tmp_path / "usr"), str(tmp_path / "lib")))
    covers = [place for _, place in mounts._covers((str(tmp_path / "link"),))]
    assert covers == [str(course), str(tmp_path / "lib" / "course")]


def test_of_a_course_that_is_pythons_own_folder_only_python_is_shown(tmp_path, monkeypatch):
    course = make_course(tmp_path / "course")
    for name in ("bin", "lib", "pyvenv.cfg"):
        (course / name).mkdir()
    said = steps(course, monkeypatch, course)
    shown = {argument for argument in said if argument.startswith(str(course))}
    assert shown == {str(course / name) for name in ("bin", "lib", "pyvenv.cfg")}
