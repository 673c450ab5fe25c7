"""A submission's folder as people, their systems and their enemies leave it."""

import errno
import json
import os
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from submissions import (
    ANSWER,
    PLAYED,
    PROOF,
    RELEASE,
    TOPIC,
    cell,
    fill_in,
    make_course,
    write,
)

from nbjudge.course import safe_files
from nbjudge.submissions import handed_in as folders
from nbjudge.submissions.handed_in import (
    SubmissionError,
    documents,
    fingerprint,
    handed_in,
    kept_files,
    timestamp,
)
from nbjudge.submissions.hooks import Mend
from nbjudge.submissions.intake import take_in
from nbjudge.submissions.note import mended

LATIN_1 = os.fsdecode(b"\xdcbung.ipynb")


def graded(folder):
    """The answer of the notebook that is taken, and what is said of it."""
    path, notebook = take_in(folder, RELEASE)
    assert path == folder / f"{TOPIC}.ipynb"
    return cell(notebook, f"{PLAYED}-solution").source, notebook.metadata.get(folders.SAID, [])


def refused(folder):
    fingerprint(folder)
    handed_in(folder)
    documents(folder)
    with pytest.raises(SubmissionError) as caught:
        take_in(folder, RELEASE)
    str(caught.value).encode()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# Which notebook.


def test_the_filled_notebook_wins_over_the_untouched_one_of_the_right_name(
    folder, submitted, released
):
    write(folder / f"{TOPIC}.ipynb", released)
    write(folder / f"{TOPIC} (1).ipynb", submitted)
    before = contents(folder)
    answer, (said,) = graded(folder)
    assert answer == ANSWER
    assert said.startswith("2 notebooks") and "Graded is `iwae (1).ipynb`" in said
    assert "(2 against 0)" in said and "not graded: `iwae.ipynb`" in said
    # Nothing that was handed in is written over.
    assert contents(folder) == before


def test_of_two_filled_ones_the_right_name_wins_unless_the_other_has_more(folder, submitted):
    other = fill_in(submitted)
    cell(other, f"{PLAYED}-solution").source = ANSWER.replace("logsumexp", "mean")
    write(folder / f"{TOPIC}.ipynb", submitted)
    write(folder / "final.ipynb", other)
    answer, (said,) = graded(folder)
    assert answer == ANSWER and "has the name that was asked for" in said
    cell(other, "proof-q-ew").source = "More."
    write(folder / "final.ipynb", other)
    answer, (said,) = graded(folder)
    assert answer != ANSWER and "(3 against 2)" in said


def test_a_broken_file_of_the_right_name_does_not_hide_a_good_one(folder, submitted):
    (folder / f"{TOPIC}.ipynb").write_text("{")
    write(folder / f"{TOPIC}-Copy1.ipynb", submitted)
    answer, said = graded(folder)
    assert answer == ANSWER
    assert any("iwae.ipynb is not a notebook" in s for s in said)


def test_a_notebook_of_something_else_beside_is_not_spoken_of(folder, submitted):
    write(folder / f"{TOPIC}.ipynb", submitted)
    write(folder / "scratch.ipynb", new_notebook(cells=[new_code_cell("1")]))
    (folder / "data.json").write_text('{"cells": 3}')
    (folder / "notes.txt").write_text("x")
    assert graded(folder) == (ANSWER, [])


@pytest.mark.parametrize(
    "name",
    [
        "iwae.ipynb.json",
        "iwae.ipynb.txt",
        "iwae.IPYNB",
        "IWAE.ipynb",
        "iwae.ipynb (1)",
        "iwae.ipynb.bak",
        "iwae.json",
        "iwae.txt",
        "iwae",
        "ü `<script>`.ipynb",
        LATIN_1,
    ],
)
def test_a_notebook_is_found_under_any_name(folder, submitted, name):
    path = write(folder / name, submitted)
    before, print_before = path.read_bytes(), fingerprint(folder)
    answer, (said,) = graded(folder)
    assert answer == ANSWER and said.startswith("Its file was named `") and "<" not in said
    assert path.read_bytes() == before and handed_in(folder) == [path]
    copied = json.loads((folder / f"{TOPIC}.ipynb").read_text())
    assert copied["metadata"][folders.COPY_MARK]["name"].encode()
    # Once more, with the copy there: the same, and nothing new.
    assert graded(folder) == (answer, [said]) and len(contents(folder)) == 2
    path.write_bytes(before + b" ")
    assert fingerprint(folder) != print_before


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("iwae.py", "code alone"),
        ("iwae.html", "a page for a browser"),
        ("iwae.pdf", "a printed page"),
        ("iwae.zip", "an archive"),
    ],
)
def test_what_was_handed_in_instead_is_called_by_its_name(folder, name, what):
    (folder / name).write_text("x")
    assert what in refused(folder) and "hand in the .ipynb file" in refused(folder)


