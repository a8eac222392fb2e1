"""Popularity by hand: windows before the cut-off, fading, smoothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from penchant.platform.config import Requests as Spec
from penchant.platform.recipes import PopularityRecipe
from penchant.platform.requests import all_requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.counting.popularity import fit_popularity, item_log_odds, item_shares
from penchant.trainers.member import Past


@pytest.fixture
def past(make_log):
    """Item 0 on days 0, 1 and 4, item 1 on days 4 and 6, item 2 never before day 8."""
    days = [(0, 0, 0), (0, 1, 0), (1, 4, 0), (1, 4, 1), (0, 6, 1), (0, 8, 2), (1, 9, 2)]
    log = make_log([(user, day * DAY_MS, item) for user, day, item in days], 3)
    return Past(log=log, spec=Spec(), until_ms=8 * DAY_MS)


@pytest.mark.parametrize(
    ("window", "counts"),
    [
        (Window(), [3, 2, 0]),
        (Window(days=4), [1, 2, 0]),  # day 4 lies exactly four days before the cut-off
        (Window(days=3.9), [0, 1, 0]),
        (Window(events=1), [0, 1, 0]),
        (Window(events=3), [1, 2, 0]),
        (Window(events=99), [3, 2, 0]),
        (Window(half_life_days=4), [2**-2 + 2**-1.75 + 2**-1, 2**-1 + 2**-0.5, 0]),
        (Window(days=1), [0, 0, 0]),
    ],
)
def test_shares_are_counts_in_the_window_with_half_an_event_beforehand(window, counts, past):
    expected = np.array(counts) + 0.5
    np.testing.assert_allclose(item_shares(past, window), expected / expected.sum(), rtol=1e-6)


def test_every_user_gets_the_log_of_the_shares(past):
    member = fit_popularity(PopularityRecipe(kind="popularity"), past)
    requests = all_requests(past.log, past.spec, 0, 99 * DAY_MS)
    scores = member.score(past.log, requests)
    np.testing.assert_allclose(scores, np.log([[3.5, 2.5, 0.5]] * 7) - np.log(6.5), rtol=1e-6)


def test_the_log_odds_of_a_yes_are_drawn_towards_the_overall_rate(make_log):
    rows = [(0, t, 0, None, value) for t, value in enumerate([1.0, 5.0, 5.0, 3.0])]
    log = make_log([*rows, (1, 0, 1, None, 5.0), (1, 9, 1, None, 0.0)], 3)
    spec = Spec(task="binary", positive_above=3.0, metric="auc")
    past = Past(log=log, spec=spec, until_ms=9)
    overall = (3 + 1) / (5 + 2)  # three yes of five, and a yes and a no beforehand
    rates = np.array([(2 + 10 * overall) / 14, (1 + 10 * overall) / 11, overall])
    np.testing.assert_allclose(
        item_log_odds(past, Window()), np.log(rates / (1 - rates)), rtol=1e-5
    )
    member = fit_popularity(PopularityRecipe(kind="popularity"), past)
    asked = all_requests(log, spec, 9, 10)
    assert member.score(log, asked).tolist() == [[member.item_score[1]]]


def test_a_threshold_of_zero_or_below_is_taken_as_it_is(make_log):
    log = make_log([(0, 0, 0, None, -1.0), (0, 1, 0, None, 0.0), (0, 2, 0, None, 1.0)], 1)
    for threshold, yes in ((-0.5, 2), (0.0, 1), (-2.0, 3)):
        spec = Spec(task="binary", positive_above=threshold, metric="auc")
        rate = (yes + 10 * (yes + 1) / 5) / 13
        found = item_log_odds(Past(log=log, spec=spec, until_ms=9), Window())
        np.testing.assert_allclose(found, [np.log(rate / (1 - rate))], rtol=1e-5)


def test_labels_are_learned_as_far_as_they_were_known_and_values_are_not(make_log):
    """Item 0: a yes known before the cut-off. Item 1: one known after it. Item 2: not asked."""
    log = make_log([(0, 10, 0), (0, 20, 1), (0, 30, 2), (1, 10, 0), (1, 20, 1)], 3)
    log = dataclasses.replace(
        log,
        label=np.array([1, 1, np.nan, 1, 1], dtype=np.float32),
        label_ms=np.array([15, 200, 30, 15, 200], dtype=np.int64),
    )
    spec = Spec(task="binary", metric="auc")
    past = Past(log=log, spec=spec, until_ms=100)
    score = fit_popularity(PopularityRecipe(kind="popularity"), past).item_score
    overall = (2 + 1) / (4 + 2)  # two of four labels are a known yes
    rates = [(2 + 10 * overall) / 12, (0 + 10 * overall) / 12, overall]
    np.testing.assert_allclose(score, [np.log(r / (1 - r)) for r in rates], atol=1e-6)
