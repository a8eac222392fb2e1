"""How alike members are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from penchant.ensembles.comparing.diversity import list_overlap, rank_correlation


def test_the_overlap_is_the_share_of_common_items():
    """Request one: {0, 1} and {1, 2} share one of two; request two: the lists are equal."""
    one = np.array([[9, 8, 1, 0], [1, 2, 8, 9]], dtype=np.float32)
    two = np.array([[0, 8, 9, 1], [0, 1, 9, 8]], dtype=np.float32)
    found = list_overlap({"one": one, "two": two}, 2)
    np.testing.assert_allclose(found, [[1.0, 0.75], [0.75, 1.0]])


def test_what_is_not_asked_for_stands_in_no_list():
    one = np.array([[5, -np.inf, -np.inf]], dtype=np.float32)
    found = list_overlap({"one": one, "two": one}, 3)
    np.testing.assert_allclose(found, np.ones((2, 2)))


def test_a_list_is_no_longer_than_the_candidates():
    scores = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(list_overlap({"a": scores, "b": -scores}, 10), np.ones((2, 2)))


def test_the_correlation_is_spearmans():
    values = np.round(np.random.default_rng(0).normal(size=(3, 50)), 1)  # with ties
    found = rank_correlation(dict(zip("abc", values, strict=True)))
    np.testing.assert_allclose(found, stats.spearmanr(values, axis=1).statistic)


def test_equal_values_go_with_nothing():
    found = rank_correlation({"flat": np.zeros(5), "rising": np.arange(5.0)})
    assert np.isnan(found[0]).all()
    assert found[1, 1] == pytest.approx(1)
