"""Counts of a user's events by type, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from penchant.platform.requests import Requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.boosted.type_features import type_features


@pytest.fixture
def asked(make_log):
    """One user with events of types 0, 1, 0 at days 0, 30, 60; asked at day 60 and at day 0."""
    log = make_log([(0, 0, 0), (0, 30 * DAY_MS, 1), (0, 60 * DAY_MS, 2)], 3)
    log = dataclasses.replace(log, kind=np.array([0, 1, 0], dtype=np.int8))
    requests = Requests(
        row=np.array([3, 0]),
        user=np.zeros(2, dtype=np.int32),
        time_ms=np.array([60 * DAY_MS, 0]),
        end=np.array([2, 0]),
        target_offsets=np.zeros(3, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
    )
    return log, requests


def test_counts_recency_and_ratios_of_what_is_visible(asked):
    found = type_features(*asked, Window(), 2)
    # 60 days are two half-lives, 30 days are one; each type came once; ratios are 1 / (1 + 1)
    expected = [1, 0.25, 60, 1, 0.5, 30, 0.5, 0.5]
    np.testing.assert_allclose(found[0], expected)
    np.testing.assert_array_equal(found[1], [0, 0, np.nan, 0, 0, np.nan, 0, 0])


def test_the_window_hides_what_is_older(asked):
    found = type_features(*asked, Window(days=40), 2)
    assert found[0, 0] == 0
    assert found[0, 3] == 1


def test_no_types_are_no_columns(asked):
    assert type_features(*asked, Window(), 0).shape == (2, 0)
