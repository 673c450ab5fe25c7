"""Take a submission in: find its notebook, mend it, or say why it cannot be graded.

`nbgrader_config.py` names `before_autograde` and `Mend`, so that `nbgrader autograde`, formgrader's
button and `dgm grade` take the same road. What a student handed in is never changed. A notebook
under another name gets a copy under the name that nbgrader looks for; the copy says so in its
metadata, and is made anew when what it was copied from changes.
"""

import functools
import hashlib
import os
import warnings
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.reader import NotJSONError
from nbformat.warnings import DuplicateCellId
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import parse_utc
from traitlets.config.loader import PyFileConfigLoader
from traitlets.log import get_logger

from dgm_utils.grading.mend import ForeignNotebookError, held, mend, note

# nbformat repairs repeated ids when it reads, and has no other way of saying so.
warnings.filterwarnings("ignore", category=DuplicateCellId)

NOTEBOOK_LIMIT = 20_000_000
# Stands in a submission's folder in place of what `collect` could not take, and says why.
REFUSED = "not-collected.txt"
TIMESTAMP = "timestamp.txt"
_COPY_MARK = "dgm_copy_of"


class SubmissionError(Exception):
    """A submission that cannot be graded; the message is the reason in the report."""


def take_in(folder: Path, assignment: str, release: Path) -> tuple[Path, NotebookNode]:
    """Find the notebook of a submission and make sure that it can be read.

    The file `ASSIGNMENT.ipynb` is it. If there is none, it is the only other notebook, or the one
    that holds more of the assignment's checks and answers than any other; then this is a copy.

    Args:
        folder: what one student handed in for one assignment.
        assignment: its name.
        release: the students' version of the assignment.

    Returns:
        Its path, and the notebook as nbformat 4; in the file it may be an older format.

    Raises:
        SubmissionError: when no notebook can be graded, or its timestamp cannot be read, with the
            reason.

    """
    _refuse_links(folder)
    timestamp(folder)
    wanted = folder / f"{assignment}.ipynb"
    others = [path for path in _notebooks(folder) if path.name != wanted.name]
    origin = None
    if wanted.exists():
        notebook = read(wanted)
        origin = _copied_from(notebook)
        if not others or not origin:
            return wanted, notebook
    if not others:
        raise SubmissionError(_nothing(folder, wanted.name))
    chosen = _fullest(others, wanted.name, read_release(release))
    mark = {"name": chosen.name, "sha256": hashlib.sha256(chosen.read_bytes()).hexdigest()}
    if origin != mark:
        notebook = read(chosen)
        notebook.metadata[_COPY_MARK] = mark
        try:
            write_bytes(wanted, nbformat.writes(notebook).encode())
        except OSError as error:
            raise SubmissionError(
                f"{chosen.name} could not be copied to {wanted.name} beside it: {error.strerror}"
            ) from error
    return wanted, notebook


def fingerprint(folder: Path) -> bytes:
    """Changes when a notebook of a submission does, whatever its name, or when it came."""
    digest = hashlib.sha256()
    with suppress(OSError):
        digest.update((folder / TIMESTAMP).read_bytes())
    for path in _notebooks(folder):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
        with path.open("rb") as file:
            digest.update(file.read(NOTEBOOK_LIMIT + 1))
    return digest.digest()


def timestamp(folder: Path) -> datetime | None:
    """When a submission came, in UTC, as nbgrader's exchange or a person wrote it down.

    Raises:
        SubmissionError: when what is written there is not a time.

    """
    try:
        written = (folder / TIMESTAMP).read_text().strip()
        return parse_utc(written) if written else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, OverflowError) as error:
        # nbgrader has an error of its own here, which says nothing of this.
        raise SubmissionError(
            f"{TIMESTAMP} does not hold a time: write one such as 2026-03-02 18:00:00 UTC"
        ) from error


def read(path: Path) -> NotebookNode:
    """Read a submitted notebook, as nbformat 4.

    Raises:
        SubmissionError: when it is no notebook or too large, with a reason a student can act on.

    """
    name = path.name
    if not path.is_file():
        raise SubmissionError(f"{name} is not a file")
    try:
        with path.open("rb") as file:
            content = file.read(NOTEBOOK_LIMIT + 1)
    except OSError as error:
        raise SubmissionError(f"{name} cannot be opened: {error.strerror}") from error
    if len(content) > NOTEBOOK_LIMIT:
        raise SubmissionError(too_large(name))
    if not content.strip():
        raise SubmissionError(f"{name} is empty: save the notebook and hand it in again")
    bad = f"{name} is not a notebook"
    try:
        invalid: dict = {}
        notebook = nbformat.reads(content.decode(), as_version=4, capture_validation_error=invalid)
    except UnicodeDecodeError as error:
        raise SubmissionError(f"{bad}: it is not UTF-8 text but another kind of file") from error
    except NotJSONError as error:
        raise SubmissionError(
            f"{bad}: it is not JSON text. Hand in the .ipynb file that Jupyter saves, whole"
        ) from error
    except RecursionError as error:
        raise SubmissionError(f"{bad}: it is nested too deeply") from error
    except Exception as error:
        # nbformat meets what is JSON but no notebook with many kinds of exceptions.
        raise SubmissionError(f"{bad} that nbformat can read: {_line(error)}") from error
    if invalid:
        raise SubmissionError(f"{bad} of a valid form: {_line(invalid['ValidationError'])}")
    return notebook


