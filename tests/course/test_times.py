"""A time is read for sure or not at all, wherever it was written."""

from datetime import datetime

import pytest

from nbjudge.course.times import read_time


@pytest.mark.parametrize(
    "written",
    [
        "2026-03-01 18:00:00",
        "2026-03-01 18:00",
        "2026-03-01T18:00:00Z",
        "2026-03-01T18:00:00 Z",
        "2026-03-01 18:00:00 UTC",
        "2026-03-01 18:00:00.123456 UTC",
        " 2026-03-01 18:00:00 UTC\n",
        "2026-03-01 19:00:00 +0100",
        "2026-03-01 19:00:00 +01:00",
        "2026-03-01T19:00:00+01:00",
        "2026-03-01T19:00:00+01",
        "2026-03-01 13:00:00 -0500",
        "2026-03-01 23:30:00 +05:30",
        "2026-03-02 08:00:00 +1400",
        "2026-03-01 19:00:00 Europe/Berlin",
        "2026-03-01T13:00:00 America/New_York",
        "2026-03-01 15:00:00 America/Argentina/Salta",
    ],
)
def test_a_clear_time_is_read_in_utc(written):
    assert read_time(written) == datetime(2026, 3, 1, 18)


def test_a_zone_knows_its_summer():
    assert read_time("2026-07-01 20:00:00 Europe/Berlin") == datetime(2026, 7, 1, 18)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "tomorrow",
        "2026-03-01",
        "18:00",
        "2026-03-01 20:15:00 CEST",
        "2026-03-01 20:15:00 CET",
        "2026-03-01 20:15:00 EST",
        "2026-03-01 7:00 PM",
        "2026-03-01 07:00:00 PM",
        "02/03/2026 18:00:00",
        "02.03.2026 18:00",
        "2026-3-1 18:00:00",
        "2026-03-01 18:00:00 UTC, I hope",
        "on 2026-03-01 18:00:00",
        "2026-03-01 18:00:00 UTC+1",
        "2026-03-01 18:00:00 200",
        "2026-03-01 18:00:00 +200",
        "2026-03-01 18:00:00 +0199",
        "2026-03-01 18:00:00 +2000",
        "2026-03-01 18:00:00 +0100 +0100",
        "2026-03-01 18:00:00 Europe/Nowhere",
        "2026-03-01 18:00:00 Europe/",
        "2026-03-01 18:00:00 ../../etc/passwd",
        "2026-02-29 18:00:00",
        "2026-13-01 18:00:00",
        "2026-03-01 24:00:00",
        "2026-03-01 23:59:60",
        "0000-01-01 00:00:00",
        "0001-01-01 00:00:00 +0100",
        "0026-03-01 18:00:00",
        "9999-12-31 23:59:59 -0100",
        "2026-03-01 18:00:00\0",
        "2026-03-01\n18:00:00",
        "２０２６-03-01 18:00:00",
        "99999999999999999999",
        "\udcdc",
        # Clocks are put forward over the first and back over the second.
        "2026-03-29 02:30:00 Europe/Berlin",
        "2026-10-25 02:30:00 Europe/Berlin",
    ],
)
def test_what_is_not_clear_is_an_error_that_says_what_to_write(written):
    with pytest.raises(ValueError, match="UTC") as caught:
        read_time(written)
    assert repr(written[:40]) in str(caught.value) and "\n" not in str(caught.value)
