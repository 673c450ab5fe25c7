"""What a course says of itself in its package's `pyproject.toml`; none has to say anything.

    [project.entry-points."nbjudge.course"]
    our_course = "our_course:DECLARED"

where `our_course/__init__.py` makes `DECLARED` a `Declared`.
"""

import functools
import os
from dataclasses import dataclass
from importlib.metadata import entry_points

GROUP = "nbjudge.course"


@dataclass(frozen=True)
class Declared:
    """What messages call things.

    Args:
        command: that students' submissions are graded with, as it is typed.
        device: environment variable that names the device on which checks call functions.
        cluster: how one gets what `--cluster` needs.
        manual: where it is written what an instructor does.

    """

    command: str = "nbjudge"
    device: str = "NBJUDGE_DEVICE"
    cluster: str = "pip install distributed"
    manual: str = "docs/nbjudge.md"


@functools.cache
def declared() -> Declared:
    """What the course says whose package is installed.

    Where there is none, or several that would contradict each other, these are nbjudge's own names.
    """
    found = [entry.load() for entry in entry_points(group=GROUP)]
    return found[0] if len(found) == 1 else Declared()


def command() -> str:
    """The name of the command that grades."""
    return declared().command


def device() -> str:
    """The device that the environment names; nothing if it names none."""
    return os.environ.get(declared().device, "")
