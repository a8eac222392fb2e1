"""Ranking metrics by hand, against scikit-learn, and quickly."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from penchant.platform.errors import ConfigError
from penchant.platform.metrics import (
    check_metric,
    per_request,
    quick_metric,
    ranking_metrics,
    split_ranks,
    target_ranks,
)
from penchant.platform.requests import Requests

INF = np.float32(np.inf)


def asking(targets: list[list[int]], seen: list[list[bool]] | None = None) -> Requests:
    """Requests with these targets; nothing else of them is read."""
    number = len(targets)
    flat = [item for row in targets for item in row]
    had = [s for row in seen for s in row] if seen is not None else [False] * len(flat)
    return Requests(
        row=np.arange(number),
        user=np.arange(number, dtype=np.int32),
        time_ms=np.zeros(number, dtype=np.int64),
        end=np.zeros(number, dtype=np.int64),
        target_offsets=np.cumsum([0, *map(len, targets)]),
        target=np.array(flat, dtype=np.int32),
        target_seen=np.array(had, dtype=np.bool_),
    )


def drawn(seed: int, size: int = 300, items: int = 40, levels: int | None = None):
    """Scores (with ties when there are few levels) and requests of 1 to 6 targets."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(size, items)).astype(np.float32)
    if levels:
        scores = np.round(scores * levels / 4).astype(np.float32)
    targets = [
        random.choice(items, random.integers(1, 7), replace=False).tolist() for _ in range(size)
    ]
    return scores, asking(targets)


def test_a_rank_counts_from_one_and_ties_at_their_mean():
    scores = np.array([[5, 9, 5, 1, 5], [0, 0, 0, 0, 0]], dtype=np.float32)
    ranks = target_ranks(scores, asking([[1, 0, 3], [2]]))
    # the three fives stand on places 2, 3 and 4; five equal scores on 1 to 5
    assert ranks.tolist() == [1.0, 3.0, 5.0, 3.0]


def test_what_is_not_asked_for_is_not_found_among_the_seen_or_the_new_either():
    """That the target is one of two seen ones says nothing of how likely it was held."""
    scores = np.array([[-INF, -INF, 3, 2, 1]], dtype=np.float32)
    seen = np.array([[True, True, False, False, False]])
    ranks = split_ranks(scores, asking([[1]], [[True]]), seen)
    assert [part.tolist() for part in ranks] == [[np.inf], [np.inf]]


def test_what_is_not_asked_for_is_below_everything_and_never_found():
    scores = np.array([[-INF, 2, -INF, 1]], dtype=np.float32)
    requests = asking([[3, 0]])
    assert target_ranks(scores, requests).tolist() == [2.0, np.inf]
    found = ranking_metrics(target_ranks(scores, requests), requests)
    assert found["recall@10"].tolist() == [0.5]
    assert quick_metric(scores, requests, "recall@10") == 0.5


def test_ranks_do_not_depend_on_how_many_requests_are_compared_at_once(monkeypatch):
    scores, requests = drawn(0, size=50, levels=3)
    whole = target_ranks(scores, requests)
    monkeypatch.setattr("penchant.platform.metrics._CHUNK", 7)
    np.testing.assert_array_equal(target_ranks(scores, requests), whole)


def test_metrics_of_a_list_of_three_by_hand():
    # request 0: targets on ranks 1, 3 and 4; request 1: one on rank 2; request 2: one on rank 4
    scores = np.array([[9, 8, 7, 6], [9, 8, 7, 6], [9, 8, 7, 6]], dtype=np.float32)
    requests = asking([[0, 2, 3], [1], [3]])
    found = ranking_metrics(target_ranks(scores, requests), requests, k=3)
    best = 1 + 1 / log2(3) + 1 / log2(4)
    np.testing.assert_allclose(
        found["ndcg@3"], [(1 + 1 / log2(4)) / best, 1 / log2(3), 0.0], rtol=1e-12
    )
    np.testing.assert_allclose(found["recall@3"], [2 / 3, 1, 0])
    np.testing.assert_allclose(found["hr@3"], [1, 1, 0])
    np.testing.assert_allclose(found["mrr@3"], [1, 1 / 2, 0])


def test_more_targets_than_places_can_still_be_perfect_but_for_recall():
    requests = asking([[0, 1, 2, 3]])
    scores = np.arange(9, 0, -1, dtype=np.float32)[None]
    found = ranking_metrics(target_ranks(scores, requests), requests, k=2)
    assert {name: float(v[0]) for name, v in found.items()} == {
        "ndcg@2": pytest.approx(1.0),
        "recall@2": 0.5,
        "hr@2": 1.0,
        "mrr@2": 1.0,
    }


