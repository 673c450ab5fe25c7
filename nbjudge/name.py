"""Give a mistake of a class a name: from then on it is explained to whoever makes it."""

import inspect
import types
from pathlib import Path

import nbformat

from nbjudge.asking.adopted import as_wrong_answer
from nbjudge.asking.exercise import Exercise, Misconception
from nbjudge.course.folder import Course
from nbjudge.course.safe_files import notebooks_in, write_whole
from nbjudge.course.seeds import secret_of
from nbjudge.errors import UserError
from nbjudge.mark import checks_asked
from nbjudge.reports.read import read_class
from nbjudge.reports.unknown import Unknown, unknown_mistakes


def name_mistake(
    course: Course, assignment: str, exercise: str, group: int, name: str, sentence: str
) -> tuple[Path, Unknown]:
    """Put the mistake of a group of students on record, in the page of the exercise.

    The code is that of one of them, anonymous, and gives what theirs gave in the class.

    Args:
        course: the course folder.
        assignment: its name.
        exercise: its name.
        group: its number in the report.
        name: of the mistake.
        sentence: said to who makes it; may hold `{got}` and `{expected}`.

    Returns:
        The page's file, and the group.

    Raises:
        UserError: when there is no such group, or its code cannot be put on record; the page is
            then as it was.

    """
    unknown = _group(course, assignment, exercise, group)
    paths = notebooks_in(course.path("source", ".", assignment))
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    checks = checks_asked(notebooks, secret_of(course.folders))
    asked = next(one for one in checks.exercises if one.name == exercise)
    if not asked.page:
        raise UserError(f"{exercise} is on no page, into which a mistake could be written")
    path = Path(asked.page)
    parameters = list(inspect.signature(asked.reference).parameters)
    wrong = as_wrong_answer(unknown.source, exercise, parameters, name, sentence)
    text = f"{path.read_text(encoding='utf-8').rstrip()}\n\n\n{wrong}"
    recorded = _last_on(text, path)
    if not checks.agree(exercise, recorded.implementation, unknown.numbers):
        raise UserError(
            f"by itself, the code of {unknown.students[0]} gives other numbers than in the "
            "notebook, because it uses what stands elsewhere there: write the mistake by hand "
            f"under `@page.wrong` in {path}"
        )
    write_whole(path, text)
    return path, unknown


def _group(course, assignment, exercise, number):
    layout, submissions = read_class(course, assignment)
    found = unknown_mistakes([s for s in submissions if s.graded], layout.checks)
    for unknown in found:
        if (unknown.exercise, unknown.number) == (exercise, number):
            return unknown
    there = ", ".join(f"{one.exercise} {one.number}" for one in found) or "none"
    raise UserError(f"{assignment} has no unknown mistake {exercise} {number}; there is {there}")


def _last_on(text: str, path: Path) -> Misconception:
    """The last wrong answer of a page with this text."""
    module = types.ModuleType(f"page_{path.stem}")
    module.__file__ = str(path)
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
        exercise: Exercise = module.page.exercise
    except ValueError as error:
        raise UserError(f"nothing was written: {error}") from error
    return exercise.misconceptions[-1]
