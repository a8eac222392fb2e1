"""Bootstrap by user: means, paired differences, p-values, and how often intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from penchant.platform.intervals import Interval, Resampler, summary

NAN = float("nan")


def users(number: int, requests: int = 1) -> np.ndarray:
    return np.repeat(np.arange(number, dtype=np.int32), requests)


def test_the_mean_is_over_requests_and_leaves_out_nan():
    found = Resampler(users(2, 2), 200, seed=0).mean(np.array([1.0, 2.0, NAN, 6.0]))
    assert found.mean == pytest.approx(3.0)
    assert 1.5 <= found.low <= found.mean <= found.high <= 6.0
    assert found.p is None


def test_equal_values_have_an_interval_of_no_width():
    found = Resampler(users(5, 3), 200, seed=0).mean(np.full(15, 0.25))
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_the_interval_of_a_mean_is_near_the_one_of_theory():
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    found = Resampler(users(400), 2000, seed=0).mean(values)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_requests_of_one_user_are_drawn_together():
    """Thirty copies of a user's value say no more than one of them."""
    values = np.random.default_rng(2).normal(size=40)
    once = Resampler(users(40), 1000, seed=0).mean(values)
    often = Resampler(users(40, 30), 1000, seed=0).mean(np.repeat(values, 30))
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-6)


def test_the_order_and_the_names_of_users_change_nothing():
    random = np.random.default_rng(3)
    user, values = random.integers(0, 20, 200).astype(np.int32), random.random(200)
    plain = Resampler(user, 300, seed=0).mean(values)
    named = Resampler(user * 1000 + 7, 300, seed=0).mean(values)
    order = random.permutation(200)
    shuffled = Resampler(user[order], 300, seed=0).mean(values[order])
    for other in (named, shuffled):
        assert (other.low, other.high) == pytest.approx((plain.low, plain.high))


def test_a_difference_is_paired_by_request():
    """A gain that every request has is sure, however much the requests differ."""
    random = np.random.default_rng(4)
    values = random.normal(0, 100, size=200)
    resampler = Resampler(users(200), 1000, seed=0)
    found = resampler.difference(values + 0.5, values)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.p == pytest.approx(2 / 1001)  # the least that 1000 resamples can say
    lost = resampler.difference(values, values + 0.5)
    assert lost.mean == pytest.approx(-0.5)
    assert lost.p == found.p


def test_no_difference_at_all_has_p_one():
    values = np.random.default_rng(5).random(50)
    found = Resampler(users(50), 400, seed=0).difference(values, values)
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_p_value_is_near_that_of_a_t_test():
    gains = np.random.default_rng(6).normal(0.15, 1.0, size=300)
    found = Resampler(users(300), 4000, seed=0).difference(gains, np.zeros(300))
    assert found.p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, abs=0.01)


def test_intervals_cover_the_truth_nineteen_times_of_twenty():
    covered = 0
    for seed in range(200):
        random = np.random.default_rng([9, seed])
        taste = np.repeat(random.normal(0, 1, 60), 4)  # users differ, requests of one are alike
        found = Resampler(users(60, 4), 300, seed=seed).mean(taste + random.normal(0, 0.5, 240))
        covered += found.low <= 0 <= found.high
    assert 180 <= covered <= 198  # 190 expected, standard deviation 3


def test_any_figure_can_have_an_interval():
    values = np.random.default_rng(7).normal(size=300)
    resampler = Resampler(users(100, 3), 500, seed=0)

    def mean(weight):
        return float(np.average(values, weights=weight))

    drawn = [
        mean(counts[resampler.user].astype(np.float64))
        for batch in resampler.batches()
        for counts in batch
    ]
    found = summary(mean(None), np.array(drawn), with_p=True)
    known = resampler.difference(values, 0 * values)
    assert (found.mean, found.low, found.high, found.p) == pytest.approx(
        (known.mean, known.low, known.high, known.p), abs=1e-6
    )


def test_where_nothing_counts_there_is_no_figure():
    found = Resampler(users(3), 100, seed=0).difference(np.full(3, NAN), np.zeros(3))
    assert np.isnan([found.mean, found.low, found.high]).all()
    assert found.to_json() == {"mean": None, "low": None, "high": None}


def test_resamples_without_the_few_that_count_are_left_out():
    values = np.array([NAN] * 30 + [1.0])
    found = Resampler(users(31), 200, seed=0).mean(values)
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)


def test_an_interval_as_json_has_only_what_is_set():
    assert Interval(1.0, 0.5, 2.0).to_json() == {"mean": 1.0, "low": 0.5, "high": 2.0}
    assert Interval(1.0, 0.5, 2.0, 0.04).to_json()["p"] == 0.04
