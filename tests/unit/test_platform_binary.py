"""Metrics of yes-or-no requests against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from penchant.platform.auc import auc_interval
from penchant.platform.binary import auc, binary_per_request
from penchant.platform.intervals import Resampler


def drawn(size: int = 400, seed: int = 0, levels: int | None = None):
    random = np.random.default_rng(seed)
    odds = random.normal(-0.5, 2, size)
    if levels:
        odds = np.round(odds * levels / 8)
    label = random.random(size) < 1 / (1 + np.exp(-odds))
    return odds.astype(np.float32), label.astype(np.float32)


@pytest.mark.parametrize("levels", [None, 5])
def test_auc_is_that_of_scikit_learn_with_and_without_ties(levels):
    odds, label = drawn(levels=levels)
    assert auc(odds, label) == pytest.approx(metrics.roc_auc_score(label, odds))


@pytest.mark.parametrize("levels", [None, 5])
def test_a_weight_counts_a_request_so_many_times(levels):
    odds, label = drawn(levels=levels)
    weight = np.random.default_rng(1).integers(0, 4, len(odds)).astype(np.float64)
    expected = metrics.roc_auc_score(label, odds, sample_weight=weight)
    assert auc(odds, label, weight) == pytest.approx(expected)
    repeated = np.repeat(np.arange(len(odds)), weight.astype(int))
    assert auc(odds, label, weight) == pytest.approx(auc(odds[repeated], label[repeated]))


def test_auc_by_hand():
    # yes at 3 and 1, no at 2 and 1: of four pairs one is lost, one ties
    scores, label = np.array([3, 1, 2, 1], np.float32), np.array([1, 1, 0, 0], np.float32)
    assert auc(scores, label) == (1 + 1 + 0 + 0.5) / 4
    assert auc(np.zeros(4, np.float32), label) == 0.5
    assert np.isnan(auc(scores, np.ones(4, np.float32)))


def test_losses_are_those_of_scikit_learn():
    odds, label = drawn()
    found = binary_per_request(odds, label)
    chance = 1 / (1 + np.exp(-odds.astype(np.float64)))
    assert found["log_loss"].mean() == pytest.approx(metrics.log_loss(label, chance))
    assert found["brier"].mean() == pytest.approx(metrics.brier_score_loss(label, chance))
    assert found["accuracy"].mean() == metrics.accuracy_score(label, chance > 0.5)


def test_extreme_log_odds_have_finite_losses_and_raise_no_warning():
    odds = np.array([-2000, -800, 800, 2000], dtype=np.float32)
    found = binary_per_request(odds, np.array([0, 1, 1, 0], dtype=np.float32))
    assert found["log_loss"].tolist() == [0, 800, 0, 2000]
    assert found["brier"].tolist() == [0, 1, 0, 1]
    assert found["accuracy"].tolist() == [1, 0, 1, 0]


def interval(metric, odds, label, resampler, other=None):
    """As a comparison judges yes-or-no requests."""
    if metric == "auc":
        return auc_interval(odds, label, resampler, other)
    values = binary_per_request(odds, label)[metric]
    if other is None:
        return resampler.mean(values)
    return resampler.difference(values, binary_per_request(other, label)[metric])


@pytest.mark.parametrize("metric", ["auc", "log_loss", "brier", "accuracy"])
def test_an_interval_holds_the_figure_and_a_difference_its_sign(metric):
    odds, label = drawn(600)
    worse = odds + np.random.default_rng(2).normal(0, 4, len(odds)).astype(np.float32)
    resampler = Resampler(np.arange(len(odds), dtype=np.int32) // 3, 200, seed=0)
    own = interval(metric, odds, label, resampler)
    known = (
        metrics.roc_auc_score(label, odds)
        if metric == "auc"
        else binary_per_request(odds, label)[metric].mean()
    )
    assert own.mean == pytest.approx(known)
    assert own.low < known < own.high
    change = interval(metric, odds, label, resampler, worse)
    good = -1 if metric in ("log_loss", "brier") else 1
    assert good * change.mean > 0
    assert change.p < 0.05
    assert interval(metric, odds, label, resampler, odds).p == 1.0
