"""Counts that go to items with like texts, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.platform.config import Requests as Spec
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.item_vectors import item_vectors
from penchant.platform.recipes import Alike, PersonalRecipe
from penchant.platform.requests import all_requests
from penchant.platform.timeline import DAY_MS
from penchant.trainers.counting.alike import AlikeTexts
from penchant.trainers.counting.personal import fit_personal
from penchant.trainers.member import Past

TEXTS = ("milk", "red wine", "milk", "", "white bread")


@pytest.fixture
def past(make_log):
    """User 0 has had items 0, 1 and 3, and is asked on day 10; nobody has had items 2 and 4."""
    rows = [(0, 2, 0), (0, 2, 1), (0, 3, 3), (0, 10, 2), (1, 4, 1)]
    log = make_log([(user, day * DAY_MS, item) for user, day, item in rows], 5)
    spec = Spec(unit="event")
    return Past(log=log, spec=spec, until_ms=10 * DAY_MS, texts=TEXTS)


def settings(base, **other):
    return Alike(text=str(base), temperature=0.5, **other)


def test_a_count_is_shared_by_a_softmax_of_the_cosine_over_items(tiny_base, past):
    alike = AlikeTexts.find(settings(tiny_base), past)
    vectors = item_vectors(str(tiny_base), list(TEXTS), None)
    near = np.exp((vectors @ vectors.T) / 0.5)
    near[:, 3] = near[3] = 0.0  # the item without a text
    near[:3] /= near[:3].sum(axis=1, keepdims=True)
    near[4] /= near[4].sum()
    found = alike.spread(np.arange(5), np.arange(5), np.ones(5, np.float32), rows=5)
    np.testing.assert_allclose(found, near, rtol=1e-4)


def test_only_the_nearest_texts_get_a_share(tiny_base, past):
    alike = AlikeTexts.find(settings(tiny_base, neighbors=1), past)
    found = alike.spread(np.zeros(2, int), np.array([0, 4]), np.float32([4, 3]), rows=1)
    np.testing.assert_allclose(found, [[2, 0, 2, 0, 3]], rtol=1e-6)  # two items read `milk`


def test_own_counts_and_the_prior_are_shared_and_kept(tiny_base, past):
    recipe = PersonalRecipe(
        kind="personal", prior_weight=2.0, alike=settings(tiny_base, neighbors=1, weight=0.5)
    )
    asked = all_requests(past.log, past.spec, past.until_ms, 99 * DAY_MS)
    scores = fit_personal(recipe, past).score(past.log, asked)[0]
    prior = np.array([1.5, 2.5, 0.5, 1.5, 0.5]) / 6.5
    shared = np.array([1.0, 2.5, 1.0, 0.0, 0.5]) / 6.5
    expected = np.array([1.25, 1.5, 0.25, 1, 0]) + 2 * (prior + 0.5 * shared) / 1.5
    np.testing.assert_allclose(scores, np.log(expected), rtol=1e-4)


def test_a_text_that_nobody_had_is_found_by_what_it_says(tiny_base, past):
    """Items 2 and 4 are new; 2 says what item 0 says, which the user has had."""
    recipe = PersonalRecipe(kind="personal", alike=Alike(text=str(tiny_base)))
    asked = all_requests(past.log, past.spec, past.until_ms, 99 * DAY_MS)
    plain = fit_personal(PersonalRecipe(kind="personal"), past).score(past.log, asked)[0]
    alike = fit_personal(recipe, past).score(past.log, asked)[0]
    assert plain[2] == plain[4]
    assert alike[2] > alike[4]


def test_a_yes_or_no_task_and_a_log_without_texts_are_refused(tiny_base, past):
    recipe = PersonalRecipe(kind="personal", alike=settings(tiny_base))
    binary = replace(past, spec=Spec(task="binary", positive_above=0.5, metric="auc"))
    with pytest.raises(ConfigError, match=r"personal\.alike .* Remove it"):
        fit_personal(recipe, binary)
    with pytest.raises(DataError, match="no item has a text"):
        fit_personal(recipe, replace(past, texts=("",) * 5))
