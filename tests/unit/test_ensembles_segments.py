"""Segments of a block: who is in which, and what is measured there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from penchant.ensembles.comparing.judge import Judge
from penchant.ensembles.comparing.segments import judge_segments, segments_of
from penchant.platform import config
from penchant.platform.requests import all_requests
from penchant.platform.timeline import DAY_MS
from penchant.trainers.score import seen_items

MONDAY_MS = int(datetime(2017, 1, 2, tzinfo=UTC).timestamp() * 1000)
CUT_OFF = MONDAY_MS + 2 * DAY_MS  # a Wednesday


@pytest.fixture
def small(make_log):
    """User 0 is known before Wednesday, user 1 is not; item 2 has no event before Wednesday."""
    rows = [
        (0, MONDAY_MS, 0),
        (0, MONDAY_MS + DAY_MS, 1),
        (0, CUT_OFF, 2),
        (0, MONDAY_MS + 7 * DAY_MS, 0),  # the next Monday
        (1, CUT_OFF + DAY_MS, 1),
        (1, CUT_OFF + 2 * DAY_MS, 2),
    ]
    log = make_log(rows, 3)
    return log, all_requests(log, config.Requests(unit="event"), CUT_OFF, 2**62)


def members(segments) -> dict[tuple[str, str], list[int]]:
    return {(s.by, s.name): s.requests.tolist() for s in segments}


def test_requests_are_told_apart_by_what_was_known_when_they_were_asked(small):
    """Requests in the log's order: user 0 on Wednesday and Monday, user 1 on Thursday, Friday."""
    found = members(segments_of(*small, CUT_OFF))
    assert found["users", "warm"] == [0, 1]
    assert found["users", "cold"] == [2, 3]
    assert found["items", "cold"] == [0, 3]  # those that item 2 is the answer of
    assert found["items", "warm"] == [1, 2]
    assert found["week", "2017-01-02"] == [0, 2, 3]
    assert found["week", "2017-01-09"] == [1]
    assert found["recency", "no event"] == [2]


def test_thirds_hold_each_request_once(small):
    """Histories of 2, 3, 0 and 1 events: thirds end at 1 and 2."""
    found = members(segments_of(*small, CUT_OFF))
    history = {name: part for (by, name), part in found.items() if by == "history"}
    assert history == {
        "up to 1 events": [2, 3],
        "1 to 2 events": [0],
        "over 2 events": [1],
    }
    recency = [part for (by, _), part in found.items() if by == "recency"]
    assert sorted(at for part in recency for at in part) == [0, 1, 2, 3]


def test_cold_items_are_judged_by_cold_targets_alone(small):
    """Item 2 always stands first: found where it is the answer, in the way where it is not."""
    log, requests = small
    scores = np.tile(np.array([1, 2, 3], dtype=np.float32), (4, 1))
    judge = Judge(requests, seen_items(log, requests), "ndcg@1", 50, seed=0)
    flat = np.zeros_like(scores)  # every item ties, in the middle: rank 2
    results = judge_segments(
        judge,
        segments_of(log, requests, CUT_OFF),
        "ndcg@1",
        judge.sheet(flat),
        {"mean": judge.sheet(scores)},
    )
    found = {(r.by, r.name): r for r in results}
    assert found["items", "cold"].combinations["mean"].mean == 1.0
    assert found["items", "warm"].combinations["mean"].mean == 0.0
    assert found["items", "cold"].single.mean == 0.0
    assert found["items", "cold"].differences["mean"].mean == 1.0
    assert found["users", "warm"].combinations["mean"].mean == 0.5
    assert all(result.few for result in results)
    assert (found["week", "2017-01-02"].users, found["week", "2017-01-02"].requests) == (2, 3)


def test_segments_of_a_binary_task_go_by_the_candidate(world):
    here = world("binary")
    requests = all_requests(here.log, here.spec, here.until_ms, 2**62)
    odds = np.random.default_rng(0).normal(size=(len(requests), 1)).astype(np.float32)
    judge = Judge(requests, None, "auc", 50, seed=0)
    sheet = judge.sheet(odds)
    segments = segments_of(here.log, requests, here.until_ms)
    results = judge_segments(judge, segments, "auc", sheet, {"same": sheet})
    assert {result.by for result in results} >= {"items", "history", "recency", "week"}
    for by in ("users", "items", "history", "week"):
        assert sum(r.requests for r in results if r.by == by) == len(requests)
    assert {result.differences["same"].mean for result in results} <= {0.0}


def test_times_are_told_in_units_that_people_read(small):
    """A thousandth of a day is 1.44 minutes, a hundred-thousandth less than a second."""

    def units(faster: int) -> set[str]:
        log, requests = (replace(p, time_ms=p.time_ms // faster) for p in small)
        found = segments_of(log, requests, CUT_OFF // faster)
        return {s.name.split()[-1] for s in found if s.by == "recency"} - {"event"}

    assert [units(n) for n in (1, 1000, 100_000)] == [{"days"}, {"minutes"}, {"seconds"}]
