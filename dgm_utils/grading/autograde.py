"""Grade a class through nbgrader, one submission at a time: what breaks one harms no other."""

import csv
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbgrader.api import MissingEntry

from dgm_utils.grading.check import VERDICT_MIME
from dgm_utils.grading.course import Course, error_of

GRADED, MANUAL, FAILED = "graded", "needs a manual grade", "failed"


@dataclass(frozen=True)
class Result:
    """How grading one submission ended.

    Args:
        student: nbgrader's student id.
        state: `"graded"`, `"needs a manual grade"` (the written tasks) or `"failed"`.
        reason: why it failed.
        points: given by the checks; None when it failed, which is not 0.
        max_points: what the checks can give.
        misconceptions: name of the exercise → name of the misconception.
        copies: exercises answered word for word with the reference.

    """

    student: str
    state: str
    reason: str = ""
    points: float | None = None
    max_points: float | None = None
    misconceptions: tuple[tuple[str, str], ...] = ()
    copies: tuple[str, ...] = ()


def grade_class(course: Course, assignment: str, students: list[str]) -> Iterator[Result]:
    """Grade each student's submission and write feedback; yields in order, as each one ends."""
    jobs = [(course.root, assignment, student) for student in students]
    # Processes, because nbgrader changes directory and environment while it grades; started
    # afresh, because torch's threads do not survive a fork.
    with ProcessPoolExecutor(
        max_workers=min(len(jobs), os.cpu_count() or 1),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_worker,
    ) as pool:
        yield from pool.map(_grade_one, jobs)


def _grade_one(job):
    root, assignment, student = job
    return grade(Course(root), assignment, student)


def _prepare_worker():
    # Kernels and nbgrader warn on this process's stderr; what matters is in the results.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # One kernel a core: the threads of several would wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def grade(course: Course, assignment: str, student: str) -> Result:
    """Autograde one submission; whatever is wrong with it becomes the result's reason."""
    course.remove_student_files(student, assignment)
    if reason := _unreadable(course.notebook("submitted", assignment, student)):
        return Result(student, FAILED, reason)
    outcome = course.api.autograde(assignment, student)
    if not outcome["success"]:
        return Result(student, FAILED, _reason(outcome))
    course.api.generate_feedback(assignment, student)
    return _recorded(course, assignment, student)


def write_csv(path: Path, results: list[Result]) -> None:
    """One row for each submission; a failed one has no points rather than 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that a run that is cut short leaves the old file whole.
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, newline="", encoding="utf-8", delete=False
    ) as file:
        rows = csv.writer(file)
        rows.writerow(
            ["student", "points", "max_points", "state", "reason", "misconceptions", "copies"]
        )
        for r in results:
            named = "; ".join(f"{exercise}: {name}" for exercise, name in r.misconceptions)
            points = "" if r.points is None else f"{r.points:g}"
            top = "" if r.max_points is None else f"{r.max_points:g}"
            rows.writerow([r.student, points, top, r.state, r.reason, named, "; ".join(r.copies)])
    os.replace(file.name, path)


def _unreadable(path):
    """Why a submitted file is no notebook; empty when it is one."""
    if not path.is_file():
        others = sorted(p.name for p in path.parent.glob("*.ipynb"))
        found = f"; there is {', '.join(others)}" if others else ""
        return f"no file {path.name}{found}"
    try:
        nbformat.read(path, as_version=4)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, nbformat.reader.NotJSONError):
        return f"{path.name} is not a notebook: it is not JSON text"
    except Exception as error:
        return f"{path.name} is not a valid notebook: {str(error).splitlines()[0]}"
    return ""


# What nbgrader logs, and what it means.
_REASONS = {
    "kernel became unresponsive": "the kernel stopped answering: its code ignores interruption",
    "DeadKernelError": "the kernel died while a cell was running",
    "KeyError: 'grade_id'": "a graded cell stands twice in the notebook",
    "SchemaTooOldError": "the notebook's grading metadata is not of this nbgrader's version",
}


def _reason(outcome):
    text = outcome.get("log", "") + outcome["error"]
    known = [reason for sign, reason in _REASONS.items() if sign in text]
    return known[0] if known else error_of(outcome)


def _recorded(course, assignment, student):
    """The result as it stands in the gradebook and in the autograded notebook."""
    with course.api.gradebook as gradebook:
        try:
            submission = gradebook.find_submission(assignment, student)
        except MissingEntry:
            return Result(student, FAILED, "nbgrader recorded no submission")
        grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
        checks = [grade for grade in grades if grade.cell.cell_type == "code"]
        if ungraded := [grade.name for grade in checks if grade.auto_score is None]:
            return Result(student, FAILED, f"not graded: {', '.join(ungraded)}")
        points = sum(grade.auto_score for grade in checks)
        max_points = sum(grade.max_score for grade in checks)
        state = MANUAL if any(grade.needs_manual_grade for grade in grades) else GRADED
    verdicts = list(_verdicts(course.notebook("autograded", assignment, student)))
    named = {v["exercise"]: v["misconception"] for v in verdicts if v["misconception"]}
    copies = sorted({v["exercise"] for v in verdicts if v["copied"]})
    return Result(
        student,
        state,
        points=points,
        max_points=max_points,
        misconceptions=tuple(named.items()),
        copies=tuple(copies),
    )


def _verdicts(path):
    """The verdicts that the checks left in a notebook's outputs."""
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", ()):
            if VERDICT_MIME in output.get("data", {}):
                yield output["data"][VERDICT_MIME]
