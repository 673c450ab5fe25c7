"""Files as grading reads and writes them: whole or not at all, bounded, and no one's trap.

In a submission may lie a pipe that never ends, a device, or a link to elsewhere; and a name that is
known beforehand may have been taken by such a thing before it is written.
"""

import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbformat import NotebookNode

if TYPE_CHECKING:
    # Where notebooks are executed nothing else needs nbgrader, which takes a second to import.
    from nbgrader.coursedir import CourseDirectory

_HALF = ".half-written-"


def kept_folder(course: "CourseDirectory", kind: str, assignment: str) -> Path:
    """Where files of a kind are kept for an assignment, beside the folder of submissions."""
    submitted = Path(course.format_path(course.submitted_directory, ".", assignment))
    return submitted.parents[1] / kind / assignment


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file that somebody else may have put there.

    Args:
        path: of the file; a link is not followed.
        limit: in bytes.

    Returns:
        Its content; where that is longer, its beginning, one byte longer than the limit.

    Raises:
        OSError: when it cannot be opened, or is a link, a folder, a pipe, a device or a socket.

    """
    # Looked at before it is opened, because a device may act on that already; and again afterwards,
    # because it may be another one by then.
    if stat.S_ISREG(os.lstat(path).st_mode):
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(opened).st_mode):
            with open(opened, "rb") as file:
                return file.read(limit + 1)
        os.close(opened)
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never half of one.

    Args:
        path: of the file; folders are made, and a link in its place is replaced, not followed.
        content: text is written as UTF-8, with `?` for what no file can hold.

    Raises:
        OSError: when it cannot be written; the old one is there still.

    """
    if isinstance(content, str):
        content = content.encode("utf-8", "replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that nobody can guess, and that does not grow with the file's own.
    new = path.with_name(_HALF + secrets.token_hex(8))
    opened = os.open(
        new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
    )
    try:
        with open(opened, "wb") as file:
            file.write(content)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def walk(folder: Path, deepest: int | None = None) -> Iterator[os.DirEntry]:
    """All that lies in a folder and its folders, however deep; links are not followed.

    Args:
        folder: what cannot be read of it, or vanishes meanwhile, is left out.
        deepest: how many folders deep it goes.

    """
    waiting = [(str(folder), 0)]
    while waiting:
        where, depth = waiting.pop()
        try:
            with os.scandir(where) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False) and depth != deepest:
                waiting.append((entry.path, depth + 1))


def notebooks_in(folder: Path) -> list[Path]:
    """The notebooks of an assignment in one of the course's own folders, by name."""
    return sorted(path for path in folder.glob("*.ipynb") if not path.name.startswith("."))


def remove_halves(folder: Path) -> None:
    """Remove what `write_whole` had begun in a process that was killed."""
    for path in folder.glob(f"{_HALF}*"):
        # A student may have named a folder so.
        with suppress(OSError):
            path.unlink()


def as_text(notebook: NotebookNode) -> str:
    """A notebook for no eyes, to be read by `nbformat.v4.reads`; nbformat itself is slow here."""
    # A kernel may send half a surrogate pair, which no file can hold.
    return json.dumps(notebook, ensure_ascii=False).encode("utf-8", "replace").decode()


def read_notebook(path: Path) -> NotebookNode:
    """A notebook that grading has written itself: there is nothing to validate in it."""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))
