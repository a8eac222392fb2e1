"""Tables of metrics with intervals, and paired differences."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from penchant.ensembles.comparing.judge import Judge
from penchant.platform.metrics import ranking_metrics, target_ranks
from penchant.platform.requests import all_requests
from penchant.trainers.score import seen_items


@pytest.fixture
def ranking(world):
    """Later requests of a small world with random scores."""
    here = world("baskets")
    requests = all_requests(here.log, here.spec, here.until_ms, 2**62)
    scores = np.random.default_rng(0).normal(size=(2, len(requests), 30)).astype(np.float32)
    return requests, seen_items(here.log, requests), scores


def test_a_ranking_is_judged_by_all_metrics_and_splits_at_the_metrics_k(ranking):
    requests, seen, (scores, _) = ranking
    judge = Judge(requests, seen, "ndcg@5", 100, seed=0)
    table = judge.table(judge.sheet(scores))
    names = [f"{name}@5" for name in ("ndcg", "recall", "hr", "mrr")]
    assert set(table) == {f"{n}{split}" for n in names for split in ("", "/repeat", "/explore")}
    exact = ranking_metrics(target_ranks(scores, requests), requests, 5)
    for name in names:
        assert table[name].mean == pytest.approx(exact[name].mean())
        assert table[name].low <= table[name].mean <= table[name].high
        assert table[name].p is None


def test_a_difference_is_that_of_the_means_with_an_interval_of_its_own(ranking):
    requests, seen, (one, two) = ranking
    judge = Judge(requests, seen, "ndcg@5", 100, seed=0)
    one, two = judge.sheet(one), judge.sheet(two)
    found, back = judge.differences(one, two), judge.differences(two, one)
    for name, interval in found.items():
        means = judge.table(one)[name].mean - judge.table(two)[name].mean
        assert interval.mean == pytest.approx(means)
        assert interval.p is not None
        assert (back[name].mean, back[name].low) == pytest.approx((-interval.mean, -interval.high))
    assert judge.differences(one, one)["ndcg@5"].p == 1.0


def test_binary_scores_are_judged_by_the_metrics_of_binary_tasks(world):
    here = world("binary")
    requests = all_requests(here.log, here.spec, here.until_ms, 2**62)
    odds = np.random.default_rng(0).normal(size=(len(requests), 1)).astype(np.float32)
    judge = Judge(requests, None, "auc", 100, seed=0)
    table = judge.table(judge.sheet(odds))
    ratios = {"auc", "auc_within", "precision", "recall", "f1"}
    assert set(table) == ratios | {"log_loss", "brier", "accuracy"}
    assert table["auc"].mean == pytest.approx(metrics.roc_auc_score(requests.label, odds[:, 0]))
    worse = judge.differences(judge.sheet(-odds), judge.sheet(odds))
    assert worse["auc"].mean == pytest.approx(1 - 2 * table["auc"].mean)


def test_a_ranking_cannot_be_judged_without_what_was_seen(ranking):
    requests, _, (scores, _) = ranking
    with pytest.raises(TypeError, match="judged with the items that each user had before"):
        Judge(requests, None, "ndcg@5", 100, seed=0).sheet(scores)


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_equal_scores_have_a_permutation_p_of_one_and_worse_ones_a_small_one(world, metric):
    here = world("binary")
    requests = all_requests(here.log, here.spec, here.until_ms, 2**62)
    odds = np.random.default_rng(0).normal(size=(len(requests), 1)).astype(np.float32)
    good = odds + 3 * (requests.label[:, None] - np.float32(0.5))
    judge = Judge(requests, None, metric, 100, seed=0)
    sheets = [judge.sheet(odds), judge.sheet(good)]
    same, better = judge.permutation_p(sheets, judge.sheet(odds))
    assert same == 1.0
    assert better < 0.01


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_a_part_of_the_requests_is_judged_as_if_it_were_all(world, metric):
    here = world("binary")
    requests = all_requests(here.log, here.spec, here.until_ms, 2**62)
    odds = np.random.default_rng(1).normal(size=(len(requests), 1)).astype(np.float32)
    chosen = np.arange(0, len(requests), 2)
    judge = Judge(requests, None, metric, 50, seed=0)
    part = Judge(requests.take(chosen), None, metric, 50, seed=0)
    found = judge.target(judge.sheet(odds), chosen)
    assert found.mean == pytest.approx(part.target(part.sheet(odds[chosen])).mean)
