"""Conformal sets: the order statistic by hand and by MAPIE, the promise, coverage by week."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin

from penchant.ensembles.predictions import Predictions
from penchant.ensembles.promises.conformal import (
    Coverage,
    TopSet,
    Week,
    fit_top_set,
    measure_coverage,
)
from penchant.ensembles.promises.drift import drift
from penchant.platform.errors import DataError
from penchant.platform.intervals import Interval
from penchant.platform.requests import Requests
from penchant.platform.timeline import DAY_MS, Block

MONDAY_MS = 4 * DAY_MS  # 1970-01-05


def ask(baskets, days=None) -> Predictions:
    size, target = len(baskets), [item for basket in baskets for item in basket]
    day = np.zeros(size, dtype=np.int64) if days is None else np.array(days, dtype=np.int64)
    requests = Requests(
        row=np.arange(size),
        user=np.arange(size).astype(np.int32),
        time_ms=MONDAY_MS + day * DAY_MS,
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.concatenate([[0], np.cumsum([len(b) for b in baskets])]).astype(np.int64),
        target=np.array(target, dtype=np.int32),
        target_seen=np.zeros(len(target), dtype=np.bool_),
    )
    return Predictions(block=Block.BLEND, requests=requests, scores={})


def falling(size, width):
    """Item 0 is the best of every request, and so on: an item's rank is its number plus one."""
    return np.tile(-np.arange(width, dtype=np.float32), (size, 1))


def test_the_size_is_the_order_statistic():
    """Nine requests with ranks 1 to 9: ceil(10 x .8) is the 8th, ceil(10 x .85) the 9th."""
    blend = ask([[rank] for rank in (3, 8, 0, 5, 1, 7, 2, 6, 4)])
    sizes = {
        level: fit_top_set(falling(9, 20), blend, level, "some").size
        for level in (0.5, 0.8, 0.85, 0.9)
    }
    assert sizes == {0.5: 5, 0.8: 8, 0.85: 9, 0.9: 9}


def test_too_few_requests_can_promise_only_everything():
    """Nine requests say nothing about one in twenty."""
    blend, scores = ask([[0]] * 9), falling(9, 4)
    found = fit_top_set(scores, blend, 0.95, "some")
    assert found.size is None
    assert found.inside(scores).all()


def test_some_looks_at_the_best_target_and_each_at_all():
    """Nine baskets of ranks 1 and 10: half of each basket needs one item, 90% of it needs ten."""
    blend, scores = ask([[0, 9]] * 9), falling(9, 20)
    assert fit_top_set(scores, blend, 0.9, "some").size == 1
    assert fit_top_set(scores, blend, 0.45, "each").size == 1
    assert fit_top_set(scores, blend, 0.9, "each").size == 10


def test_baskets_count_once_however_large():
    """Two baskets' shares at rank 1: 1 + 1/3 of 2; the promise needs 3 x .44 = 1.32."""
    blend, scores = ask([[0], [0, 5, 6]]), falling(2, 9)
    assert fit_top_set(scores, blend, 0.44, "each").size == 1
    assert fit_top_set(scores, blend, 0.45, "each").size == 6


def test_ties_across_the_edge_stay_out_and_count_as_behind():
    scores = np.array([[3, 1, 1, 0]] * 4, dtype=np.float32)
    blend = ask([[1]] * 4)
    assert fit_top_set(scores, blend, 0.8, "some").size == 3
    inside = TopSet(promise="some", level=0.8, size=2).inside(scores)
    np.testing.assert_array_equal(inside[0], [True, False, False, False])


def test_what_is_not_asked_for_is_never_inside():
    scores = np.array([[1, -np.inf, 0]], dtype=np.float32)
    assert TopSet(promise="some", level=0.9, size=3).inside(scores).tolist() == [
        [True, False, True]
    ]


def test_a_target_that_is_not_asked_for_is_a_miss():
    scores = falling(9, 5)
    scores[:2, 0] = -np.inf
    assert fit_top_set(scores, ask([[0]] * 9), 0.7, "some").size == 1  # 7 of 9 found, 7 needed
    assert fit_top_set(scores, ask([[0]] * 9), 0.8, "some").size is None


@pytest.mark.parametrize("promise", ["some", "each"])
def test_the_promise_is_kept_on_average_over_many_draws(promise):
    """Exchangeable requests: mean coverage is at least the level."""
    random, level, kept = np.random.default_rng(0), 0.8, []
    for _ in range(150):
        logits = random.normal(0, 1.5, (280, 12))
        noise = random.gumbel(size=(2, 280, 12))
        baskets = [sorted({int(a), int(b)}) for a, b in (logits + noise).argmax(axis=2).T]
        found = fit_top_set(logits[:80], ask(baskets[:80]), level, promise)
        kept.append(measure_coverage(found, logits[80:], ask(baskets[80:]).requests).coverage.mean)
    assert np.mean(kept) > level - 3 * np.std(kept) / np.sqrt(len(kept))


