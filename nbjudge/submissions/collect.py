"""Collect submissions from the archive that a learning platform gives: Moodle's or Canvas's zip.

nbgrader's own extractor unpacks archives within archives, of any size. Here nothing is unpacked to
disk but notebooks and, beside them, documents such as photos of an answer; under names that are
made here, and nothing is read beyond a limit.
"""

import io
import os
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from nbgrader.api import MissingEntry
from nbgrader.plugins import ExtractorPlugin
from traitlets import Unicode

from nbjudge.course.folder import Course, CourseError
from nbjudge.course.safe_files import read_file, write_whole
from nbjudge.errors import plain
from nbjudge.submissions.handed_in import (
    DOCUMENTS,
    NOTEBOOK_LIMIT,
    OURS,
    REFUSED,
    SubmissionError,
    candidates,
    copied_from,
    handed_in,
    too_large,
)

# All that is kept of one student; all that is unpacked for that, archives within archives too; and
# all that is unpacked of one archive.
STUDENT_LIMIT = 5 * NOTEBOOK_LIMIT
UNPACKED_LIMIT = 2 * STUDENT_LIMIT
ARCHIVE_LIMIT = 100 * STUDENT_LIMIT
# Files in one archive, and those of one student.
ENTRIES_LIMIT = 50_000
STUDENT_ENTRIES_LIMIT = 1_000
# The time for a regular expression grows with the square of it.
_LONGEST_NAME = 500
_CHUNK = 65_536


class Collected(NamedTuple):
    """What became of one student's files, in a sentence; no student for a file of nobody."""

    student: str
    outcome: str
    good: bool = True


@dataclass
class Handed:
    """What an archive holds of one student.

    Args:
        student: the platform's number of the student, which is the id for nbgrader.
        person: the name that stands before it.
        notebooks: file name → content.
        documents: likewise, of what may be an answer in words.
        problems: why others of the files were not taken.

    """

    student: str
    person: str
    notebooks: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class CheckedExtractor(ExtractorPlugin):
    """For `nbgrader zip_collect`: puts each student's notebooks into a folder of its own."""

    names = Unicode(
        "",
        help="""Where in the name of an archive's entry the student's id stands, and the file's
        own name: a regular expression with the groups `student_id`, `file_id` and `name`.""",
    ).tag(config=True)

    def extract(self, archive_path: str, extracted_path: str) -> None:
        """Write the notebooks of all archives in one folder to another folder."""
        for archive in sorted(Path(archive_path).rglob("*.zip")):
            for handed in unpack(archive, self.names):
                for problem in handed.problems:
                    self.log.warning("%s: %s", handed.student or archive.name, problem)
                for name, content in {**handed.notebooks, **handed.documents}.items():
                    write_whole(Path(extracted_path, handed.student, name), content)


def collect(
    course: Course, assignment: str, archive: Path, replace: bool = False
) -> list[Collected]:
    """Put the notebooks of an archive where `nbjudge grade` looks for submissions.

    A student without a usable notebook gets a folder as well, so that grading reports why there is
    no grade.

    Args:
        course: the course folder.
        assignment: its name.
        archive: a zip file that Moodle or Canvas made of all submissions; the names that are
            understood are `c.CheckedExtractor.names` in `nbgrader_config.py`.
        replace: whether notebooks that are there already, and differ, make way.

    Raises:
        CourseError: when there is no such assignment, or the archive cannot be read.

    """
    course.require(assignment)
    names = CheckedExtractor(config=course.api.config).names
    done = []
    with course.api.gradebook as gradebook:
        for handed in unpack(Path(archive), names):
            if not handed.student:
                done += [Collected("", problem, good=False) for problem in handed.problems]
                continue
            folder = course.path("submitted", handed.student, assignment)
            try:
                done.append(_put(handed, folder, assignment, replace))
            except OSError as error:
                problem = f"cannot be written to {folder}: {error.strerror}"
                done.append(Collected(handed.student, problem, good=False))
            _keep_name(gradebook, handed)
    return done


