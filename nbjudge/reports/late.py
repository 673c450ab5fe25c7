"""Late work: how much is taken off, and when that is computed.

nbgrader computes a penalty while it autogrades, from the points that are there by then. Those for
the written tasks come later, and a due date or a timestamp may be put right later still. So
`nbjudge export` and `nbjudge feedback` compute all penalties of an assignment again.
"""

import math
from collections.abc import Iterable
from contextlib import suppress

from nbgrader.api import MissingEntry
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.preprocessors import AssignLatePenalties
from traitlets import Float

from nbjudge.course.folder import Course
from nbjudge.submissions.handed_in import SubmissionError, timestamp

_DAY = 24 * 60 * 60


class PerDay(LateSubmissionPlugin):
    """Takes off the same share of a student's points for each day begun after the due date."""

    share = Float(0.0, min=0.0, max=1.0, help="0.1 takes off a tenth a day").tag(config=True)

    def late_submission_penalty(
        self, student_id: str, score: float, total_seconds_late: float
    ) -> float:
        """Points to take off; called for late submissions only."""
        days = math.ceil(total_seconds_late / _DAY)
        return score * min(1.0, self.share * days)


def settle(course: Course, assignment: str) -> dict[str, float]:
    """Compute the penalties of an assignment from today's points, due date and timestamps.

    Args:
        course: the course folder.
        assignment: its name.

    Returns:
        Student → points taken off, for those who were late.
    """
    late = AssignLatePenalties(config=course.api.config)
    late.init_plugin()
    found = {}
    with course.api.gradebook as gradebook:
        try:
            submissions = gradebook.assignment_submissions(assignment)
        except MissingEntry:
            return {}
        for submission in submissions:
            student = submission.student_id
            folder = course.path("submitted", student, assignment)
            with suppress(SubmissionError):
                # Without a file the submission is not late; without its folder nobody knows more.
                submission.timestamp = (
                    timestamp(folder) if folder.is_dir() else submission.timestamp
                )
            for notebook in submission.notebooks:
                notebook.late_submission_penalty = None
                if submission.total_seconds_late > 0:
                    penalty = late.plugin_inst.late_submission_penalty(
                        student, notebook.score, submission.total_seconds_late
                    )
                    notebook.late_submission_penalty = min(max(0.0, penalty or 0.0), notebook.score)
                    found[student] = found.get(student, 0.0) + notebook.late_submission_penalty
        gradebook.db.commit()
    return found


def unclear(course: Course, assignment: str, students: Iterable[str]) -> dict[str, str]:
    """Whose submission came at a time that cannot be read, so that no penalty is known.

    Args:
        course: the course folder.
        assignment: its name.
        students: who are asked about.

    Returns:
        Student → what is wrong.
    """
    found = {}
    for student in students:
        try:
            timestamp(course.path("submitted", student, assignment))
        except SubmissionError as error:
            found[student] = str(error)
    return found
