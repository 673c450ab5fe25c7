"""`dgm`: release assignments, grade a class, see the demo.

Exit code 0 when all went well, 1 when something did not come out as it should, 2 when the command
could not begin; then one line says what to do.
"""

import argparse
import importlib
import sys

from dgm_utils.grading.autograde import FAILED, Result, grade_class, write_csv
from dgm_utils.grading.course import Course, CourseError
from dgm_utils.grading.demo import build_class


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(Course(options.course), options)
    except CourseError as error:
        print(f"dgm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dgm: interrupted", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(prog="dgm", description=__doc__.partition("\n")[0])
    parser.add_argument("--course", default=".", metavar="DIR", help="the course folder")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    release = commands.add_parser("release", help="make the students' versions from solutions/")
    release.add_argument("assignment", nargs="*", help="all of them if none is named")
    release.add_argument(
        "--check", action="store_true", help="change nothing; fail if one is stale"
    )
    release.set_defaults(command=_release)

    grade = commands.add_parser("grade", help="autograde what lies in grading/submitted/")
    grade.add_argument("assignment")
    grade.set_defaults(command=_grade)

    demo = commands.add_parser("demo", help="grade a made-up class whose grades are known")
    demo.add_argument("assignment", nargs="*", help="all of them if none is named")
    demo.set_defaults(command=_demo)
    return parser


def _release(course, options):
    stale = []
    for assignment in options.assignment or course.assignments():
        if options.check:
            stale += [] if course.is_released(assignment) else [assignment]
        else:
            course.release(assignment)
            print(f"released {assignment}")
    for assignment in stale:
        print(f"{assignment} differs from its solution: run `dgm release {assignment}`")
    return 1 if stale else 0


def _grade(course, options):
    students = course.submissions(options.assignment)
    results = _run(course, options.assignment, students)
    return 1 if any(result.state == FAILED for result in results) else 0


def _demo(course, options):
    chosen = options.assignment or course.assignments()
    for assignment in chosen:
        course.require(assignment)
    wrong = 0
    for assignment in chosen:
        print(f"== {assignment}")
        exercises = importlib.import_module(f"dgm_utils.exercises.{assignment}").EXERCISES
        expected = build_class(course, assignment, exercises)
        points = {e.student: e.points for e in expected}
        results = _run(course, assignment, [e.student for e in expected], points)
        for e, result in zip(expected, results, strict=True):
            if not e.matches(result):
                print(f"dgm: {e.student} should have come out as {e}", file=sys.stderr)
                wrong += 1
    return 1 if wrong else 0


def _run(course, assignment, students, expected=None):
    """Grade, print a line as each submission ends, write the CSV."""
    course.enter(assignment)
    width = max(len(student) for student in students)
    print(_line(width, "student", "points", "expected" if expected else "", "state"))
    results = []
    for result in grade_class(course, assignment, students):
        results.append(result)
        wanted = _points(expected[result.student]) if expected else ""
        print(_line(width, result.student, _score(result), wanted, _state(result)), flush=True)
        for exercise, name in result.misconceptions:
            print(f"{'':{width}}  {exercise}: {name}")
        for exercise in result.copies:
            print(f"{'':{width}}  {exercise}: a copy of the reference")
    table = course.grading / "reports" / f"{assignment}.csv"
    write_csv(table, results)
    print(f"gradebook  {course.grading / 'gradebook.db'}")
    print(f"table      {table}")
    print(f"feedback   {course.path('feedback', 'STUDENT', assignment)}")
    return results


def _line(width, student, points, expected, state):
    return f"{student:{width}}  {points:>9}  {expected:>8}  {state}".rstrip()


def _points(points):
    return "–" if points is None else f"{points:g}"


def _score(result: Result):
    top = "" if result.max_points is None else f" / {result.max_points:g}"
    return _points(result.points) + top


def _state(result):
    return f"{result.state}: {result.reason}" if result.reason else result.state


if __name__ == "__main__":
    sys.exit(main())
