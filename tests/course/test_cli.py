"""`dgm` at the command line: bad input gets one line and exit code 2, and nothing is written."""

import filecmp

import pytest
from conftest import ROOT, TOPICS

from dgm_utils.cli import main


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


UNKNOWN = f"no assignment 'poetry' in solutions/; there are: {', '.join(TOPICS)}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["grade", "poetry"], UNKNOWN),
        (["demo", "poetry"], UNKNOWN),
        (["release", "poetry"], UNKNOWN),
        (["grade", "iwae"], "there is no folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(course_folder, capsys, arguments, words):
    before = files(course_folder)
    assert main(["--course", str(course_folder), *arguments]) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert err.startswith("dgm: ")
    assert err.count("\n") == 1
    assert out == ""
    assert files(course_folder) == before


def test_an_empty_class_is_said_in_one_line(course_folder, capsys):
    (course_folder / "grading" / "submitted").mkdir(parents=True)
    assert main(["--course", str(course_folder), "grade", "iwae"]) == 2
    assert "nobody submitted iwae: put notebooks at grading/submitted/" in capsys.readouterr().err


def test_outside_a_course_it_says_where_to_go(tmp_path, capsys):
    assert main(["--course", str(tmp_path), "grade", "iwae"]) == 2
    assert "run dgm in the course folder" in capsys.readouterr().err


@pytest.mark.parametrize("topic", TOPICS)
def test_a_release_is_the_same_every_time(course_folder, topic, capsys):
    """The committed assignment is what the solution makes; a changed one is stale."""
    released = course_folder / "assignments" / topic / f"{topic}.ipynb"
    released.write_text("{}")
    assert main(["--course", str(course_folder), "release", "--check", topic]) == 1
    assert f"run `dgm release {topic}`" in capsys.readouterr().out
    assert main(["--course", str(course_folder), "release", topic]) == 0
    assert filecmp.cmp(released, ROOT / "assignments" / topic / f"{topic}.ipynb", shallow=False)
    assert main(["--course", str(course_folder), "release", "--check", topic]) == 0
