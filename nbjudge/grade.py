"""Grade a class: sanitize, execute elsewhere, mark and record; what breaks one harms no other."""

import functools
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nbjudge.course.folder import Course
from nbjudge.course.gradebook import waiting_of
from nbjudge.course.results import Result
from nbjudge.course.safe_files import kept_folder, remove_halves, write_whole
from nbjudge.course.save import ANSWERS
from nbjudge.crew import Crew
from nbjudge.execute_and_mark import ExecuteAndMark
from nbjudge.record import recorded
from nbjudge.reports.tables import as_csv
from nbjudge.running.execute import execute_text
from nbjudge.submissions.intake import taken_in
from nbjudge.submissions.sanitize import EXECUTED, sanitized
from nbjudge.submissions.submission import Submission

# Columns that hold several entries, separated by semicolons.
_LISTS = ("misconceptions", "copies", "mended", "untouched")


def grade_class(
    course: Course,
    assignment: str,
    students: list[str],
    *,
    jobs: int | None = None,
    jailed: bool = True,
    cluster: str | None = None,
    regrade: bool = False,
) -> Iterator[Result]:
    """Grade each student's submission; yields as each one ends, those graded before first.

    Student code runs in sandboxes, in any number of processes; marks are given and recorded in this
    one. A run that was killed goes on where it stopped when it is started again.

    Whatever goes wrong with one submission becomes its result, and the others go on.

    Args:
        course: the course folder.
        assignment: its name.
        students: whose submissions.
        jobs: processes that execute notebooks; None is one for each core.
        jailed: whether student code is shut in.
        cluster: address of a Dask scheduler that executes instead.
        regrade: whether to grade again what was graded before.

    Raises:
        CourseError: when another process grades the assignment in this folder.
        PreflightError: when the instructor's own notebooks do not get the points they must get.
        SandboxError: when there is no sandbox.

    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    jobs = min(jobs or os.cpu_count() or 1, len(students))
    with course.claimed(assignment), Crew(jobs, cluster) as crew:
        course.api.config.ExecuteAndMark.sandbox = jailed
        grader = ExecuteAndMark(config=course.api.config).grader(course.folders, assignment)
        # What is in the sandbox here need not travel with every submission.
        contents = grader.contents if cluster else replace(grader.contents, beside=())
        execute = functools.partial(
            execute_text,
            contents=contents,
            folder=None if cluster else str(grader.sandbox.folder),
            rules=grader.rules,
        )
        todo = []
        version = grader.marker.version
        for submission in _submissions(course, assignment, students, version, regrade):
            if result := submission.attempt(submission.earlier):
                yield result
            else:
                todo.append(submission)
        yield from recorded(crew.executed(sanitized(taken_in(todo)), execute))


def _submissions(course, assignment, students, version, regrade):
    """One for each submission, once the halves that a killed run left are gone."""
    executed, answers, graded = (
        kept_folder(course.folders, kind, assignment) for kind in (EXECUTED, ANSWERS, "graded")
    )
    for folder in (executed, answers, graded, course.grading / "reports"):
        remove_halves(folder)
    with course.api.gradebook as gradebook:
        waiting = waiting_of(gradebook, assignment)
    submissions = [Submission(course, assignment, s, version, waiting.get(s)) for s in students]
    if regrade:
        shutil.rmtree(executed, ignore_errors=True)
        for submission in submissions:
            # All of them first: a run that is killed on the way leaves no old result to trust.
            submission.forget()
    return submissions


def write_csv(path: Path, results: list[Result]) -> None:
    """One row for each submission; a failed one has no points rather than 0."""
    rows = []
    for r in results:
        named = "; ".join(f"{exercise}: {name}" for exercise, name in r.misconceptions)
        lists = [named, *("; ".join(items) for items in (r.copies, r.mended, r.untouched))]
        rows.append([r.student, r.points, r.max_points, r.state, r.reason, *lists])
    header = ["student", "points", "max_points", "state", "reason", *_LISTS]
    write_whole(path, as_csv(header, rows))
