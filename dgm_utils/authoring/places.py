"""The places of an exercise that are still to fill: those marked with FILL.

A mark with a colon and words is listed as a place; one without belongs to the place above it. The
words hold no quotation mark and no backslash.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nbjudge.errors import UserError

# By these a clone of the repository is told from a course folder that only grades.
_FLOORS = ("dgm_utils/exercises", "tests/exercises", "solutions", "lectures")
_MARK = re.compile(r'\bFILL\b(?:: ([^"\\|\[\]]+))?')


@dataclass(frozen=True)
class Place:
    """A place that is still to fill: where, and what goes there; no words if the last one says."""

    path: str
    line: int
    what: str

    def __str__(self):
        return f"{self.path}:{self.line}  {self.what}".rstrip()


def find_repository(start: Path | str) -> Path:
    """The clone of the repository around a folder.

    Raises:
        UserError: when there is none.

    """
    start = Path(start).resolve()
    for folder in (start, *start.parents):
        if all((folder / floor).is_dir() for floor in _FLOORS):
            return folder
    raise UserError(
        f"{start} is in no clone of the course's repository, where exercises are written: "
        f"there must be {', '.join(_FLOORS)}"
    )


def places(root: Path, topic: str | None = None) -> list[Place]:
    """The places that are still to fill, of one topic or of all, in the order to fill them."""
    any_topic = topic or "*"
    patterns = (
        f"dgm_utils/{any_topic}.py",
        f"tests/claims/test_{any_topic}.py",
        f"dgm_utils/exercises/{any_topic}/*.py",
        f"tests/exercises/{any_topic}/*.py",
        f"solutions/{any_topic}/*.ipynb",
        f"lectures/[0-9]*_{any_topic}.ipynb",
        "lectures/README.md",
    )
    found = []
    for path in (path for pattern in patterns for path in sorted(root.glob(pattern))):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if topic and path.name == "README.md" and f"_{topic}.ipynb" not in line:
                continue
            for mark in _MARK.finditer(line):
                what = (mark[1] or "").strip(" .:*")
                found.append(Place(str(path.relative_to(root)), number, what))
    return found
