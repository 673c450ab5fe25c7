"""Reading and writing where somebody else may have put a trap: a link, a pipe, a device."""

import os
import socket

import pytest

from nbjudge.course.safe_files import read_file, remove_halves, walk, write_whole


def test_a_regular_file_is_read_up_to_a_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    # One byte more tells that there is more.
    assert read_file(tmp_path / "file", 3) == b"1234"


def traps(folder):
    """Name → path of what must not be read."""
    (folder / "real").write_text("secret")
    (folder / "link").symlink_to(folder / "real")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(folder)
        server.bind("socket")
    names = ["link", "loop", "device", "folder", "pipe", "socket", "none"]
    return [folder / name for name in names]


def test_what_is_no_regular_file_is_an_error_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in traps(tmp_path):
        with pytest.raises(OSError):
            read_file(path, 10)
    with pytest.raises(OSError, match="not a regular file"):
        read_file("/dev/zero", 10)


def test_a_file_that_becomes_a_pipe_after_it_was_looked_at_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("1")
    os.mkfifo(tmp_path / "pipe")
    looked_at = os.lstat(tmp_path / "file")
    monkeypatch.setattr(os, "lstat", lambda path: looked_at)
    with pytest.raises(OSError, match="not a regular file"):
        read_file(tmp_path / "pipe", 10)


def test_writing_follows_no_link_and_leaves_no_half(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").symlink_to(secret)
    # Where half of the file was once written.
    (folder / ".a.txt.part").symlink_to(secret)
    (folder / ".half-written-a.txt").symlink_to(secret)
    write_whole(folder / "a.txt", "new \udcdc")
    assert secret.read_text() == "mine"
    assert (folder / "a.txt").read_text() == "new ?" and not (folder / "a.txt").is_symlink()
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_whole(folder / "a.txt", b"newer")
    assert (folder / "a.txt").read_text() == "new ?"
    names = {".a.txt.part", ".half-written-a.txt", "a.txt"}
    assert {path.name for path in folder.iterdir()} == names


def test_a_long_name_can_be_written(tmp_path):
    name = "x" * 250
    write_whole(tmp_path / "new" / name, "1")
    assert (tmp_path / "new" / name).read_text() == "1"


def test_halves_of_killed_runs_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: None)
    write_whole(tmp_path / "a", "1")
    (tmp_path / ".half-written-folder").mkdir()
    (tmp_path / "b").write_text("2")
    assert len(list(tmp_path.iterdir())) == 3
    remove_halves(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".half-written-folder", "b"}


@pytest.fixture
def deep(tmp_path):
    """A folder of 1,100 folders, one in the other; none of Python's own functions removes it."""
    folders = [tmp_path / "deep"]
    folders += [tmp_path / "deep" / "/".join("d" * depth) for depth in range(1, 1_101)]
    for folder in folders:
        folder.mkdir()
    yield folders[0]
    for folder in reversed(folders):
        for path in folder.glob("*"):
            if not path.is_dir() or path.is_symlink():
                path.unlink()
        folder.rmdir()


def test_folders_of_any_depth_are_walked_and_links_are_not(deep):
    (deep / "back").symlink_to(deep)
    (deep / "/".join("d" * 1_100) / "end").write_text("1")
    found = [entry.name for entry in walk(deep)]
    assert found.count("d") == 1_100 and found[-1] == "end"
    assert len(list(walk(deep, 3))) == 5
    assert list(walk(deep / "none")) == []
