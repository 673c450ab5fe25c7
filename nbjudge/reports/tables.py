"""Tables that we write: what other people wrote is readable in them, and no formula."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

from nbjudge.errors import readable

# A spreadsheet takes for a formula what begins with one of these, in full-width form and after
# blanks too. Where it splits at semicolons or tabs, one begins in the middle of an entry.
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=\s*[=+\-@＝＋－﹣＠﹫])|^(?=[\t\r\n])")


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
