"""Cascades: offline is early exit, costs add up, thresholds keep what they promise on `blend`."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from penchant.ensembles.combinations.cascade import Cascade, Stage, certainty
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.combiners.cascade_fit import CascadeCombiner
from penchant.ensembles.combiners.combiner import quality
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.predictions import Predictions
from penchant.platform.errors import ConfigError
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

METRICS = ("ndcg@3", "recall@3", "mrr@5", "auc", "log_loss", "brier", "accuracy")
COSTS = {"cheap": 1.0, "middle": 4.0, "dear": 10.0}


def blend(metric="ndcg@3", size=300, width=12, seed=0) -> Predictions:
    """The dearer the better; half of the requests are plain, and every member gets them right."""
    random = np.random.default_rng(seed)
    binary = "@" not in metric
    label = (random.random(size) < 0.4).astype(np.float32)
    target = random.integers(0, width, size).astype(np.int32)
    plain = np.arange(size) % 2 == 0
    scores = {}
    for name, strength in (("cheap", 0.5), ("middle", 1.0), ("dear", 2.0)):
        lift = np.where(plain, 6.0, strength)
        part = random.normal(size=(size, 1 if binary else width))
        if binary:
            part[:, 0] += lift * (2 * label - 1)
        else:
            part[np.arange(size), target] += lift
        scores[name] = part.astype(np.float32)
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


def three_stages(signal="margin") -> Cascade:
    return Cascade(
        normalization="none",
        signal=signal,
        k=2,
        stages=[
            Stage(
                weights={"cheap": 1.0},
                least_certainty=-1.2 if signal == "entropy" else 0.4,
                reached=1.0,
            ),
            Stage(
                weights={"cheap": 0.25, "middle": 0.75},
                least_certainty=-1.3 if signal == "entropy" else 0.8,
                reached=0.5,
            ),
            Stage(weights={"middle": 0.5, "dear": 0.5}, least_certainty=None, reached=0.2),
        ],
        cost_ms=COSTS,
    )


def serve_one(cascade: Cascade, scores, at: int):
    """What serving does: ask a stage's members, look whether the answer stands, go on if not."""
    parts, spent = {}, 0.0
    for names in cascade.asked:
        parts |= {name: scores[name][[at]] for name in names}
        spent += sum(cascade.cost_ms[name] for name in names)
        if not cascade.needed(parts)[0]:
            break
    return cascade.merge(parts)[0], spent


@pytest.mark.parametrize("signal", ["margin", "entropy"])
def test_a_blocks_merge_is_early_exit_one_by_one(signal):
    scores, cascade = blend(size=80).scores, three_stages(signal)
    served = [serve_one(cascade, scores, at) for at in range(80)]
    np.testing.assert_array_equal(cascade.merge(scores), np.stack([row for row, _ in served]))
    spent = {cost for _, cost in served}
    assert spent == {1.0, 5.0, 15.0}
    mean = cascade.expected_cost_ms(cascade.reached_by(scores))
    assert mean == pytest.approx(np.mean([cost for _, cost in served]))


