"""Features of (request, candidate) pairs against a slow reading of each history."""

from __future__ import annotations

import math

import numpy as np
import pytest

from penchant.platform.config import Requests as Spec
from penchant.platform.history import history_of
from penchant.platform.requests import all_requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.boosted.features import PAIR_FEATURES, pair_features
from penchant.trainers.boosted.pairs import candidate_pairs

HALF_LIVES = (7, 21, 60, 180, math.inf)


def slow_features(log, request, start, item) -> list[float]:
    """The features of one pair, in the order of PAIR_FEATURES."""
    now, rows = int(request.time_ms[0]), range(start, int(request.end[0]))
    age = {row: (now - int(log.time_ms[row])) / DAY_MS for row in rows}
    group = {row: int(np.searchsorted(log.group_starts, row, side="right")) for row in rows}
    begins = {g: max(age[r] for r in rows if group[r] == g) for g in set(group.values())}
    own = [age[row] for row in rows if log.item[row] == item]
    nan = math.nan
    features = [nan] * 13
    if own:
        counts = [sum(0.5 ** (a / half_life) for a in own) for half_life in HALF_LIVES]
        interval = (own[0] - own[-1]) / (len(own) - 1) if len(own) > 1 else nan
        last = own[-2] - own[-1] if len(own) > 1 else nan
        ratio = nan
        if len(own) > 1:
            ratio = own[-1] / interval if interval else (math.inf if own[-1] else nan)
        faded = sum(0.5 ** (a / 60) for a in begins.values())
        newest = max(group.values())
        mine = max(group[row] for row in rows if log.item[row] == item)
        features = [
            *counts,
            own[-1],
            own[0],
            interval,
            last,
            ratio,
            len(own) / len(begins),
            counts[2] / faded,
            newest - mine,
        ]
    ages = list(age.values())
    number = len(begins)
    moment = [
        number,
        len(ages) / number if number else nan,
        ages[-1] if ages else nan,
        (ages[0] - ages[-1]) / (number - 1) if number > 1 else nan,
        now // 3_600_000 % 24,
        (now // DAY_MS + 3) % 7,
    ]
    return features + moment


@pytest.mark.parametrize("window", [Window(), Window(days=9, events=8)], ids=lambda w: w.label)
@pytest.mark.parametrize("shape", ["baskets", "events", "sessions"])
def test_features_are_what_a_slow_reading_of_the_history_finds(shape, window, draw):
    log = draw(shape, users=4, groups=9, items=7, seed=2)
    spec = Spec(unit="event" if shape == "events" else "group")
    requests = all_requests(log, spec, 0, 2**62)
    popular = np.array([2, 5], dtype=np.int32)
    pairs, features = pair_features(log, requests, window, popular)
    starts = window.starts(log.time_ms, requests.first(log), requests.end, requests.time_ms)
    assert features.shape == (len(pairs.item), len(PAIR_FEATURES))
    expected, keys = [], []
    for at in range(len(requests)):
        rows = range(starts[at], requests.end[at])
        for item in sorted({2, 5} | {int(log.item[row]) for row in rows}):
            keys.append((at, item))
            one = requests.take(np.array([at]))
            expected.append(slow_features(log, one, int(starts[at]), item))
    assert list(zip(pairs.request.tolist(), pairs.item.tolist(), strict=True)) == keys
    for column, name in enumerate(PAIR_FEATURES):
        np.testing.assert_allclose(
            features[:, column], np.array(expected)[:, column], rtol=1e-5, atol=1e-6, err_msg=name
        )


def test_a_binary_request_has_its_candidate_alone(make_log):
    log = make_log([(0, t, t % 3, None, 1.0) for t in range(6)], 3)
    spec = Spec(task="binary", positive_above=0.5, metric="auc")
    requests = all_requests(log, spec, 0, 99)
    history = history_of(log, requests, Window())
    pairs = candidate_pairs(log, requests, history, np.array([0, 1], dtype=np.int32))
    assert pairs.request.tolist() == list(range(6))
    assert pairs.item.tolist() == [0, 1, 2, 0, 1, 2]


def test_monday_the_second_of_january_2017_at_three_in_the_morning(make_log):
    log = make_log([(0, 1_483_326_245_000, 0)], 1)  # 2017-01-02 03:04:05 UTC
    requests = all_requests(log, Spec(unit="event"), 0, 2**62)
    _, features = pair_features(log, requests, Window(), np.array([0], dtype=np.int32))
    row = dict(zip(PAIR_FEATURES, features[0].tolist(), strict=True))
    assert (row["hour"], row["weekday"]) == (3, 0)
    assert row["user_groups"] == 0
    assert math.isnan(row["count_7d"])
