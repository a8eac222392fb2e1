"""The user's own items by hand: decay, prior, large groups, rates of yes."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.platform.config import Requests as Spec
from penchant.platform.recipes import PersonalRecipe
from penchant.platform.requests import all_requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.counting.personal import fit_personal
from penchant.trainers.member import Past

GROUPS = Spec(unit="group")


def score_last(log, recipe, spec=GROUPS, until=10 * DAY_MS):
    """Scores of the first request at or after the cut-off, and the prior."""
    member = fit_personal(recipe, Past(log=log, spec=spec, until_ms=until))
    asked = all_requests(log, spec, until, 99 * DAY_MS)
    return member.score(log, asked)[0], member.prior


@pytest.fixture
def log(make_log):
    """User 0: items 0, 1 on day 2; item 0 on day 6; asked on day 10. User 1 likes item 2."""
    rows = [(0, 2, 0, 0), (0, 2, 1, 0), (0, 6, 0, 1), (0, 10, 2, 2), (1, 3, 2, 0), (1, 4, 2, 1)]
    return make_log([(user, day * DAY_MS, item, group) for user, day, item, group in rows], 4)


def test_the_prior_is_the_populations_share_before_the_cut_off(log):
    _, prior = score_last(log, PersonalRecipe(kind="personal"))
    np.testing.assert_allclose(prior, np.array([2.5, 1.5, 2.5, 0.5]) / 7, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "counts", "weight"),
    [
        ({}, [2, 1, 0, 0], 1.0),
        ({"prior_weight": 5.0}, [2, 1, 0, 0], 5.0),
        ({"prior_weight": 0.0}, [2, 1, 0, 0], 0.0),
        ({"window": Window(half_life_days=4)}, [2**-2 + 2**-1, 2**-2, 0, 0], 1.0),
        ({"window": Window(days=5)}, [1, 0, 0, 0], 1.0),
        ({"window": Window(events=2)}, [1, 1, 0, 0], 1.0),
        ({"min_group_items": 2}, [1, 1, 0, 0], 1.0),
        ({"min_group_items": 3}, [0, 0, 0, 0], 1.0),
        # the window cuts the group of two in half: what is left of it is small
        ({"min_group_items": 2, "window": Window(events=2)}, [0, 0, 0, 0], 1.0),
    ],
)
def test_scores_are_the_log_of_own_counts_and_the_weighted_prior(settings, counts, weight, log):
    scores, prior = score_last(log, PersonalRecipe(kind="personal", **settings))
    expected = np.log(np.array(counts) + (weight + 1e-6) * prior)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_without_groups_a_smallest_group_size_hides_nothing_or_everything(make_log):
    """Where every event stands alone, the size of groups is not asked for."""
    log = make_log([(0, 0, 0), (0, 10 * DAY_MS, 1)], 2)
    spec = Spec(unit="event")
    scores = [
        score_last(log, PersonalRecipe(kind="personal", min_group_items=size), spec)[0]
        for size in (1, 2)
    ]
    np.testing.assert_array_equal(*scores)


def test_the_users_own_rate_of_yes_is_smoothed_to_that_of_the_item(make_log):
    rows = [(0, 0, 0, None, 5.0), (0, 6 * DAY_MS, 1, None, 1.0), (0, 10 * DAY_MS, 0, None, 5.0)]
    log = make_log(rows, 2)
    spec = Spec(task="binary", positive_above=3.0, metric="auc")
    recipe = PersonalRecipe(kind="personal", window=Window(half_life_days=5), prior_weight=0.5)
    scores, prior = score_last(log, recipe, spec)
    item_rate = 1 / (1 + np.exp(-prior[0]))
    weights = 2 ** (-10 / 5), 2 ** (-4 / 5)  # a yes ten days ago, a no four days ago
    rate = (weights[0] + 5 * item_rate) / (sum(weights) + 5)
    np.testing.assert_allclose(scores, [np.log(rate / (1 - rate))], rtol=1e-5)


def test_with_no_prior_and_only_yes_the_log_odds_stay_finite(make_log):
    log = make_log([(0, t * DAY_MS, 0, None, 5.0) for t in range(12)], 1)
    spec = Spec(task="binary", positive_above=3.0, metric="auc")
    scores, _ = score_last(log, PersonalRecipe(kind="personal", prior_weight=0.0), spec)
    assert 5 < scores[0] < 20
