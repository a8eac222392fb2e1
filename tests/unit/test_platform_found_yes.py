"""Precision, recall and F1 against scikit-learn, and their intervals against drawing by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from penchant.platform.found_yes import yes_metrics
from penchant.platform.intervals import Resampler

SCORES = {
    "precision": metrics.precision_score,
    "recall": metrics.recall_score,
    "f1": metrics.f1_score,
}


def drawn(requests=200, users=20):
    random = np.random.default_rng(0)
    label = (random.random(requests) < 0.3).astype(np.float32)
    odds = (random.normal(size=requests) + 2 * label - 1).astype(np.float32)
    return odds, label, random.integers(0, users, requests).astype(np.int32)


def test_figures_are_those_of_scikit_learn():
    odds, label, user = drawn()
    found = yes_metrics(odds, label, Resampler(user, 50, seed=0))
    for name, score in SCORES.items():
        assert found[name].mean == pytest.approx(score(label, odds > 0))
        assert found[name].low < found[name].mean < found[name].high


def test_intervals_are_those_of_whole_users_drawn_again():
    odds, label, user = drawn()
    resampler = Resampler(user, 300, seed=1)
    found = yes_metrics(odds, label, resampler)
    times = np.concatenate(list(resampler.batches()))[:, resampler.user]
    for name, score in SCORES.items():
        again = [score(label, odds > 0, sample_weight=weight) for weight in times]
        edges = np.quantile(again, [0.025, 0.975])
        assert (found[name].low, found[name].high) == pytest.approx(tuple(edges))


def test_a_difference_is_paired_and_that_of_equal_scores_is_zero():
    odds, label, user = drawn()
    resampler = Resampler(user, 100, seed=0)
    other = np.roll(odds, 1)
    found = yes_metrics(odds, label, resampler, other)
    one, two = (yes_metrics(scores, label, resampler) for scores in (odds, other))
    for name, interval in found.items():
        assert interval.mean == pytest.approx(one[name].mean - two[name].mean)
        assert interval.p is not None
    same = yes_metrics(odds, label, resampler, odds)
    assert all((part.mean, part.low, part.high) == (0, 0, 0) for part in same.values())


def test_who_never_says_yes_has_no_precision_and_finds_nothing():
    label = np.array([1, 0, 1], dtype=np.float32)
    found = yes_metrics(-np.ones(3, np.float32), label, Resampler(np.arange(3), 20, seed=0))
    assert np.isnan(found["precision"].mean)
    assert found["recall"].mean == 0
    assert found["f1"].mean == 0
