"""Histories and decayed counts against a scan of the log."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.platform.config import Requests as Spec
from penchant.platform.history import history_of, item_counts
from penchant.platform.requests import all_requests
from penchant.platform.timeline import DAY_MS, Window

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 9).map(lambda d: d * DAY_MS // 2), st.integers(0, 3)
    ),
    min_size=1,
    max_size=15,
)


@settings(max_examples=60)
@given(rows=ROWS, days=st.none() | st.integers(1, 3), events=st.none() | st.integers(1, 4))
def test_a_history_holds_the_rows_in_the_window_with_their_ages(rows, days, events, make_log):
    log = make_log(rows, 4)
    requests = all_requests(log, Spec(unit="event"), 0, 2**62)
    history = history_of(log, requests, Window(days=days, events=events))
    expected = []
    for at in range(len(requests)):
        now, end = requests.time_ms[at], requests.end[at]
        seen = list(range(log.offsets[requests.user[at]], end))
        seen = [r for r in seen if days is None or log.time_ms[r] >= now - days * DAY_MS]
        seen = seen[-events:] if events else seen
        assert history.start[at] == (seen[0] if seen else end)
        expected += [(at, row, (now - log.time_ms[row]) / DAY_MS) for row in seen]
    found = zip(history.request, history.row, history.age_days, strict=True)
    assert list(found) == expected


@settings(max_examples=60)
@given(rows=ROWS, half_life=st.sampled_from([0.5, 3.0]))
def test_counts_are_sums_of_halving_weights_a_pair(rows, half_life, make_log):
    log = make_log(rows, 4)
    requests = all_requests(log, Spec(unit="event"), 0, 2**62)
    counts = item_counts(log, history_of(log, requests, Window()), [math.inf, half_life])
    slow: dict[tuple[int, int], list[float]] = {}
    for at in range(len(requests)):
        for row in range(log.offsets[requests.user[at]], requests.end[at]):
            pair = slow.setdefault((at, int(log.item[row])), [0.0, 0.0])
            pair[0] += 1
            pair[1] += 0.5 ** ((requests.time_ms[at] - log.time_ms[row]) / DAY_MS / half_life)
    pairs = list(zip(counts.request.tolist(), counts.item.tolist(), strict=True))
    assert pairs == sorted(slow)
    np.testing.assert_allclose(counts.counts.ravel(), np.ravel([slow[p] for p in pairs]), rtol=1e-6)


def test_an_event_a_half_life_ago_counts_half(make_log):
    rows = [(0, 0, 1), (0, 4 * DAY_MS, 1), (0, 4 * DAY_MS, 0), (0, 8 * DAY_MS, 2)]
    log = make_log(rows, 3)
    last = all_requests(log, Spec(unit="event"), 8 * DAY_MS, 9 * DAY_MS)
    counts = item_counts(log, history_of(log, last, Window()), [4.0, math.inf])
    assert counts.dense(1, 3).tolist() == [[0.5, 0.25 + 0.5, 0.0]]
    assert counts.dense(1, 3, half_life=1).tolist() == [[1.0, 2.0, 0.0]]


@pytest.mark.parametrize("half_lives", [[], [math.inf], [1.0, 2.0]])
def test_nobody_having_done_anything_gives_no_pairs(half_lives, make_log):
    log = make_log([(0, 5, 0), (1, 5, 0)], 1)
    first = all_requests(log, Spec(unit="event"), 0, 9)
    counts = item_counts(log, history_of(log, first, Window()), half_lives)
    assert counts.counts.shape == (0, len(half_lives))
