"""What a graded class looks like: one page for the instructor, and a table with every score.

The page stands alone (no script, nothing loaded from elsewhere). What students wrote comes into it
through a template that escapes everything; a policy in its head forbids scripts besides.
"""

import json
import math
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nbgrader.api import (
    Assignment,
    BaseCell,
    Grade,
    Notebook,
    SubmittedAssignment,
    SubmittedNotebook,
)

from nbjudge.course.declared import command
from nbjudge.course.folder import Course, CourseError
from nbjudge.course.results import FAILED, GRADED, MANUAL, Result
from nbjudge.course.safe_files import notebooks_in, read_file, write_whole
from nbjudge.judging.verdict import VERDICT_MIME, missing
from nbjudge.reports.page import check_points, render
from nbjudge.reports.tables import as_csv

# Larger than any that grading writes.
_LARGEST = 100_000_000


def write_report(course: Course, assignment: str) -> tuple[Path, Path]:
    """Write the page and the table on a class that `nbjudge grade` has graded; returns their paths.

    Raises:
        CourseError: when there is no such assignment, nobody submitted or nothing was graded.

    """
    layout, submissions = read_class(course, assignment)
    # Both are made before either is written.
    page, table = render(assignment, layout, submissions), _table(layout, submissions)
    folder = course.grading / "reports"
    paths = folder / f"{assignment}.html", folder / f"{assignment}-exercises.csv"
    for path, text in zip(paths, (page, table), strict=True):
        write_whole(path, text)
    return paths


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Layout:
    """What the instructor's notebook asks, in its order."""

    checks: dict[str, float]  # exercise → points
    written: dict[str, float]  # written task → points
    released: dict[str, str]  # exercise → code that every student was given
    solutions: dict[str, str]  # exercise → the instructor's answer


@dataclass
class _Submission:
    """All that is known of one submission."""

    student: str
    result: Result | None  # None when it was not graded yet
    reason: str = ""  # why it is not graded
    verdicts: dict[str, Mapping] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    waiting: tuple[str, ...] | None = None  # cells to grade by hand; None when that is not known
    has_notebook: bool = False

    @property
    def graded(self):
        return self.result is not None and self.result.state != FAILED

    def points(self, names: Iterable[str]) -> float | None:
        """Sum of these scores; None when one of them is missing, which is not 0."""
        scores = [self.scores.get(name) for name in names]
        return None if None in scores else math.fsum(scores)

    def remarks(self) -> list[str]:
        """What one should know of it beside its points, in sentences."""
        if self.result is None:
            return []
        untouched = [f"left as released: {name} (0 points)" for name in self.result.untouched]
        return [*untouched, *self.result.mended]

    def copies(self):
        """Exercises answered word for word with the reference."""
        if not self.has_notebook:
            return self.result.copies
        return tuple(name for name, verdict in self.verdicts.items() if verdict.get("copied"))

    def not_met(self, exercise: str) -> list[str]:
        """The duties of an exercise that are not met, where a part of them is."""
        duties = self.verdicts[exercise]["duties"] if exercise in self.verdicts else ()
        return missing(duties)[0] if any(met for _, met in duties) else []

    def misconceptions(self):
        """(Exercise, name, sentence) of each that was found."""
        if not self.has_notebook:
            return [(exercise, name, "") for exercise, name in self.result.misconceptions]
        return [
            (exercise, verdict["misconception"], verdict["sentence"])
            for exercise, verdict in self.verdicts.items()
            if verdict.get("misconception")
        ]