def unpack(archive: Path, names: str) -> Iterator[Handed]:
    """Read an archive student by student; last, under no student's id, the files of nobody.

    Args:
        archive: a zip file.
        names: see `CheckedExtractor`.

    Raises:
        CourseError: when it cannot be read, or its names are not understood.

    """
    try:
        with zipfile.ZipFile(archive) as opened:
            yield from _unpack(opened, re.compile(names))
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        # The last but one is zipfile's word for an archive of a later kind.
        reason = getattr(error, "strerror", None) or error
        raise CourseError(f"{archive} cannot be read as a zip file: {reason}") from error
    except SubmissionError as error:
        raise CourseError(f"{archive} is not taken: {error}") from error
    except re.error as error:
        raise CourseError(
            f"c.CheckedExtractor.names is not a regular expression: {error}"
        ) from error


def _unpack(archive, names):
    nobody, entries, budget = Handed("", ""), {}, _Budget(ARCHIVE_LIMIT)
    for info in _entries(archive):
        short = len(info.filename) <= _LONGEST_NAME
        match = names.fullmatch(info.filename) if short else None
        found = match.groupdict() if match else {}
        student = found.get("student_id") or ""
        # The id becomes the name of a folder.
        if not re.fullmatch(r"[\w@+-][\w.@+-]{0,99}", student):
            nobody.problems.append(
                f"{info.filename[:_LONGEST_NAME]!r} was left out: its name does not say whose it "
                "is, see c.CheckedExtractor.names"
            )
            continue
        name = found.get("file_id") or info.filename
        entries.setdefault(student, []).append((found.get("name") or "", name, info))
    alike: dict[str, list[str]] = {}
    for student in entries:
        # Not all file systems tell such ids apart.
        alike.setdefault(unicodedata.normalize("NFKC", student).casefold(), []).append(student)
    doubtful = {student for same in alike.values() if len(same) > 1 for student in same}
    for student, files in sorted(entries.items()):
        persons = sorted({person for person, _, _ in files})
        handed = Handed(student, plain(persons[0]))
        if len(persons) > 1:
            # Nobody may add to another's submission by a name that looks like theirs.
            listed = ", ".join(map(repr, persons))
            handed.problems.append(f"several persons have this number, so none was taken: {listed}")
        elif student in doubtful:
            handed.problems.append(
                "another id differs from it in the form of letters alone: none was taken"
            )
        elif len(files) > STUDENT_ENTRIES_LIMIT:
            handed.problems.append(f"there are more than {STUDENT_ENTRIES_LIMIT:,} files")
        else:
            own = _Budget(UNPACKED_LIMIT, budget)
            _take(handed, archive, [(name, info) for _, name, info in files], own)
        if not handed.notebooks and not handed.problems:
            listed = ", ".join(repr(name) for _, name, _ in files[:5])
            handed.problems.append(f"no notebook was handed in; there is {listed}")
        yield handed
    if nobody.problems:
        yield nobody


class _Budget:
    """Bytes that may still be unpacked, of one student and of all."""

    def __init__(self, limit, of_all=None):
        self._left, self._limit, self._of_all = limit, limit, of_all

    def spend(self, size):
        self._left -= size
        if self._left < 0:
            raise SubmissionError(f"more than {self._limit // 1_000_000:,} MB would be unpacked")
        if self._of_all:
            self._of_all.spend(size)


def _entries(archive, limit=None):
    infos = [info for info in archive.infolist() if not info.is_dir()]
    limit = limit or ENTRIES_LIMIT
    if len(infos) > limit:
        raise SubmissionError(f"it holds more than {limit:,} files")
    hidden = re.compile(r"(^|/)(\.(?!\.?/)|__MACOSX/)")
    return [info for info in infos if not hidden.search(info.filename.replace("\\", "/"))]


