"""Facts of requests, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.ensembles.facts import FACTS, request_facts
from penchant.platform.config import Requests as Spec
from penchant.platform.requests import all_requests
from penchant.platform.timeline import DAY_MS
from penchant.serve.answering.history import Question, merge

HOUR_MS = DAY_MS // 24
SUNDAY_MS = 1_483_228_800_000  # 2017-01-01
SHAPES = ("baskets", "events", "sessions")


def everything(log, unit="event"):
    return all_requests(log, Spec(unit=unit), 0, np.iinfo(np.int64).max)


def test_facts_of_a_tiny_log(make_log):
    """A user with items 0, 1, 0, 0 and then 2; another with item 1 alone."""
    hours = [(0, 0), (24, 1), (24, 0), (60, 0), (63, 2)]
    rows = [(0, SUNDAY_MS + hour * HOUR_MS, item) for hour, item in hours]
    log = make_log([*rows, (1, SUNDAY_MS + 8 * DAY_MS - HOUR_MS, 1)], 3)
    expected = [
        # events, days since the last, repeats / events, hour, weekday (Monday is 0)
        [0, np.nan, np.nan, 0, 6],
        [1, 1.0, 0.0, 0, 0],
        [2, 0.0, 0.0, 0, 0],
        [3, 1.5, 1 / 3, 12, 1],
        [4, 0.125, 1 / 2, 15, 1],
        [0, np.nan, np.nan, 23, 6],
    ]
    found = request_facts(log, everything(log))
    assert found.dtype == np.float32
    assert found.shape == (6, len(FACTS))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_basket_sees_nothing_of_itself(make_log):
    rows = [(0, SUNDAY_MS, 0, "a"), (0, SUNDAY_MS, 0, "a"), (0, SUNDAY_MS + DAY_MS, 0, "b")]
    rows.append((0, SUNDAY_MS + DAY_MS, 1, "b"))
    log = make_log(rows, 2)
    found = request_facts(log, everything(log, "group"))
    np.testing.assert_allclose(found[:, :3], [[0, np.nan, np.nan], [2, 1, 0.5]])


def test_no_requests_give_no_rows(make_log):
    log = make_log([(0, SUNDAY_MS, 0)], 1)
    none = everything(log).take(np.zeros(0, dtype=np.int64))
    assert request_facts(log, none).shape == (0, len(FACTS))


@pytest.mark.parametrize("shape", SHAPES)
def test_later_events_change_nothing(shape, draw, make_log, log_rows):
    log = draw(shape, users=5, groups=12, items=6)
    unit = "event" if shape == "events" else "group"
    for at, row in enumerate(everything(log, unit).row):
        request = everything(log, unit).take(np.array([at]))
        rows = log_rows(log)
        user, moment = int(request.user[0]), int(request.time_ms[0])
        last = log.offsets[user + 1]
        for future in range(int(row), int(last)):
            _, _, item, group, value = rows[future]
            rows[future] = (user, moment + future * HOUR_MS, (item + 3) % 6, group, value)
        changed = make_log(rows[: last - (at % 2)] + rows[last:], 6)
        assert log.num_events - changed.num_events == at % 2
        np.testing.assert_array_equal(request_facts(changed, request), request_facts(log, request))


@pytest.mark.parametrize("shape", SHAPES)
def test_one_question_online_has_the_facts_of_the_store(shape, draw):
    log = draw(shape, users=4, groups=8, items=6)
    requests = everything(log, "event" if shape == "events" else "group")
    offline = request_facts(log, requests)
    for at in range(len(requests)):
        seen = slice(requests.first(log)[at], requests.end[at])
        groups = None if log.group is None else log.group[seen] - log.group[seen][:1].sum()
        question = Question(
            item=log.item[seen],
            time_ms=log.time_ms[seen],
            kind=log.kind[seen],
            value=log.value[seen],
            group=groups,
            asked_ms=int(requests.time_ms[at]),
        )
        np.testing.assert_array_equal(request_facts(*merge([question], 6))[0], offline[at])
