"""Windows as two binary searches, and blocks at global instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penchant.platform.errors import ConfigError
from penchant.platform.timeline import (
    DAY_MS,
    Block,
    Blocks,
    Window,
    as_utc,
    blocks_from_dates,
    blocks_from_quantiles,
    first_at_or_after,
)

#: Two users: rows 0 to 4 and 5 to 7.
TIMES = np.array([0, DAY_MS, DAY_MS, 2 * DAY_MS, 3 * DAY_MS, 0, 2 * DAY_MS, 2 * DAY_MS])
JANUARY = {
    "select": datetime(2020, 1, 2),
    "blend": datetime(2020, 1, 3),
    "test": datetime(2020, 1, 4),
}
FIRST_MS, LAST_MS = as_utc(datetime(2020, 1, 1)), as_utc(datetime(2020, 1, 5))


def starts(window: Window, *asked: tuple[int, int, float]) -> list[int]:
    """First visible rows of requests (first row of the user, end, days)."""
    first, end, days = (np.array(column) for column in zip(*asked, strict=True))
    return window.starts(TIMES, first, end, (days * DAY_MS).astype(np.int64)).tolist()


def test_a_window_without_limits_sees_the_users_whole_past_and_nobody_elses():
    assert starts(Window(), (0, 5, 3), (5, 8, 9), (5, 5, 0)) == [0, 5, 5]


def test_an_event_exactly_at_the_edge_of_the_days_is_seen():
    # asked at day 3: two days back is day 1, whose two events of equal time are rows 1 and 2
    assert starts(Window(days=2), (0, 4, 3)) == [1]
    assert starts(Window(days=2), (0, 4, 3 + 1 / DAY_MS)) == [3]  # a millisecond later
    assert starts(Window(days=2.5), (0, 4, 3)) == [1]


def test_a_window_of_events_ends_at_the_request_and_stays_with_the_user():
    assert starts(Window(events=2), (0, 5, 3), (0, 1, 1), (5, 7, 2)) == [3, 0, 5]
    assert starts(Window(events=99), (5, 8, 3)) == [5]


def test_both_limits_hold_together():
    assert starts(Window(days=2, events=1), (0, 4, 3)) == [3]
    assert starts(Window(days=1, events=99), (0, 4, 3)) == [3]


def test_a_window_in_which_nothing_happened_is_empty():
    assert starts(Window(days=1), (0, 4, 30)) == [4]
    assert starts(Window(days=1), (5, 5, 0)) == [5]


@settings(max_examples=60)
@given(
    users=st.lists(st.lists(st.integers(0, 12), max_size=8), min_size=1, max_size=4),
    days=st.none() | st.integers(1, 9),
    events=st.none() | st.integers(1, 5),
    at=st.integers(0, 14),
)
def test_a_window_holds_what_a_scan_of_the_history_finds(users, days, events, at):
    times = np.array([t * DAY_MS for user in users for t in sorted(user)], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, users)])
    first = offsets[:-1]
    end = np.array(
        [low + sum(t < at for t in user) for low, user in zip(first, users, strict=True)]
    )
    found = Window(days=days, events=events).starts(
        times, first, end, np.full(len(users), at * DAY_MS)
    )
    for low, high, start in zip(first, end, found, strict=True):
        seen = [r for r in range(low, high) if days is None or times[r] >= (at - days) * DAY_MS]
        seen = seen if events is None else seen[-events:]
        assert list(range(start, high)) == seen


def test_the_first_row_at_or_after_an_instant():
    first, end = np.array([0, 0, 0, 5, 8]), np.array([5, 5, 5, 8, 8])
    instant = np.array([DAY_MS, DAY_MS + 1, 9 * DAY_MS, -1, 0])
    assert first_at_or_after(TIMES, first, end, instant).tolist() == [1, 3, 5, 5, 8]
    nothing = np.zeros(0, dtype=np.int64)
    assert first_at_or_after(nothing, nothing, nothing, nothing).tolist() == []


@pytest.mark.parametrize(
    ("window", "label"),
    [
        (Window(), "all"),
        (Window(days=60), "60d"),
        (Window(days=0.5, events=3), "0.5d3e"),
        (Window(events=100, half_life_days=7.5), "100e-h7.5"),
        (Window(half_life_days=30), "all-h30"),
    ],
)
def test_a_label_tells_windows_apart(window, label):
    assert window.label == label


@pytest.mark.parametrize("limit", [{"days": 0}, {"events": 0}, {"half_life_days": -1}, {"day": 3}])
def test_a_window_refuses_what_limits_nothing(limit):
    with pytest.raises(ValidationError):
        Window(**limit)


def test_a_moment_without_a_zone_is_utc():
    moment = datetime(2017, 1, 1)
    assert as_utc(moment) == as_utc(moment.replace(tzinfo=UTC)) == 1_483_228_800_000
    eastern = moment.replace(tzinfo=timezone(timedelta(hours=-5)))
    assert as_utc(eastern) - as_utc(moment) == 5 * 3_600_000


def test_each_block_ends_where_the_next_one_starts():
    blocks = Blocks(train_ms=0, select_ms=10, blend_ms=20, test_ms=30, end_ms=40)
    spans = {str(block): blocks.span_ms(block) for block in Block}
    assert spans == {"train": (0, 10), "select": (10, 20), "blend": (20, 30), "test": (30, 40)}


def test_blocks_from_dates_begin_with_the_log_and_end_after_its_last_event():
    blocks = blocks_from_dates(JANUARY, FIRST_MS, LAST_MS)
    assert blocks.span_ms(Block.TRAIN) == (FIRST_MS, FIRST_MS + DAY_MS)
    assert blocks.span_ms(Block.TEST) == (FIRST_MS + 3 * DAY_MS, LAST_MS + 1)
    assert blocks.to_json() == {
        "train": "2020-01-01T00:00:00+00:00",
        "select": "2020-01-02T00:00:00+00:00",
        "blend": "2020-01-03T00:00:00+00:00",
        "test": "2020-01-04T00:00:00+00:00",
        "end": "2020-01-05T00:00:00+00:00",
    }
    ended = blocks_from_dates(JANUARY | {"end": datetime(2020, 1, 4, 12)}, FIRST_MS, LAST_MS)
    assert ended.end_ms == FIRST_MS + 3 * DAY_MS + DAY_MS // 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"select": datetime(2020, 1, 3)},  # no blend between select and test
        {"blend": datetime(2020, 1, 4, 1)},
        {"select": datetime(2019, 12, 31)},  # before the log
        {"test": datetime(2020, 2, 1)},  # after it
        {"end": datetime(2020, 1, 4)},
    ],
)
def test_dates_that_are_out_of_order_or_outside_of_the_log_are_refused(wrong):
    with pytest.raises(
        ConfigError, match="expected train < select < blend < test < end, got train 2"
    ):
        blocks_from_dates(JANUARY | wrong, FIRST_MS, LAST_MS)


def test_a_quantile_puts_its_share_of_the_events_before_it():
    times = np.random.default_rng(0).permutation(1000) * 7
    blocks = blocks_from_quantiles({"select": 0.7, "blend": 0.8, "test": 0.95}, times)
    edges = (blocks.train_ms, blocks.select_ms, blocks.blend_ms, blocks.test_ms, blocks.end_ms)
    assert [(times < edge).sum() for edge in edges] == [0, 700, 800, 950, 1000]


def test_quantiles_between_which_no_time_passes_are_refused():
    times = np.array([0, 5, 5, 5, 5, 5, 9])
    with pytest.raises(ConfigError, match="Move the dates inside the log's time span"):
        blocks_from_quantiles({"select": 0.3, "blend": 0.5, "test": 0.9}, times)
