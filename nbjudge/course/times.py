"""One strict reader of times, for submissions and due dates alike.

A time that is read wrongly takes points from a student or gives them, and nobody sees why. So what
is not clear is an error: `CEST` and its like name different hours in different places, `7:00 PM`
and `02/03/2026` are read differently by different people.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d(?::\d\d)?)(?:[.,]\d{1,9})?"
    r"(?: ?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?|[A-Za-z]+(?:/[A-Za-z0-9_+-]+){1,2}))?",
    re.ASCII,
)
# What is farther off was mistyped; zones go from −12 to +14 hours.
_YEARS = range(2000, 2200)
_FARTHEST = timedelta(hours=14)


def read_time(written: str) -> datetime:
    """Read a time that a person, a platform or nbgrader wrote.

    Args:
        written: a date and a time of the day as ISO 8601 has them, with `T` or a blank between, and
            then, after a blank or none, `Z`, `UTC`, an offset (`+0200`, `+02:00`) or the name of a
            zone (`Europe/Berlin`). Without any it is UTC. Fractions of a second are dropped.

    Returns:
        The time in UTC, without a zone, as the gradebook keeps it.

    Raises:
        ValueError: when it is none, or not clear; the message says why, and what to write.

    """
    match = _TIME.fullmatch(written.strip())
    if not match:
        raise _error(written, "is not read for sure")
    try:
        local = datetime.fromisoformat(f"{match['date']} {match['time']}")
        zone = _zone(match["zone"] or "UTC")
        offsets = {zone.utcoffset(local.replace(fold=fold)) for fold in (0, 1)}
    except (ValueError, LookupError, OSError, OverflowError) as error:
        raise _error(written, "has no such date, hour or zone") from error
    if local.year not in _YEARS or max(map(abs, offsets)) > _FARTHEST:
        raise _error(written, "has no such year or zone")
    if len(offsets) > 1:
        raise _error(written, "is not clear, because clocks are changed in that hour")
    return local - offsets.pop()


def _error(written, why):
    return ValueError(
        "write one such as 2026-03-02 18:00:00 UTC, 2026-03-02 19:00:00 +0100 or "
        f"2026-03-02 19:00:00 Europe/Berlin; {written.strip()[:40]!r:.60} {why}"
    )


def _zone(name):
    if name in ("Z", "UTC", "GMT"):
        return UTC
    if name[0] not in "+-":
        # From the system or, where that has none, from the package tzdata.
        return ZoneInfo(name)
    digits = name[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if minutes > 59:
        raise ValueError("no such offset")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if name[0] == "-" else offset)
