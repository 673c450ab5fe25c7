"""Take a submission in: find its notebook, mend it, or say why it cannot be graded.

`nbgrader_config.py` names `before_autograde`, `SubmittedExporter` and `Mend`, so that
`nbgrader autograde`, formgrader's button and `dgm grade` take the same road. What a student handed
in is never changed. Where no notebook has the name that nbgrader looks for, one gets a copy under
it; the copy says so in its metadata, and is made anew when what it was copied from changes.
"""

import errno
import functools
import hashlib
import itertools
import json
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import nbformat
from nbconvert import NotebookExporter
from nbformat import NotebookNode
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets.config.loader import PyFileConfigLoader
from traitlets.log import get_logger

from nbjudge.course.files import as_text, read_file, read_notebook, remove_halves, walk, write_whole
from nbjudge.course.folder import unusable
from nbjudge.course.times import read_time
from nbjudge.submissions import normalize
from nbjudge.submissions.mend import ForeignNotebookError, answered, held, mend, note, plain, quoted

NOTEBOOK_LIMIT = 20_000_000
# All files beside the notebook; what is beyond is not copied to what is graded.
FILES_LIMIT = 50_000_000
# Stands in a submission's folder in place of what `collect` could not take, and says why.
REFUSED = "not-collected.txt"
TIMESTAMP = "timestamp.txt"
_COPY_MARK = "dgm_copy_of"
# Sentences on their way from where a file is read to the note in the graded notebook.
_SAID = "dgm_said"
_TIMESTAMP_LIMIT = 1000
_DEEPEST, _MOST, _MOST_NOTEBOOKS = 20, 5_000, 20
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
_OTHERS = {
    ".py": "code alone",
    ".html": "a page for a browser",
    ".htm": "a page for a browser",
    ".pdf": "a printed page",
    ".zip": "an archive",
}


class SubmissionError(Exception):
    """A submission that cannot be graded; the message is the reason in the report."""


def take_in(folder: Path, assignment: str, release: Path) -> tuple[Path, NotebookNode]:
    """Find the notebook of a submission and make sure that it can be read.

    Of several notebooks of the assignment it is the one with most answers; of those the one named
    `ASSIGNMENT.ipynb`, or else the one that holds more of the assignment's checks than any other.
    If none has that name, one gets a copy that has it.

    Args:
        folder: what one student handed in for one assignment.
        assignment: its name.
        release: the students' version of the assignment.

    Returns:
        The path of the name that nbgrader looks for, and the notebook as nbformat 4. It is this
        notebook that is graded: the file may be an older format, or another notebook.

    Raises:
        FileNotFoundError: when the assignment was not released.
        SubmissionError: when no notebook can be graded, or its timestamp cannot be read, with the
            reason.

    """
    released = read_release(release)
    try:
        return _take_in(folder, assignment, released)
    except SubmissionError:
        raise
    except Exception as error:
        # Whatever it is that a student has done to a folder, the class goes on.
        reason = f"{type(error).__name__}: {_line(error)}"
        raise SubmissionError(f"the submission cannot be read: {reason}") from error


def _take_in(folder, assignment, released):
    if why := unusable(folder.parent.name):
        _refuse(why)
    _refuse_links(folder)
    timestamp(folder)
    wanted = folder / f"{assignment}.ipynb"
    paths = _candidates(folder)
    if len(paths) > _MOST_NOTEBOOKS:
        _refuse(f"it holds more than {_MOST_NOTEBOOKS} notebooks: hand in one")
    others = [path for path in paths if path != wanted]
    copied = wanted in paths and bool(others) and _copied_from(wanted)
    if wanted in paths and not others:
        # Whether it is of this assignment is for `Mend` to say.
        return wanted, read(wanted)
    chosen, said = _chosen(others if copied else paths, wanted, released)
    notebook = read(chosen)
    notebook.metadata[_SAID] = [*said, *notebook.metadata.get(_SAID, ())]
    if not copied and (wanted in paths or _is_same_file(wanted, chosen)):
        return wanted, notebook
    digest = hashlib.sha256(_content(chosen, NOTEBOOK_LIMIT)).hexdigest()
    mark = {"name": _encodable(chosen.name), "sha256": digest}
    if copied != mark:
        copy = NotebookNode(notebook, metadata={_COPY_MARK: mark})
        try:
            remove_halves(folder)
            write_whole(wanted, as_text(copy))
        except OSError as error:
            raise SubmissionError(
                f"{plain(chosen.name)} could not be copied to {wanted.name} beside it: "
                f"{error.strerror}"
            ) from error
    return wanted, notebook


