"""One submission on its way to a result, and what an earlier run remembered of it."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from nbjudge.course.folder import Course
from nbjudge.course.results import FAILED, GRADED, MANUAL, Result
from nbjudge.course.safe_files import notebooks_in, write_whole
from nbjudge.errors import in_one_line
from nbjudge.submissions.handed_in import SubmissionError, fingerprint

_Next = TypeVar("_Next")


@dataclass(frozen=True)
class Submission:
    """What one student handed in for one assignment.

    Args:
        course: the course folder.
        assignment: its name.
        student: whose it is.
        version: of the exercises; what was remembered for another one is not trusted.
        waiting: whether a person must grade; None when the gradebook does not know it.

    """

    course: Course
    assignment: str
    student: str
    version: bytes
    waiting: bool | None = None

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.course.path("submitted", self.student, self.assignment)

    def attempt(self, step: Callable[..., _Next], *args: object) -> _Next | Result:
        """What a step of grading returns; if it fails, the result that says why."""
        try:
            return step(*args)
        except SubmissionError as error:
            result = Result(self.student, FAILED, str(error))
            # It ends the same way if it cannot be remembered.
            with contextlib.suppress(Exception):
                self.remember(result)
            return result
        except Exception as error:
            # Whatever a student has bent, the class goes on.
            return Result(self.student, FAILED, f"could not be graded: {in_one_line(error)}")

    def earlier(self) -> Result | None:
        """The result of an earlier run, if neither submission nor exercises changed since."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            result = Result(**found["result"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            # There was none, or a person or another version has written what this cannot read.
            return None
        if found["digest"] != self._digest():
            return None
        if result.state == FAILED:
            return result
        # When formgrader's button fails, nbgrader forgets what it had; and the gradebook's grades
        # go when a person removes the assignment there.
        kept = self.course.path("autograded", self.student, self.assignment)
        if not notebooks_in(kept) or self.waiting is None:
            return None
        # A person may have graded since.
        return replace(result, state=MANUAL if self.waiting else GRADED)

    def forget(self) -> None:
        """Trust no earlier result; to be called before anything of it is changed."""
        with contextlib.suppress(OSError, ValueError):
            self._path.unlink(missing_ok=True)

    def remember(self, result: Result) -> Result:
        """Write down that it is done; the last step, and all or nothing."""
        text = json.dumps({"digest": self._digest(), "result": asdict(result)})
        write_whole(self._path, text)
        return result

    @property
    def _path(self):
        return self.course.grading / "graded" / self.assignment / f"{self.student}.json"

    def _digest(self):
        return hashlib.sha256(fingerprint(self.folder) + self.version).hexdigest()