def _take(handed, archive, files, budget, depth=0):
    """Read notebooks and documents, also those in a zip file that the student handed in."""
    for name, info in files:
        # Only the last part of a name is used, so that none leads out of the folder.
        name = PurePosixPath(name.replace("\\", "/")).name
        kind = PurePosixPath(name).suffix.lower()
        try:
            if kind == ".zip" and depth == 0:
                content = _content(archive, info, name, budget)
                with zipfile.ZipFile(io.BytesIO(content)) as inner:
                    inside = [(i.filename, i) for i in _entries(inner, STUDENT_ENTRIES_LIMIT)]
                    _take(handed, inner, inside, budget, depth + 1)
            elif ".ipynb" in name.lower():
                _add(handed, handed.notebooks, name, _content(archive, info, name, budget))
            elif kind in DOCUMENTS:
                _add(handed, handed.documents, name, _content(archive, info, name, budget))
        except SubmissionError as error:
            handed.problems.append(f"{name!r} was left out: {error}")
        except (RuntimeError, NotImplementedError) as error:
            # zipfile's words for a file with a password, and for one of another program's making.
            handed.problems.append(f"{name!r} cannot be unpacked: {error}")
        except Exception as error:
            # zipfile meets what a student has bent with many kinds of exceptions.
            handed.problems.append(f"{name!r} is damaged: {error}")


def _content(archive, info, name, budget):
    """A file of an archive. What the archive says of its size is not believed."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile unpacks other kinds without a bound on memory.
        raise SubmissionError("it cannot be unpacked: make a zip file of the usual kind")
    content = bytearray()
    with archive.open(info) as file:
        while chunk := file.read(_CHUNK):
            budget.spend(len(chunk))
            content += chunk
            if len(content) > NOTEBOOK_LIMIT:
                raise SubmissionError(too_large("it"))
    return bytes(content)


def _add(handed, files, name, content):
    if content in files.values():
        return
    kept = sum(map(len, [*handed.notebooks.values(), *handed.documents.values()]))
    if len(content) + kept > STUDENT_LIMIT:
        limit = STUDENT_LIMIT // 1_000_000
        raise SubmissionError(f"all notebooks together are larger than {limit} MB")
    name = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in name)
    # `iwae.ipynb.txt` keeps both of its endings.
    at = name.lower().find(".ipynb")
    stem, kind = (name[:at], name[at:]) if at >= 0 else os.path.splitext(name)
    stem, kind, number = stem.lstrip(".")[:80] or "notebook", kind[:20], 1
    free = f"{stem}{kind}"
    # A student does not write down when the submission came.
    while free in files or free.lower() in OURS:
        number += 1
        free = f"{stem} ({number}){kind}"
    files[free] = content


def _put(handed, folder, assignment, replace):
    """Write one student's notebooks; nothing that is there goes without being asked for."""
    old = handed_in(folder)
    problems = "; ".join(handed.problems)
    if not handed.notebooks:
        if not old:
            write_whole(folder / REFUSED, f"{problems}\n".encode())
        return Collected(handed.student, problems, good=False)
    names = ", ".join([*handed.notebooks, *handed.documents])
    also = f"; but {problems}" if problems else ""
    there = {path.name: _read(path) for path in old}
    beside = {name: _read(folder / name) for name in handed.documents}
    if (there, beside) == (handed.notebooks, handed.documents):
        return Collected(handed.student, f"unchanged: {names}{also}", good=not problems)
    if old and not replace:
        return Collected(
            handed.student,
            f"kept what is there, {', '.join(map(plain, there))}, which differs: replace it, or "
            f"remove {folder}{also}",
            good=False,
        )
    # The copy of a renamed notebook goes with it.
    copies = [path for path in candidates(folder) if copied_from(path)]
    for path in [*old, *copies, folder / REFUSED]:
        path.unlink(missing_ok=True)
    for name, content in {**handed.documents, **handed.notebooks}.items():
        write_whole(folder / name, content)
    done = "replaced" if old else "collected"
    return Collected(handed.student, f"{done}: {names}{also}", good=not problems)


def _read(path):
    """The content of a file that is there; None where there is none that can be read."""
    with suppress(OSError):
        return read_file(path, NOTEBOOK_LIMIT)


def _keep_name(gradebook, handed):
    """Numbers alone tell nobody whose grade it is; a name from a roster stays."""
    known = None
    with suppress(MissingEntry):
        known = gradebook.find_student(handed.student)
    if handed.person and not (known and (known.first_name or known.last_name)):
        gradebook.update_or_create_student(handed.student, last_name=handed.person)
