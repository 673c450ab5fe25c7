"""Where sandboxes lie on disk: each in a folder that is locked for as long as its owner lives."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from nbjudge.errors import UserError

_PREFIX = "nbj-"
# Bytes of a folder's path that leave enough for a kernel's socket beneath it, which has 107 in all.
_LONGEST = 107 - len("/nbj-12345678/kernels/tmp12345678/k-1")


def make() -> tuple[Path, BinaryIO]:
    """A new folder, and its lock as an open file, to be closed when the folder is gone.

    Raises:
        UserError: when no folder has a path that is short enough.

    """
    # Another process's `sweep` may take it for a leftover until it is locked; then there is a next.
    lock = None
    while lock is None:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=short_folder()))
        lock = _lock(folder, new=True)
    return folder, lock


def short_folder() -> str:
    """Where sandboxes have their folders, so that sockets in there can be named."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if len(os.fsencode(folder)) <= _LONGEST and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise UserError(
        f"the path of the temporary folder is longer than {_LONGEST} bytes: "
        f"{tempfile.gettempdir()}; set TMPDIR to a shorter one"
    )


def sweep() -> None:
    """Remove the folders of sandboxes whose owner was killed: the system has dropped their locks.

    A process id would not do, for another container that shares the folder has its own.
    """
    places = dict.fromkeys((tempfile.gettempdir(), short_folder()))
    for folder in (found for place in places for found in Path(place).glob(f"{_PREFIX}*")):
        if not _is_own(folder):
            continue
        if lock := _lock(folder):
            with lock:
                remove(folder)
        else:
            # In use, or empty: its owner was killed before the lock, or after.
            with contextlib.suppress(OSError):
                folder.rmdir()


def _is_own(folder):
    """Whether it is a folder of this user's, and no link to one."""
    with contextlib.suppress(OSError):
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return False


def _lock(folder, new=False):
    """The folder's lock as an open file, or None if it cannot be had."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT | os.O_EXCL if new else 0)
    with contextlib.ExitStack() as undo:
        try:
            number = os.open(folder / "lock", flags, 0o600)
            file = undo.enter_context(open(number, "rb+", buffering=0))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been removed since it was opened.
            if not os.path.samestat(os.fstat(number), os.lstat(folder / "lock")):
                return None
        except OSError:
            return None
        undo.pop_all()
        return file


def remove(folder: Path) -> None:
    """Remove a sandbox's folder, its lock last, so that `sweep` finds what a kill has left.

    Nothing that a link leads to is removed.
    """
    for path in folder.glob("*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "lock":
            path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
