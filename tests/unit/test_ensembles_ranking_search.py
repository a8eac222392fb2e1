"""The search's figures are the metric's, whatever it leaves out to get them."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.ensembles.combiners.ranking_search import RankingSearch
from penchant.platform.metrics import ranking_metrics, target_ranks
from penchant.platform.requests import Requests

KINDS = ("ndcg", "recall", "hr", "mrr")


def world(seed: int, targets: int, *, levels: int = 0, size: int = 70, width: int = 40, alike=3.0):
    """Six members that share a taste; scores of `levels` values where ties are wanted.

    Requests have one target, or from none to `targets`; some candidates are not asked for, and
    some of these are targets.
    """
    random = np.random.default_rng(seed)
    counts = np.ones(size, np.int64) if targets == 1 else random.integers(1, targets + 1, size)
    target = np.concatenate([random.choice(width, n, replace=False) for n in counts])
    asker = np.repeat(np.arange(size), counts)
    taste = alike * random.normal(size=(size, width))
    taste[asker, target] += alike
    hidden = random.random((size, width)) < 0.15
    scores = {}
    for name in "abcdef":
        part = taste + random.normal(size=taste.shape)
        part = np.round(part * levels / 10) if levels else part
        scores[name] = np.where(hidden, -np.inf, part).astype(np.float32)
    requests = Requests(
        row=np.arange(size),
        user=np.arange(size, dtype=np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.concatenate([[0], np.cumsum(counts)]),
        target=target.astype(np.int32),
        target_seen=np.zeros(len(target), dtype=np.bool_),
    )
    return scores, requests


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [0, 4], ids=["distinct", "tied"])
@pytest.mark.parametrize("targets", [1, 9])
def test_every_addition_is_worth_what_the_metric_says(targets, levels, kind, monkeypatch):
    """Over fourteen additions, in blocks of three requests, with candidates left out."""
    monkeypatch.setattr("penchant.ensembles.combiners.ranking_search._CELLS", 128)
    for seed, k in ((0, 1), (1, 4)):
        scores, requests = world(seed, targets, levels=levels)
        search = RankingSearch(scores, requests, f"{kind}@{k}")
        total = np.zeros_like(scores["a"])
        for name in "abacdafebcadfb":
            found = search.values(list(scores))
            for member, part in scores.items():
                ranks = target_ranks(total + part, requests)
                expected = ranking_metrics(ranks, requests, k)[f"{kind}@{k}"].mean()
                assert found[member] == pytest.approx(expected, abs=1e-9)
            total = total + scores[name]
            search.add(name)


def test_alike_members_leave_less_to_look_at():
    scores, requests = world(0, 1, width=100)
    search = RankingSearch(scores, requests, "ndcg@5")
    for name in "abcd":
        search.values(list(scores))
        search.add(name)
    search.values(list(scores))
    assert sum(block.total.size for block in search._near) < scores["a"].size / 2


def test_scores_are_left_as_they_were():
    scores, requests = world(0, 3)
    before = {name: part.copy() for name, part in scores.items()}
    search = RankingSearch(scores, requests, "mrr@5")
    for name in "abc":
        search.values(list(scores))
        search.add(name)
    for name, part in scores.items():
        np.testing.assert_array_equal(part, before[name])


def test_a_catalogue_below_k_and_nothing_in_reach():
    scores, requests = world(0, 1, width=4)
    assert RankingSearch(scores, requests, "recall@10").values(["a"])["a"] == pytest.approx(
        np.isfinite(scores["a"][np.arange(70), requests.target]).mean()
    )
    scores, requests = world(0, 1, width=60)
    for part in scores.values():
        part[np.arange(70), requests.target] = -500
    search = RankingSearch(scores, requests, "hr@5")
    search.add("a")
    assert set(search.values(list(scores)).values()) == {0.0}