def test_the_sentences_reach_the_note_through_dgm_and_nbgrader(tmp_path, submitted, released):
    """Where bad encodings, bent forms and other names would end nbgrader's own reading."""
    root = tmp_path / "course"
    root.mkdir()
    course = make_course(root)
    course.api.config.Autograde.autograde_preprocessors = ["nbgrader.preprocessors.SaveAutoGrades"]
    course.release(TOPIC)
    cell(submitted, PROOF).source = cell(released, PROOF).source
    folders = {}
    for student in ("latin-1", "two", "mark", "photo", "hole"):
        folders[student] = course.path("submitted", student, TOPIC)
        folders[student].mkdir(parents=True)
    text = nbformat.writes(submitted)
    write(folders["latin-1"] / LATIN_1, text)
    write(folders["two"] / f"{TOPIC}.ipynb", released)
    write(folders["two"] / "b.ipynb", text)
    (folders["mark"] / f"{TOPIC}.ipynb").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (folders["mark"] / "timestamp.txt").write_text("2026-03-01 19:00:00 +0100")
    write(folders["photo"] / f"{TOPIC}.ipynb", text).with_name("photo.jpg").write_bytes(b"1")
    write(folders["hole"] / f"{TOPIC}.ipynb", text)
    with (folders["hole"] / "hole.bin").open("wb") as file:
        file.truncate(1_500_000_000)
    os.mkfifo(folders["hole"] / "pipe")
    outcome = course.api.autograde(TOPIC, "*")
    assert outcome["success"], outcome.get("log")
    words = {
        "latin-1": "Its file was named `_bung.ipynb`.",
        "two": "Graded is `b.ipynb`",
        "mark": "",
        "photo": "beside the notebook lies `photo.jpg`",
        "hole": "`hole.bin`",
    }
    for student, said in words.items():
        path = course.notebook("autograded", TOPIC, student)
        notebook = nbformat.read(path, as_version=4)
        assert cell(notebook, f"{PLAYED}-solution").source == ANSWER
        assert bool(mended(notebook)) == bool(said) and said in " ".join(mended(notebook))
    copied = [path.name for path in course.path("autograded", "hole", TOPIC).iterdir()]
    assert copied == [f"{TOPIC}.ipynb"]
    assert (course.path("autograded", "photo", TOPIC) / "photo.jpg").read_bytes() == b"1"
    with course.api.gradebook as gradebook:
        came = gradebook.find_submission(TOPIC, "mark").timestamp
        waits = gradebook.find_submission(TOPIC, "photo").needs_manual_grade
    assert str(came) == "2026-03-01 18:00:00" and waits


# Folders that would end or hold up a run.


def test_a_pipe_in_place_of_anything_is_not_waited_for(folder, submitted):
    os.mkfifo(folder / "beside.txt")
    os.mkfifo(folder / "other.ipynb")
    write(folder / f"{TOPIC}.ipynb", submitted)
    assert graded(folder)[0] == ANSWER
    os.mkfifo(folder / "timestamp.txt")
    assert refused(folder) == "timestamp.txt cannot be read: it is not a regular file"
    os.remove(folder / "timestamp.txt")
    os.remove(folder / f"{TOPIC}.ipynb")
    os.remove(folder / "other.ipynb")
    os.mkfifo(folder / f"{TOPIC}.ipynb")
    assert refused(folder) == f"{TOPIC}.ipynb is not a file"


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0", b"\xff\xfe2\0", b"after dinner", b"99999999999999999999", b"x" * 2_000_000],
)
def test_a_timestamp_that_is_none_is_said(folder, submitted, content):
    write(folder / f"{TOPIC}.ipynb", submitted)
    (folder / "timestamp.txt").write_bytes(content)
    assert "timestamp.txt does not hold a time" in refused(folder)
    assert len(refused(folder)) < 400


def test_a_timestamp_of_any_size_is_not_read_whole(folder, monkeypatch):
    with (folder / "timestamp.txt").open("wb") as file:
        file.truncate(700_000_000)
    limits = []
    read = safe_files.read_file
    monkeypatch.setattr(folders, "read_file", lambda p, n: limits.append(n) or read(p, n))
    with pytest.raises(SubmissionError):
        timestamp(folder)
    assert limits and max(limits) <= 1000


@pytest.mark.parametrize("name", ["timestamp.txt", f"{TOPIC}.ipynb"])
def test_a_folder_in_place_of_a_file_is_said(folder, submitted, name):
    write(folder / f"{TOPIC}.ipynb", submitted)
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    assert name in refused(folder)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_opened_is_said(folder, submitted, monkeypatch, number):
    write(folder / f"{TOPIC}.ipynb", submitted)

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(safe_files.os, "open", fail)
    assert refused(folder) == f"{TOPIC}.ipynb cannot be opened: {os.strerror(number)}"


