"""A small class made from real notebooks, whose grades are known before it is graded."""

import ast
import copy
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import nbformat

from nbjudge.asking.exercise import Exercise
from nbjudge.course.folder import Course
from nbjudge.course.results import FAILED, GRADED, MANUAL, Result

# Demo students are told from real ones by this, and only their folders are ever replaced.
PREFIX = "demo-"

WRITTEN_ANSWER = "Because the logarithm is concave."


@dataclass(frozen=True)
class Expected:
    """What must come out for one student of the demo."""

    student: str
    state: str
    points: float | None
    misconceptions: tuple[tuple[str, str], ...] = ()

    def matches(self, result: Result) -> bool:
        """Whether grading came to this."""
        got = (result.student, result.state, result.points, sorted(result.misconceptions))
        return got == (self.student, self.state, self.points, sorted(self.misconceptions))


def build_class(course: Course, assignment: str, exercises: Sequence[Exercise]) -> list[Expected]:
    """Release an assignment and fill its folder of submissions with the demo's students.

    Returns what each student should get. Submissions of other students stay as they are.
    """
    for old in course.path("submitted").glob(f"{PREFIX}*/{assignment}"):
        course.forget(old.parent.name, assignment)
    course.release(assignment)
    release = nbformat.read(course.notebook("release", assignment), as_version=4)
    source = nbformat.read(course.notebook("source", assignment), as_version=4)
    right = {
        exercise.name: _without_markers(_cell(source, f"{exercise.name}-solution").source)
        for exercise in exercises
    }

    def submit(student, notebook):
        path = course.notebook("submitted", assignment, PREFIX + student)
        path.parent.mkdir(parents=True)
        text = notebook if isinstance(notebook, str) else nbformat.writes(notebook)
        path.write_text(text, encoding="utf-8")
        return PREFIX + student

    def answered(wrong):
        """Right answers everywhere but where `wrong` has a source."""
        notebook = copy.deepcopy(release)
        for name, answer in {**right, **wrong}.items():
            _cell(notebook, f"{name}-solution").source = answer
        for cell in notebook.cells:
            if _is_written(cell):
                cell.source = WRITTEN_ANSWER
        return notebook

    def worth(*wrong):
        return float(sum(e.points for e in exercises if e.name not in wrong))

    # What is written waits for a person.
    right_state = MANUAL if any(map(_is_written, release.cells)) else GRADED
    first, second = exercises[0].name, exercises[-1].name
    expected = [
        Expected(submit("instructor", source), right_state, worth()),
        Expected(submit("untouched", release), GRADED, 0.0),
        Expected(
            submit("raises", answered({first: _raising(exercises[0])})), right_state, worth(first)
        ),
        Expected(
            submit("endless", answered({second: _endless(exercises[-1])})),
            right_state,
            worth(second),
        ),
        Expected(submit("no-notebook", "This was meant to be a notebook.\n"), FAILED, None),
    ]
    for number, held in enumerate(_spread(exercises), 1):
        wrong = {name: source_as(name, m.implementation) for name, m in held.items()}
        student = submit(f"student-{number:02d}", answered(wrong))
        named = tuple((name, m.name) for name, m in held.items())
        expected.append(Expected(student, right_state, worth(*held), named))
    return expected


def source_as(name: str, implementation) -> str:
    """The source of a function under another name, as a student would have it in a cell."""
    function = ast.parse(textwrap.dedent(inspect.getsource(implementation))).body[0]
    function.name, function.decorator_list = name, []
    if len(function.body) > 1 and ast.get_docstring(function):
        # The docstring of a misconception explains it to the student.
        del function.body[0]
    return ast.unparse(function)


def _spread(exercises):
    """Deal out the misconceptions, one an exercise at most, so that every student is right too."""
    # Three students more than misconceptions are right in each exercise, not the same three.
    students = max(len(exercise.misconceptions) for exercise in exercises) + 3
    held = [{} for _ in range(students)]
    for index, exercise in enumerate(exercises):
        for number, misconception in enumerate(exercise.misconceptions):
            held[(number + 2 * index) % students][exercise.name] = misconception
    return held


def _raising(exercise):
    arguments = ", ".join(inspect.signature(exercise.reference).parameters)
    return f'def {exercise.name}({arguments}):\n    raise ValueError("shapes do not match")'


def _endless(exercise):
    arguments = inspect.signature(exercise.reference)
    return f"def {exercise.name}{arguments}:\n    while True:\n        pass"


def _is_written(cell):
    return cell.cell_type == "markdown" and cell.metadata.get("nbgrader", {}).get("grade")


def _without_markers(source):
    return "\n".join(line for line in source.splitlines() if not line.strip().startswith("###"))


def _cell(notebook, grade_id):
    return next(
        cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id
    )
