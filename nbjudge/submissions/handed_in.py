"""What lies in a submission's folder: its notebooks, what is beside them, and when it came.

A student, or a platform, may have put anything there. It is read up to limits, and never changed.
"""

import errno
import hashlib
import itertools
import json
import os
from datetime import datetime
from pathlib import Path

from nbformat import NotebookNode

from nbjudge.course.safe_files import read_file, walk
from nbjudge.course.times import read_time
from nbjudge.errors import plain, quoted
from nbjudge.submissions import normalize

NOTEBOOK_LIMIT = 20_000_000
# All files beside the notebook; what is beyond is not copied to what is graded.
FILES_LIMIT = 50_000_000
# Stands in a submission's folder in place of what `collect` could not take, and says why.
REFUSED = "not-collected.txt"
TIMESTAMP = "timestamp.txt"
# In the metadata of a copy that `take_in` made: what it is a copy of.
COPY_MARK = "nbjudge_copy_of"
# Sentences on their way from where a file is read to the note in the graded notebook.
SAID = "nbjudge_said"
MOST_NOTEBOOKS = 20
_TIMESTAMP_LIMIT = 1000
_DEEPEST, _MOST = 20, 5_000
# What the course and nbgrader's exchange write into a submission's folder.
OURS = {TIMESTAMP, REFUSED, "submission_secret.txt"}
# What an answer in words may be handed in as.
DOCUMENTS = frozenset(
    f".{kind}"
    for kind in (
        *("7z", "bmp", "djvu", "doc", "docx", "gif", "heic", "heif", "htm", "html", "jfif", "jpeg"),
        *("jpg", "key", "md", "odp", "odt", "pages", "pdf", "png", "pptx", "ps", "rar", "rtf"),
        *("svg", "tex", "tif", "tiff", "txt", "webp", "xopp", "zip"),
    )
)


class SubmissionError(Exception):
    """A submission that cannot be graded; the message is the reason in the report."""


class MissingError(SubmissionError):
    """One of its notebooks is not there."""


def handed_in(folder: Path) -> list[Path]:
    """The notebooks that a student handed in, without the copies that `take_in` made of some."""
    found = [path for path in candidates(folder) if path.is_file()]
    return [path for path in found if len(found) < 2 or not copied_from(path)]


def candidates(folder: Path) -> list[Path]:
    """Whatever may be a notebook, by its name or, where that is odd, by its content.

    Names that begin with a dot are what systems and editors leave behind.
    """
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and e.name not in OURS]
    except OSError:
        return []
    kinds = {name: os.path.splitext(name)[1].lower() for name in sorted(names)}
    odd = [n for n, kind in kinds.items() if _is_odd(n, kind)][:MOST_NOTEBOOKS]
    found = {n for n, kind in kinds.items() if kind == ".ipynb"}
    found |= {name for name in odd if _holds_cells(folder / name)}
    return [folder / name for name in sorted(found)]


def _is_odd(name, kind):
    """Whether a browser, a mail program or a learning platform may name a notebook so."""
    return kind != ".ipynb" and (".ipynb" in name.lower() or kind in ("", ".json", ".txt"))


def _holds_cells(path):
    try:
        content = content_of(path, NOTEBOOK_LIMIT).replace(b"\0", b"")
    except OSError:
        return False
    return b'"cells"' in content or b'"worksheets"' in content


def read(path: Path) -> NotebookNode:
    """Read a submitted notebook, as nbformat 4.

    Raises:
        SubmissionError: when it is no notebook or too large, with a reason a student can act on.

    """
    name = plain(path.name)
    try:
        content = content_of(path, NOTEBOOK_LIMIT)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise SubmissionError(f"{name} is not a file") from error
        raise SubmissionError(f"{name} cannot be opened: {error.strerror}") from error
    if len(content) > NOTEBOOK_LIMIT:
        raise SubmissionError(too_large(name))
    if not content.strip():
        raise SubmissionError(f"{name} is empty: save the notebook and hand it in again")
    try:
        notebook, said = normalize.parse(content)
    except normalize.NoNotebookError as error:
        raise SubmissionError(f"{name} is not a notebook: {error}") from error
    if said:
        notebook.metadata[SAID] = said
    return notebook


def too_large(name: str) -> str:
    """What is wrong with a notebook beyond the limit, and what to do."""
    return (
        f"{name} is larger than {NOTEBOOK_LIMIT // 1_000_000} MB: "
        "clear the outputs, save it and hand it in again"
    )


