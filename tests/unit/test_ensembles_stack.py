"""The stack: what it may learn from, what it must not, and the same answer online."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from penchant.ensembles.combinations.combination import combine
from penchant.ensembles.combinations.stacked import DEPTH, Stacked, candidates, placed
from penchant.ensembles.combiners.combiner import quality
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.combiners.stack import StackCombiner
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

ITEMS = 130
NEXT, YES = "ndcg@10", "auc"


def asked(size: int, target=None, label=None) -> Requests:
    return Requests(
        row=np.arange(size),
        user=(np.arange(size) // 3).astype(np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.arange(size + 1) if label is None else np.zeros(size + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32) if target is None else target.astype(np.int32),
        target_seen=np.zeros(0 if target is None else size, dtype=np.bool_),
        candidate=None if label is None else np.zeros(size, dtype=np.int32),
        label=label,
    )


def switched(metric: str, size: int = 900, seed: int = 0) -> Predictions:
    """`one` is right where the only fact is 0, `two` where it is 1; nobody else helps.

    No weighted mean can know that, and a tree can.
    """
    random = np.random.default_rng(seed)
    fact = random.integers(0, 2, size)
    width = ITEMS if metric == NEXT else 1
    scores = {name: random.normal(size=(size, width)) for name in ("one", "two", "noise")}
    good = np.where(fact == 0, 2.5, 0.0), np.where(fact == 1, 2.5, 0.0)
    target, label = random.integers(0, width, size), (random.random(size) < 0.4).astype(np.float32)
    for name, gain in zip(("one", "two"), good, strict=True):
        raised = gain * (2 if metric == NEXT else label - 0.5)
        scores[name][np.arange(size), target if metric == NEXT else 0] += raised
    return Predictions(
        block=Block.BLEND,
        requests=asked(size, target=target) if metric == NEXT else asked(size, label=label),
        scores={name: part.astype(np.float32) for name, part in scores.items()},
        facts=fact[:, None].astype(np.float32),
    )


@pytest.fixture(scope="module", params=[pytest.param(NEXT, marks=pytest.mark.slow), YES])
def case(request):
    """Predictions, the metric, and the stack that was fitted on them."""
    predictions = switched(request.param)
    return predictions, request.param, StackCombiner(max_trees=40).fit(predictions, request.param)


def test_learns_which_member_to_trust_when(case):
    _, metric, stacked = case
    fresh = switched(metric, seed=1)
    greedy = GreedyCombiner().fit(switched(metric), metric).merge(fresh.scores, None)
    corrected = stacked.merge(fresh.scores, fresh.facts)
    assert stacked.needs_facts
    ours, theirs = (quality(part, fresh.requests, metric) for part in (corrected, greedy))
    assert ours > 1.02 * theirs


def test_shares_are_of_all_members_and_sum_to_one(case):
    predictions, _, stacked = case
    assert set(stacked.shares) == set(predictions.scores)
    assert all(share > 0 for share in stacked.shares.values())
    assert sum(stacked.shares.values()) == pytest.approx(1)
    assert stacked.shares["noise"] < min(stacked.shares["one"], stacked.shares["two"])


def test_comes_back_from_json_with_the_same_scores(case):
    predictions, _, stacked = case
    text = json.dumps(stacked.model_dump(mode="json"))
    back = Stacked.model_validate(json.loads(text))
    np.testing.assert_array_equal(
        back.merge(predictions.scores, predictions.facts),
        stacked.merge(predictions.scores, predictions.facts),
    )


def test_the_order_of_members_and_requests_decides_nothing(case):
    predictions, metric, stacked = case
    turned = predictions.take(np.random.default_rng(2).permutation(len(predictions.requests)))
    turned = replace(turned, scores=dict(reversed(turned.scores.items())))
    assert StackCombiner(max_trees=40).fit(turned, metric) == stacked


@pytest.mark.parametrize("gone", [("one",), ("noise",), ("one", "two"), ("one", "noise")])
def test_answers_while_one_member_is_there(case, gone):
    predictions, _, stacked = case
    there = {name: part for name, part in predictions.scores.items() if name not in gone}
    assert np.isfinite(stacked.merge(there, predictions.facts)).all()


def test_one_question_has_the_score_of_the_store(case):
    predictions, _, stacked = case
    together = stacked.merge(predictions.scores, predictions.facts)
    for at in range(0, 900, 150):
        alone = predictions.take(np.array([at]))
        np.testing.assert_array_equal(
            stacked.merge(alone.scores, alone.facts), together[at : at + 1]
        )


@pytest.mark.slow
def test_a_shortlist_is_scored_as_the_whole_catalogue():
    """Ties at the end of the lists and targets that nobody ranks high among them."""
    predictions = switched(NEXT, size=300)
    coarse = {name: np.round(part, 1) for name, part in predictions.scores.items()}
    predictions = replace(predictions, scores=coarse)
    short = predictions.shortlist(DEPTH + 1)
    stacked = StackCombiner(max_trees=20).fit(switched(NEXT), NEXT)
    whole = stacked.merge(predictions.scores, predictions.facts)
    listed = stacked.merge(short.scores, short.facts)
    assert listed.shape[1] < ITEMS
    for row in range(300):
        known = np.isfinite(short.scores["one"][row])
        # Columns of a shortlist are in the catalogue's order: found again by the members' scores.
        keys = np.stack([part[row] for part in predictions.scores.values()], axis=1)
        wanted = np.stack([part[row][known] for part in short.scores.values()], axis=1)
        at = [int(np.flatnonzero((keys == key).all(1))[0]) for key in wanted]
        np.testing.assert_allclose(listed[row][known], whole[row][at], rtol=1e-6)
    assert np.isneginf(listed[~np.isfinite(short.scores["one"])]).all()


def test_learns_nothing_from_a_target_that_stands_in_no_list():
    """A shortlist holds it only because it is the answer."""
    predictions = switched(NEXT, size=90)
    scores = {name: part.copy() for name, part in predictions.scores.items()}
    for part in scores.values():
        part[np.arange(90), predictions.requests.target] = -9.0
    short = replace(predictions, scores=scores).shortlist(DEPTH + 5)
    base = short.scores["one"]
    pairs = candidates(short.scores, base, None, ["one", "two", "noise"])
    target = short.requests.target[pairs.row]
    assert not (pairs.column == target).any()
    stacked = StackCombiner(max_trees=20).fit(short, NEXT)
    assert stacked.trees == ""
    assert not stacked.needs_facts


def test_features_of_a_tiny_case_by_hand():
    """Two members; equal scores share their worst rank."""
    parts = {
        "a": np.array([[3.0, 1.0, 1.0, -np.inf]], dtype=np.float32),
        "b": np.array([[0.0, 5.0, 1.0, -np.inf]], dtype=np.float32),
    }
    base = np.array([[1.0, 2.0, 3.0, -np.inf]], dtype=np.float32)
    facts = np.array([[7.0]], dtype=np.float32)
    found = candidates(parts, base, facts, ["a", "b"])
    assert found.column.tolist() == [0, 1, 2]  # what is not asked for is no candidate
    # a, b, rank by a, rank by b, base, mean, spread, fact
    expected = [[3, 0, 1, 3, 1, 1.5, 1.5, 7], [1, 5, 3, 1, 2, 3, 2, 7], [1, 1, 3, 2, 3, 1, 0, 7]]
    np.testing.assert_allclose(found.features, expected)
    alone = candidates({"a": parts["a"]}, base, facts, ["a", "b"])
    expected = [[3, 3, 1, 1, 1, 3, 0, 7], [1, 1, 3, 3, 2, 1, 0, 7], [1, 1, 3, 3, 3, 1, 0, 7]]
    np.testing.assert_allclose(alone.features, expected)


def test_what_is_in_no_list_keeps_its_order_below():
    part = np.arange(60, dtype=np.float32)[None, :]
    part = np.concatenate([part, np.full_like(part, 5)])
    pairs = candidates({"a": part}, part, None, ["a"])
    assert pairs.row.tolist() == [0] * DEPTH  # all tie in the second request: nobody is in
    correction = np.linspace(0, -100, DEPTH)
    merged = placed(part, pairs, correction)
    assert (np.diff(merged[0, : 60 - DEPTH]) > 0).all()
    assert merged[0, : 60 - DEPTH].max() < merged[0, 60 - DEPTH :].min()
    np.testing.assert_allclose(merged[0, 60 - DEPTH :], np.arange(20, 60) + correction, rtol=1e-6)
    np.testing.assert_array_equal(merged[1], part[1])


def test_without_trees_that_help_it_is_the_mean():
    random = np.random.default_rng(0)
    target = random.integers(0, ITEMS, 60)
    scores = {name: random.normal(size=(60, ITEMS)).astype(np.float32) for name in ("a", "b")}
    scores["a"][np.arange(60), target] += 50
    predictions = Predictions(
        block=Block.BLEND, requests=asked(60, target=target), scores=scores, facts=None
    )
    stacked = StackCombiner().fit(predictions, NEXT)
    assert stacked.shares == {"a": 1.0}
    np.testing.assert_array_equal(stacked.merge({"a": scores["a"]}, None), scores["a"])


def test_missing_facts_are_refused(case):
    predictions, _, stacked = case
    with pytest.raises(TypeError, match="facts of each request, got none"):
        stacked.merge(predictions.scores, None)


def test_another_block_is_refused():
    other = replace(switched(YES, size=30), block=Block.TEST)
    with pytest.raises(TypeError, match="fitted on predictions of `blend`"):
        StackCombiner().fit(other, YES)


def test_parts_that_do_not_fit_together_are_refused(case):
    _, _, stacked = case
    content = stacked.model_dump(mode="json")
    with pytest.raises(ValidationError, match="expected 11"):
        Stacked.model_validate(content | {"num_facts": 2})
    with pytest.raises(ValidationError, match="`base` weighs members"):
        Stacked.model_validate(content | {"base": {"nobody": 1.0}})


def test_a_stack_of_one_member_has_no_trees_since_one_member_is_passed_on_as_it_is():
    """Else it were judged on `blend` with trees, and tested and served without them."""
    predictions = switched(YES)
    alone = replace(predictions, scores={"one": predictions.scores["one"]})
    made = StackCombiner().fit(alone, YES)
    np.testing.assert_array_equal(
        made.merge(alone.scores, alone.facts), combine(made, alone.scores, alone.facts)
    )
    assert not made.trees