def test_the_answer_is_that_of_the_first_sure_stage():
    """By hand, list of one: margins .5, then .1 and .6, then never sure."""
    cascade = Cascade(
        normalization="none",
        signal="margin",
        k=1,
        stages=[
            Stage(weights={"a": 1.0}, least_certainty=0.5, reached=1.0),
            Stage(weights={"b": 1.0}, least_certainty=0.5, reached=0.7),
            Stage(weights={"a": 0.5, "c": 0.5}, least_certainty=None, reached=0.3),
        ],
        cost_ms={"a": 1.0, "b": 2.0, "c": 4.0},
    )
    a = np.array([[1.0, 0.5], [0.1, 0.0], [0.1, 0.0]], dtype=np.float32)
    b = np.array([[0.0, 9.0], [0.0, 0.6], [0.2, 0.1]], dtype=np.float32)
    c = np.array([[0.0, 9.0], [9.0, 0.0], [0.3, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(
        cascade.merge({"a": a, "b": b, "c": c}), [[1.0, 0.5], [0.0, 0.6], [0.2, 0.4]]
    )
    assert cascade.needed({"a": a}).tolist() == [False, True, True]
    assert cascade.needed({"a": a, "b": b}).tolist() == [False, False, True]
    assert not cascade.needed({"a": a, "b": b, "c": c}).any()
    assert cascade.expected_cost_ms() == pytest.approx(1 + 0.7 * 2 + 0.3 * 4)
    assert cascade.expected_cost_ms([1, 1, 1]) == 7
    assert cascade.reached_by({"a": a, "b": b, "c": c}) == pytest.approx([1, 2 / 3, 1 / 3])
    assert cascade.shares == pytest.approx({"a": 0.3 + 0.15, "b": 0.4, "c": 0.15})
    assert cascade.asked == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("there", [["cheap"], ["middle"], ["dear"], ["cheap", "dear"]])
def test_missing_members_cost_quality_never_an_answer(there):
    scores, cascade = blend(size=40).scores, three_stages()
    merged = cascade.merge({name: scores[name] for name in there})
    assert merged.shape == (40, 12)
    assert np.isfinite(merged).all()
    if len(there) == 1:
        np.testing.assert_allclose(merged, scores[there[0]], rtol=1e-6)
    assert cascade.needed({name: scores[name] for name in there}).any() == ("dear" not in there)


def test_what_is_not_asked_for_stays_out():
    scores = {name: part.copy() for name, part in blend(size=40).scores.items()}
    for part in scores.values():
        part[:, 5] = -np.inf
    merged = three_stages().merge(scores)
    assert np.isneginf(merged[:, 5]).all()
    assert np.isfinite(np.delete(merged, 5, axis=1)).all()


def test_certainty_by_hand():
    scores = np.array([[3, 1, 0.5, -np.inf], [1, -np.inf, -np.inf, -np.inf]], dtype=np.float32)
    np.testing.assert_allclose(certainty(scores, "margin", 1), [2.0, 0.0])
    np.testing.assert_allclose(certainty(scores, "margin", 2), [0.5, 0.0])
    share = np.exp([3, 1]) / np.exp([3, 1]).sum()  # of the best two
    np.testing.assert_allclose(certainty(scores, "entropy", 1), [(share * np.log(share)).sum(), 0])
    odds = np.array([[-2.0], [0.5]], dtype=np.float32)
    np.testing.assert_allclose(certainty(odds, "margin", 1), [2.0, 0.5])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_on_blend_the_gain_is_kept_at_no_more_than_the_bases_cost(metric, keep):
    predictions = blend(metric)
    combiner = CascadeCombiner(COSTS, keep=keep)
    cascade = combiner.fit(predictions, metric)
    base = GreedyCombiner().fit(predictions, metric)

    def value(scores):
        return quality(scores, predictions.requests, metric)

    cheapest = min(base.weights, key=COSTS.get)
    single = value(predictions.scores[cheapest])
    whole = value(base.merge(predictions.scores, None))
    mine = value(cascade.merge(predictions.scores))
    assert mine - single >= keep * (whole - single) - 1e-9
    assert cascade.expected_cost_ms() <= sum(COSTS[name] for name in base.weights)
    reached = cascade.reached_by(predictions.scores)
    assert cascade.expected_cost_ms(reached) == pytest.approx(cascade.expected_cost_ms())
    assert sum(cascade.shares.values()) == pytest.approx(1.0)
    assert all(share > 0 for share in cascade.shares.values())


def test_plain_requests_leave_early():
    """Half of the requests are right without help: the dear member sees about the other half."""
    predictions = blend(size=600)
    cascade = CascadeCombiner(COSTS).fit(predictions, "ndcg@3")
    assert len(cascade.stages) > 1
    assert cascade.expected_cost_ms() < 0.75 * sum(COSTS[name] for name in cascade.cost_ms)


def test_the_curve_rises_with_cost_and_holds_what_its_cascades_do():
    predictions = blend()
    points = CascadeCombiner(COSTS).curve(predictions, "ndcg@3").points
    assert all(a.cost_ms < b.cost_ms and a.value < b.value for a, b in pairwise(points))
    assert points[-1].kept >= 1
    for point in points[:: max(len(points) // 5, 1)]:
        merged = point.cascade.merge(predictions.scores)
        found = quality(merged, predictions.requests, "ndcg@3")
        assert point.value == pytest.approx(found)
        assert point.cost_ms == point.cascade.expected_cost_ms()


def test_a_dear_member_that_is_seldom_asked_is_within_a_limit_of_the_expected_cost():
    """It takes 10 ms, and 6 are allowed on average; greedy selection within 6 ms is without it."""
    predictions = blend(size=600)
    limit = Budget(max_cost_ms=6.0, score_ms=COSTS)
    base = GreedyCombiner(budget=limit)
    cascade = CascadeCombiner(COSTS, base=base).fit(predictions, "ndcg@3")
    assert "dear" in cascade.cost_ms
    assert cascade.expected_cost_ms() <= 6.0 < sum(cascade.cost_ms.values())
    within = base.fit(predictions, "ndcg@3")
    assert "dear" not in within.weights
    mine, theirs = (
        quality(made.merge(predictions.scores, None), predictions.requests, "ndcg@3")
        for made in (cascade, within)
    )
    assert mine > theirs


def test_of_the_curve_the_best_that_costs_no_more_is_taken():
    predictions = blend(size=600)
    free = CascadeCombiner(COSTS, keep=1.0).curve(predictions, "ndcg@3")
    for most in (1.0, 1.5, 4.0, 9.0, 20.0):
        base = GreedyCombiner(budget=Budget(max_cost_ms=most, score_ms=COSTS))
        combiner = CascadeCombiner(COSTS, keep=1.0, base=base)
        value = quality(
            combiner.fit(predictions, "ndcg@3").merge(predictions.scores),
            predictions.requests,
            "ndcg@3",
        )
        fitting = [p.value for p in free.points if p.cost_ms <= most and p.kept <= 1.0]
        assert value >= max(fitting) - 1e-9
        assert combiner.fit(predictions, "ndcg@3").expected_cost_ms() <= most


def test_the_order_of_members_changes_nothing():
    predictions = blend()
    turned = replace(predictions, scores=dict(reversed(predictions.scores.items())))
    one, other = (CascadeCombiner(COSTS).fit(p, "ndcg@3") for p in (predictions, turned))
    assert one == other


def test_a_member_alone_is_one_stage():
    predictions = blend()
    alone = replace(predictions, scores={"dear": predictions.scores["dear"]})
    cascade = CascadeCombiner(COSTS).fit(alone, "ndcg@3")
    assert cascade.shares == {"dear": 1.0}
    np.testing.assert_array_equal(cascade.merge(alone.scores), alone.scores["dear"])


def test_equal_answers_everywhere_are_no_trouble():
    """Every certainty ties, so that no threshold parts the requests."""
    predictions = blend(size=30)
    flat = {name: np.zeros((30, 12), dtype=np.float32) for name in COSTS}
    cascade = CascadeCombiner(COSTS).fit(replace(predictions, scores=flat), "ndcg@3")
    assert len(cascade.stages) == 1


def test_one_stage_is_a_linear_combination():
    scores = blend(size=20).scores
    weights = {"cheap": 0.3, "dear": 0.7}
    cascade = Cascade(
        normalization="none",
        signal="margin",
        k=3,
        stages=[Stage(weights=weights, least_certainty=None, reached=1.0)],
        cost_ms={"cheap": 1.0, "dear": 10.0},
    )
    linear = Linear(normalization="none", weights=weights)
    np.testing.assert_array_equal(cascade.merge(scores), linear.merge(scores, None))


def test_a_cascade_survives_json():
    cascade = CascadeCombiner(COSTS).fit(blend(), "ndcg@3")
    saved = cascade.model_dump(mode="json")
    assert TypeAdapter(Cascade).validate_python(saved) == cascade


def test_torn_cascades_are_refused():
    saved = three_stages().model_dump(mode="json")
    with pytest.raises(ValidationError, match="but the last"):
        Cascade.model_validate(saved | {"stages": saved["stages"][:2]})
    with pytest.raises(ValidationError, match="no others"):
        Cascade.model_validate(saved | {"cost_ms": {"cheap": 1.0}})
    twice = [saved["stages"][0], saved["stages"][0], saved["stages"][2]]
    with pytest.raises(ValidationError, match="no stage before it"):
        Cascade.model_validate(saved | {"stages": twice})


def test_other_blocks_and_members_without_cost_are_refused():
    with pytest.raises(TypeError, match="blend"):
        CascadeCombiner(COSTS).fit(replace(blend(), block=Block.TEST), "ndcg@3")
    with pytest.raises(ConfigError, match="got none of dear"):
        CascadeCombiner({"cheap": 1.0, "middle": 4.0}).fit(blend(), "ndcg@3")
