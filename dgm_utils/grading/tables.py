"""Text of other people in what we write: nothing unseen in it, and inert in a spreadsheet."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

# Control characters, and those that change the direction of what follows: with them a text can look
# like another one, or drive the terminal that it is printed to. Line feed, tab and return stay.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# A spreadsheet takes for a formula what begins with one of these, in full-width form and after
# blanks too. Where it splits at semicolons or tabs, one begins in the middle of an entry.
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=\s*[=+\-@＝＋－﹣＠﹫])|^(?=[\t\r\n])")


def readable(text: str) -> str:
    """Text of any number of lines, with a � for half a character and for each control character.

    What turns the writing direction counts among them.
    """
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.encode("utf-8", "replace").decode())


def entry(value: object) -> str:
    """What goes into a table: numbers short, and no text that a spreadsheet would execute."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return f"{value:g}"
    return _FORMULA.sub(r"\1'", readable(value))


def as_csv(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV, every entry of which went through `entry`.

    Args:
        header: titles of the columns.
        rows: of texts, numbers, and None for what stays empty.

    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([entry(value) for value in row] for row in (header, *rows))
    return text.getvalue()