def test_a_folder_that_cannot_be_read_or_is_gone_is_said(folder, submitted, monkeypatch):
    write(folder / f"{TOPIC}.ipynb", submitted)

    def fail(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", fail)
        assert "PermissionError" in refused(folder)
    shutil.rmtree(folder)
    assert "FileNotFoundError" in refused(folder)


@pytest.mark.parametrize("error", [RecursionError, MemoryError, ValueError("\ud800"), KeyError(1)])
def test_any_error_is_one_submissions_own(folder, submitted, monkeypatch, error):
    write(folder / f"{TOPIC}.ipynb", submitted)

    def fail(*_):
        raise error

    monkeypatch.setattr(folders.normalize, "parse", fail)
    assert "the submission cannot be read: " in refused(folder)


def test_an_assignment_that_was_not_released_is_the_courses_fault(folder, submitted):
    write(folder / f"{TOPIC}.ipynb", submitted)
    with pytest.raises(FileNotFoundError, match="dgm release"):
        take_in(folder, folder / "none.ipynb")


def test_links_in_a_circle_end(folder, submitted):
    write(folder / f"{TOPIC}.ipynb", submitted)
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    (folder / "self").symlink_to(folder)
    assert graded(folder)[0] == ANSWER
    (folder / f"{TOPIC}.ipynb").unlink()
    (folder / f"{TOPIC}.ipynb").symlink_to(folder / "a")
    assert "cannot be opened" in refused(folder) or "is not a file" in refused(folder)


@pytest.mark.parametrize("which", ["assignment", "student"])
def test_a_folder_that_is_a_link_to_anothers_is_refused(folder, submitted, which):
    write(folder / f"{TOPIC}.ipynb", submitted)
    bob = folder.parents[1] / "bob"
    if which == "student":
        bob.symlink_to(folder.parent)
    else:
        bob.mkdir()
        (bob / TOPIC).symlink_to(folder)
    assert "is a link to another folder" in refused(bob / TOPIC)
    assert graded(folder)[0] == ANSWER


def test_too_many_files_or_folders_in_each_other_are_refused(folder, submitted, monkeypatch):
    write(folder / f"{TOPIC}.ipynb", submitted)
    deep = folder / "/".join("d" * 20)
    deep.mkdir(parents=True)
    assert graded(folder)[0] == ANSWER
    (deep / "e").mkdir()
    assert "nested more than 20 deep" in refused(folder)
    shutil.rmtree(folder / "d")
    for number in range(10):
        (folder / f"{number}.csv").touch()
    assert graded(folder)[0] == ANSWER
    monkeypatch.setattr(folders, "_MOST", 10)
    assert "more than 10 files" in refused(folder)


def test_a_copy_is_not_written_through_a_link(folder, submitted, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    write(folder / "b.ipynb", submitted)
    for name in (f".{TOPIC}.ipynb.part", f".half-written-{TOPIC}.ipynb"):
        (folder / name).symlink_to(folder / "b.ipynb")
    before = (folder / "b.ipynb").read_bytes()
    assert graded(folder)[0] == ANSWER
    assert (folder / "b.ipynb").read_bytes() == before
    (folder / f".{TOPIC}.ipynb.part").unlink()
    (folder / f".{TOPIC}.ipynb.part").symlink_to(secret)
    assert "is a link to something outside" in refused(folder)
    assert secret.read_text() == "mine"


@pytest.mark.parametrize("student", [" ada", "ada ", "*", "a\nb", "a\x1b[2Jb", LATIN_1])
def test_a_folder_that_is_no_students_id_is_refused(folder, submitted, student):
    other = folder.parents[1] / student / TOPIC
    other.mkdir(parents=True)
    write(other / f"{TOPIC}.ipynb", submitted)
    assert "the folder's name" in refused(other)


# What lies beside.


def test_only_documents_may_be_answers(folder):
    names = ["photo.JPG", "a/b/proof.pdf", "x.docx", "my.md", LATIN_1.replace("ipynb", "png")]
    for name in (*names, "timestamp.txt", "submission_secret.txt", "data.csv", "x.py", ".y.pdf"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    (folder / "link.pdf").symlink_to(folder / "x.docx")
    assert sorted(documents(folder)) == sorted(names)
    before = fingerprint(folder)
    (folder / "x.docx").unlink()
    assert fingerprint(folder) != before


def test_files_beside_are_kept_up_to_a_limit(folder, monkeypatch):
    monkeypatch.setattr(folders, "FILES_LIMIT", 10)
    for name, size in {"a": 6, "b": 5, "c": 4, "d.ipynb": 99}.items():
        (folder / name).write_bytes(b"1" * size)
    kept, left = kept_files(folder)
    assert [[path.name for path in paths] for paths in (kept, left)] == [["a", "c"], ["b"]]


def test_names_of_files_are_safe_in_a_sentence(folder, submitted, released):
    cell(submitted, PROOF).source = cell(released, PROOF).source
    folder = folder.parents[2] / "grading" / "submitted" / "ada" / TOPIC
    folder.mkdir(parents=True)
    (folder / "a`<b>\x1b[2J\n\udcdc.pdf").write_text("1")
    root = folder.parents[3]
    course = make_course(root)
    about = {"nbgrader": {"assignment": TOPIC, "notebook": TOPIC, "student": "ada"}}
    notebook, _ = Mend(config=course.api.config).preprocess(submitted, about)
    assert "`a__b__[2J__.pdf`" in " ".join(mended(notebook))
    json.dumps(notebook, ensure_ascii=False).encode()
