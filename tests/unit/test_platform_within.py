"""AUC within groups: by hand, against scikit-learn a group at a time, and over resamples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from penchant.platform.binary import auc
from penchant.platform.intervals import Resampler
from penchant.platform.within import auc_within, within_interval


@pytest.fixture
def drawn():
    """Scores of 300 requests with ties, labels, six groups and forty users."""
    random = np.random.default_rng(0)
    label = (random.random(300) < 0.3).astype(np.float32)
    group = random.integers(6, size=300).astype(np.int32)
    scores = np.round(random.normal(size=300) + label + group, 1).astype(np.float32)
    return scores, label, group, random.integers(40, size=300).astype(np.int32)


def slow(scores, label, group, weight=None):
    """Every pair of a yes and a no of one group."""
    weight = np.ones(len(scores)) if weight is None else weight
    won = pairs = 0.0
    for yes in np.flatnonzero(label > 0.5):
        for no in np.flatnonzero((label < 0.5) & (group == group[yes])):
            both = weight[yes] * weight[no]
            won += both * ((scores[yes] > scores[no]) + (scores[yes] == scores[no]) / 2)
            pairs += both
    return won / pairs


def test_by_hand():
    """Group 0: a yes over one no and level with another; group 1: a yes under its no; 2: no yes."""
    scores = np.array([3, 1, 3, 7, 8, 9], dtype=np.float32)
    label = np.array([1, 0, 0, 1, 0, 0], dtype=np.float32)
    group = np.array([0, 0, 0, 1, 1, 2], dtype=np.int32)
    assert auc_within(scores, label, group) == (1 + 0.5 + 0) / 3
    assert np.isnan(auc_within(scores, np.zeros(6, np.float32), group))
    assert np.isnan(auc_within(scores, label, np.arange(6, dtype=np.int32)))


def test_it_is_scikit_learns_auc_of_each_group_weighted_by_pairs(drawn):
    scores, label, group, _ = drawn
    areas, pairs = [], []
    for number in range(6):
        inside = group == number
        yes = label[inside].sum()
        areas.append(metrics.roc_auc_score(label[inside], scores[inside]))
        pairs.append(yes * (inside.sum() - yes))
    expected = np.average(areas, weights=pairs)
    assert auc_within(scores, label, group) == pytest.approx(expected)
    assert auc_within(scores, label, group) == pytest.approx(slow(scores, label, group))


def test_the_level_of_a_group_does_not_count_and_one_group_is_the_pooled_auc(drawn):
    scores, label, group, _ = drawn
    raised = scores + 50 * group.astype(np.float32)
    assert auc_within(group.astype(np.float32), label, group) == 0.5
    assert auc_within(raised, label, group) == pytest.approx(
        auc_within(scores, label, group), abs=0.01
    )
    assert auc_within(scores, label, np.zeros(300, np.int32)) == pytest.approx(auc(scores, label))


def test_the_interval_is_that_of_users_drawn_again(drawn):
    scores, label, group, user = drawn
    resampler = Resampler(user, 40, seed=1)
    found = within_interval(scores, label, group, resampler)
    counts = np.concatenate(list(resampler.batches()))
    expected = [slow(scores, label, group, drawn[resampler.user]) for drawn in counts.astype(float)]
    assert found.mean == pytest.approx(slow(scores, label, group))
    assert (found.low, found.high) == pytest.approx(np.quantile(expected, [0.025, 0.975]))
    assert found.p is None


def test_differences_are_paired(drawn):
    scores, label, group, user = drawn
    resampler = Resampler(user, 200, seed=1)
    same = within_interval(scores, label, group, resampler, scores)
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1.0)
    worse = within_interval(-scores, label, group, resampler, scores)
    assert worse.mean == pytest.approx(1 - 2 * auc_within(scores, label, group))
    assert worse.high < 0
    assert worse.p is not None
    assert worse.p < 0.05


def test_no_requests_have_no_figure():
    none = np.zeros(0, dtype=np.float32)
    found = within_interval(
        none, none, np.zeros(0, np.int32), Resampler(np.zeros(0, np.int32), 5, 0)
    )
    assert np.isnan(found.mean)