def read_class(course: Course, assignment: str) -> tuple[_Layout, list[_Submission]]:
    """The assignment's layout and every submission, by student.

    Raises:
        CourseError: when there is no such assignment, nobody submitted or nothing was graded.

    """
    students = course.submissions(assignment)
    source = _cells(course, "source", assignment)
    graded = list(_graded_cells(source))
    layout = _Layout(
        checks={name: worth for name, automatic, worth in graded if automatic},
        written={name: worth for name, automatic, worth in graded if not automatic},
        released=_answers(_cells(course, "release", assignment)),
        solutions=_answers(source),
    )
    scores, waiting = _gradebook(course, assignment)
    submissions = []
    for student in students:
        submission = _read_result(course, assignment, student)
        submissions.append(submission)
        if not submission.graded:
            continue
        try:
            cells = _cells(course, "autograded", assignment, student)
            submission.verdicts = _verdicts(cells, layout.checks)
            submission.answers = _answers(cells)
            submission.has_notebook = bool(cells)
        except Exception:
            # Deleted, or a later run of nbgrader was killed while it wrote, or a person changed it;
            # the page names these students.
            submission.verdicts, submission.answers = {}, {}
        if student in scores:
            submission.scores, submission.waiting = scores[student], tuple(waiting[student])
        else:
            # The gradebook may have been made anew.
            submission.scores = {
                name: layout.checks[name] if verdict["passed"] else verdict["partial"]
                for name, verdict in submission.verdicts.items()
            }
    if not any(s.result for s in submissions):
        raise CourseError(
            f"nothing of {assignment} was graded yet: run `{command()} grade {assignment}`"
        )
    return layout, submissions


def without_page(course: Course, assignment: str, students: Iterable[str]) -> dict[str, str]:
    """Take away the older pages of those whose submission failed since.

    Args:
        course: the course folder.
        assignment: its name.
        students: who are looked at.

    Returns:
        Student → why the submission failed.

    """
    found = {}
    for student in students:
        read = _read_result(course, assignment, student)
        if read.result and read.result.state == FAILED:
            found[student] = read.reason
            page = course.path("feedback", student, assignment)
            shutil.rmtree(page, ignore_errors=True)
    return found


def _read_result(course, assignment, student):
    path = course.grading / "graded" / assignment / f"{student}.json"
    try:
        result = Result(**json.loads(read_file(path, _LARGEST))["result"])
        _check(result)
    except FileNotFoundError:
        return _Submission(student, None, f"not graded yet: run `{command()} grade {assignment}`")
    except Exception:
        # Whatever is wrong with one record, the others are read.
        again = f"run `{command()} grade {assignment} --student {student} --regrade`"
        return _Submission(student, None, f"its record cannot be read: {again}")
    return _Submission(student, result, result.reason)


def _check(result):
    """Raise ValueError unless a result that was read is one that grading writes."""
    texts = [result.reason, *result.copies, *result.mended, *result.untouched]
    texts += [text for pair in result.misconceptions for text in pair]
    points = (result.points, result.max_points)
    if not (
        result.state in (GRADED, MANUAL, FAILED)
        and all(isinstance(text, str) for text in texts)
        and all(len(pair) == 2 for pair in result.misconceptions)
        and all(p is None or (isinstance(p, int | float) and math.isfinite(p)) for p in points)
        and (result.state == FAILED or None not in points)
    ):
        raise ValueError(f"no result: {result}")


def _gradebook(course, assignment):
    """Student → exercise or task → score; and student → what needs a manual grade."""
    scores, waiting = defaultdict(dict), defaultdict(list)
    with course.api.gradebook as gradebook:
        # One query: a class has thousands of grades.
        rows = (
            gradebook.db.query(
                SubmittedAssignment.student_id,
                Notebook.name,
                BaseCell.name,
                Grade.auto_score,
                Grade.manual_score,
                Grade.extra_credit,
                Grade.needs_manual_grade,
            )
            .select_from(Grade)
            .join(Grade.cell)
            .join(Grade.notebook)
            .join(SubmittedNotebook.notebook)
            .join(SubmittedNotebook.assignment)
            .join(SubmittedAssignment.assignment)
            .filter(Assignment.name == assignment)
        )
        for student, notebook, cell, automatic, manual, extra, needed in rows:
            name = _label(assignment, notebook, cell).removesuffix("-check")
            score = automatic if manual is None else manual
            if score is not None:
                scores[student][name] = score + (extra or 0.0)
            if needed:
                waiting[student].append(name)
    return scores, waiting


