"""What holds for every combiner, and for what it gives."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.ensembles.combinations.combination import combine
from penchant.ensembles.combiners.average import MeanCombiner, MedianCombiner
from penchant.ensembles.combiners.cascade_fit import CascadeCombiner
from penchant.ensembles.combiners.combiner import quality
from penchant.ensembles.combiners.fusion import RankMeanCombiner, ReciprocalRankCombiner
from penchant.ensembles.combiners.gate import GateCombiner
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.combiners.layers import LayersCombiner
from penchant.ensembles.combiners.stack import StackCombiner
from penchant.ensembles.combiners.weights import WeightsCombiner
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

#: A new combiner needs one line here.
COMBINERS = [
    MeanCombiner(),
    MedianCombiner(),
    RankMeanCombiner(),
    ReciprocalRankCombiner(),
    ReciprocalRankCombiner(k=5.0, depth=4),
    GreedyCombiner(),
    GreedyCombiner(start=3),
    GreedyCombiner(sample=40),
    GreedyCombiner(bags=5),
    WeightsCombiner(),
    LayersCombiner(),
    GateCombiner(),
    StackCombiner(max_trees=10),
    CascadeCombiner({"m0": 4.0, "m1": 2.0, "m2": 1.0, "m3": 1.5}),
]
#: These may leave the best member out: a weaker pair can explain more, or the draw decides.
LEAVES_BEST_OUT = ("weights", "layers")
METRICS = ("ndcg@10", "auc", "log_loss")
SLOW = ("stack", "cascade")
BOTH = frozenset({"next_item", "binary"})


def label(combiner) -> str:
    return f"{combiner.name}-{vars(combiner)}"


def fits(combiner, metric: str) -> bool:
    task = "next_item" if "@" in metric else "binary"
    return task in getattr(combiner, "tasks", BOTH)


CASES = [
    pytest.param(
        combiner,
        metric,
        id=f"{label(combiner)}-{metric}",
        marks=[pytest.mark.slow] if combiner.name in SLOW else [],
    )
    for combiner in COMBINERS
    for metric in METRICS
    if fits(combiner, metric)
]
every_case = pytest.mark.parametrize(("combiner", "metric"), CASES)
every_combiner = pytest.mark.parametrize("combiner", COMBINERS, ids=label)


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


def with_members(predictions: Predictions, scores) -> Predictions:
    return Predictions(block=Block.BLEND, requests=predictions.requests, scores=scores)


def a_third_hidden(predictions: Predictions) -> Predictions:
    """Some candidates are not asked for, in all members alike; targets are."""
    requests = predictions.requests
    hidden = np.random.default_rng(5).random((len(requests), 15)) < 0.33
    hidden[np.arange(len(requests)), requests.target] = False
    return with_members(
        predictions,
        {m: np.where(hidden, -np.inf, part) for m, part in predictions.scores.items()},
    )


def merged(combination, predictions: Predictions, without: str = "") -> np.ndarray:
    """What the combination makes of its members; facts of no meaning where it needs some."""
    parts = {m: predictions.scores[m] for m in combination.shares if m != without}
    facts = np.zeros((len(predictions.requests), 5), dtype=np.float32)
    return combination.merge(parts, facts if combination.needs_facts else None)


@every_case
def test_shares_are_positive_sum_to_one_and_name_members(combiner, metric):
    predictions = blend(metric)
    shares = combiner.fit(predictions, metric).shares
    assert set(shares) <= set(predictions.scores)
    assert all(share > 0 for share in shares.values())
    assert sum(shares.values()) == pytest.approx(1.0)


@every_case
def test_permuting_members_permutes_shares(combiner, metric):
    predictions = blend(metric)
    turned = with_members(predictions, dict(reversed(predictions.scores.items())))
    shares = combiner.fit(turned, metric).shares
    assert shares == pytest.approx(dict(combiner.fit(predictions, metric).shares), abs=1e-5)


@every_case
def test_permuting_requests_changes_nothing(combiner, metric):
    predictions = blend(metric)
    order = np.random.default_rng(1).permutation(len(predictions.requests))
    shuffled = combiner.fit(predictions.take(order), metric).shares
    assert shuffled == pytest.approx(dict(combiner.fit(predictions, metric).shares), abs=1e-5)


@every_case
def test_the_best_member_is_in(combiner, metric):
    if combiner.name in LEAVES_BEST_OUT:
        return
    predictions = blend(metric)
    values = {m: quality(s, predictions.requests, metric) for m, s in predictions.scores.items()}
    assert max(values, key=values.get) in combiner.fit(predictions, metric).shares


@every_case
def test_a_member_alone_has_everything_and_keeps_its_order(combiner, metric):
    predictions = blend(metric, strengths=(0.3,))
    combination = combiner.fit(predictions, metric)
    assert dict(combination.shares) == {"m0": 1.0}
    assert combine(combination, predictions.scores) is predictions.scores["m0"]
    first = merged(combination, predictions).argmax(axis=1)
    np.testing.assert_array_equal(first, predictions.scores["m0"].argmax(axis=1))


@every_case
def test_fitting_and_merging_change_no_scores(combiner, metric):
    predictions = blend(metric)
    before = {name: part.copy() for name, part in predictions.scores.items()}
    merged(combiner.fit(predictions, metric), predictions)
    for name, part in predictions.scores.items():
        np.testing.assert_array_equal(part, before[name])


@every_case
def test_the_normalisation_of_what_it_was_fitted_on_is_kept(combiner, metric):
    predictions = blend(metric)
    how = "zscore" if "@" in metric else "none"
    assert combiner.fit(predictions.normalized(how), metric).normalization == how


@every_case
def test_each_member_may_be_missing(combiner, metric):
    predictions = blend(metric)
    combination = combiner.fit(predictions, metric)
    whole = merged(combination, predictions)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    if len(combination.shares) == 1:
        return
    for name in combination.shares:
        left = merged(combination, predictions, without=name)
        assert left.shape == whole.shape
        assert np.isfinite(left).all()


@every_case
def test_what_is_not_asked_for_stays_out_and_all_else_is_finite(combiner, metric):
    if "@" not in metric:
        return
    predictions = a_third_hidden(blend(metric))
    hidden = np.isneginf(predictions.scores["m0"])
    combination = combiner.fit(predictions, metric)
    for without in ("", *list(combination.shares)[1:]):
        found = merged(combination, predictions, without)
        np.testing.assert_array_equal(np.isneginf(found), hidden)
        assert np.isfinite(found[~hidden]).all()


@every_case
def test_saved_and_read_it_merges_the_same(combiner, metric):
    predictions = blend(metric)
    combination = combiner.fit(predictions, metric)
    read = type(combination).model_validate(combination.model_dump(mode="json"))
    assert read == combination
    np.testing.assert_array_equal(merged(read, predictions), merged(combination, predictions))


@every_case
def test_requests_do_not_know_of_one_another(combiner, metric):
    predictions = blend(metric)
    combination = combiner.fit(predictions, metric)
    order = np.random.default_rng(2).permutation(len(predictions.requests))[:50]
    np.testing.assert_allclose(
        merged(combination, predictions.take(order)),
        merged(combination, predictions)[order],
        rtol=1e-6,
    )


@every_combiner
def test_only_blend_is_fitted_on(combiner):
    other = blend("ndcg@10")
    other = Predictions(block=Block.SELECT, requests=other.requests, scores=other.scores)
    with pytest.raises(TypeError, match="fitted on predictions of `blend`"):
        combiner.fit(other, "ndcg@10")


@pytest.mark.parametrize("metric", METRICS)
def test_quality_is_better_when_larger(metric):
    predictions = blend(metric, strengths=(3.0, 0.0))
    good, bad = (quality(s, predictions.requests, metric) for s in predictions.scores.values())
    assert good > bad