@pytest.mark.parametrize("k", [1, 5, 10, 60])
def test_ndcg_is_that_of_scikit_learn_where_nothing_ties(k):
    scores, requests = drawn(1)
    relevant = np.zeros(scores.shape)
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    relevant[request, requests.target] = 1
    ours = ranking_metrics(target_ranks(scores, requests), requests, k)[f"ndcg@{k}"]
    theirs = [ndcg_score(relevant[[r]], scores[[r]], k=k) for r in range(len(scores))]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("metric", ["ndcg", "recall", "hr", "mrr"])
@pytest.mark.parametrize("levels", [None, 9])
@pytest.mark.parametrize("k", [1, 3, 10, 50])
def test_the_quick_metric_is_the_exact_one(k, levels, metric):
    # nine levels on forty items tie often, but rarely more than `k` at the edge: taken apart below
    scores, requests = drawn(2, levels=levels)
    if levels:
        edge = -np.sort(-scores, axis=1)[:, min(k, 40) - 1]
        kept = np.flatnonzero((scores >= edge[:, None]).sum(1) <= 2 * k)
        scores, requests = scores[kept], requests.take(kept)
        assert len(kept) > 20
    exact = ranking_metrics(target_ranks(scores, requests), requests, k)[f"{metric}@{k}"].mean()
    assert quick_metric(scores, requests, f"{metric}@{k}") == pytest.approx(exact, abs=1e-12)


def test_repeated_and_new_items_are_ranked_apart():
    # items 0 to 2 were had before, 3 to 5 are new; targets: item 1 (had) and item 4 (new)
    scores = np.array([[9, 8, 7, 6, 5, 4]], dtype=np.float32)
    seen = np.array([[True, True, True, False, False, False]])
    asked = asking([[1, 4]], [[True, False]])
    found = per_request(*split_ranks(scores, asked, seen), asked, k=2)
    assert found["recall@2"].tolist() == [0.5]
    assert found["recall@2/repeat"].tolist() == [1.0]
    assert found["mrr@2/repeat"].tolist() == [0.5]  # second of the three that were had
    assert found["mrr@2/explore"].tolist() == [0.5]  # second of the three new ones
    np.testing.assert_allclose(found["ndcg@2/explore"], [1 / log2(3)])


def test_the_split_is_the_same_as_hiding_the_other_items():
    scores, requests = drawn(3, size=80, levels=6)
    seen = np.random.default_rng(4).random(scores.shape) < 0.3
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    had = seen[request, requests.target]
    requests = asking(
        [requests.target[request == r].tolist() for r in range(80)],
        [had[request == r].tolist() for r in range(80)],
    )
    found = per_request(*split_ranks(scores, requests, seen), requests, k=5)
    for split, wanted in (("repeat", True), ("explore", False)):
        shown = np.where(seen == wanted, scores, -INF)
        ranks = target_ranks(shown, requests)
        slow = ranking_metrics(ranks, requests, 5, requests.target_seen == wanted)
        for name, values in slow.items():
            np.testing.assert_allclose(found[f"{name}/{split}"], values, atol=1e-12, err_msg=name)


def test_a_request_without_a_target_of_a_split_does_not_count():
    scores = np.array([[3, 2, 1]], dtype=np.float32)
    asked, seen = asking([[0]], [[True]]), np.array([[True, False, False]])
    found = per_request(*split_ranks(scores, asked, seen), asked)
    assert {name for name, values in found.items() if np.isnan(values[0])} == {
        f"{name}@10/explore" for name in ("ndcg", "recall", "hr", "mrr")
    }


@pytest.mark.parametrize(
    ("metric", "task"),
    [("ndcg@10", "next_item"), ("mrr@1", "next_item"), ("auc", "binary"), ("brier", "binary")],
)
def test_a_metric_of_its_task_is_taken(metric, task):
    check_metric(metric, task)


@pytest.mark.parametrize(
    ("metric", "task"),
    [
        ("auc", "next_item"),
        ("ndcg", "next_item"),
        ("ndcg@0", "next_item"),
        ("ndcg@10 ", "next_item"),
        ("NDCG@10", "next_item"),
        ("ndcg@10", "binary"),
    ],
)
def test_a_metric_that_the_task_does_not_have_is_refused(metric, task):
    with pytest.raises(ConfigError, match=f"requests.metric: expected one of .* for {task}, got"):
        check_metric(metric, task)
