"""Which installed packages hold answers, as they declare it themselves.

A course whose checks compare with reference implementations says so in its `pyproject.toml`:

    [project.entry-points."nbjudge.answers"]
    our_course = "our_course"
"""

from importlib.metadata import entry_points

GROUP = "nbjudge.answers"


def declared() -> frozenset[str]:
    """Names of the packages that nothing in a sandbox may see."""
    return frozenset(entry.value for entry in entry_points(group=GROUP))
