"""Scores made comparable, by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import special, stats

from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.normalize import normalize, normalize_beside

INF = np.float32(np.inf)
HOWS = ("zscore", "softmax", "rank")


def row(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def drawn() -> np.ndarray:
    return np.random.default_rng(0).normal(3, 5, size=(40, 12)).astype(np.float32)


def test_a_z_score_by_hand():
    # mean 2, standard deviation sqrt((4 + 0 + 0 + 4) / 4)
    expected = np.array([[-2, 0, 0, 2]]) / math.sqrt(2)
    np.testing.assert_allclose(normalize(row(0, 2, 2, 4), "zscore"), expected, rtol=1e-6)


def test_ranks_by_hand_run_from_one_down_to_zero_with_ties_at_their_mean():
    np.testing.assert_allclose(normalize(row(5, 9, 5, 1), "rank"), [[0.5, 1, 0.5, 0]])


def test_a_softmax_by_hand():
    shares = normalize(row(0, math.log(2), math.log(5)), "softmax")
    np.testing.assert_allclose(shares, [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-6)


def test_all_three_agree_with_scipy():
    scores = drawn()
    np.testing.assert_allclose(normalize(scores, "zscore"), stats.zscore(scores, axis=1), atol=1e-5)
    np.testing.assert_allclose(
        normalize(scores, "softmax"), special.softmax(scores, axis=1), atol=1e-6
    )
    ranks = (stats.rankdata(scores, axis=1) - 1) / 11
    np.testing.assert_allclose(normalize(scores, "rank"), ranks, atol=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_what_is_not_asked_for_stays_out_and_changes_nothing_else(how):
    scores = drawn()
    padded = np.insert(scores, [0, 5, 12], -INF, axis=1)
    found = normalize(padded, how)
    hidden = np.isneginf(padded)
    np.testing.assert_array_equal(np.isneginf(found), hidden)
    np.testing.assert_allclose(found[~hidden].reshape(40, 12), normalize(scores, how), atol=1e-6)


@pytest.mark.parametrize(("how", "value"), [("zscore", 0.0), ("softmax", 0.25), ("rank", 0.5)])
def test_equal_scores_are_equal_and_finite(how, value):
    np.testing.assert_allclose(normalize(row(7, 7, 7, 7), how), [[value] * 4])


@pytest.mark.parametrize(("how", "value"), [("zscore", 0.0), ("softmax", 1.0), ("rank", 1.0)])
def test_a_single_candidate_has_the_value_of_the_best(how, value):
    assert normalize(row(-3), how).tolist() == [[value]]
    assert normalize(row(-INF, -3), how).tolist() == [[-math.inf, value]]


@pytest.mark.parametrize("how", HOWS)
def test_a_row_of_which_nothing_is_asked_stays_empty(how):
    assert normalize(row(-INF, -INF), how).tolist() == [[-math.inf, -math.inf]]


@pytest.mark.parametrize("how", HOWS)
def test_the_order_of_candidates_and_the_type_stay(how):
    scores = drawn()
    found = normalize(scores, how)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.argsort(found, axis=1), np.argsort(scores, axis=1))


@pytest.mark.parametrize("how", HOWS)
def test_rows_do_not_know_of_one_another(how):
    scores = drawn()
    np.testing.assert_array_equal(normalize(scores, how)[3:4], normalize(scores[3:4], how))


@pytest.mark.parametrize("how", HOWS)
def test_very_large_scores_neither_overflow_nor_warn(how):
    found = normalize(row(-1e30, 0, 1e30), how)
    assert np.isfinite(found).all()
    assert np.argsort(found[0]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("how", ["zscore", "rank"])
def test_neither_the_scale_nor_the_place_of_a_members_scores_matters(how):
    scores = drawn()
    np.testing.assert_allclose(normalize(scores * 4 + 100, how), normalize(scores, how), atol=1e-4)


def test_log_odds_are_left_as_they_are():
    scores = row(0.25)
    assert normalize(scores, "none") is scores


def test_a_temperature_divides_the_scores():
    scores = drawn()
    np.testing.assert_allclose(
        normalize(scores, "softmax@2.5"), special.softmax(scores / 2.5, axis=1), atol=1e-6
    )
    np.testing.assert_array_equal(normalize(scores, "softmax@1"), normalize(scores, "softmax"))
    assert np.isfinite(normalize(row(-1e30, 0, 1e30), "softmax@0.001")).all()


def test_an_item_more_has_the_share_that_it_would_have_at_the_temperature():
    scores = drawn()
    beside = normalize_beside(scores[:, :1], scores[:, 1:], "softmax@3")
    np.testing.assert_allclose(beside, normalize(scores, "softmax@3")[:, :1], atol=1e-6)


def test_a_normalisation_that_is_none_is_refused():
    with pytest.raises(TypeError, match="got the normalisation 'loud'"):
        normalize(drawn(), "loud")
    for wrong in ("softmax@hot", "softmax@0", "softmax@00.0", "softmax@0e3", "softmax@-1"):
        with pytest.raises(ValidationError, match="normalization"):
            Linear(normalization=wrong, weights={"a": 1.0})
    for right in ("softmax", "softmax@0.05", "softmax@10", "softmax@1e-05", "softmax@2.5e+10"):
        Linear(normalization=right, weights={"a": 1.0})
