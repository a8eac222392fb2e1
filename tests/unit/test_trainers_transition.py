"""Transitions: weights against the ridge regression that they solve, request by request."""

from __future__ import annotations

import numpy as np

from penchant.platform.config import Requests as Spec
from penchant.platform.recipes import ItemItemRecipe
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.counting import transition
from penchant.trainers.counting.item_item import fit_item_item
from penchant.trainers.member import Past

LATER = 99 * DAY_MS


def fitted(log, *, until=LATER, spec=None, **settings):
    recipe = ItemItemRecipe(kind="item_item", relation="transition", **settings)
    past = Past(log=log, spec=spec or Spec(unit="event"), until_ms=until)
    return fit_item_item(recipe, past)


def days(*items, user=0):
    return [(user, at * DAY_MS, item) for at, item in enumerate(items)]


def test_each_column_is_a_ridge_regression_on_faded_histories(make_log):
    """One row for each event: what the user had before, an event ago 1, two ago a half, ..."""
    random = np.random.default_rng(1)
    chosen = random.integers(0, 4, (9, 6))
    log = make_log([row for u in range(9) for row in days(*chosen[u], user=u)], 4, 9)
    x, y = [], []
    for user in range(9):
        for at in range(6):
            faded = np.zeros(4)
            for before in range(at):  # an item counts by its last event
                faded[chosen[user, before]] = 0.5 ** (at - 1 - before)
            x.append(faded)
            y.append(np.eye(4)[chosen[user, at]])
    x, y = np.array(x), np.array(y)
    expected = np.linalg.solve(x.T @ x + 2.0 * np.eye(4), x.T @ y)
    weights = fitted(log, regularization=2.0, half_life_events=1.0).weights
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)


def test_the_order_counts_and_an_item_may_follow_itself(make_log):
    """After 0 came 1, after 1 came 1: with l = 1 and windows of one event each regression stands
    alone, 1 / (1 + 1); nothing ever came after 2 or before 0."""
    log = make_log([*days(0, 1, 1), *days(2, user=1)], 3, 2)
    weights = fitted(log, regularization=1.0, window=Window(events=1)).weights
    np.testing.assert_allclose(weights, [[0, 0.5, 0], [0, 0.5, 0], [0, 0, 0]], atol=1e-6)


def test_it_learns_from_what_is_asked_and_knows_no_later_event(make_log):
    """Without items that were had, 1 after 1 is not asked; what comes at the cut-off is unknown."""
    log = make_log(days(0, 1, 1, 2), 3)
    asked = Spec(unit="event", exclude_seen=True)
    member = fitted(log, spec=asked, until=3 * DAY_MS, window=Window(events=1), regularization=1.0)
    np.testing.assert_allclose(member.weights, [[0, 0.5, 0], [0, 0, 0], [0, 0, 0]], atol=1e-6)


def test_parts_add_up(make_log, monkeypatch):
    random = np.random.default_rng(2)
    log = make_log([row for u in range(5) for row in days(*random.integers(0, 6, 9), user=u)], 6, 5)
    whole = fitted(log).weights
    monkeypatch.setattr(transition, "_CHUNK", 7)
    np.testing.assert_allclose(fitted(log).weights, whole, atol=1e-7)
