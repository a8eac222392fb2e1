"""The gate: segments by hand, own weights where they help, those for all where they do not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from penchant.ensembles.combinations.gated import Gated, Split, segment_of
from penchant.ensembles.combiners.combiner import quality
from penchant.ensembles.combiners.gate import GateCombiner
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.facts import FACTS
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

METRICS = ("ndcg@10", "auc", "log_loss")


def blend(metric: str, *, depends: bool, size: int = 1200, seed: int = 0) -> Predictions:
    """`fresh` is good within a day and `old` after one; or both are good everywhere."""
    random = np.random.default_rng(seed)
    binary = "@" not in metric
    width = 1 if binary else 30
    days = random.exponential(1.0, size)
    facts = np.zeros((size, len(FACTS)), dtype=np.float32)
    facts[:, 0], facts[:, 1] = random.integers(1, 300, size), days
    target, label = random.integers(0, width, size), (random.random(size) < 0.4).astype(np.float32)
    late = days > np.median(days)
    scores = {}
    for name, good in (("fresh", ~late), ("old", late), ("noise", np.zeros(size))):
        part = random.normal(size=(size, width))
        strength = 3.0 * good if depends else np.full(size, 1.5 if name != "noise" else 0.0)
        part[np.arange(size), 0 if binary else target] += strength * (
            label - 0.5 if binary else 1.0
        )
        scores[name] = part.astype(np.float32)
    requests = Requests(
        row=np.arange(size),
        user=(np.arange(size) // 3).astype(np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.zeros(size + 1, dtype=np.int64) if binary else np.arange(size + 1),
        target=np.zeros(0, dtype=np.int32) if binary else target.astype(np.int32),
        target_seen=np.zeros(0 if binary else size, dtype=np.bool_),
        candidate=np.zeros(size, dtype=np.int32) if binary else None,
        label=label if binary else None,
    )
    return Predictions(block=Block.BLEND, requests=requests, scores=scores, facts=facts)


def two_segments() -> Gated:
    """`a` within two days of the last event, mostly `b` after that."""
    return Gated(
        normalization="none",
        splits=[Split(fact="days_since_last", edges=[2.0])],
        weights=[{"a": 1.0}, {"a": 0.25, "b": 0.75}],
        sizes=[0.6, 0.4],
    )


def facts_of(*days: float) -> np.ndarray:
    facts = np.zeros((len(days), len(FACTS)), dtype=np.float32)
    facts[:, 1] = days
    return facts


def test_segments_by_hand():
    splits = [
        Split(fact="history_events", edges=[10.0, 20.0]),
        Split(fact="days_since_last", edges=[2.0]),
    ]
    facts = np.zeros((5, len(FACTS)), dtype=np.float32)
    facts[:, 0] = [0, 10, 19, 20, 99]
    facts[:, 1] = [np.nan, 1.9, 2.0, 0.0, 5.0]  # nobody's last event is long ago
    assert segment_of(splits, facts).tolist() == [1, 2, 3, 4, 5]


def test_each_request_is_merged_by_the_weights_of_its_segment():
    parts = {"a": np.array([[4.0, 8.0]] * 3), "b": np.array([[0.0, 4.0]] * 3)}
    parts = {name: part.astype(np.float32) for name, part in parts.items()}
    parts["b"][2, 1] = parts["a"][2, 1] = -np.inf
    merged = two_segments().merge(parts, facts_of(1, 2, np.nan))
    np.testing.assert_allclose(merged, [[4, 8], [1, 5], [1, -np.inf]])


def test_shares_are_the_mean_weights():
    assert two_segments().shares == pytest.approx({"a": 0.7, "b": 0.3})


def test_a_segment_without_its_members_takes_the_mean_of_the_others():
    part = np.array([[1.0, 3.0]] * 2, dtype=np.float32)
    np.testing.assert_array_equal(two_segments().merge({"b": part}, facts_of(1, 5)), part)
    np.testing.assert_array_equal(two_segments().merge({"a": part}, facts_of(1, 5)), part)


@pytest.mark.parametrize("metric", METRICS)
def test_finds_which_member_to_trust_when(metric):
    predictions, fresh = blend(metric, depends=True), blend(metric, depends=True, seed=1)
    gated = GateCombiner().fit(predictions, metric)
    assert gated.needs_facts
    greedy = GreedyCombiner().fit(predictions, metric)
    ours = quality(gated.merge(fresh.scores, fresh.facts), fresh.requests, metric)
    theirs = quality(greedy.merge(fresh.scores, None), fresh.requests, metric)
    assert ours > theirs + 0.02 * abs(theirs)
    assert sum(gated.shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in gated.shares.values())


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_requests_and_members_decides_nothing(metric):
    predictions = blend(metric, depends=True)
    order = np.arange(1199, -1, -1)
    turned = predictions.take(order)
    turned = replace(turned, scores=dict(reversed(turned.scores.items())))
    one, other = (GateCombiner().fit(p, metric) for p in (predictions, turned))
    assert one.splits == other.splits
    for weights, others in zip(one.weights, other.weights, strict=True):
        assert weights == pytest.approx(others)


def test_without_facts_it_is_greedy_selection():
    predictions = replace(blend("ndcg@10", depends=True), facts=None)
    gated = GateCombiner().fit(predictions, "ndcg@10")
    greedy = GreedyCombiner().fit(predictions, "ndcg@10")
    assert not gated.needs_facts
    assert gated.shares == pytest.approx(greedy.weights)
    np.testing.assert_array_equal(
        gated.merge(predictions.scores, None), greedy.merge(predictions.scores, None)
    )


def test_small_segments_have_no_weights_of_their_own():
    predictions = blend("ndcg@10", depends=True, size=150)
    gated = GateCombiner().fit(predictions, "ndcg@10")
    greedy = GreedyCombiner().fit(predictions, "ndcg@10")
    assert gated.shares == pytest.approx(greedy.weights)


def test_equal_facts_are_one_segment():
    predictions = blend("auc", depends=False)
    facts = np.zeros_like(predictions.facts)
    facts[:, 1] = np.nan  # nobody has a history
    gated = GateCombiner().fit(replace(predictions, facts=facts), "auc")
    merged = gated.merge(predictions.scores, facts)
    assert np.isfinite(merged).all()


def test_comes_back_from_json():
    gated = GateCombiner().fit(blend("auc", depends=True), "auc")
    assert Gated.model_validate(json.loads(json.dumps(gated.model_dump(mode="json")))) == gated


def test_missing_facts_are_refused():
    with pytest.raises(TypeError, match="reads facts of each request, got none"):
        two_segments().merge({"a": np.zeros((1, 2), dtype=np.float32)}, None)


def test_another_block_is_refused():
    other = replace(blend("auc", depends=True, size=30), block=Block.SELECT)
    with pytest.raises(TypeError, match="fitted on predictions of `blend`"):
        GateCombiner().fit(other, "auc")


def test_parts_that_do_not_fit_together_are_refused():
    content = two_segments().model_dump()
    with pytest.raises(ValidationError, match="weights and sizes of 2 segments"):
        Gated.model_validate(content | {"sizes": [1.0]})


def test_a_segment_chooses_among_members_that_help_all_and_its_own_best():
    """Seven other members of noise: the worst of a segment never get a weight there."""
    made = blend("ndcg@10", depends=True)
    random = np.random.default_rng(9)
    noise = {
        f"noise{at}": random.normal(size=made.scores["old"].shape).astype(np.float32)
        for at in range(7)
    }
    made = replace(made, scores=made.scores | noise)
    gate = GateCombiner().fit(made, "ndcg@10")
    overall = GreedyCombiner().fit(made, "ndcg@10").weights
    segment = segment_of(gate.splits, made.facts)
    for at, weights in enumerate(gate.weights):
        inside = made.take(np.flatnonzero(segment == at))
        alone = {
            name: quality(part, inside.requests, "ndcg@10") for name, part in inside.scores.items()
        }
        best = sorted(alone, key=lambda name: -alone[name])[:5]
        assert set(weights) <= {*overall, *best}
