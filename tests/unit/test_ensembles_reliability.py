"""Reliability figures against scikit-learn, scipy and small cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from penchant.ensembles.promises.reliability import brier, calibration_error, reliability, wilson
from penchant.platform.errors import DataError


def forecasts(size=500, seed=0):
    random = np.random.default_rng(seed)
    chance = random.beta(1, 3, size)
    return chance, (random.random(size) < chance**1.5).astype(np.float32)


def test_bins_are_the_librarys():
    chance, outcome = forecasts()
    seen, said = calibration_curve(outcome, chance, n_bins=10, strategy="quantile")
    found = reliability(chance, outcome)
    np.testing.assert_allclose([b.share.mean for b in found.bins], seen)
    np.testing.assert_allclose([b.mean for b in found.bins], said)
    assert [b.count for b in found.bins] == [50] * 10


@pytest.mark.parametrize("how", ["equal-count", "equal-width"])
def test_the_error_is_the_weighted_distance_of_the_librarys_curve(how):
    chance, outcome = forecasts()
    strategy = {"equal-count": "quantile", "equal-width": "uniform"}[how]
    seen, said = calibration_curve(outcome, chance, n_bins=10, strategy=strategy)
    edges = np.linspace(0, 1, 11)
    if how == "equal-count":
        edges = np.quantile(chance, edges)
    counts, _ = np.histogram(chance, edges)
    expected = (counts[counts > 0] * np.abs(seen - said)).sum() / len(chance)
    assert calibration_error(chance, outcome, 10, how) == pytest.approx(expected)


def test_the_error_by_hand():
    """Two bins: said .2, seen 1/2; said .9, seen 1."""
    chance = np.array([0.1, 0.3, 0.85, 0.95])
    outcome = np.array([0, 1, 1, 1], dtype=np.float32)
    for how in ("equal-count", "equal-width"):
        assert calibration_error(chance, outcome, 2, how) == pytest.approx((0.3 + 0.1) / 2)


def test_brier_is_the_librarys():
    chance, outcome = forecasts()
    assert brier(chance, outcome).score == pytest.approx(brier_score_loss(outcome, chance))


def test_the_parts_of_brier_by_hand():
    """Said .25 four times (one yes), .75 four times (all yes): base rate 5/8."""
    chance = np.repeat([0.25, 0.75], 4)
    outcome = np.array([1, 0, 0, 0, 1, 1, 1, 1], dtype=np.float32)
    found = brier(chance, outcome, bins=2)
    assert found.reliability == pytest.approx(0.25**2 / 2)
    assert found.resolution == pytest.approx(0.375**2)
    assert found.uncertainty == pytest.approx(5 / 8 * 3 / 8)
    assert found.within == pytest.approx(0.0, abs=1e-12)
    assert found.score == pytest.approx(0.25**2 / 2 - 0.375**2 + 5 / 8 * 3 / 8)


def test_equal_probabilities_stand_in_one_bin():
    chance = np.array([0.2] * 7 + [0.6] * 3)
    found = reliability(chance, np.zeros(10, dtype=np.float32), bins=5)
    assert [b.count for b in found.bins] == [7, 3]


def test_one_probability_for_all_is_one_bin():
    found = reliability(np.full(8, 0.5), np.repeat([0, 1], 4).astype(np.float32))
    assert [b.count for b in found.bins] == [8]
    assert found.ece_equal_count == found.ece_equal_width == 0


@pytest.mark.parametrize(("successes", "count"), [(0, 5), (3, 7), (90, 100), (12, 12)])
def test_wilson_is_the_librarys(successes, count):
    peer = stats.binomtest(successes, count).proportion_ci(method="wilson")
    found = wilson(successes, count)
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=1e-12)
    assert found.mean == successes / count


@pytest.mark.parametrize("chance", [[], [0.5, 1.5], [0.5, np.nan], [0.5]])
def test_what_is_no_probability_is_refused(chance):
    with pytest.raises(DataError, match="expected"):
        reliability(np.array(chance), np.zeros(2 if len(chance) else 0, dtype=np.float32))
