"""Times as they come, as milliseconds since 1970 UTC. 1483326245 s is 2017-01-02 03:04:05."""

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from penchant.platform.times import FIRST_MS, LAST_MS, to_milliseconds

MOMENT_MS = 1_483_326_245_000
DAY_MS = 1_483_315_200_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2017-01-02 03:04:05", MOMENT_MS),
        ("2017-01-02T03:04:05", MOMENT_MS),
        (" 2017-01-02T03:04:05.123 ", MOMENT_MS + 123),
        ("2017-01-02 03:04:05.1234567", MOMENT_MS + 123),
        ("2017-01-02", DAY_MS),
        ("2017-01-02 03:04", MOMENT_MS - 5_000),
        ("2017-01-02T03:04:05Z", MOMENT_MS),
        ("2017-01-02 03:04:05.5+02:00", MOMENT_MS + 500 - 7_200_000),
        ("2017-01-02T03:04-0500", MOMENT_MS - 5_000 + 18_000_000),
        ("2017-13-02", None),
        ("2017-01-02 03:04:05 and more", None),
        ("02/01/2017", None),
        ("1483326245", None),
        ("", None),
        (None, None),
    ],
)
def test_a_text_is_read_as_iso_8601_and_without_a_zone_as_utc(text, expected):
    # Read alone, and after a row of another form.
    assert to_milliseconds(pl.Series([text], dtype=pl.String), "auto").to_list() == [expected]
    mixed = pl.Series(["2017-01-02 03:04:05", text])
    assert to_milliseconds(mixed, "auto").to_list() == [MOMENT_MS, expected]


@pytest.mark.parametrize(
    ("unit", "number"),
    [
        ("s", 1_483_326_245),
        ("ms", MOMENT_MS),
        ("us", MOMENT_MS * 1000 + 999),
        ("ns", MOMENT_MS * 10**6 + 999_999),
    ],
)
def test_a_number_is_read_in_its_unit_as_integer_fraction_or_text(unit, number):
    assert to_milliseconds(pl.Series([number, None]), unit).to_list() == [MOMENT_MS, None]
    assert to_milliseconds(pl.Series([str(number), "soon"]), unit).to_list() == [MOMENT_MS, None]


def test_fractions_are_rounded_to_milliseconds_and_nan_is_missing():
    seconds = pl.Series([881250949.123, float("nan"), None])
    assert to_milliseconds(seconds, "s").to_list() == [881250949123, None, None]
    assert to_milliseconds(pl.Series(["1.5", "2"]), "s").to_list() == [1500, 2000]


def test_a_time_far_out_of_range_stays_out_of_range_instead_of_overflowing():
    far = to_milliseconds(pl.Series([2**62, -(2**62)]), "s").to_list()
    assert far[0] > LAST_MS
    assert far[1] < FIRST_MS
    assert to_milliseconds(pl.Series([1e300]), "s").to_list()[0] > LAST_MS


def test_dates_and_datetimes_keep_their_instant():
    paris = timezone(timedelta(hours=1))
    times = [
        pl.Series([date(2017, 1, 2)]),
        pl.Series([datetime(2017, 1, 2)]),
        pl.Series([datetime(2017, 1, 2, tzinfo=UTC)]),
        pl.Series([datetime(2017, 1, 2, 1, tzinfo=paris)]),
        pl.Series([datetime(2017, 1, 2)]).cast(pl.Datetime("ns")),
    ]
    assert [to_milliseconds(series, "auto").item() for series in times] == [DAY_MS] * 5


def test_the_bounds_are_1900_and_the_end_of_2200():
    edges = pl.Series([datetime(1900, 1, 1), datetime(2200, 12, 31, 23, 59, 59, 999_000)])
    assert to_milliseconds(edges, "auto").to_list() == [FIRST_MS, LAST_MS]
