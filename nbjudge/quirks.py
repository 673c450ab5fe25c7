"""nbgrader's ways with files and times, made safe for what students hand in.

A course's settings and the command call `apply`, so that it, `nbgrader` and formgrader have it:

- Times are read by `read_time`: nbgrader takes `+0200` for 200 seconds, and CEST for UTC.
- A timestamp is a small regular file: nbgrader waits for ever for a pipe of that name.
- A course folder such as `Physics [2026]`, or a student's id, is no pattern: only `*` is.
- Of a submission's other files, regular ones up to a limit are copied to what is graded; but none
  that Python would import there, in a notebook that an instructor runs, in place of its own.
- The gradebook is asked less often; see `course.gradebook`.
- Formgrader's pages let nothing act that a student handed in; see `reports.formgrader`.
"""

import contextlib
import glob
import re
import sys
import warnings
from contextvars import ContextVar
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import nbgrader.apps.api
import nbgrader.converters.base
import nbgrader.utils
from nbgrader.apps.api import NbGraderAPI
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SAWarning
from traitlets.log import get_logger

from nbjudge.course.gradebook import ask_less_often
from nbjudge.course.safe_files import walk
from nbjudge.course.times import read_time
from nbjudge.reports.formgrader import guard
from nbjudge.submissions.handed_in import SubmissionError, kept_files, timestamp

_parse_utc, _init_assignment = nbgrader.utils.parse_utc, Autograde.init_assignment
_IMPORTED = {".py", ".pyc", ".pyd", ".so", ".pth"}
# Whether files are copied from what a student handed in.
_from_student: ContextVar[bool] = ContextVar("from_student", default=False)


def parse_utc(ts: datetime | str | None) -> datetime | None:
    """nbgrader's function of this name: times that are written as text are read strictly."""
    return read_time(ts) if isinstance(ts, str) else _parse_utc(ts)


def literal_glob(pattern: str) -> list[str]:
    """Paths that match a pattern in which only `*` is special.

    Those with a line break are left out: nbgrader's regular expressions do not match them.
    """
    found = glob.glob(re.sub(r"[\[?]", r"[\g<0>]", pattern))
    return [path for path in found if "\n" not in path]


def find_all_files(path: str, exclude: list[str] | None = None) -> list[str]:
    """nbgrader's function of this name: regular files alone; of a submission up to a limit."""
    if _from_student.get():
        found, left = kept_files(Path(path))
        found = [file for file in found if file.suffix.lower() not in _IMPORTED]
        for file in left:
            get_logger().warning("Not copied, because all files are too large: %r", str(file))
        # What nbgrader's exchange put there.
        own = [Path(path, name) for name in ("timestamp.txt", "submission_secret.txt")]
        found += [file for file in own if file.is_file() and not file.is_symlink()]
    else:
        found = [Path(e.path) for e in walk(Path(path)) if e.is_file()]
    return [str(file) for file in found if not _is_excluded(file.relative_to(path), exclude or ())]


def _is_excluded(path, patterns):
    return any(fnmatch(part, pattern) for part in path.parts for pattern in patterns)


def _init_from_student(self, assignment_id, student_id):
    token = _from_student.set(True)
    try:
        _init_assignment(self, assignment_id, student_id)
    finally:
        _from_student.reset(token)


def _existing_timestamp(self, dest_path):
    return timestamp(Path(dest_path))


def _submitted_timestamp(self, assignment_id, student_id):
    path = self.coursedir.format_path(self.coursedir.submitted_directory, student_id, assignment_id)
    # Formgrader lists all submissions, and none may end that; `nbjudge grade` says what is wrong.
    with contextlib.suppress(SubmissionError):
        return timestamp(Path(path))


def apply() -> None:
    """Put all of this into nbgrader, for this process; once or more often is the same."""
    for module in list(sys.modules.values()):
        # Some have it already; the others take it from `nbgrader.utils`.
        if getattr(module, "parse_utc", None) is _parse_utc:
            module.parse_utc = parse_utc
    for module in (nbgrader.apps.api, nbgrader.converters.base, nbgrader.utils):
        module.glob = SimpleNamespace(glob=literal_glob)
    nbgrader.converters.base.find_all_files = find_all_files
    Autograde.init_assignment = _init_from_student
    CourseDirectory.get_existing_timestamp = _existing_timestamp
    NbGraderAPI.get_submitted_timestamp = _submitted_timestamp
    ask_less_often()
    guard()
    # nbgrader 0.9.6 with SQLAlchemy 2.1; the rows it warns about are written.
    warnings.filterwarnings("ignore", "Object of type <Submitted", SAWarning)
