"""Record: an executed submission in, its row in the gradebook and its result out.

nbgrader does it, with our steps in its list: marks become scores, and the notebook is kept.
"""

from collections.abc import Iterable, Iterator

from nbformat import NotebookNode

from nbjudge.course.folder import Course, NotConverted
from nbjudge.course.gradebook import opened_once
from nbjudge.course.results import FAILED, Result
from nbjudge.crew import Executed
from nbjudge.outcome import result_of


def recorded(executed: Iterable[Executed | Result]) -> Iterator[Result]:
    """Each result once it is recorded and remembered; those of what failed before are handed on."""
    for one in executed:
        if isinstance(one, Result):
            yield one
        else:
            yield one.sanitized.submission.attempt(_record, one)


def _record(executed):
    submission = executed.sanitized.submission
    submission.forget()
    result = grade(
        submission.course,
        submission.assignment,
        submission.student,
        executed.notebooks,
        executed.sanitized.missing,
    )
    for path in executed.sanitized.kept.values():
        path.unlink(missing_ok=True)
    # A failure here may be the machine's, and is tried again by the next run.
    return result if result.state == FAILED else submission.remember(result)


def grade(
    course: Course,
    assignment: str,
    student: str,
    executed: dict[str, NotebookNode] | None = None,
    missing: Iterable[str] = (),
) -> Result:
    """Have nbgrader autograde one submission; what is wrong with it becomes the result's reason.

    Args:
        course: the course folder.
        assignment: its name.
        student: whose submission.
        executed: name → notebook, if they were sanitized and executed before.
        missing: file names of notebooks that were not handed in.

    """
    course.remove_student_files(student, assignment)
    with opened_once():
        try:
            course.autograde(student, assignment, executed)
        except NotConverted as error:
            return Result(student, FAILED, str(error))
        return result_of(course, assignment, student, missing)
