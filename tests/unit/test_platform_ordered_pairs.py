"""Pairs of a yes and a no over resamples: both ways of counting, against every pair in turn."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.platform import ordered_pairs
from penchant.platform.ordered_pairs import OrderedPairs

USERS = 9


def counted(scores, label, group, weight) -> tuple[float, float]:
    """Pairs won, and pairs in all, one after the other."""
    won = pairs = 0.0
    for yes in np.flatnonzero(label > 0.5):
        for no in np.flatnonzero((label < 0.5) & (group == group[yes])):
            both = float(weight[yes]) * float(weight[no])
            won += both * ((scores[yes] > scores[no]) + (scores[yes] == scores[no]) / 2)
            pairs += both
    return won, pairs


@pytest.mark.parametrize("per_request", [0, 10**9], ids=["running sums", "a table of users"])
@pytest.mark.parametrize("groups", [None, 1, 4, 60])
@pytest.mark.parametrize("cells", [1, 1 << 22], ids=["a user at a time", "all users"])
def test_pairs_are_those_of_a_loop(monkeypatch, per_request, groups, cells):
    monkeypatch.setattr(ordered_pairs, "_PER_REQUEST", per_request)
    monkeypatch.setattr(ordered_pairs, "_CELLS", cells)
    random = np.random.default_rng(1)
    label = (random.random(80) < 0.4).astype(np.float32)
    group = random.integers(groups or 1, size=80).astype(np.int32)
    scores = np.round(random.normal(size=80) + label, 1).astype(np.float32)
    user = random.integers(USERS, size=80)
    counts = random.poisson(1.0, size=(5, USERS)).astype(np.uint8)
    found = OrderedPairs(scores, label, None if groups is None else group, user, USERS)
    expected = [counted(scores, label, group, row[user]) for row in counts]
    np.testing.assert_allclose(found.won(counts), [won for won, _ in expected])
    np.testing.assert_allclose(found.pairs(counts), [pairs for _, pairs in expected])


@pytest.mark.parametrize("per_request", [0, 10**9])
@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_without_a_yes_or_without_a_no_there_are_none(monkeypatch, per_request, answer):
    monkeypatch.setattr(ordered_pairs, "_PER_REQUEST", per_request)
    label = np.full(6, answer, dtype=np.float32)
    group = np.zeros(6, dtype=np.int32)
    found = OrderedPairs(np.arange(6, dtype=np.float32), label, group, np.arange(6), 6)
    once = np.ones((1, 6), dtype=np.uint8)
    assert (found.won(once), found.pairs(once)) == (0, 0)