def _chosen(paths, wanted, released):
    """The notebook that is graded, and what is to be said of that."""
    ranks, reasons = {}, {}
    for path in paths:
        try:
            notebook = read(path)
        except SubmissionError as error:
            reasons[path] = str(error)
        else:
            rank = answered(notebook, released), path == wanted, held(notebook, released)
            ranks[path] = rank
    # Any other is of something else.
    good = {path: rank for path, rank in ranks.items() if rank[2]}
    top = max(good.values(), default=None)
    best = [path for path, rank in good.items() if rank == top]
    if not best:
        if wanted in paths:
            return (wanted, []) if wanted in ranks else _refuse(reasons[wanted])
        names = _listed(paths)
        why = "; ".join(reasons.values()) or f"none of its checks and answers is in {names}"
        _refuse(_nothing(wanted) if not paths else f"no file {wanted.name}: {why}")
    if len(best) > 1:
        _refuse(
            f"no file {wanted.name}, and it cannot be told which one is meant of {_listed(best)}: "
            "hand in one notebook"
        )
    (chosen,) = best
    said = []
    others = [path for path in good if path != chosen]
    if others:
        second = max(good[path][0] for path in others)
        why = "has the name that was asked for" if chosen == wanted else "holds most"
        if top[0] > second:
            why = f"has more answers ({top[0]} against {second})"
        said.append(
            f"{len(good)} notebooks of the assignment were handed in. Graded is "
            f"{quoted(chosen.name)}, which {why}; not graded: {_listed(others)}."
        )
    elif chosen != wanted:
        said.append(f"Its file was named {quoted(chosen.name)}.")
    said += [f"Not graded: {why}." for path, why in reasons.items() if ".ipynb" in path.name]
    return chosen, said


def fingerprint(folder: Path) -> bytes:
    """Changes when a notebook of a submission does, whatever its name, or when it came."""
    digest = hashlib.sha256()
    named = [folder / TIMESTAMP, *_candidates(folder)]
    for path in named[: _MOST_NOTEBOOKS + 2]:
        try:
            content = _content(path, NOTEBOOK_LIMIT)
        except OSError as error:
            content = str(error.errno).encode()
        digest.update(b"%s\0%d\0" % (os.fsencode(path.name), len(content)))
        digest.update(content)
    for name in documents(folder):
        digest.update(b"%s\0" % os.fsencode(name))
    return digest.digest()


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


def read(path: Path) -> NotebookNode:
    """Read a submitted notebook, as nbformat 4.

    Raises:
        SubmissionError: when it is no notebook or too large, with a reason a student can act on.

    """
    name = plain(path.name)
    try:
        content = _content(path, NOTEBOOK_LIMIT)
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
        notebook.metadata[_SAID] = said
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


class SubmittedExporter(NotebookExporter):
    """Reads what `take_in` finds, where nbgrader would read the file of the right name."""

    def from_filename(self, filename: str, resources: dict | None = None, **kw):
        """Convert a submitted notebook, or one that nbgrader's first half has sanitized."""
        path, about = Path(filename), resources["nbgrader"]
        course = CourseDirectory(config=self.config)
        assignment = about["assignment"]
        if path.parent == submitted_path(course, about["student"], assignment):
            _, notebook = take_in(path.parent, assignment, release_path(course, assignment))
        else:
            notebook = read_notebook(path)
        return self.from_notebook_node(notebook, resources=resources, **kw)


class Mend(NbGraderPreprocessor):
    """The first of the sanitizing preprocessors: mends, and says so in a cell at the top."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Mend a submitted notebook.

        Raises:
            SubmissionError: when it is the notebook of something else.

        """
        about = resources["nbgrader"]
        assignment = about["assignment"]
        course = CourseDirectory(config=self.config)
        folder = submitted_path(course, about["student"], assignment)
        said = nb.metadata.pop(_SAID, [])
        release = release_path(course, assignment)
        released = {path.name for path in release.parent.glob("*")}
        files = [name for name in documents(folder) if name not in released]
        try:
            said += mend(nb, read_release(release), files)
        except ForeignNotebookError as error:
            raise SubmissionError(f"this is not the notebook of {assignment}: {error}") from error
        if left := kept_files(folder)[1]:
            said.append(
                f"Files beside the notebook that would be more than {FILES_LIMIT // 1_000_000} MB "
                f"together were left out: {_listed(left)}."
            )
        if said:
            nb.cells.insert(0, note(said))
        return nb, resources


