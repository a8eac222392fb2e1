"""The mean of the best few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.ensembles.combiners.average import MeanCombiner, Median, MedianCombiner, best_members
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block


@pytest.fixture
def predictions() -> Predictions:
    """One request for item 0 of seven; member k puts it on place k + 1."""
    scores = {}
    for name, place in {"c": 2, "a": 0, "e": 4, "b": 1, "d": 3, "f": 5}.items():
        row = np.arange(7, 0, -1, dtype=np.float32)
        row[1 : place + 1] += 1  # these pass item 0
        row[0] = 7 - place - 0.5 + (place == 0)
        scores[name] = row[None]
    requests = Requests(
        row=np.zeros(1, dtype=np.int64),
        user=np.zeros(1, dtype=np.int32),
        time_ms=np.zeros(1, dtype=np.int64),
        end=np.zeros(1, dtype=np.int64),
        target_offsets=np.array([0, 1]),
        target=np.array([0], dtype=np.int32),
        target_seen=np.zeros(1, dtype=np.bool_),
    )
    return Predictions(block=Block.BLEND, requests=requests, scores=scores)


@pytest.mark.parametrize(
    ("top", "chosen"), [(1, "a"), (3, "abc"), (5, "abcde"), (6, "abcdef"), (99, "abcdef")]
)
def test_the_best_few_on_blend_weigh_the_same(top, chosen, predictions):
    weights = MeanCombiner(top=top).fit(predictions, "mrr@10").shares
    assert weights == pytest.approx({name: 1 / len(chosen) for name in chosen})
    assert list(weights) == list(chosen)  # best first


def test_five_by_default():
    assert MeanCombiner().top == 5


def test_the_median_takes_the_same_members_as_the_mean(predictions):
    for top in (1, 3, 5):
        median = MedianCombiner(top=top).fit(predictions, "mrr@10")
        mean = MeanCombiner(top=top).fit(predictions, "mrr@10")
        assert dict(median.shares) == pytest.approx(dict(mean.shares))


def test_a_median_by_hand():
    """Candidates: an outlier in c, an even split, one that is not asked for."""
    parts = {
        "a": np.array([[1, 0, -np.inf]], dtype=np.float32),
        "b": np.array([[2, 1, -np.inf]], dtype=np.float32),
        "c": np.array([[99, 5, -np.inf]], dtype=np.float32),
    }
    median = Median(normalization="none", members=("a", "b", "c"))
    assert median.merge(parts, None).tolist() == [[2, 1, -np.inf]]
    assert median.merge({"a": parts["a"], "c": parts["c"]}, None).tolist() == [[50, 2.5, -np.inf]]
    assert median.merge({"b": parts["b"]}, None).tolist() == parts["b"].tolist()


def test_the_median_is_numpys_over_more_requests_than_are_sorted_at_once():
    random = np.random.default_rng(0)
    parts = {name: random.normal(size=(600, 7)).astype(np.float32) for name in "abcd"}
    found = Median(normalization="zscore", members=tuple("abcd")).merge(parts, None)
    np.testing.assert_array_equal(found, np.median(list(parts.values()), axis=0))


def test_of_equal_members_the_first_by_name_are_taken(predictions):
    twins = dict.fromkeys("zyx", predictions.scores["a"])
    same = replace(predictions, scores=twins)
    assert best_members(same, "mrr@10", 2) == ["x", "y"]
