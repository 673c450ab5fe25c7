"""How grading one submission ended, as the course keeps it."""

from dataclasses import dataclass

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
        mended: what was mended in the notebook before it was graded, in sentences.
        untouched: written tasks that stand as they were released, and so have 0 points.

    """

    student: str
    state: str
    reason: str = ""
    points: float | None = None
    max_points: float | None = None
    misconceptions: tuple[tuple[str, str], ...] = ()
    copies: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()

    def __post_init__(self):
        # A result that was read back from JSON has lists.
        pairs = tuple(tuple(pair) for pair in self.misconceptions)
        object.__setattr__(self, "misconceptions", pairs)
        for name in ("copies", "mended", "untouched"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
