"""What people are told: text that may come from anybody, and can be shown anywhere."""

import re
from collections.abc import Iterable

_LONGEST = 200
# Control characters, and those that change the direction of what follows: with them a text can look
# like another one, or drive the terminal that it is printed to. Line feed, tab and return stay.
_UNREADABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_LINE_ENDS = re.compile("[\t\n\r\u2028\u2029]")
_INSTEAD = "\N{REPLACEMENT CHARACTER}"


class UserError(Exception):
    """Something that whoever runs the command can mend; the message is one line that says how."""


def in_one_line(error: BaseException) -> str:
    """Type and message of an unforeseen error, short enough for a table."""
    try:
        said = " ".join(str(error).split("\n\n")[0].split())
    except Exception:
        said = "(its message could not be read)"
    return f"{type(error).__name__}: {said}".removesuffix(": ")[:_LONGEST]


def readable(text: str) -> str:
    """Text of any number of lines, with a � for half a character and for each control character.

    What turns the writing direction counts among them.
    """
    return _UNREADABLE.sub(_INSTEAD, text.encode("utf-8", "replace").decode())


def printable(text: str) -> str:
    """`readable` text in one line, as for a terminal."""
    return _LINE_ENDS.sub(_INSTEAD, readable(text))


def plain(name: str) -> str:
    """A name that a student chose, for a line of text."""
    return "".join(c if c.isprintable() and c not in "`<>|" else "_" for c in name[:80])


def quoted(name: str) -> str:
    """The same in quotes."""
    return f"`{plain(name)}`"


def listed(names: Iterable[str], most: int) -> str:
    """The first of some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