def too_large(name: str) -> str:
    """What is wrong with a notebook beyond the limit, and what to do."""
    return (
        f"{name} is larger than {NOTEBOOK_LIMIT // 1_000_000} MB: "
        "clear the outputs, save it and hand it in again"
    )


def before_autograde(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's `Autograde.pre_convert_hook`: choose the notebook of one submission.

    nbgrader drops a submission without a notebook from the run and goes on with the next; what is
    wrong with it is in the log.

    Args:
        assignment: not used; nbgrader passes a pattern when it grades several.
        student: likewise.
        notebooks: paths in one submission's folder; changed to the one that is graded.

    """
    folder = Path(notebooks[0]).parent
    # nbgrader works in the course folder while it converts.
    course = _course(os.getcwd())
    release = release_path(course, folder.name)
    try:
        path, _ = take_in(folder, folder.name, release)
        notebooks[:] = [str(path)]
    except SubmissionError as error:
        notebooks.clear()
        get_logger().error("%s cannot be graded: %s", folder, error)


class Mend(NbGraderPreprocessor):
    """The first of the sanitizing preprocessors: mends, and says so in a cell at the top."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Mend a submitted notebook.

        Raises:
            SubmissionError: when it is the notebook of something else.

        """
        assignment = resources["nbgrader"]["assignment"]
        course = CourseDirectory(config=self.config)
        copy_of = _copied_from(nb)
        nb.metadata.pop(_COPY_MARK, None)
        try:
            said = mend(nb, read_release(release_path(course, assignment)))
        except ForeignNotebookError as error:
            raise SubmissionError(f"this is not the notebook of {assignment}: {error}") from error
        if copy_of:
            said.insert(0, f"Its file was named {_quoted(copy_of['name'])}.")
        if said:
            nb.cells.insert(0, note(said))
        return nb, resources


def release_path(course: CourseDirectory, assignment: str) -> Path:
    """Where the students' version of an assignment lies."""
    folder = course.format_path(course.release_directory, ".", assignment)
    return Path(folder) / f"{assignment}.ipynb"


def read_release(path: Path) -> NotebookNode:
    """The students' version of an assignment.

    Raises:
        FileNotFoundError: when it was not released; the message says how to.

    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: run `dgm release {path.stem}`")
    # A copy for each caller would cost more than reading it; it is looked at only.
    return _read_release(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read_release(path, modified):
    return nbformat.read(path, as_version=4)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never half of one."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


def handed_in(folder: Path, assignment: str) -> list[Path]:
    """The notebooks that a student handed in, without the copy that `take_in` made of one."""
    found = _notebooks(folder)
    if len(found) < 2:
        return found
    try:
        return [p for p in found if p.stem != assignment or not _copied_from(read(p))]
    except SubmissionError:
        return found


def _notebooks(folder):
    # Names that begin with a dot are what systems and editors leave behind.
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() == ".ipynb" and not path.name.startswith(".") and path.is_file()
    )


def _refuse_links(folder):
    """nbgrader copies what lies in a submission; a link could show it, and the student, any file.

    A link within the submission is one more name for a file that is there anyway.
    """
    root = folder.resolve()
    if root != folder.parent.resolve() / folder.name:
        raise SubmissionError("the submission's folder is a link to another folder")
    for where, folders, files in os.walk(folder):
        for path in (Path(where, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                name = path.relative_to(folder)
                raise SubmissionError(
                    f"{_quoted(str(name))} is a link to something outside the submission: "
                    "hand in the file itself"
                )


def _fullest(paths, wanted, release):
    """The notebook that holds most of the assignment."""
    counts, reasons = {}, []
    for path in paths:
        try:
            counts[path] = held(read(path), release)
        except SubmissionError as error:
            reasons.append(str(error))
    names = ", ".join(_quoted(path.name) for path in paths)
    top = max(counts.values(), default=0)
    best = [path for path, count in counts.items() if count == top]
    if not top:
        why = "; ".join(reasons) or f"none of its checks and answers is in {names}"
        raise SubmissionError(f"no file {wanted}: {why}")
    if len(best) > 1:
        raise SubmissionError(
            f"no file {wanted}, and it cannot be told which one is meant of {names}: "
            "hand in one notebook"
        )
    return best[0]


def _nothing(folder, wanted):
    refused = folder / REFUSED
    if refused.is_file():
        with refused.open(encoding="utf-8", errors="replace") as file:
            return _line(file.read(300))
    found = sorted(p.name for p in folder.glob("*") if not p.name.startswith("."))[:5]
    there = f"; there is {', '.join(map(_quoted, found))}" if found else ""
    return f"no file {wanted}{there}"


def _copied_from(notebook):
    """Name and digest of the file that a notebook is our copy of; None if it is none."""
    mark = notebook.metadata.get(_COPY_MARK)
    good = isinstance(mark, dict) and all(isinstance(mark.get(k), str) for k in ("name", "sha256"))
    return dict(mark) if good else None


@functools.lru_cache(maxsize=1)
def _course(root):
    config = PyFileConfigLoader("nbgrader_config.py", path=root).load_config()
    return CourseDirectory(config=config)


def _quoted(name):
    """A name that a student chose, for a line of text."""
    kept = "".join(c if c.isprintable() and c not in "`<>|" else "_" for c in name)
    return f"`{kept[:80]}`"


def _line(said):
    return " ".join(str(said).split("\n\n")[0].split())[:200]
