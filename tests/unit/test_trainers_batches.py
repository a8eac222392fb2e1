"""Batches by hand: tokens, gaps, what is visible, and where a request is read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from penchant.platform.config import Requests as Spec
from penchant.platform.recipes import SequenceRecipe
from penchant.platform.requests import all_requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.sequence.batches import build_batch, request_sequences, token_starts

GROUPS = Spec(unit="group")
MONDAY_MS = 1_483_315_200_000  # 2017-01-02 00:00 UTC


def recipe_of(**settings) -> SequenceRecipe:
    return SequenceRecipe(kind="sequence", **settings)


def batch_of(log, requests, recipe, *, exclude_seen=False):
    starts = token_starts(log, recipe)
    own = request_sequences(log, requests, recipe, starts)
    readout = (np.arange(len(requests)), own.last_token - own.first_token)
    return build_batch(log, recipe, starts, own, requests, readout, exclude_seen=exclude_seen)


@pytest.fixture
def log(make_log):
    """Baskets of user 0 on days 0, 1 and 5 (two events, one, two), of user 1 on day 2 (one)."""
    days = [(0, 0, 3, 0), (0, 0, 1, 0), (0, 1, 2, 1), (0, 5, 0, 2), (0, 5, 3, 2), (1, 2, 4, 0)]
    return make_log([(u, MONDAY_MS + day * DAY_MS, item, g) for u, day, item, g in days], 5)


def test_a_token_is_a_group_or_an_event(log):
    assert token_starts(log, recipe_of()).tolist() == [0, 2, 3, 5, 6]
    assert token_starts(log, recipe_of(tokens="event")).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_the_last_basket_is_asked_with_the_tokens_before_it(log):
    last = all_requests(log, GROUPS, MONDAY_MS + 5 * DAY_MS, 2**62)
    batch = batch_of(log, last, recipe_of(copy_half_lives_days=(math.inf,)))
    assert batch.item.tolist() == [3, 1, 2]
    assert batch.bag.tolist() == [0, 0, 2, 3]  # the start token holds no item
    assert batch.readout.tolist() == [2]
    # the question behind the start token is the first basket, behind the last token the request
    asked, when = [0, 1, 5], [0, 0, 1]
    gaps = [[0, *(max(asked[i] - when[j], 0) * 24 for j in (1, 2))] for i in range(3)]
    assert batch.gap_hours[0].tolist() == gaps
    assert batch.visible[0].tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert list(zip(batch.pair_item.tolist(), batch.pair_features[:, 0].tolist(), strict=True)) == [
        (1, pytest.approx(math.log(2))),
        (2, pytest.approx(math.log(2))),
        (3, pytest.approx(math.log(2))),
    ]
    assert batch.kept is None


def test_time_features_tell_the_gap_and_the_moment_of_the_question(log):
    last = all_requests(log, GROUPS, MONDAY_MS + 5 * DAY_MS, 2**62)
    features = batch_of(log, last, recipe_of()).time_features
    # weekday as an angle: 1970-01-01 was a Thursday, so Monday is day 4 of 7 and Saturday day 2
    for row, (gap, day, items, start) in enumerate([(0, 4, 0, 1), (24, 5, 2, 0), (96, 2, 1, 0)]):
        expected = [
            math.log1p(gap) / 4,
            0.0,
            1.0,
            math.sin(2 * math.pi * day / 7),
            math.cos(2 * math.pi * day / 7),
            math.log1p(items) / 3,
            start,
        ]
        np.testing.assert_allclose(features[row], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "items"),
    [
        ({}, [3, 1, 2]),
        ({"max_tokens": 1}, [2]),
        ({"window": Window(days=4)}, [2]),
        ({"window": Window(days=3)}, []),
        ({"window": Window(events=1)}, [2]),
        ({"window": Window(events=2)}, [2]),  # a basket is in the window as a whole or not at all
        ({"window": Window(events=3)}, [3, 1, 2]),
        ({"tokens": "event", "window": Window(events=2)}, [1, 2]),
        ({"tokens": "event", "max_tokens": 2}, [1, 2]),
    ],
)
def test_only_tokens_in_the_window_are_read(settings, items, log):
    last = all_requests(log, GROUPS, MONDAY_MS + 5 * DAY_MS, 2**62)
    batch = batch_of(log, last, recipe_of(**settings))
    assert batch.item.tolist() == items
    assert bool(batch.visible[0].tril().eq(batch.visible[0]).all())
    assert bool(batch.visible[0, -1].all())


def test_a_group_that_goes_on_after_the_request_is_read_as_far_as_it_is_known(log):
    middle = all_requests(log, Spec(unit="event"), 0, 2**62).take(np.array([1]))
    batch = batch_of(log, middle, recipe_of())
    assert batch.item.tolist() == [3]
    np.testing.assert_allclose(batch.time_features[1, 5], math.log1p(1) / 3, rtol=1e-6)


def test_first_requests_are_read_from_their_start_tokens(log):
    first = all_requests(log, GROUPS, 0, 2**62).take(np.array([0, 3]))
    batch = batch_of(log, first, recipe_of())
    assert batch.item.tolist() == []
    assert batch.readout.tolist() == [0, 1]
    assert batch.visible.tolist() == [[[True]], [[True]]]
    assert batch.pair_item.tolist() == []


def test_seen_items_are_marked_only_when_they_are_not_asked_for(log):
    last = all_requests(log, GROUPS, MONDAY_MS + 5 * DAY_MS, 2**62)
    recipe = recipe_of(window=Window(days=4), copy_half_lives_days=())
    assert batch_of(log, last, recipe).seen_item.tolist() == []
    marked = batch_of(log, last, recipe, exclude_seen=True)
    assert marked.seen_item.tolist() == [1, 2, 3]  # also what lies outside of the window
    assert marked.seen_request.tolist() == [0, 0, 0]
    assert marked.pair_features.shape == (0, 0)


def test_sequences_of_different_lengths_are_packed_without_padding(log):
    asked = all_requests(log, GROUPS, 0, 2**62)
    batch = batch_of(log, asked, recipe_of())
    lengths = [1, 2, 3, 1]
    assert batch.packed.tolist() == [3 * s + p for s, n in enumerate(lengths) for p in range(n)]
    assert batch.readout.tolist() == (np.cumsum(lengths) - 1).tolist()
    assert batch.visible.shape == (4, 3, 3)
    assert batch.item.dtype == torch.int64
