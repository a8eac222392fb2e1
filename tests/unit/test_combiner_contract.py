"""What holds for every combiner."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.ensembles.average import MeanCombiner
from penchant.ensembles.combiner import Combiner, quality
from penchant.ensembles.greedy import GreedyCombiner
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

COMBINERS = [MeanCombiner(), MeanCombiner(top=2), GreedyCombiner(), GreedyCombiner(max_rounds=3)]
METRICS = ("ndcg@10", "recall@3", "mrr@5", "auc", "log_loss", "brier", "accuracy")


def blend(metric: str, strengths=(1.0, 0.7, 0.0, 0.4), size: int = 120, seed: int = 0):
    """Members of different strengths: a target's score is raised by the strength, plus noise."""
    random = np.random.default_rng(seed)
    binary = "@" not in metric
    width = 1 if binary else 15
    label = (random.random(size) < 0.4).astype(np.float32)
    target = random.integers(0, 15, size).astype(np.int32)
    scores = {}
    for at, strength in enumerate(strengths):
        part = random.normal(size=(size, width))
        if binary:
            part[:, 0] += strength * (2 * label - 1)
        else:
            part[np.arange(size), target] += strength
        scores[f"m{at}"] = part.astype(np.float32)
    requests = Requests(
        row=np.arange(size),
        user=(np.arange(size) // 3).astype(np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.zeros(size + 1, dtype=np.int64) if binary else np.arange(size + 1),
        target=np.zeros(0, dtype=np.int32) if binary else target,
        target_seen=np.zeros(0 if binary else size, dtype=np.bool_),
        candidate=np.zeros(size, dtype=np.int32) if binary else None,
        label=label if binary else None,
    )
    return Predictions(block=Block.BLEND, requests=requests, scores=scores)


@pytest.fixture(params=COMBINERS, ids=lambda c: f"{c.name}-{vars(c)}")
def combiner(request) -> Combiner:
    return request.param


@pytest.mark.parametrize("metric", METRICS)
def test_weights_are_positive_sum_to_one_and_name_members(combiner, metric):
    predictions = blend(metric)
    weights = combiner.fit(predictions, metric).shares
    assert set(weights) <= set(predictions.scores)
    assert all(weight > 0 for weight in weights.values())
    assert sum(weights.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", METRICS[:-1])
def test_permuting_members_permutes_weights(combiner, metric):
    """But for accuracy, whose values tie: then the first of equals is taken."""
    predictions = blend(metric)
    turned = dict(reversed(predictions.scores.items()))
    other = Predictions(block=Block.BLEND, requests=predictions.requests, scores=turned)
    assert combiner.fit(other, metric).shares == pytest.approx(
        dict(combiner.fit(predictions, metric).shares)
    )


@pytest.mark.parametrize("metric", METRICS)
def test_permuting_requests_changes_nothing(combiner, metric):
    predictions = blend(metric)
    order = np.random.default_rng(1).permutation(len(predictions.requests))
    shuffled = combiner.fit(predictions.take(order), metric).shares
    assert shuffled == pytest.approx(dict(combiner.fit(predictions, metric).shares))


@pytest.mark.parametrize("metric", METRICS)
def test_the_best_member_is_always_in(combiner, metric):
    predictions = blend(metric)
    values = {m: quality(s, predictions.requests, metric) for m, s in predictions.scores.items()}
    assert max(values, key=values.get) in combiner.fit(predictions, metric).shares


def test_a_member_alone_gets_all_the_weight(combiner):
    assert combiner.fit(blend("ndcg@10", strengths=(0.3,)), "ndcg@10").shares == {"m0": 1.0}


def test_fitting_changes_no_scores(combiner):
    predictions = blend("ndcg@10")
    before = {name: part.copy() for name, part in predictions.scores.items()}
    combiner.fit(predictions, "ndcg@10")
    for name, part in predictions.scores.items():
        np.testing.assert_array_equal(part, before[name])


@pytest.mark.parametrize("metric", METRICS)
def test_quality_is_better_when_larger(metric):
    predictions = blend(metric, strengths=(3.0, 0.0))
    good, bad = (quality(s, predictions.requests, metric) for s in predictions.scores.values())
    assert good > bad