class Given(ClassifierMixin, BaseEstimator):
    """A classifier for MAPIE whose probabilities are the features that it is asked about."""

    def __init__(self, width=0):
        self.classes_ = np.arange(width)

    def fit(self, X, y):
        return self

    def predict(self, X):
        return X.argmax(axis=1)

    def predict_proba(self, X):
        return X

    def __sklearn_is_fitted__(self):
        return True


def test_the_sets_are_the_librarys():
    """MAPIE's split-conformal top-k sets; with one target a request, the only kind it knows."""
    random, levels = np.random.default_rng(0), [0.5, 0.8, 0.9, 0.95]
    logits = random.normal(0, 1.5, (203, 12))
    target = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    peer = SplitConformalClassifier(
        Given(12), confidence_level=levels, conformity_score="top_k", prefit=True
    )
    peer.conformalize(chance[:103], target[:103])
    _, expected = peer.predict_set(chance[103:])  # (R, C, levels)
    blend = ask([[item] for item in target[:103]])
    for at, level in enumerate(levels):
        found = fit_top_set(logits[:103], blend, level, "some")
        assert fit_top_set(logits[:103], blend, level, "each").size == found.size
        np.testing.assert_array_equal(found.inside(logits[103:]), expected[:, :, at])


def test_coverage_is_counted_by_calendar_week():
    """Sunday belongs to the week before; top-1 finds item 0 only."""
    requests = ask([[0], [1], [0, 1], [0]], days=[0, 6, 7, 13]).requests
    found = measure_coverage(TopSet(promise="each", level=0.9, size=1), falling(4, 3), requests)
    assert [(w.monday, w.requests, w.coverage.mean) for w in found.weeks] == [
        ("1970-01-05", 2, 0.5),
        ("1970-01-12", 2, 0.75),
    ]
    assert (found.coverage.mean, found.mean_size, found.requests) == (0.625, 1.0, 4)
    some = measure_coverage(TopSet(promise="some", level=0.9, size=1), falling(4, 3), requests)
    assert some.coverage.mean == 0.75


def test_each_week_tells_the_list_that_would_have_been_enough_in_hindsight():
    """Ranks 1, 1, 2, 5, then 1, 3: half of the first week needs one item, of the second one too.

    80% are 3.2 of four requests, so all four, and 1.6 of two, so both.
    """
    requests = ask([[0], [0], [1], [4], [0], [2]], days=[0, 1, 2, 3, 7, 8]).requests
    for level, sizes in ((0.5, [1, 1]), (0.75, [2, 3]), (0.8, [5, 3])):
        fitted = TopSet(promise="some", level=level, size=2)
        found = measure_coverage(fitted, falling(6, 9), requests)
        assert [week.needed_size for week in found.weeks] == sizes


def test_a_week_whose_targets_are_not_asked_for_has_no_list_that_is_enough():
    scores = falling(2, 3)
    scores[0, 0] = -np.inf
    fitted = TopSet(promise="some", level=0.9, size=2)
    found = measure_coverage(fitted, scores, ask([[0], [0]], days=[0, 7]).requests)
    assert [week.needed_size for week in found.weeks] == [None, 1]


def covered(promised: float, whole: float, weeks: dict[str, float]) -> Coverage:
    kept = {day: Interval(mean, mean - 0.05, mean + 0.05) for day, mean in weeks.items()}
    return Coverage(
        promised=promised,
        requests=100,
        coverage=Interval(whole, whole, whole),
        mean_size=9.0,
        weeks=[Week(day, 50, mean, 9.0, 9) for day, mean in kept.items()],
    )


def test_the_drift_names_weeks_that_are_off_by_more_than_two_points_and_their_side():
    near = {"2017-11-27": 0.92, "2017-12-04": 0.88}  # two points, not more
    assert drift([covered(0.9, 0.9, near)]) == (
        "90% was promised and 90.0% kept on test: within 2 points, in no week more than 2 points "
        "off."
    )
    far = {"2017-11-27": 0.86, "2017-12-04": 0.77, "2017-12-11": 0.81, "2017-12-18": 0.84}
    assert drift([covered(0.8, 0.825, far)]) == (
        "80% was promised and 82.5% kept on test: 2.5 points over, in the weeks of 27 Nov and "
        "18 Dec more than 2 points over, in the week of 4 Dec more than 2 points under."
    )
    assert drift([]) == ""


@pytest.mark.parametrize("block", [Block.SELECT, Block.TEST])
def test_other_blocks_are_refused(block):
    with pytest.raises(TypeError, match="blend"):
        fit_top_set(falling(2, 3), replace(ask([[0], [1]]), block=block), 0.9, "some")


def test_requests_without_targets_are_refused():
    with pytest.raises(DataError, match="without any"):
        fit_top_set(falling(2, 3), ask([[0], []]), 0.9, "some")
