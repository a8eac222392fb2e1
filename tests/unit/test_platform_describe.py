"""The figures of a log, each counted by hand."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from penchant.platform.describe import describe
from penchant.platform.events import Catalog, EventLog

CARD = {
    "types": ["buy", "view"],
    "items_without_text": 1,
    "items_never_chosen": 4,
    "rows_read": 9,
    "quarantined": 2,
    "merged": 1,
    "reasons": {"user missing": 2},
    "fingerprint": "f",
}
CATALOG = Catalog(item_ids=["a", "b", "c"], item_texts=["apple", "", "cherry"])


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)


def a_log(**changes) -> EventLog:
    """Two users: a, b in one basket, a a day later, a three days later; then c, c at one moment."""
    start = ms(2024, 1, 29)  # a Monday
    day = 86_400_000
    columns = {
        "item": np.array([0, 1, 0, 0, 2, 2], np.int32),
        "time_ms": start + day * np.array([0, 0, 1, 4, 14, 14], np.int64),
        "kind": np.array([1, 0, 0, 0, 0, 0], np.int8),
        "value": np.ones(6, np.float32),
        "group": np.array([0, 0, 1, 2, 3, 3], np.int32),
        "offsets": np.array([0, 4, 6], np.int64),
        "num_items": 3,
    }
    return EventLog(**{**columns, **changes})


def test_counts_and_span():
    found = describe(a_log(), CATALOG, CARD)
    assert (found["users"], found["items"], found["events"], found["groups"]) == (2, 3, 6, 4)
    assert found["first"] == "2024-01-29T00:00:00+00:00"
    assert found["last"] == "2024-02-12T00:00:00+00:00"
    assert found["types"] == {"buy": 5, "view": 1}
    assert found["quarantine"]["reasons"] == {"user missing": 2}


def test_repeats_are_events_whose_item_the_same_user_had_before():
    # The second and third a of the first user, and the second c of the second.
    assert describe(a_log(), CATALOG, CARD)["repeat_share"] == pytest.approx(3 / 6)


def test_history_lengths_and_gaps_between_groups_of_one_user():
    found = describe(a_log(), CATALOG, CARD)
    lengths = found["history_events"]
    assert (lengths["min"], lengths["p50"], lengths["max"], lengths["mean"]) == (2, 3, 4, 3)
    gaps = found["gap_days"]  # 1 and 3; the step from one user to the next is none
    assert (gaps["min"], gaps["p50"], gaps["max"], gaps["mean"]) == (1, 2, 3, 2)


def test_without_groups_every_event_is_one():
    found = describe(a_log(group=None), CATALOG, CARD)
    assert (found["groups"], found["has_groups"]) == (6, False)
    assert found["gap_days"]["min"] == 0


def test_there_are_no_gaps_where_no_user_has_two_groups():
    log = a_log(group=np.array([0, 0, 0, 0, 1, 1], np.int32))
    assert describe(log, CATALOG, CARD)["gap_days"] is None


def test_series_hold_empty_weeks_and_start_on_mondays():
    found = describe(a_log(), CATALOG, CARD)
    assert found["per_week"] == [
        {"start": "2024-01-29", "events": 4},
        {"start": "2024-02-05", "events": 0},
        {"start": "2024-02-12", "events": 2},
    ]
    assert found["per_month"] == [
        {"start": "2024-01-01", "events": 3},
        {"start": "2024-02-01", "events": 3},
    ]


def test_top_items_come_with_text_and_share_in_falling_order():
    top = describe(a_log(), CATALOG, CARD)["top_items"]
    assert top[0] == {"item": "a", "text": "apple", "events": 3, "share": 0.5}
    assert [entry["item"] for entry in top] == ["a", "c", "b"]


def test_times_before_1970_are_described_too():
    log = a_log(time_ms=np.full(6, ms(1969, 12, 31), np.int64))
    found = describe(log, CATALOG, CARD)
    assert found["per_week"] == [{"start": "1969-12-29", "events": 6}]


def test_the_description_is_plain_json():
    found = describe(a_log(), CATALOG, CARD)
    assert json.loads(json.dumps(found)) == found
