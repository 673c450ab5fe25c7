"""What is said of one function: data that the student, the report and the gradebook read."""

from dataclasses import dataclass

# The verdict as data, beside what the student reads: the grader's report counts these.
VERDICT_MIME = "application/vnd.nbjudge.verdict+json"


@dataclass(frozen=True)
class Verdict:
    """What is said of one function: the student reads it, the report counts it.

    Args:
        exercise: name of the exercise.
        passed: whether the points are due.
        kind: one word for what went wrong, `"passed"` if nothing did.
        sentence: what happened and what to do about it.
        misconception: name of the known wrong answer that agrees with this one.
        case: the case that shows it, in words.
        got: what the function gave there.
        expected: what the right answer is there.
        printed: what the function printed there.
        line: the one to be looked at, its number and text, where one edit of it makes the function
            right; known in the student's own notebook only.
        duties: whether each duty is met; none where nothing could be judged. See `duties`.
        numbers: the signature of a wrong answer that no mistake explains, in a graded class; see
            `signature`.
        copied: the function is the reference word for word; passes, and the instructor is told.

    """

    exercise: str
    passed: bool
    kind: str = "passed"
    sentence: str = ""
    misconception: str | None = None
    case: str = ""
    got: str = ""
    expected: str = ""
    printed: str = ""
    line: str = ""
    duties: tuple[tuple[str, bool], ...] = ()
    numbers: tuple[float | None, ...] = ()
    copied: bool = False
