"""Take a submission in: find its notebook, or say why it cannot be graded.

What a student handed in is never changed. Where no notebook has the name that nbgrader looks for,
one gets a copy under it; the copy says so in its metadata, and is made anew when what it was copied
from changes.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from nbjudge.course.folder import unusable
from nbjudge.course.results import Result
from nbjudge.course.safe_files import as_text, notebooks_in, read_file, remove_halves, write_whole
from nbjudge.errors import listed, plain, quoted
from nbjudge.submissions.cells import grade_id_of
from nbjudge.submissions.handed_in import (
    COPY_MARK,
    MOST_NOTEBOOKS,
    NOTEBOOK_LIMIT,
    REFUSED,
    SAID,
    TIMESTAMP,
    MissingError,
    SubmissionError,
    candidates,
    content_of,
    copied_from,
    read,
    refuse_links,
    timestamp,
)
from nbjudge.submissions.recognize import answered, held
from nbjudge.submissions.released import read_release, release_paths
from nbjudge.submissions.submission import Submission

_OTHERS = {
    ".py": "code alone",
    ".html": "a page for a browser",
    ".htm": "a page for a browser",
    ".pdf": "a printed page",
    ".zip": "an archive",
}


@dataclass(frozen=True)
class Taken:
    """A submission whose notebooks were found and can be read.

    Args:
        submission: what it was made of.
        notebooks: path of the name that nbgrader looks for → the one that is graded.
        missing: file names of those that were not handed in.

    """

    submission: Submission
    notebooks: dict[Path, NotebookNode]
    missing: list[str]


def taken_in(submissions: Iterable[Submission]) -> Iterator[Taken | Result]:
    """Each once it is asked for; in place of one without a notebook, its result."""
    for submission in submissions:
        yield submission.attempt(_taken, submission)


def _taken(submission):
    releases = release_paths(submission.course.folders, submission.assignment)
    return Taken(submission, *take_all(submission.folder, releases))


def take_all(folder: Path, releases: list[Path]) -> tuple[dict[Path, NotebookNode], list[str]]:
    """Find all notebooks of a submission, as `take_in` finds one.

    Args:
        folder: what one student handed in for one assignment.
        releases: the students' versions of the assignment's notebooks.

    Returns:
        What `take_in` finds for each; and the file names of those that were not handed in.

    Raises:
        SubmissionError: when none was, or one cannot be graded, with the reason.

    """
    found, missing = {}, {}
    for release in releases:
        try:
            path, notebook = take_in(folder, release)
        except MissingError as error:
            missing[release.name] = error
        else:
            found[path] = notebook
    if not found:
        raise next(iter(missing.values()))
    return found, list(missing)


def take_in(folder: Path, release: Path) -> tuple[Path, NotebookNode]:
    """Find a notebook of a submission and make sure that it can be read.

    Of several that could be it, it is the one with most answers; of those the one named as it was
    released, or else the one that holds more of its checks than any other. If none has that name,
    one gets a copy that has it. Where an assignment has several notebooks, names come first.

    Args:
        folder: what one student handed in for one assignment.
        release: the students' version of the notebook.

    Returns:
        The path of the name that nbgrader looks for, and the notebook as nbformat 4. It is this
        notebook that is graded: the file may be an older format, or another notebook.

    Raises:
        FileNotFoundError: when the assignment was not released.
        MissingError: when there is none.
        SubmissionError: when no notebook can be graded, or its timestamp cannot be read, with the
            reason.

    """
    released = read_release(release)
    try:
        return _take_in(folder, release, released)
    except SubmissionError:
        raise
    except Exception as error:
        # Whatever it is that a student has done to a folder, the class goes on.
        reason = f"{type(error).__name__}: {_line(error)}"
        raise SubmissionError(f"the submission cannot be read: {reason}") from error


def _take_in(folder, release, released):
    if why := unusable(folder.parent.name):
        _refuse(why)
    refuse_links(folder)
    timestamp(folder)
    wanted = folder / release.name
    siblings = {path.name for path in notebooks_in(release.parent)} - {release.name}
    paths = [path for path in candidates(folder) if path.name not in siblings]
    if len(paths) > MOST_NOTEBOOKS:
        _refuse(f"it holds more than {MOST_NOTEBOOKS} notebooks: hand in one")
    others = [path for path in paths if path != wanted]
    copied = wanted in paths and bool(others) and copied_from(wanted)
    if wanted in paths and (not others or (siblings and not copied)):
        # Whether it is of this assignment is for `Mend` to say.
        return wanted, read(wanted)
    chosen, said = _chosen(others if copied else paths, wanted, released)
    notebook = read(chosen)
    notebook.metadata[SAID] = [*said, *notebook.metadata.get(SAID, ())]
    if not copied and (wanted in paths or _is_same_file(wanted, chosen)):
        return wanted, notebook
    digest = hashlib.sha256(content_of(chosen, NOTEBOOK_LIMIT)).hexdigest()
    mark = {"name": _encodable(chosen.name), "sha256": digest}
    if copied != mark:
        copy = NotebookNode(notebook, metadata={COPY_MARK: mark})
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
    ranks, contents, reasons = {}, {}, {}
    for path in paths:
        try:
            notebook = read(path)
        except SubmissionError as error:
            reasons[path] = str(error)
        else:
            rank = answered(notebook, released), path == wanted, held(notebook, released)
            ranks[path], contents[path] = rank, _content(notebook)
    # Any other is of something else.
    good = {path: rank for path, rank in ranks.items() if rank[2]}
    top = max(good.values(), default=None)
    best = [path for path, rank in good.items() if rank == top]
    if not best:
        if wanted in paths:
            return (wanted, []) if wanted in ranks else _refuse(reasons[wanted])
        names = _listed(paths)
        why = "; ".join(reasons.values()) or f"none of its checks and answers is in {names}"
        raise MissingError(_nothing(wanted) if not paths else f"no file {wanted.name}: {why}")
    # Of those with the same cells any is meant.
    if any(contents[path] != contents[best[0]] for path in best):
        _refuse(
            f"no file {wanted.name}, and it cannot be told which one is meant of {_listed(best)}: "
            "hand in one notebook"
        )
    chosen, said = best[0], []
    others = [path for path in good if path != chosen]
    if others:
        second = max(good[path][0] for path in others)
        why = "has the name that was asked for" if chosen == wanted else "holds most"
        if top[0] > second:
            why = f"has more answers ({top[0]} against {second})"
        elif len(best) > 1:
            why = f"has the same cells as {_listed(best[1:])}"
        said.append(
            f"{len(good)} notebooks of the assignment were handed in. Graded is "
            f"{quoted(chosen.name)}, which {why}; not graded: {_listed(others)}."
        )
    elif chosen != wanted:
        said.append(f"Its file was named {quoted(chosen.name)}.")
    said += [f"Not graded: {why}." for path, why in reasons.items() if ".ipynb" in path.name]
    return chosen, said


def _content(notebook):
    """What of a notebook makes a difference: its cells, without what they put out."""
    return [
        (cell.cell_type, cell.source, grade_id_of(cell), cell.get("attachments"))
        for cell in notebook.cells
    ]


def _refuse(reason):
    raise SubmissionError(reason)


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


def _encodable(name):
    """A name as it can be written down; those of old systems are not UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _listed(paths):
    return listed([quoted(path.name) for path in paths], 5)


def _line(said):
    line = " ".join(str(said).split("\n\n")[0].split())[:200]
    return "".join(c if c.isprintable() else "_" for c in line)
