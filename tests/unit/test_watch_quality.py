"""Quality of matured answers, against hand-made figures and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from penchant.serve.watch.quality import binary_quality, calibration_slope, ranking_quality


def drawn(size: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that are said, and labels whose true log-odds are `slope` times as large."""
    random = np.random.default_rng(3)
    odds = random.normal(size=size) * 2
    return odds, (random.random(size) < special.expit(slope * odds)).astype(np.float32)


def test_figures_are_those_of_scikit_learn() -> None:
    odds, label = drawn(500, 1.0)
    chance = special.expit(odds)
    found = binary_quality(odds, chance, label, np.arange(500, dtype=np.int32))
    assert found["auc"].mean == pytest.approx(roc_auc_score(label, odds), abs=1e-6)
    assert found["log_loss"].mean == pytest.approx(log_loss(label, chance), abs=1e-6)
    for interval in found.values():
        assert interval.low <= interval.mean <= interval.high
    assert found["calibration_slope"].low < 1 < found["calibration_slope"].high


def test_the_slope_is_that_of_a_logistic_regression() -> None:
    odds, label = drawn(400, 0.5)
    line = LogisticRegression(C=1e10, tol=1e-10).fit(odds[:, None], label)
    expected = float(line.coef_[0, 0])
    assert calibration_slope(special.expit(odds), label) == pytest.approx(expected, rel=1e-4)


def test_probabilities_that_are_too_sure_have_a_slope_below_one() -> None:
    odds, label = drawn(2000, 0.5)
    users = np.arange(2000, dtype=np.int32)
    found = binary_quality(odds, special.expit(odds), label, users)
    assert found["calibration_slope"].high < 1


def test_a_slope_that_does_not_exist_is_nan() -> None:
    chance = np.array([0.1, 0.2, 0.8, 0.9])
    assert np.isnan(calibration_slope(chance, np.ones(4, dtype=np.float32)))
    assert np.isnan(calibration_slope(np.full(4, 0.5), np.array([0, 1, 0, 1], dtype=np.float32)))
    with np.errstate(over="ignore"):  # labels that a threshold parts: the steeper, the better
        parted = calibration_slope(chance, np.array([0, 0, 1, 1], dtype=np.float32))
    assert np.isnan(parted)


def test_the_calibration_error_is_the_distance_of_said_and_seen() -> None:
    """Twenty forecasts of 0.2 of which half come true, twenty of 0.8 of which all do."""
    chance = np.repeat([0.2, 0.8], 20)
    label = np.concatenate([np.tile([0, 1], 10), np.ones(20)]).astype(np.float32)
    found = binary_quality(chance, chance, label, np.arange(40, dtype=np.int32))
    assert found["ece"].mean == pytest.approx(0.25)  # 0.3 and 0.2
    assert 0 <= found["ece"].low <= 0.25 <= found["ece"].high


def test_one_user_s_requests_are_drawn_together() -> None:
    """Ten users who are all good or all bad: as ten, not as a thousand, independent ones."""
    user = np.repeat(np.arange(10, dtype=np.int32), 100)
    label = (np.arange(1000) % 2).astype(np.float32)
    right = np.where(user < 5, 0.9, 0.1)
    chance = np.where(label > 0.5, right, 1 - right)
    by_user = binary_quality(chance, chance, label, user)["log_loss"]
    alone = binary_quality(chance, chance, label, np.arange(1000, dtype=np.int32))["log_loss"]
    assert by_user.high - by_user.low > 5 * (alone.high - alone.low)


def test_hits_and_ndcg_of_what_was_shown() -> None:
    """First request: chosen at ranks 1 and 3 and one not shown; second: at rank 11; third: at 2."""
    rank = np.array([1, 3, 0, 11, 2])
    request = np.array([0, 0, 0, 1, 2])
    found = ranking_quality(rank, request, np.arange(3, dtype=np.int32))
    first = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3) + 1 / np.log2(4))
    assert found["hr@10"].mean == pytest.approx(2 / 3)
    assert found["ndcg@10"].mean == pytest.approx((first + 0 + 1 / np.log2(3)) / 3)
