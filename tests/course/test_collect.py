"""An archive of a class is unpacked within a budget, and what is in it stays where it belongs."""

import os
import shutil
import zipfile

import nbformat
import pytest
from submissions import TOPIC, fill_in, make_course, read_released, zipped

from nbjudge.course.folder import CourseError
from nbjudge.submissions import collect as collecting
from nbjudge.submissions.collect import collect, unpack
from nbjudge.submissions.handed_in import documents, timestamp
from nbjudge.submissions.intake import take_in

MOODLE = "{1}_{0}_assignsubmission_file_/{2}"


@pytest.fixture(scope="module")
def released_course(tmp_path_factory):
    return make_course(tmp_path_factory.mktemp("course"))


@pytest.fixture
def course(released_course):
    shutil.rmtree(released_course.path("submitted"), ignore_errors=True)
    return released_course


@pytest.fixture(scope="module")
def text():
    return nbformat.writes(fill_in(read_released()))


def packed(path, files, person="Ada"):
    """An archive as Moodle makes it; the keys are the student's number and the file's name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for (number, name), content in files.items():
            out.writestr(MOODLE.format(number, person, name) if number else name, content)
    return path


def test_documents_beside_a_notebook_come_along(course, tmp_path, text):
    inner = zipped({"hw/iwae.ipynb": text, "hw/photo.jpg": "1", "hw/x.py": "2"})
    files = {("1", "iwae.ipynb"): text, ("1", "proof.pdf"): "3", ("2", "hw.zip"): inner}
    done = collect(course, TOPIC, packed(tmp_path / "all.zip", files))
    assert [c.outcome for c in done] == [
        "collected: iwae.ipynb, proof.pdf",
        "collected: iwae.ipynb, photo.jpg",
    ]
    again = collect(course, TOPIC, packed(tmp_path / "all.zip", files))
    assert all(c.outcome.startswith("unchanged") for c in again)
    assert documents(course.path("submitted", "1", TOPIC)) == ["proof.pdf"]
    (course.path("submitted", "1", TOPIC) / "proof.pdf").unlink()
    kept, _ = collect(course, TOPIC, packed(tmp_path / "all.zip", files))
    assert not kept.good and "differs" in kept.outcome


def test_a_student_does_not_write_down_when_the_submission_came(course, tmp_path, text):
    names = ["timestamp.txt", "Timestamp.TXT", ".timestamp.txt", "a/timestamp.txt"]
    names += ["submission_secret.txt", "not-collected.txt"]
    files = {("1", "iwae.ipynb"): text}
    files |= {("1", name): f"2026-03-01 18:00:0{n} UTC" for n, name in enumerate(names)}
    collect(course, TOPIC, packed(tmp_path / "all.zip", files))
    folder = course.path("submitted", "1", TOPIC)
    assert timestamp(folder) is None
    found = {path.name.lower() for path in folder.iterdir()}
    assert not found & {"timestamp.txt", "submission_secret.txt", "not-collected.txt"}


@pytest.mark.parametrize("name", ["iwae.ipynb.txt", "iwae.ipynb.json", "IWAE.IPYNB", "iwae.ipynb"])
def test_a_notebook_under_an_odd_name_is_collected_and_found(course, tmp_path, text, name):
    collect(course, TOPIC, packed(tmp_path / "all.zip", {("1", name): text}))
    folder = course.path("submitted", "1", TOPIC)
    assert [path.name for path in folder.iterdir()] == [name]
    take_in(folder, course.notebook("release", TOPIC))


def test_one_student_cannot_use_up_what_is_unpacked_for_all(course, tmp_path, monkeypatch, text):
    monkeypatch.setattr(collecting, "NOTEBOOK_LIMIT", 100_000)
    monkeypatch.setattr(collecting, "UNPACKED_LIMIT", 300_000)
    zeros = zipped({f"{n}.ipynb": b"0" * 90_000 + bytes([n]) for n in range(50)})
    files = {("1", f"{n}.zip"): zeros for n in range(50)} | {("2", "iwae.ipynb"): text}
    spent = []
    spend = collecting._Budget.spend
    monkeypatch.setattr(collecting._Budget, "spend", lambda b, n: spent.append(n) or spend(b, n))
    bomb, honest = collect(course, TOPIC, packed(tmp_path / "all.zip", files))
    assert not bomb.good and "would be unpacked" in bomb.outcome
    assert honest.outcome == "collected: iwae.ipynb"
    # Every byte is spent from the student's budget and from that of all.
    assert sum(spent) / 2 < 100 * collecting._CHUNK


def test_the_whole_archive_has_a_budget(course, tmp_path, monkeypatch, text):
    monkeypatch.setattr(collecting, "ARCHIVE_LIMIT", 3 * len(text.encode()))
    files = {(str(n), "iwae.ipynb"): text for n in range(1, 6)}
    done = collect(course, TOPIC, packed(tmp_path / "all.zip", files))
    assert [c.good for c in done] == [True] * 3 + [False] * 2
    assert "would be unpacked" in done[-1].outcome


def test_more_files_than_anyone_hands_in_are_refused(course, tmp_path, monkeypatch, text):
    monkeypatch.setattr(collecting, "STUDENT_ENTRIES_LIMIT", 3)
    inner = zipped({f"{n}.txt": "1" for n in range(4)})
    files = {("1", f"{n}.ipynb"): text for n in range(4)}
    files |= {("2", "a.zip"): inner, ("2", "iwae.ipynb"): text}
    one, two = collect(course, TOPIC, packed(tmp_path / "all.zip", files))
    assert "more than 3 files" in one.outcome and "more than 3 files" in two.outcome
    assert two.outcome.startswith("collected: iwae.ipynb")


def test_names_of_any_length_and_kind_are_read(course, tmp_path, text):
    files = {("", "_1" * 30_000): "1", ("1", "x" * 400 + ".ipynb"): text}
    files |= {("1", "a\x1b[2J<b>.ipynb"): text + " "}
    path = packed(tmp_path / "all.zip", files, person="Ada\x1b[2J\n")
    done = collect(course, TOPIC, path)
    assert "does not say whose" in done[-1].outcome
    for c in done:
        assert c.outcome.isprintable()
    with course.api.gradebook as gradebook:
        assert gradebook.find_student("1").last_name.isprintable()
    names = [p.name for p in course.path("submitted", "1", TOPIC).iterdir()]
    assert len(names) == 2 and all(name.isprintable() and len(name) < 100 for name in names)


def test_ids_that_some_file_systems_take_for_one_are_not_taken(tmp_path, text):
    files = {("", f"{who}/iwae.ipynb"): text for who in ("ada", "ADA", "fi", "ﬁ", "ben")}
    found = list(unpack(packed(tmp_path / "a.zip", files), r"(?P<student_id>\w+)/(?P<file_id>.+)"))
    assert [handed.student for handed in found if handed.notebooks] == ["ben"]
    assert all("differs from it" in h.problems[0] for h in found if not h.notebooks)


def test_a_folder_that_cannot_be_written_is_one_students_own(course, tmp_path, text):
    blocked = course.path("submitted", "1")
    blocked.parent.mkdir(parents=True)
    blocked.write_text("")
    files = {("1", "iwae.ipynb"): text, ("2", "iwae.ipynb"): text}
    one, two = collect(course, TOPIC, packed(tmp_path / "all.zip", files))
    assert not one.good and "cannot be written" in one.outcome
    assert two.good


@pytest.mark.parametrize("at", [5, 30, 45, -5, -15, -30, -40])
def test_a_damaged_archive_is_said(course, tmp_path, text, at):
    path = packed(tmp_path / "all.zip", {("1", "iwae.ipynb"): text})
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    try:
        done = collect(course, TOPIC, path)
    except CourseError as error:
        assert "all.zip" in str(error)
    else:
        assert len(done) == 1
    # The same as a student's own archive.
    done = collect(course, TOPIC, packed(tmp_path / "b.zip", {("2", "a.zip"): bytes(content)}))
    assert [c.student for c in done] == ["2"]


def test_a_notebook_that_is_a_pipe_is_not_waited_for(course, tmp_path, text):
    folder = course.path("submitted", "1", TOPIC)
    folder.mkdir(parents=True)
    os.mkfifo(folder / "iwae.ipynb")
    (done,) = collect(course, TOPIC, packed(tmp_path / "a.zip", {("1", "iwae.ipynb"): text}))
    assert done.outcome == "collected: iwae.ipynb"
    assert (folder / "iwae.ipynb").read_text() == text