def submitted_path(course: CourseDirectory, student: str, assignment: str) -> Path:
    """Where a submission lies."""
    return Path(course.format_path(course.submitted_directory, student, assignment))


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


def handed_in(folder: Path, assignment: str) -> list[Path]:
    """The notebooks that a student handed in, without the copy that `take_in` made of one."""
    found = [path for path in _candidates(folder) if path.is_file()]
    wanted = folder / f"{assignment}.ipynb"
    return [path for path in found if path != wanted or len(found) < 2 or not _copied_from(path)]


def _candidates(folder):
    """Whatever may be a notebook, by its name or, where that is odd, by its content.

    Names that begin with a dot are what systems and editors leave behind.
    """
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and e.name not in OURS]
    except OSError:
        return []
    kinds = {name: os.path.splitext(name)[1].lower() for name in sorted(names)}
    odd = [n for n, kind in kinds.items() if _is_odd(n, kind)][:_MOST_NOTEBOOKS]
    found = {n for n, kind in kinds.items() if kind == ".ipynb"}
    found |= {name for name in odd if _holds_cells(folder / name)}
    return [folder / name for name in sorted(found)]


def _is_odd(name, kind):
    """Whether a browser, a mail program or a learning platform may name a notebook so."""
    return kind != ".ipynb" and (".ipynb" in name.lower() or kind in ("", ".json", ".txt"))


def _holds_cells(path):
    try:
        content = _content(path, NOTEBOOK_LIMIT).replace(b"\0", b"")
    except OSError:
        return False
    return b'"cells"' in content or b'"worksheets"' in content


def _refuse(reason):
    raise SubmissionError(reason)


def _refuse_links(folder):
    """nbgrader copies what lies in a submission; a link could show it, and the student, any file.

    A link within the submission is one more name for a file that is there anyway.
    """
    if folder.is_symlink() or folder.parent.is_symlink():
        _refuse("the submission's folder is a link to another folder")
    root = os.path.realpath(folder)
    for number, entry in enumerate(walk(folder, _DEEPEST)):
        depth = entry.path.count(os.sep) - str(folder).count(os.sep)
        if number >= _MOST or depth > _DEEPEST:
            _refuse(
                f"it holds more than {_MOST:,} files, or folders nested more than {_DEEPEST} deep: "
                "hand in the notebook alone"
            )
        if entry.is_symlink() and not _is_within(entry.path, root):
            _refuse(
                f"{quoted(os.path.relpath(entry.path, folder))} is a link to something outside the "
                "submission: hand in the file itself"
            )


def _is_within(path, root):
    return Path(os.path.realpath(path)).is_relative_to(root)


def _content(path, limit):
    """The content of a file in a submission; what a link leads to only where that is in it, too."""
    if path.is_symlink() and _is_within(path, os.path.realpath(path.parent)):
        path = Path(os.path.realpath(path))
    return read_file(path, limit)


def _is_same_file(path, other):
    """Whether two names are one file, as where capitals make no difference."""
    return path.exists() and path.samefile(other)


def _nothing(wanted):
    folder = wanted.parent
    with suppress(OSError):
        return _line(read_file(folder / REFUSED, 300).decode(errors="replace"))
    with os.scandir(folder) as entries:
        found = sorted(
            e.name for e in entries if not e.name.startswith(".") and e.name != TIMESTAMP
        )
    there = f"; there is {_listed(map(Path, found))}" if found else ""
    for path in map(Path, found):
        if path.suffix.lower() in _OTHERS and path.stem.lower().startswith(wanted.stem.lower()):
            there += f", and this is {_OTHERS[path.suffix.lower()]}: hand in the .ipynb file"
            break
    return f"no file {wanted.name}{there}"


def _copied_from(path):
    """Name and digest of the file that a notebook is our copy of; None if it is none."""
    try:
        content = _content(path, NOTEBOOK_LIMIT)
        mark = json.loads(content)["metadata"][_COPY_MARK] if _COPY_MARK.encode() in content else 0
        good = isinstance(mark, dict) and all(isinstance(mark[k], str) for k in ("name", "sha256"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return mark if good else None


@functools.lru_cache(maxsize=1)
def _course(root):
    config = PyFileConfigLoader("nbgrader_config.py", path=root).load_config()
    return CourseDirectory(config=config)


def _encodable(name):
    """A name as it can be written down; those of old systems are not UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _listed(paths):
    names = [quoted(path.name) for path in paths]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _line(said):
    line = " ".join(str(said).split("\n\n")[0].split())[:200]
    return "".join(c if c.isprintable() else "_" for c in line)
