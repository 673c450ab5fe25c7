"""The result of a submission, as it stands in the gradebook and in the autograded notebook."""

from collections.abc import Iterable, Iterator

from nbformat import NotebookNode
from nbgrader.api import MissingEntry

from nbjudge.course.folder import Course
from nbjudge.course.gradebook import grades_of
from nbjudge.course.results import FAILED, GRADED, MANUAL, Result
from nbjudge.course.safe_files import notebooks_in, read_notebook
from nbjudge.judging.verdict import VERDICT_MIME
from nbjudge.running.execute import is_graded
from nbjudge.submissions.note import mended


def result_of(course: Course, assignment: str, student: str, missing: Iterable[str] = ()) -> Result:
    """The result as it stands in the gradebook and in the autograded notebooks."""
    with course.api.gradebook as gradebook:
        try:
            grades = grades_of(gradebook, assignment, student)
        except MissingEntry:
            return Result(student, FAILED, "nbgrader recorded no submission")
        checks = [grade for grade in grades if _is_automatic(grade)]
        if ungraded := [grade.cell.name for grade in checks if grade.auto_score is None]:
            return Result(student, FAILED, f"not graded: {', '.join(sorted(ungraded))}")
        points = sum(grade.auto_score for grade in checks)
        max_points = sum(grade.cell.max_score for grade in checks)
        state = MANUAL if any(grade.needs_manual_grade for grade in grades) else GRADED
        handed_in = [grade for grade in grades if f"{grade.notebook.name}.ipynb" not in missing]
        untouched = sorted(grade.cell.name for grade in handed_in if _is_untouched(grade))
    paths = notebooks_in(course.path("autograded", student, assignment))
    notebooks = {path.stem: read_notebook(path) for path in paths}
    verdicts = [verdict for notebook in notebooks.values() for verdict in verdicts_in(notebook)]
    said = [
        sentence if name == assignment else f"{name}: {sentence}"
        for name, notebook in notebooks.items()
        for sentence in mended(notebook)
    ]
    if missing:
        # As nbgrader does it.
        said.append(f"Not handed in, and so 0 points for all of it: {', '.join(missing)}.")
    named = {v["exercise"]: v["misconception"] for v in verdicts if v["misconception"]}
    copies = sorted({v["exercise"] for v in verdicts if v["copied"]})
    return Result(
        student,
        state,
        points=points,
        max_points=max_points,
        misconceptions=tuple(named.items()),
        copies=tuple(copies),
        mended=tuple(said),
        untouched=tuple(untouched),
    )


def _is_automatic(grade):
    """Whether points are for what a cell of code puts out; a person grades what students write."""
    answers = {cell.name for cell in grade.notebook.notebook.solution_cells}
    return grade.cell.cell_type == "code" and grade.cell.name not in answers


def _is_untouched(grade):
    """Whether nbgrader gave a written task its 0 because nothing was written there."""
    by_a_person = grade.needs_manual_grade or grade.manual_score is not None
    return not _is_automatic(grade) and grade.auto_score == 0 and not by_a_person


def verdicts_in(notebook: NotebookNode) -> Iterator[dict]:
    """The verdicts that the marker left in a notebook's graded checks."""
    for cell in notebook.cells:
        # Into any other cell the student's own code can print what it likes.
        if not is_graded(cell):
            continue
        for output in cell.get("outputs", ()):
            if VERDICT_MIME in output.get("data", {}):
                yield output["data"][VERDICT_MIME]
