"""Fusion by places: by hand, and the same on a shortlist as on the whole catalogue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.ensembles.combiners.fusion import (
    RankMean,
    RankMeanCombiner,
    ReciprocalRank,
    ReciprocalRankCombiner,
    first_places,
    leaders,
)
from penchant.ensembles.predictions import Predictions
from penchant.platform.errors import ConfigError
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

INF = np.inf


def row(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


@pytest.fixture
def predictions() -> Predictions:
    """Three members on 90 requests and 300 items; one gives few values, many items tie."""
    random = np.random.default_rng(0)
    size = 90
    target = random.integers(0, 300, size).astype(np.int32)
    scores = {}
    for name, levels in {"a": 0, "b": 0, "counts": 4}.items():
        part = random.normal(size=(size, 300))
        part[np.arange(size), target] += 1
        if levels:
            part = np.maximum(np.round(part * levels) / levels, 0.0)
        part[:, :9] = -INF
        scores[name] = part.astype(np.float32)
    target = np.maximum(target, 9)
    requests = Requests(
        row=np.arange(size),
        user=np.arange(size, dtype=np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.arange(size + 1),
        target=target,
        target_seen=np.zeros(size, dtype=np.bool_),
    )
    return Predictions(block=Block.BLEND, requests=requests, scores=scores)


@pytest.mark.parametrize(
    ("scores", "depth", "places"),
    [
        (row(5, 9, 7, 1), 9, [3, 1, 2, 4]),
        (row(5, 9, 7, 1), 2, [3, 1, 2, 3]),
        (row(5, 9, 5, 1), 3, [2.5, 1, 2.5, 4]),
        (row(5, 9, 5, 1), 2, [3, 1, 3, 3]),  # the tie passes 2: it is further down as a whole
        (row(4, 4, 4, 4), 2, [3, 3, 3, 3]),
        (row(4, -INF, 6, -INF), 3, [2, 4, 1, 4]),
        (row(-INF, -INF, -INF), 2, [3, 3, 3]),
    ],
)
def test_places_by_hand(scores, depth, places):
    assert first_places(scores, depth).tolist() == [places]
    expected = np.isfinite(scores) & (np.array([places]) <= depth)
    assert leaders(scores, depth).tolist() == expected.tolist()


def test_a_mean_rank_by_hand():
    """Places 1, 2, - and -, 1, 2 with a depth of 2: worth 1, 1/2, 0 and 0, 1, 1/2."""
    parts = {"a": row(9, 8, 1), "b": row(1, 9, 8)}
    fusion = RankMean(normalization="none", members=("a", "b"), depth=2)
    np.testing.assert_allclose(fusion.merge(parts, None), [[0.5, 0.75, 0.25]])
    np.testing.assert_allclose(fusion.merge({"b": parts["b"]}, None), [[0, 1, 0.5]])


def test_reciprocal_ranks_are_cormacks():
    """Sum of 1 / (60 + place) over members, here their mean; places 1, 2, 3 and 2, 3, 1."""
    parts = {"a": row(9, 8, 7), "b": row(8, 7, 9)}
    fusion = ReciprocalRank(normalization="none", members=("a", "b"), depth=50, k=60)
    expected = [[1 / 61 + 1 / 62, 1 / 62 + 1 / 63, 1 / 63 + 1 / 61]]
    np.testing.assert_allclose(2 * fusion.merge(parts, None), expected, rtol=1e-6)


def test_a_small_k_asks_for_a_first_place_and_a_large_one_for_agreement():
    """Candidate 0 stands on places 1 and 7, candidate 1 twice on place 3."""
    parts = {"a": row(9, 7, 8, 6, 5, 4, 3), "b": row(1, 7, 6, 5, 4, 9, 8)}

    def best(k: float) -> int:
        fusion = ReciprocalRank(normalization="none", members=("a", "b"), depth=50, k=k)
        return int(fusion.merge({"a": parts["a"], "b": parts["b"]}, None)[0, :2].argmax())

    assert best(0.5) == 0
    assert best(60) == 1


@pytest.mark.parametrize("combiner", [RankMeanCombiner(), ReciprocalRankCombiner(k=5.0)])
def test_a_shortlist_gives_each_candidate_what_the_catalogue_gives_it(combiner, predictions):
    whole = combiner.fit(predictions, "ndcg@10")
    short = predictions.shortlist(60)
    assert short.scores["a"].shape[1] < 300
    assert combiner.fit(short, "ndcg@10") == whole
    wanted = np.zeros((90, 300), dtype=bool)
    for part in predictions.scores.values():
        best = np.argpartition(part, 240, axis=1)[:, 240:]
        np.put_along_axis(wanted, best, True, axis=1)
    wanted[np.arange(90), predictions.requests.target] = True
    expected = whole.merge(predictions.scores, None)
    found = whole.merge(short.scores, None)
    for at in range(90):
        inside = expected[at, wanted[at]]
        np.testing.assert_array_equal(found[at, : len(inside)], inside)
        assert (expected[at, ~wanted[at]] <= inside.min()).all()  # no place, or not asked for


@pytest.mark.parametrize("combiner", [RankMeanCombiner(), ReciprocalRankCombiner()])
def test_the_normalisation_does_not_matter(combiner, predictions):
    plain = combiner.fit(predictions, "ndcg@10")
    scaled = predictions.normalized("zscore")
    np.testing.assert_allclose(
        plain.merge(predictions.scores, None),
        combiner.fit(scaled, "ndcg@10").merge(scaled.scores, None),
        rtol=1e-6,
    )


@pytest.mark.parametrize("combiner", [RankMeanCombiner(), ReciprocalRankCombiner()])
def test_binary_is_refused_and_said_to_be(combiner, predictions):
    assert combiner.tasks == {"next_item"}
    label = np.zeros(90, dtype=np.float32)
    binary = replace(predictions, requests=replace(predictions.requests, label=label))
    with pytest.raises(ConfigError, match="one candidate each"):
        combiner.fit(binary, "auc")
