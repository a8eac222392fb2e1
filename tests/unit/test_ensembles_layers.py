"""Combinations of combinations, and that they multiply out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.average import MeanCombiner
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.combiners.layers import LayersCombiner, multiplied_out
from penchant.ensembles.combiners.weights import WeightsCombiner
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block


def blend(size: int = 400, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    target = random.integers(0, 20, size).astype(np.int32)
    scores = {}
    for at, strength in enumerate((1.0, 0.9, 0.5, 0.0)):
        part = random.normal(size=(size, 20))
        part[np.arange(size), target] += strength
        scores[f"m{at}"] = part.astype(np.float32)
    requests = Requests(
        row=np.arange(size),
        user=(np.arange(size) // 4).astype(np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.arange(size + 1),
        target=target,
        target_seen=np.zeros(size, dtype=np.bool_),
    )
    return Predictions(block=Block.BLEND, requests=requests, scores=scores, normalization="zscore")


def test_weights_multiplied_out_by_hand():
    first = {
        "mean": Linear(normalization="zscore", weights={"a": 0.5, "b": 0.5}),
        "greedy": Linear(normalization="zscore", weights={"b": 0.2, "c": 0.8}),
    }
    second = Linear(normalization="zscore", weights={"mean": 0.25, "greedy": 0.75})
    found = multiplied_out(second, first)
    assert found.weights == pytest.approx({"a": 0.125, "b": 0.275, "c": 0.6})
    parts = {m: np.random.default_rng(i).normal(size=(5, 3)) for i, m in enumerate("abc")}
    outputs = {name: linear.merge(parts, None) for name, linear in first.items()}
    np.testing.assert_allclose(found.merge(parts, None), second.merge(outputs, None), rtol=1e-5)


def test_each_layer_sees_its_own_half_of_the_users():
    """Made again from its parts: users 0, 1, 4, 5.. below, 2, 3, 6, 7.. above."""
    predictions = blend()
    low = predictions.requests.user % 4 < 2
    below = predictions.take(np.flatnonzero(low))
    above = predictions.take(np.flatnonzero(~low))
    first = {
        c.name: c.fit(below, "ndcg@5")
        for c in (GreedyCombiner(), MeanCombiner(), WeightsCombiner())
    }
    outputs = {name: linear.merge(above.scores, None) for name, linear in first.items()}
    second = GreedyCombiner().fit(replace(above, scores=outputs), "ndcg@5")
    expected = multiplied_out(second, first)
    found = LayersCombiner().fit(predictions, "ndcg@5")
    assert found.normalization == "zscore"
    assert found.weights == pytest.approx(expected.weights)


def test_labels_of_the_second_half_do_not_reach_the_first_layer(monkeypatch):
    seen = []
    fit = WeightsCombiner.fit

    def watched(self, predictions, metric):
        seen.append(set(predictions.requests.user.tolist()))
        return fit(self, predictions, metric)

    monkeypatch.setattr(WeightsCombiner, "fit", watched)
    LayersCombiner().fit(blend(), "ndcg@5")
    assert seen == [{user for user in range(100) if user % 4 < 2}]


@pytest.mark.parametrize("parity", [0, 1])
def test_both_halves_are_there_when_only_every_other_user_is(parity):
    """`compare` holds back every other user to measure the gain."""
    predictions = blend()
    some = predictions.take(np.flatnonzero(predictions.requests.user % 2 == parity))
    halves = some.requests.user // 2 % 2
    assert 0 < halves.mean() < 1
    assert sum(LayersCombiner().fit(some, "ndcg@5").weights.values()) == pytest.approx(1)


def test_users_of_one_half_alone_leave_greedy_selection():
    predictions = blend()
    some = predictions.take(np.flatnonzero(predictions.requests.user % 4 < 2))
    assert LayersCombiner().fit(some, "ndcg@5") == GreedyCombiner().fit(some, "ndcg@5")
