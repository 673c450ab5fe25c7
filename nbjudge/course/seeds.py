"""The seeds of the cases on which a class is graded, which nobody can know beforehand.

The notebooks of all courses say `check(function, seed=1)`: with that very seed, a table of results
would be an answer. So each course has a secret, made once and kept beside the gradebook, and the
numbers and sizes of the cases follow from it. Seed 0, that of the student's own check, stays 0.
"""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from nbgrader.coursedir import CourseDirectory

from nbjudge.errors import UserError

FILE = "secret-seed"
_DIGITS = 64


def case_seed(secret: bytes, exercise: str, seed: int) -> int:
    """The seed that a course's cases are made with.

    Args:
        secret: of the course.
        exercise: its name.
        seed: in the notebook.

    Returns:
        0 for 0, which every student may see; else a number below 2**63 that only the secret tells.

    """
    if seed == 0:
        return 0
    digest = hashlib.sha256(b"\0".join([secret, exercise.encode(), str(seed).encode()])).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def secret_of(course: CourseDirectory) -> bytes:
    """The course's secret; it is made when it is first asked for, and never again.

    Raises:
        UserError: when the file does not hold one.

    """
    submitted = Path(course.format_path(course.submitted_directory, ".", "."))
    path = submitted.parent / FILE
    with contextlib.suppress(FileExistsError):
        _make(path)
    written = path.read_bytes().strip()
    if len(written) != _DIGITS or written.strip(b"0123456789abcdef"):
        raise UserError(
            f"{path} does not hold the {_DIGITS} digits that were written there: put them back "
            "from a copy, or remove the file; the class is then graded anew, with other numbers"
        )
    return written


def _make(path):
    """Write a new secret, whole or not at all, unless there is one."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secrets.token_hex(_DIGITS // 2)}\n")
    try:
        # Of two that make one at the same time, the second finds the file there.
        os.link(new, path)
    finally:
        new.unlink()
