"""Collect submissions from the archive that a learning platform gives: Moodle's or Canvas's zip.

nbgrader's own extractor unpacks archives within archives, of any size. Here nothing is unpacked to
disk but notebooks, under names that are made here, and nothing is read beyond a limit.
"""

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from nbgrader.api import MissingEntry
from nbgrader.plugins import ExtractorPlugin
from traitlets import Unicode

from dgm_utils.grading.course import Course, CourseError
from dgm_utils.grading.files import write_whole
from dgm_utils.grading.intake import (
    NOTEBOOK_LIMIT,
    REFUSED,
    SubmissionError,
    handed_in,
    too_large,
)

# All notebooks of one student, and the entries of one archive.
STUDENT_LIMIT = 5 * NOTEBOOK_LIMIT
ENTRIES_LIMIT = 50_000
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
        problems: why others of the files were not taken.

    """

    student: str
    person: str
    notebooks: dict[str, bytes] = field(default_factory=dict)
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
                for name, content in handed.notebooks.items():
                    path = Path(extracted_path, handed.student, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(path, content)


def collect(
    course: Course, assignment: str, archive: Path, replace: bool = False
) -> list[Collected]:
    """Put the notebooks of an archive where `dgm grade` looks for submissions.

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
            done.append(_put(handed, folder, assignment, replace))
            _name(gradebook, handed)
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
    except (OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise CourseError(f"{archive} cannot be read as a zip file: {reason}") from error
    except SubmissionError as error:
        raise CourseError(f"{archive} is not taken: {error}") from error
    except re.error as error:
        raise CourseError(
            f"c.CheckedExtractor.names is not a regular expression: {error}"
        ) from error


def _unpack(archive, names):
    nobody, entries = Handed("", ""), {}
    for info in _entries(archive):
        match = names.fullmatch(info.filename)
        found = match.groupdict() if match else {}
        student = found.get("student_id") or ""
        # The id becomes the name of a folder.
        if not re.fullmatch(r"[\w@+-][\w.@+-]{0,99}", student):
            nobody.problems.append(
                f"{info.filename!r} was left out: its name does not say whose it is, "
                "see c.CheckedExtractor.names"
            )
            continue
        name = found.get("file_id") or info.filename
        entries.setdefault(student, []).append((found.get("name") or "", name, info))
    for student, files in sorted(entries.items()):
        persons = sorted({person for person, _, _ in files})
        handed = Handed(student, persons[0])
        if len(persons) > 1:
            # Nobody may add to another's submission by a name that looks like theirs.
            listed = ", ".join(map(repr, persons))
            handed.problems.append(f"several persons have this number, so none was taken: {listed}")
        else:
            _take(handed, archive, [(name, info) for _, name, info in files])
        if not handed.notebooks and not handed.problems:
            listed = ", ".join(repr(name) for _, name, _ in files[:5])
            handed.problems.append(f"no notebook was handed in; there is {listed}")
        yield handed
    if nobody.problems:
        yield nobody


def _entries(archive):
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > ENTRIES_LIMIT:
        raise SubmissionError(f"it holds more than {ENTRIES_LIMIT:,} files")
    hidden = re.compile(r"(^|/)(\.(?!\.?/)|__MACOSX/)")
    return [info for info in infos if not hidden.search(info.filename.replace("\\", "/"))]


def _take(handed, archive, files, depth=0):
    """Read notebooks, also those in a zip file that the student handed in."""
    for name, info in files:
        # Only the last part of a name is used, so that none leads out of the folder.
        name = PurePosixPath(name.replace("\\", "/")).name
        kind = PurePosixPath(name).suffix.lower()
        try:
            if kind == ".ipynb":
                _add(handed, name, _content(archive, info, name))
            elif kind == ".zip" and depth == 0:
                with zipfile.ZipFile(io.BytesIO(_content(archive, info, name))) as inner:
                    _take(handed, inner, [(i.filename, i) for i in _entries(inner)], depth + 1)
        except SubmissionError as error:
            handed.problems.append(str(error))
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            handed.problems.append(f"{name!r} is damaged: {error}")
        except (RuntimeError, NotImplementedError) as error:
            # zipfile's words for a file with a password, and for one of another program's making.
            handed.problems.append(f"{name!r} cannot be unpacked: {error}")


def _content(archive, info, name):
    """A file of an archive. What the archive says of its size is not believed."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile unpacks other kinds without a bound on memory.
        raise SubmissionError(f"{name!r} cannot be unpacked: make a zip file of the usual kind")
    content = bytearray()
    with archive.open(info) as file:
        while chunk := file.read(_CHUNK):
            content += chunk
            if len(content) > NOTEBOOK_LIMIT:
                raise SubmissionError(too_large(repr(name)))
    return bytes(content)


def _add(handed, name, content):
    if content in handed.notebooks.values():
        return
    if len(content) + sum(map(len, handed.notebooks.values())) > STUDENT_LIMIT:
        raise SubmissionError(
            f"{name!r} was left out: all notebooks together are larger than "
            f"{STUDENT_LIMIT // 1_000_000} MB"
        )
    stem = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in name)[:-6]
    stem, number = stem.lstrip(".")[:80] or "notebook", 1
    free = f"{stem}.ipynb"
    while free in handed.notebooks:
        number += 1
        free = f"{stem} ({number}).ipynb"
    handed.notebooks[free] = content


def _put(handed, folder, assignment, replace):
    """Write one student's notebooks; nothing that is there goes without being asked for."""
    old = handed_in(folder, assignment)
    problems = "; ".join(handed.problems)
    if not handed.notebooks:
        if not old:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / REFUSED, f"{problems}\n".encode())
        return Collected(handed.student, problems, good=False)
    names = ", ".join(handed.notebooks)
    also = f"; but {problems}" if problems else ""
    if {path.name: path.read_bytes() for path in old} == handed.notebooks:
        return Collected(handed.student, f"unchanged: {names}{also}", good=not problems)
    if old and not replace:
        there = ", ".join(path.name for path in old)
        return Collected(
            handed.student,
            f"kept what is there, {there}, which differs: replace it, or remove {folder}{also}",
            good=False,
        )
    # The copy of a renamed notebook goes with it.
    for path in folder.glob("*"):
        if path.suffix.lower() == ".ipynb" or path.name == REFUSED:
            os.remove(path)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in handed.notebooks.items():
        write_whole(folder / name, content)
    done = "replaced" if old else "collected"
    return Collected(handed.student, f"{done}: {names}{also}", good=not problems)


def _name(gradebook, handed):
    """Numbers alone tell nobody whose grade it is; a name from a roster stays."""
    known = None
    with suppress(MissingEntry):
        known = gradebook.find_student(handed.student)
    if handed.person and not (known and (known.first_name or known.last_name)):
        gradebook.update_or_create_student(handed.student, last_name=handed.person)
