"""The command: release assignments, grade a class, see the demo.

Exit code 0 when all went well, 1 when something did not come out as it should, 2 when the command
could not begin; then one line says what to do.
"""

# torch, nbgrader and what is built on them take seconds to import: `--help` can do without, and
# a grading run has other processes start meanwhile. So each command imports what it needs.
import argparse
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from nbjudge.errors import UserError, printable
from nbjudge.running.startup import do_without

# What `add_subparsers` returns, which has no public name.
Subparsers = argparse._SubParsersAction


def main(
    arguments: list[str] | None = None,
    name: str = "nbjudge",
    add: Callable[[Subparsers], None] | None = None,
) -> int:
    """Run one command.

    Args:
        arguments: of the command line; None takes those of this process.
        name: of the whole, as it is typed.
        add: puts a course's own commands beside these. Each one's defaults have a `command`, which
            is called with the options and returns an exit code.

    Returns:
        The exit code.

    """
    options = _parser(name, add).parse_args(arguments)
    _settle_streams()
    do_without()
    try:
        code = options.command(options)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough, as in `nbjudge grade … | head`. What is left
        # of it goes nowhere, or Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _settle_streams():
    """What no terminal, log or pipe shall be spoiled by."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal may know no dashes, and no students' names; and what stands in the place of a
        # stream may not know how to be set up.
        with contextlib.suppress(AttributeError, OSError):
            stream.reconfigure(errors="replace")
    if not sys.warnoptions:
        # Of libraries, and of the code of students, which is parsed here. Nobody can act on them.
        warnings.simplefilter("ignore")


def _parser(name, add):
    parser = argparse.ArgumentParser(
        prog=name, description=f"`{name}`: release assignments, grade a class, see the demo."
    )
    parser.set_defaults(typed=name)
    parser.add_argument("--course", default=".", metavar="DIR", help="the course folder")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    release = commands.add_parser("release", help="make the students' versions from the sources")
    release.add_argument("assignment", nargs="*", help="all of them if none is named")
    release.add_argument(
        "--check", action="store_true", help="change nothing; fail if one is stale"
    )
    release.set_defaults(command=_release)

    grade = commands.add_parser("grade", help="autograde what lies in grading/submitted/")
    grade.add_argument("assignment")
    grade.add_argument("--student", action="append", metavar="S", help="only this one; repeatable")
    grade.add_argument("--regrade", action="store_true", help="grade again what was graded before")
    _add_execution(grade)
    grade.set_defaults(command=_grade)

    collect = commands.add_parser("collect", help="take submissions from Moodle's or Canvas's zip")
    collect.add_argument("assignment")
    collect.add_argument("archive", metavar="FILE.zip")
    collect.add_argument("--replace", action="store_true", help="also what is there and differs")
    collect.set_defaults(command=_collect)

    report = commands.add_parser("report", help="a page and a table about a graded class")
    report.add_argument("assignment")
    report.set_defaults(command=_report)

    name = commands.add_parser(
        "name", help="have a mistake that the report calls unknown explained"
    )
    name.add_argument("assignment")
    name.add_argument("exercise")
    name.add_argument("group", type=_positive, help="its number in the report")
    name.add_argument("mistake", help="its name, as reports will count it")
    name.add_argument("sentence", help="what a student reads; may hold {got} and {expected}")
    name.set_defaults(command=_name)

    feedback = commands.add_parser("feedback", help="write a page for each graded student")
    feedback.add_argument("assignment")
    feedback.set_defaults(command=_feedback)

    export = commands.add_parser("export", help="grades for Moodle, Canvas or a spreadsheet")
    export.add_argument("assignment")
    export.add_argument(
        "--into", metavar="TABLE.csv", help="fill Moodle's grading worksheet or Canvas's gradebook"
    )
    export.add_argument(
        "--column",
        metavar="TITLE",
        help="title of the grades' column, in Canvas or in a table of another language",
    )
    export.set_defaults(command=_export)

    demo = commands.add_parser("demo", help="grade a made-up class whose grades are known")
    demo.add_argument("assignment", nargs="*", help="all of them if none is named")
    _add_execution(demo)
    demo.set_defaults(command=_demo)

    if add:
        add(commands)
    return parser


def _add_execution(command):
    command.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="notebooks executed at once; default: one a core",
    )
    command.add_argument(
        "--cluster", metavar="ADDRESS", help="execute on a Dask cluster, as in tcp://host:8786"
    )
    command.add_argument(
        "--no-sandbox",
        dest="jailed",
        action="store_false",
        help="run student code unprotected, where there is no bubblewrap",
    )


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1, not {text}")
    return int(text)


def _course(options):
    from nbjudge import quirks
    from nbjudge.course.folder import Course

    quirks.apply()
    return Course(options.course)


def _start_early(options):
    from nbjudge.running.startup import start_early

    named = [options.assignment] if isinstance(options.assignment, str) else options.assignment
    start_early(options.course, named, options.jailed)


def _release(options):
    course = _course(options)
    stale = []
    for assignment in options.assignment or course.assignments():
        if options.check:
            stale += [] if course.is_released(assignment) else [assignment]
        else:
            course.release(assignment)
            print(f"released {assignment}")
    for assignment in stale:
        print(f"{assignment} differs from its solution: run `{options.typed} release {assignment}`")
    return 1 if stale else 0


def _grade(options):
    _start_early(options)
    from nbjudge.course.folder import CourseError
    from nbjudge.course.results import FAILED

    course = _course(options)
    students = course.submissions(options.assignment)
    if options.student:
        if unknown := sorted(set(options.student) - set(students)):
            raise CourseError(f"no submission of {options.assignment} by {', '.join(unknown)}")
        students = sorted(options.student)
    if not options.jailed:
        print("No sandbox: student code can read and change whatever you can.", file=sys.stderr)
    results = _run(course, options.assignment, students, options)
    return 1 if any(result.state == FAILED for result in results) else 0


def _collect(options):
    from nbjudge.submissions.collect import collect

    course = _course(options)
    done = collect(course, options.assignment, options.archive, options.replace)
    for one in done:
        print(printable(f"{one.student or '(nobody)'}  {one.outcome}"))
    return 0 if all(one.good for one in done) else 1


def _report(options):
    from nbjudge.reports.read import write_report

    course = _course(options)
    course.require(options.assignment)
    page, table = write_report(course, options.assignment)
    print(f"report     {page}")
    print(f"table      {table}")
    return 0


def _name(options):
    from nbjudge.name import name_mistake

    path, named = name_mistake(
        _course(options),
        options.assignment,
        options.exercise,
        options.group,
        options.mistake,
        options.sentence,
    )
    students = len(named.students)
    print(f"{path}: {options.mistake!r}, as {students} student{'s' * (students > 1)} had it")
    print(f"Read what was written there. `{options.typed} grade {options.assignment}` explains it.")
    return 0


def _feedback(options):
    from tqdm import tqdm

    from nbjudge.course.gradebook import waiting_of
    from nbjudge.course.safe_files import notebooks_in
    from nbjudge.reports.feedback import write_feedback
    from nbjudge.reports.read import without_page

    course = _course(options)
    students = course.submissions(options.assignment)
    failed = without_page(course, options.assignment, students)
    for student, reason in failed.items():
        print(printable(f"{student}  no page: {reason}"))
    students = [s for s in students if s not in failed]
    kept = {s: course.path("autograded", s, options.assignment) for s in students}
    graded = [s for s in students if notebooks_in(kept[s])]
    good = True
    pages = write_feedback(course, options.assignment, graded)
    with tqdm(total=len(graded), unit="page", file=sys.stdout, disable=None, leave=False) as bar:
        for student, reason in pages:
            if reason:
                good = False
                tqdm.write(printable(f"{student}  no page: {reason}"))
            bar.update()
    with course.api.gradebook as gradebook:
        waiting = waiting_of(gradebook, options.assignment)
    if names := [student for student in graded if waiting.get(student)]:
        print(printable(f"have 0 points for what waits for a manual grade: {', '.join(names)}"))
    print(f"feedback   {course.path('feedback', 'STUDENT', options.assignment)}")
    return 0 if good else 1


def _export(options):

    from nbjudge.reports.export import fill, grades, write_plain

    course = _course(options)
    found, most = grades(course, options.assignment)
    for grade in found:
        if grade.value is None:
            print(printable(f"{grade.student}  no grade: {grade.remark}"))
    good = all(grade.value is not None for grade in found)
    if options.into:
        path = Path(options.into)
        filled = fill(path, options.assignment, found, most, options.column)
        for student, note in filled.notes:
            print(printable(f"{student}  {note}"))
        print(f"{filled.written} grades in {filled.column!r}, students found by {filled.by!r}")
        good = good and not filled.notes
    else:
        path = course.grading / "reports" / f"{options.assignment}-grades.csv"
        write_plain(path, found, most)
    print(f"table      {path}")
    return 0 if good else 1


def _demo(options):
    from nbjudge.running.sandbox import why_not

    if options.jailed and (reason := why_not()):
        print(f"{reason}.\nThe demo's submissions are our own, so it goes on without a sandbox.")
        options.jailed = False
    _start_early(options)
    from nbjudge.demo import build_class
    from nbjudge.mark import exercises_of

    course = _course(options)
    # A part of the points would be what the judge says, and known from nowhere else.
    course.api.config.ExecuteAndMark.partial_credit = False
    chosen = options.assignment or course.assignments()
    for assignment in chosen:
        course.require(assignment)
    wrong = 0
    for assignment in chosen:
        print(f"== {assignment}")
        exercises = exercises_of(course.notebook("source", assignment))
        if not exercises:
            raise UserError(f"{assignment} has no check, and the demo is made from checks")
        expected = build_class(course, assignment, exercises)
        points = {e.student: e.points for e in expected}
        results = _run(course, assignment, list(points), options, points)
        by_student = {result.student: result for result in results}
        for e in expected:
            if not e.matches(by_student[e.student]):
                print(f"{options.typed}: {e.student} should have come out as {e}", file=sys.stderr)
                wrong += 1
    return 1 if wrong else 0


def _run(course, assignment, students, options, expected=None):
    """Grade, print a line as each submission ends, write the CSV."""
    from tqdm import tqdm

    from nbjudge.grade import grade_class, write_csv

    course.enter(assignment)
    width = max(len(student) for student in students)
    print(_line(width, "student", "points", "expected" if expected else "", "state"))
    results = []
    graded = grade_class(
        course,
        assignment,
        students,
        jobs=options.jobs,
        jailed=options.jailed,
        cluster=options.cluster,
        regrade=getattr(options, "regrade", False),
    )
    with tqdm(total=len(students), unit="submission", disable=None, leave=False) as bar:
        for result in graded:
            results.append(result)
            wanted = _points(expected[result.student]) if expected else ""
            lines = [_line(width, result.student, _score(result), wanted, _state(result))]
            lines += [f"{'':{width}}  {e}: {name}" for e, name in result.misconceptions]
            lines += [f"{'':{width}}  {e}: a copy of the reference" for e in result.copies]
            lines += [f"{'':{width}}  mended: {sentence}" for sentence in result.mended]
            lines += [f"{'':{width}}  {e}: left as released, 0 points" for e in result.untouched]
            tqdm.write("\n".join(map(printable, lines)))
            bar.update()
    results.sort(key=lambda result: result.student)
    print(f"gradebook  {course.gradebook}")
    if not getattr(options, "student", None):
        table = course.grading / "reports" / f"{assignment}.csv"
        write_csv(table, results)
        print(f"table      {table}")
    return results


def _line(width, student, points, expected, state):
    return f"{student:{width}}  {points:>9}  {expected:>8}  {state}".rstrip()


def _points(points):
    return "–" if points is None else f"{points:g}"


def _score(result):
    top = "" if result.max_points is None else f" / {result.max_points:g}"
    return _points(result.points) + top


def _state(result):
    return f"{result.state}: {result.reason}" if result.reason else result.state


if __name__ == "__main__":
    sys.exit(main())
