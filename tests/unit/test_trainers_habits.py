"""Habits with an item and after how long it returns, by hand on a few events."""

from __future__ import annotations

import math

import numpy as np
import pytest

from penchant.platform import config
from penchant.platform.events import EventLog
from penchant.platform.requests import Requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.boosted.habits import HABIT_FEATURES, habit_features
from penchant.trainers.boosted.pairs import Pairs, own_items
from penchant.trainers.boosted.returns import Returns, fit_returns
from penchant.trainers.member import Past

HOUR_MS = 3_600_000
#: Item, day and hour of one user's events, in order of time; 2017-01-02, day 17168, was a Monday.
EVENTS = [(0, 0, 10), (1, 1, 10), (0, 4, 23), (0, 14, 12), (1, 14, 12)]
ASKED = (21, 11)  # day and hour


def log_of(events: list[tuple[int, int, int]], num_items: int = 3) -> EventLog:
    size = len(events)
    return EventLog(
        item=np.array([item for item, _, _ in events], dtype=np.int32),
        time_ms=np.array([(17168 + day) * DAY_MS + hour * HOUR_MS for _, day, hour in events]),
        kind=np.zeros(size, dtype=np.int8),
        value=np.ones(size, dtype=np.float32),
        group=None,
        offsets=np.array([0, size]),
        num_items=num_items,
    )


def request_after(log: EventLog, day: int, hour: int) -> Requests:
    return Requests(
        row=np.array([log.num_events]),
        user=np.zeros(1, dtype=np.int32),
        time_ms=np.array([(17168 + day) * DAY_MS + hour * HOUR_MS]),
        end=np.array([log.num_events]),
        target_offsets=np.zeros(2, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
    )


def features_of(item: int) -> dict[str, float]:
    log = log_of(EVENTS)
    requests = request_after(log, *ASKED)
    table = habit_features(
        log,
        requests,
        own_items(log, requests, Window()),
        Pairs(request=np.zeros(3, dtype=np.int64), item=np.arange(3, dtype=np.int32)),
        Returns(
            hazard=np.tile(np.arange(17, dtype=np.float32), (3, 1)),
            survival=np.tile(np.arange(17, dtype=np.float32) / 17, (3, 1)),
        ),
    )
    return dict(zip(HABIT_FEATURES, table[item].tolist(), strict=True))


def faded(*ages_days: float, half_life: float) -> float:
    return sum(2.0 ** (-age / half_life) for age in ages_days)


def test_regularity() -> None:
    """Item 0: intervals of 4 d 13 h and 9 d 13 h; 6 d 23 h have passed since the last event."""
    found, short, long = features_of(0), 4 + 13 / 24, 9 + 13 / 24
    mean = (short + long) / 2
    assert found["interval_deviation_days"] == pytest.approx(2.5)
    assert found["interval_deviation_over_mean"] == pytest.approx(2.5 / mean)
    assert found["longer_interval_share"] == 0.5
    assert found["like_intervals"] == 0.0  # 2.4 and 2.6 days off
    assert features_of(1)["longer_interval_share"] == 1.0
    assert math.isnan(features_of(1)["interval_deviation_days"])  # of one interval


def test_moments() -> None:
    """A Monday at 11; item 0 was had on Mondays at 10 and 12, and on a Friday at 23."""
    ages = [21 + 1 / 24, 16.5, 6 + 23 / 24]
    found = features_of(0)
    same = faded(ages[0], ages[2], half_life=180)
    for name in ("same_weekday", "same_hours"):
        assert found[f"{name}_count"] == pytest.approx(same, rel=1e-5)
        assert found[f"{name}_share"] == pytest.approx(same / faded(*ages, half_life=180), rel=1e-5)


def test_ranks() -> None:
    first, second = features_of(0), features_of(1)
    assert (first["rank_all"], second["rank_all"], first["own_items"]) == (0, 1, 2)
    assert first["share_all"] == pytest.approx(0.6)
    mine = faded(21 + 1 / 24, 16.5, 6 + 23 / 24, half_life=21)
    other = faded(20 + 1 / 24, 6 + 23 / 24, half_life=21)
    assert first["share_21d"] == pytest.approx(mine / (mine + other), rel=1e-5)


def test_the_bin_of_the_days_since_the_last_event_is_read_from_the_life_table() -> None:
    """6 d 23 h lie between 5 and 7 days, in the fifth bin of the table."""
    assert features_of(0)["return_hazard"] == 4.0
    assert features_of(0)["return_survival"] == pytest.approx(4 / 17)


def test_an_item_never_had_has_no_habits() -> None:
    assert all(math.isnan(value) for value in features_of(2).values())


def test_life_tables_count_what_came_back_and_what_was_still_at_risk() -> None:
    """Item 0 came back after 4 and after 9 days, and was not had again for 7 days until the end."""
    log = log_of(EVENTS)
    until_ms = (17168 + 21) * DAY_MS + 11 * HOUR_MS
    past = Past(log=log, spec=config.Requests(unit="event"), until_ms=until_ms)
    found = fit_returns(past)
    # Bins: 3 to 5 days, 5 to 7, 7 to 10. All items: 5 at risk at 3 days, of which one comes back in
    # that bin; then 4, of which two are only not seen again; then 2, who come back after 9 and 13.
    overall = [1 / 5, 0.0, 1 / 2]
    own = [(1, 3), (0, 2), (1, 1)]
    chance = [(back + 50 * o) / (risk + 50) for (back, risk), o in zip(own, overall, strict=True)]
    widths = (2, 2, 3)
    expected = [c / w for c, w in zip(chance, widths, strict=True)]
    assert found.hazard[0, 3:6].tolist() == pytest.approx(expected, rel=1e-5)
    assert found.survival[0, 2] == pytest.approx(1.0)
    assert found.survival[0, 5] == pytest.approx(math.prod(1 - c for c in chance), rel=1e-5)


def test_life_tables_know_nothing_of_what_comes_later() -> None:
    until_ms = (17168 + 10) * DAY_MS
    spec = config.Requests(unit="event")
    whole, known = log_of(EVENTS), log_of(EVENTS[:3])
    tables = [fit_returns(Past(log=log, spec=spec, until_ms=until_ms)) for log in (whole, known)]
    assert np.array_equal(tables[0].hazard, tables[1].hazard)
