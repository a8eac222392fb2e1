"""AUC over resamples, against scikit-learn, and its parts by request."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from penchant.platform.auc import auc_interval, auc_shares
from penchant.platform.intervals import Resampler


@pytest.fixture
def answers():
    """Scores with ties, other scores, labels, and 40 users."""
    random = np.random.default_rng(0)
    label = (random.random(300) < 0.3).astype(np.float32)
    scores = np.round(random.normal(size=300) + label, 1).astype(np.float32)
    other = random.normal(size=300).astype(np.float32)
    return scores, other, label, random.integers(0, 40, 300).astype(np.int32)


def test_every_resample_is_a_weighted_auc(answers):
    scores, _, label, user = answers
    resampler = Resampler(user, 200, seed=0)
    drawn = [
        metrics.roc_auc_score(label, scores, sample_weight=counts[resampler.user])
        for batch in resampler.batches()
        for counts in batch
    ]
    found = auc_interval(scores, label, resampler)
    assert found.mean == pytest.approx(metrics.roc_auc_score(label, scores))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert found.p is None


def test_a_difference_is_paired(answers):
    scores, other, label, user = answers
    resampler = Resampler(user, 200, seed=0)
    found = auc_interval(scores, label, resampler, other)
    one, two = (metrics.roc_auc_score(label, s) for s in (scores, other))
    assert found.mean == pytest.approx(one - two)
    same = auc_interval(scores, label, resampler, scores)
    assert (same.mean, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_without_a_yes_there_is_no_auc(answers):
    scores, other, label, user = answers
    found = auc_interval(scores, 0 * label, Resampler(user, 50, seed=0))
    assert np.isnan([found.mean, found.low, found.high]).all()
    assert not auc_shares(scores, other, 0 * label).any()


def test_the_parts_of_a_difference_add_up_to_it_and_vary_as_delong_says(answers):
    """DeLong's variance of a difference is that of the two kinds' components over their number."""
    scores, other, label, _ = answers
    parts = auc_shares(scores, other, label)
    difference = metrics.roc_auc_score(label, scores) - metrics.roc_auc_score(label, other)
    assert parts.sum() == pytest.approx(difference)
    yes, no = label > 0.5, label <= 0.5

    def components(values):
        above = values[yes][:, None] - values[no][None, :]
        won = (above > 0) + 0.5 * (above == 0)
        return won.mean(axis=1), won.mean(axis=0)

    ours, theirs = components(scores), components(other)
    variance = sum(np.var(a - b, ddof=0) / len(a) for a, b in zip(ours, theirs, strict=True))
    centred = parts - difference / len(parts)
    assert (centred**2).sum() == pytest.approx(variance)
