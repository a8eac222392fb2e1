"""EASE: weights against the constrained ridge regression that they solve."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.platform.config import Requests as Spec
from penchant.platform.errors import ConfigError
from penchant.platform.recipes import ItemItemRecipe
from penchant.platform.requests import all_requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.counting import item_item
from penchant.trainers.counting.item_item import fit_item_item
from penchant.trainers.member import Past

SPEC = Spec(unit="event")


def fitted(log, *, until=99 * DAY_MS, **settings):
    recipe = ItemItemRecipe(kind="item_item", **settings)
    return fit_item_item(recipe, Past(log=log, spec=SPEC, until_ms=until))


def test_each_column_is_a_ridge_regression_on_the_other_items(make_log):
    """argmin |x_j - X b|^2 + l |b|^2 with b_j = 0, solved for each item by itself."""
    random = np.random.default_rng(0)
    had = random.random((30, 5)) < 0.4
    rows = [(u, int(i) * DAY_MS, int(i)) for u in range(30) for i in np.flatnonzero(had[u])]
    weights = fitted(make_log(rows, 5, 30), regularization=3.0).weights
    x = had.astype(np.float64)
    for item in range(5):
        others = [other for other in range(5) if other != item]
        a = x[:, others]
        b = np.linalg.solve(a.T @ a + 3.0 * np.eye(4), a.T @ x[:, item])
        np.testing.assert_allclose(weights[others, item], b, rtol=1e-4, atol=1e-6)
        assert weights[item, item] == 0


def test_three_items_by_hand(make_log):
    """Users {0, 1}, {0, 1}, {2}: 0 and 1 predict each other, 2 predicts nothing.

    Between 0 and 1 the Gram matrix is [[2, 2], [2, 2]]; with l = 1 the regression of one on the
    other alone has the weight 2 / (2 + 1).
    """
    log = make_log([(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (2, 0, 2)], 3)
    expected = [[0, 2 / 3, 0], [2 / 3, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(fitted(log, regularization=1.0).weights, expected, atol=1e-6)


def test_having_an_item_twice_counts_once_and_later_events_not_at_all(make_log):
    rows = [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (2, 0, 2)]
    plain = fitted(make_log(rows, 3), regularization=1.0)
    repeated = fitted(make_log([*rows, (0, 2, 0), (0, 3, 0)], 3), regularization=1.0)
    later = fitted(make_log([*rows, (2, 9, 0)], 3), regularization=1.0, until=9)
    np.testing.assert_allclose(repeated.weights, plain.weights, atol=1e-7)
    np.testing.assert_allclose(later.weights, plain.weights, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "faded"),
    [
        ({}, [1, 1, 1]),
        ({"window": Window(days=4)}, [1, 0, 1]),
        ({"window": Window(events=1)}, [0, 0, 1]),
        ({"half_life_events": 2.0}, [2**-0.5, 2**-1, 1]),
        ({"window": Window(half_life_days=2)}, [2**-1.5, 2**-3, 2**-1]),
        (
            {"half_life_events": 2.0, "window": Window(half_life_days=2)},
            [2**-2, 2**-4, 2**-1],
        ),
    ],
)
def test_a_history_fades_by_the_last_event_of_each_item(settings, faded, make_log):
    """Item 0 on days 1 and 5, item 1 on day 2, item 2 on day 6; asked on day 8."""
    days = [(1, 0), (2, 1), (5, 0), (6, 2), (8, 1)]
    log = make_log([(0, day * DAY_MS, item) for day, item in days], 3)
    member = fitted(log, until=8 * DAY_MS, regularization=2.0, **settings)
    asked = all_requests(log, SPEC, 8 * DAY_MS, 9 * DAY_MS)
    expected = np.array([faded], dtype=np.float32) @ member.weights
    np.testing.assert_allclose(member.score(log, asked), expected, rtol=1e-5, atol=1e-7)


def test_a_catalogue_that_is_too_large_is_refused(make_log, monkeypatch):
    monkeypatch.setattr(item_item, "_MAX_ITEMS", 2)
    with pytest.raises(ConfigError, match="expected at most 2 items, got 3"):
        fitted(make_log([(0, 0, 0)], 3))