def _cells(course, folder, assignment, student="."):
    """The cells of all notebooks of an assignment in one folder; their ids say of which."""
    found = []
    for path in notebooks_in(course.path(folder, student, assignment)):
        # nbformat's reader validates, which takes ten times as long.
        cells = json.loads(read_file(path, _LARGEST))["cells"]
        for marks in filter(None, map(_nbgrader, cells)):
            if "grade_id" in marks:
                marks["grade_id"] = _label(assignment, path.stem, marks["grade_id"])
        found += cells
    return found


def _label(assignment, notebook, grade_id):
    """What a cell is called, among all notebooks of an assignment."""
    return grade_id if notebook == assignment else f"{notebook}: {grade_id}"


def _nbgrader(cell):
    return cell["metadata"].get("nbgrader", {})


def _graded_cells(cells):
    """(Exercise or task, whether what it puts out is graded, points)."""
    for cell in cells:
        marks = _nbgrader(cell)
        if marks.get("grade") or marks.get("task"):
            # Cells of one exercise are called `NAME-solution` and `NAME-check`.
            name = marks["grade_id"].removesuffix("-check")
            yield name, cell["cell_type"] == "code" and not marks.get("solution"), marks["points"]


def _verdicts(cells, checks):
    """Exercise → verdict. Only the checks' cells count: a student can print into any other."""
    found = {}
    for cell in cells:
        name = _nbgrader(cell).get("grade_id", "").removesuffix("-check")
        if cell["cell_type"] == "code" and _nbgrader(cell).get("grade") and name in checks:
            for output in cell["outputs"]:
                if verdict := output.get("data", {}).get(VERDICT_MIME):
                    found[name] = {
                        "passed": bool(verdict["passed"]),
                        "kind": str(verdict["kind"]),
                        "sentence": str(verdict["sentence"]),
                        **{key: str(verdict.get(key, "")) for key in ("case", "got", "expected")},
                        "misconception": str(verdict.get("misconception") or ""),
                        "copied": bool(verdict.get("copied")),
                        "duties": [(str(d), bool(met)) for d, met in verdict.get("duties", ())],
                        "partial": _partial(cell["outputs"]),
                        "numbers": [
                            n if n is None else float(n) for n in verdict.get("numbers", ())
                        ],
                    }
    return found


def _partial(outputs):
    """The part of its points that a check gave, which stands alone in an output of the cell."""
    texts = [
        "".join(o["data"]["text/plain"]) for o in outputs if o["output_type"] == "execute_result"
    ]
    return float(texts[0]) if texts else 0.0


def _answers(cells):
    """Exercise → source of the cell that answers it."""
    return {
        _nbgrader(cell)["grade_id"].removesuffix("-solution"): "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and _nbgrader(cell).get("solution")
    }


# ── The table ────────────────────────────────────────────────────────────────────────────────


def _table(layout, submissions):
    """One row for each submission, a column for each exercise; what is not graded stays empty."""
    names = [*layout.checks, *layout.written]
    header = ["student", "state", "reason", "points", "max_points", *names]
    header += ["total", "max_total", "misconceptions", "not_met", "copies", "untouched", "mended"]
    rows = []
    for s in submissions:
        row = [s.student, s.result.state if s.result else "not graded", s.reason]
        if s.graded:
            total = None if s.waiting else s.points(names)
            held = "; ".join(f"{exercise}: {name}" for exercise, name, _ in s.misconceptions())
            row += [check_points(s, layout), math.fsum(layout.checks.values())]
            row += [s.scores.get(name) for name in names]
            row += [total, math.fsum({**layout.checks, **layout.written}.values())]
            lacking = ((name, s.not_met(name)) for name in s.verdicts)
            not_met = (f"{name}: {', '.join(duties)}" for name, duties in lacking if duties)
            row += [held, "; ".join(not_met), "; ".join(s.copies())]
            row += ["; ".join(s.result.untouched), " ".join(s.result.mended)]
        else:
            row += [None] * (9 + len(names))
        rows.append(row)
    return as_csv(header, rows)
