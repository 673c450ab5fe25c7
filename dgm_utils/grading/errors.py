"""What the person at the command line is told, in one line."""

import re

_LONGEST = 200
# What moves a cursor, colours a terminal or turns the direction of a line, and ends of lines.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class UserError(Exception):
    """Something that whoever runs `dgm` can mend; the message is one line that says how."""


def in_one_line(error: BaseException) -> str:
    """Type and message of an unforeseen error, short enough for a table."""
    try:
        said = " ".join(str(error).split("\n\n")[0].split())
    except Exception:
        said = "(its message could not be read)"
    return f"{type(error).__name__}: {said}".removesuffix(": ")[:_LONGEST]


def printable(text: str) -> str:
    """One line that can be shown anywhere, whoever wrote it: half characters and unseen ones go."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text.encode("utf-8", "replace").decode())
