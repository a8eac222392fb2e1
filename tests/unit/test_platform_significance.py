"""P-values by permutation, and their correction for many."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy import stats

from penchant.platform import significance
from penchant.platform.significance import family_sign_flip_p, holm, sign_flip_p


def exact(sums: np.ndarray) -> float:
    """All 2^n sign flips, by scipy."""
    found = stats.permutation_test((sums,), np.mean, permutation_type="samples", n_resamples=np.inf)
    return float(found.pvalue)


@pytest.mark.parametrize("sums", [[1.0, 2.0, 3.0], [1.0, -1.0, 2.0, 2.0, 0.5], [0.1] * 8])
def test_on_tiny_cases_the_p_value_is_that_of_all_flips(sums):
    user = np.arange(len(sums))
    values = np.array(sums)
    (found,) = sign_flip_p(values[:, None], user, 20_000, seed=0)
    assert found == pytest.approx(exact(values), abs=0.015)  # four standard deviations


def test_requests_of_one_user_flip_together():
    """Three users with sums 1, 2 and 3: two of the eight flips are as extreme."""
    values = np.array([0.5, 0.5, 3.0, -1.0, 1.0, 1.0, 1.0])
    user = np.array([0, 0, 1, 1, 2, 2, 2])
    (found,) = sign_flip_p(values[:, None], user, 20_000, seed=0)
    assert found == pytest.approx(2 / 8, abs=0.015)


def test_a_p_value_is_never_zero_and_no_difference_has_one():
    columns = np.stack([np.full(60, 0.1), np.zeros(60), np.full(60, -0.1)], axis=1)
    assert sign_flip_p(columns, np.arange(60), 999, seed=0) == [0.001, 1.0, 0.001]


def test_a_request_that_does_not_count_adds_nothing():
    values = np.array([[1.0], [np.nan], [2.0]])
    user = np.array([0, 1, 2])
    assert sign_flip_p(values, user, 500, 0) == sign_flip_p(np.nan_to_num(values), user, 500, 0)


def test_under_chance_small_p_values_are_rare():
    random = np.random.default_rng(3)
    columns = random.normal(size=(100, 1000))  # a thousand comparisons without a difference
    found = np.array(sign_flip_p(columns, np.arange(100), 999, seed=1))
    assert 0.03 <= np.mean(found <= 0.05) <= 0.07  # 0.05 expected, standard deviation 0.007


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # x3, x1 (at least 0.06), x2, x4
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([], []),
    ],
)
def test_holm_steps_down(p, corrected):
    assert holm(p) == pytest.approx(corrected)


def test_examples_hold():
    assert doctest.testmod(significance).failed == 0


def test_one_comparison_is_corrected_for_nothing():
    random = np.random.default_rng(0)
    column, user = random.normal(0.2, size=(50, 1)), np.arange(50)
    assert family_sign_flip_p(column, user, 999, 0) == sign_flip_p(column, user, 999, 0)


def test_copies_cost_nothing_and_independent_ones_what_bonferroni_says():
    """Of ten, the chance that one is as extreme as p alone is 1 - (1 - p)^10."""
    random = np.random.default_rng(1)
    first = random.normal(size=(400, 1)) + 0.15
    user = np.arange(400)
    (alone,) = sign_flip_p(first, user, 20_000, 0)
    copies = family_sign_flip_p(first * np.arange(1, 11), user, 20_000, 0)
    assert copies == pytest.approx([alone] * 10, abs=1e-9)
    others = np.concatenate([first, random.normal(size=(400, 9))], axis=1)
    found = family_sign_flip_p(others, user, 20_000, 0)
    assert found[0] == pytest.approx(1 - (1 - alone) ** 10, abs=0.01)
    assert (np.array(found) >= sign_flip_p(others, user, 20_000, 0)).all()


def test_without_differences_or_users_nothing_is_sure():
    assert family_sign_flip_p(np.zeros((5, 2)), np.arange(5), 99, 0) == [1.0, 1.0]
    assert family_sign_flip_p(np.zeros((0, 2)), np.zeros(0, dtype=np.int64), 99, 0) == [1.0, 1.0]
    assert family_sign_flip_p(np.zeros((5, 0)), np.arange(5), 99, 0) == []