def content_of(path: Path, limit: int) -> bytes:
    """The content of a file in a submission; what a link leads to only where that is in it, too."""
    if path.is_symlink() and _is_within(path, os.path.realpath(path.parent)):
        path = Path(os.path.realpath(path))
    return read_file(path, limit)


def _is_within(path, root):
    return Path(os.path.realpath(path)).is_relative_to(root)


def copied_from(path: Path) -> dict[str, str] | None:
    """Name and digest of the file that a notebook is our copy of; None if it is none."""
    try:
        content = content_of(path, NOTEBOOK_LIMIT)
        mark = json.loads(content)["metadata"][COPY_MARK] if COPY_MARK.encode() in content else 0
        good = isinstance(mark, dict) and all(isinstance(mark[k], str) for k in ("name", "sha256"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return mark if good else None


def timestamp(folder: Path) -> datetime | None:
    """When a submission came, in UTC, as nbgrader's exchange or a person wrote it down.

    Raises:
        SubmissionError: when what is written there is not a time.

    """
    try:
        content = read_file(folder / TIMESTAMP, _TIMESTAMP_LIMIT)
        return read_time(content.decode("utf-8-sig"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SubmissionError(f"{TIMESTAMP} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SubmissionError(f"{TIMESTAMP} does not hold a time: it is not UTF-8 text") from error
    except ValueError as error:
        # nbgrader has an error of its own here, which says nothing of this.
        raise SubmissionError(f"{TIMESTAMP} does not hold a time: {error}") from error


def fingerprint(folder: Path) -> bytes:
    """Changes when a notebook of a submission does, whatever its name, or when it came."""
    digest = hashlib.sha256()
    named = [folder / TIMESTAMP, *candidates(folder)]
    for path in named[: MOST_NOTEBOOKS + 2]:
        try:
            content = content_of(path, NOTEBOOK_LIMIT)
        except OSError as error:
            content = str(error.errno).encode()
        digest.update(b"%s\0%d\0" % (os.fsencode(path.name), len(content)))
        digest.update(content)
    for name in documents(folder):
        digest.update(b"%s\0" % os.fsencode(name))
    return digest.digest()


def documents(folder: Path) -> list[str]:
    """Names of the files in a submission that may be answers in words, such as photos."""
    return [
        os.path.relpath(path, folder)
        for path in _files(folder)
        if path.suffix.lower() in DOCUMENTS and ".ipynb" not in path.name.lower()
    ]


def kept_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files in a submission that are kept beside its graded notebook, and those that are not.

    Kept are as many as `FILES_LIMIT` allows, in the order of their names.
    """
    kept, left, total = [], [], 0
    for path in _files(folder):
        # What is a hole in a file here would be bytes in its copy.
        size = path.stat(follow_symlinks=False).st_size
        fits = total + size <= FILES_LIMIT and os.access(path, os.R_OK)
        total += size * fits
        (kept if fits else left).append(path)
    return kept, left


def _files(folder):
    """Regular files beside the notebooks."""
    entries = itertools.islice(walk(folder, _DEEPEST), _MOST)
    return sorted(
        Path(entry.path)
        for entry in entries
        if entry.is_file(follow_symlinks=False)
        and not entry.name.startswith(".")
        and not entry.name.lower().endswith(".ipynb")
        and entry.name not in OURS
    )


def refuse_links(folder: Path) -> None:
    """nbgrader copies what lies in a submission; a link could show it, and the student, any file.

    A link within the submission is one more name for a file that is there anyway.
    """
    if folder.is_symlink() or folder.parent.is_symlink():
        raise SubmissionError("the submission's folder is a link to another folder")
    root = os.path.realpath(folder)
    for number, entry in enumerate(walk(folder, _DEEPEST)):
        depth = entry.path.count(os.sep) - str(folder).count(os.sep)
        if number >= _MOST or depth > _DEEPEST:
            raise SubmissionError(
                f"it holds more than {_MOST:,} files, or folders nested more than {_DEEPEST} deep: "
                "hand in the notebook alone"
            )
        if entry.is_symlink() and not _is_within(entry.path, root):
            raise SubmissionError(
                f"{quoted(os.path.relpath(entry.path, folder))} is a link to something outside the "
                "submission: hand in the file itself"
            )
