"""What is learned of items from values, and the features of a candidate by a slow reading."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from penchant.platform.config import Requests as Spec
from penchant.platform.item_tokens import Likeness, TokenLists
from penchant.platform.requests import all_requests
from penchant.platform.timeline import Window
from penchant.trainers.boosted.taste import learn_taste, solve_rows
from penchant.trainers.boosted.taste_features import TASTE_FEATURES, taste_features

SPEC = Spec(task="binary", positive_above=3.0, metric="auc")


def rated(make_log, users=30, events=20, items=12, seed=0):
    """Users of two sorts, each likes the items of its own half; item 0 is liked by everybody."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for at, item in enumerate(random.integers(items, size=events)):
            likes = item == 0 or (item % 2 == user % 2)
            rows.append(
                (user, 1000 * at + user, int(item), None, float(4 + likes - 2 * (not likes)))
            )
    return make_log(rows, items)


def test_a_value_is_read_as_a_yes_and_as_its_place(make_log):
    log = make_log([(0, t, 0, None, v) for t, v in enumerate((1.0, 2.0, 2.0, 1e9))], 1)
    taste = learn_taste(log, np.arange(4), 2.0)
    yes, place = taste.readings(np.array([1.0, 2.0, 1e9, -5.0, math.nan, math.inf], np.float32))
    assert yes.tolist() == [0, 0, 1, 0, 0, 1]
    np.testing.assert_allclose(place, [1 / 8, 1 / 2, 7 / 8, 0, 0.5, 1], atol=0.002)
    assert taste.overall == pytest.approx([0.25, 0.5], abs=0.002)


def test_what_everybody_likes_stands_above_and_unknown_items_at_the_mean(make_log):
    log = replace(rated(make_log), num_items=13)
    taste = learn_taste(log, np.arange(log.num_events), 3.0)
    assert (taste.bias.argmax(axis=1) == 0).all()
    assert (taste.bias[:, 12] == 0).all()
    assert taste.events[12] == 0
    assert taste.events.sum() == log.num_events


def test_factors_tell_the_two_halves_of_items_apart(make_log):
    log = rated(make_log)
    factors = learn_taste(log, np.arange(log.num_events), 3.0).factors[1:]
    likeness = factors @ factors.T
    odd = np.arange(1, 12) % 2
    same = odd[:, None] == odd[None, :]
    assert likeness[same].min() > 0 > likeness[~same].max()


def test_nothing_to_learn_from_is_a_taste_that_knows_nothing(make_log):
    taste = learn_taste(make_log([(0, 1, 0)], 3), np.zeros(0, dtype=np.int64), 0.5)
    assert taste.overall.tolist() == [0.5, 0.5]
    assert not taste.bias.any()
    assert taste.factors.shape == (3, 8)


def test_rows_are_solved_as_a_ridge_regression_each(monkeypatch):
    from penchant.trainers.boosted import taste

    random = np.random.default_rng(0)
    owner = np.sort(random.integers(5, size=40)) + 1  # nobody owns row 0
    factors, rest = random.normal(size=(40, 3)), random.normal(size=40)
    found = solve_rows(owner, factors, rest, 7, ridge=0.7)
    for number in range(7):
        mine = factors[owner == number]
        expected = np.linalg.solve(mine.T @ mine + 0.7 * np.eye(3), mine.T @ rest[owner == number])
        np.testing.assert_allclose(found[number], expected, atol=1e-12)
    monkeypatch.setattr(taste, "_CHUNK", 7)
    np.testing.assert_allclose(solve_rows(owner, factors, rest, 7, ridge=0.7), found, atol=1e-12)


@pytest.mark.parametrize("window", [Window(), Window(events=5)], ids=lambda w: w.label)
def test_features_are_what_a_slow_reading_of_the_history_finds(window, make_log):
    log = rated(make_log, users=4, events=9)
    taste = learn_taste(log, np.arange(20), 3.0)
    likeness = Likeness(TokenLists.of([[item % 3, 5 + item % 4] for item in range(12)]))
    requests = all_requests(log, SPEC, 0, 2**62)
    found = taste_features(log, requests, window, taste, likeness)
    assert found.shape == (len(requests), len(TASTE_FEATURES))
    for at in range(len(requests)):
        end, candidate = int(requests.end[at]), int(requests.candidate[at])
        first = int(log.offsets[requests.user[at]])
        rows = np.arange(max(first, end - 5) if window.events else first, end)
        slow = _slow(log, taste, likeness, rows, candidate)
        for column, name in enumerate(TASTE_FEATURES):
            np.testing.assert_allclose(
                found[at, column], slow[name], rtol=1e-4, atol=1e-5, err_msg=name
            )


def _slow(log, taste, likeness, rows, candidate) -> dict[str, float]:
    items, found = log.item[rows], {}
    alike = np.array([min(likeness.of(np.array([i]), np.array([candidate]))[0], 1) for i in items])
    left = over = np.zeros(len(rows))
    for at, name in enumerate(("yes", "place")):
        over = taste.readings(log.value[rows])[at] - taste.overall[at] - taste.bias[at][items]
        for half, zeros in ((math.inf, 5), (10, 2), (3, 1)):
            weight = np.array([0.5 ** ((len(rows) - 1 - k) / half) for k in range(len(rows))])
            mean = (weight * over).sum() / (weight.sum() + zeros)
            found[f"{name}_over_items_{half:g}"] = mean
        own = over.sum() / (len(rows) + 5)
        left = over - own
        found[f"{name}_of_item"] = taste.bias[at][candidate]
        found[f"{name}_of_both"] = own + taste.bias[at][candidate]
        for power, zeros in ((1, 0.5), (3, 0.05)):
            weight = alike**power
            found[f"{name}_of_alike_{power}"] = (weight * left).sum() / (weight.sum() + zeros)
    found["place_spread"] = math.sqrt((left**2).mean()) if len(rows) > 2 else math.nan
    found["place_last"] = over[-1] if len(rows) else math.nan
    mine = taste.factors[items]
    of_user = np.linalg.solve(mine.T @ mine + 1.4 * np.eye(8), mine.T @ left)
    found["by_factors"] = of_user @ taste.factors[candidate]
    found["user_events"], found["item_events"] = len(rows), taste.events[candidate]
    return found
