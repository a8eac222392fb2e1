"""Shortlists: fewer candidates, and the same answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.predictions import Predictions
from penchant.platform.metrics import quick_metric
from penchant.platform.requests import all_requests
from penchant.platform.timeline import Block


@pytest.fixture
def predictions(draw) -> Predictions:
    """Three alike members on a catalogue of 80; some items are not asked for."""
    from penchant.platform.config import Requests as Spec

    log = draw("baskets", users=20, groups=8, items=80)
    requests = all_requests(log, Spec(unit="group"), 0, 2**62)
    random = np.random.default_rng(0)
    taste = random.normal(size=(len(requests), 80))
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    taste[request, requests.target] += 1.5
    hidden = random.random(taste.shape) < 0.1
    hidden[request, requests.target] = False
    scores = {}
    for name in "abc":
        part = taste + random.normal(size=taste.shape)
        scores[name] = np.where(hidden, -np.inf, part).astype(np.float32)
    return Predictions(block=Block.BLEND, requests=requests, scores=scores)


def test_a_shortlist_holds_each_members_top_and_the_targets(predictions):
    short = predictions.shortlist(5)
    for at in range(len(short.requests)):
        inside = slice(*predictions.requests.target_offsets[at : at + 2])
        wanted = set(predictions.requests.target[inside].tolist())
        for part in predictions.scores.values():
            wanted |= set(np.argsort(-part[at])[:5].tolist())
        for name, part in predictions.scores.items():
            row = short.scores[name][at]
            expected = sorted(part[at, sorted(wanted)].tolist())
            assert sorted(row.tolist()) == [-np.inf] * (len(row) - len(wanted)) + expected
            found = row[short.requests.target[inside]]
            np.testing.assert_array_equal(found, part[at, predictions.requests.target[inside]])


@pytest.mark.parametrize("metric", ["ndcg@5", "recall@3", "mrr@5"])
def test_every_member_scores_on_a_shortlist_as_on_everything(metric, predictions):
    short = predictions.shortlist(12)
    for name, part in predictions.scores.items():
        whole = quick_metric(part, predictions.requests, metric)
        assert quick_metric(short.scores[name], short.requests, metric) == pytest.approx(whole)


def test_greedy_selection_finds_the_same_weights_on_a_shortlist(predictions):
    whole = GreedyCombiner().fit(predictions, "ndcg@5").shares
    assert GreedyCombiner().fit(predictions.shortlist(40), "ndcg@5").shares == pytest.approx(
        dict(whole)
    )


def test_a_small_catalogue_is_its_own_shortlist(predictions):
    assert predictions.shortlist(80) is predictions
    assert predictions.shortlist(99) is predictions


def test_requests_are_taken_with_their_scores(predictions):
    order = np.array([4, 0, 2])
    some = predictions.take(order)
    np.testing.assert_array_equal(some.scores["b"], predictions.scores["b"][order])
    np.testing.assert_array_equal(some.requests.row, predictions.requests.row[order])
    assert some.block is Block.BLEND


@pytest.mark.parametrize("rows", [[3, 4, 5, 6], [3, 5, 6], [6, 5, 4], []])
def test_neighbours_are_taken_without_a_copy_and_are_what_others_are(rows, predictions):
    chosen = np.array(rows, dtype=np.int64)
    taken = predictions.take(chosen)
    for name, scores in predictions.scores.items():
        np.testing.assert_array_equal(taken.scores[name], scores[chosen])
        assert np.shares_memory(taken.scores[name], scores) == (rows == [3, 4, 5, 6])
    np.testing.assert_array_equal(taken.requests.user, predictions.requests.user[chosen])


def test_what_was_fitted_on_some_predictions_is_not_taken_for_others(predictions):
    whole = GreedyCombiner().fit(predictions, "ndcg@10")
    assert GreedyCombiner().fit(predictions, "ndcg@10") is whole
    by_mrr = GreedyCombiner().fit(predictions, "mrr@10")
    assert by_mrr == GreedyCombiner().fit(replace(predictions), "mrr@10")
    assert by_mrr is not whole
    alone = replace(predictions, scores={"a": predictions.scores["a"]})
    assert GreedyCombiner().fit(alone, "ndcg@10").weights == {"a": 1.0}
    assert GreedyCombiner(max_rounds=1).fit(predictions, "ndcg@10").weights != whole.weights
