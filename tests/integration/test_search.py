"""A search leaves everything that the ensembles need, and never does anything twice."""

from __future__ import annotations

import re

import numpy as np
import pytest

from penchant.platform.errors import ConfigError
from penchant.platform.prepared import JUDGED_BLOCKS, Prepared
from penchant.platform.progress import Progress
from penchant.platform.recipes import PopularityRecipe, recipe_id
from penchant.trainers.ledger import Ledger
from penchant.trainers.search import experiment_recipes, fit_members

pytestmark = [pytest.mark.slow, pytest.mark.integration]


def test_every_member_is_in_the_store_with_its_scores_on_three_blocks(searched: Prepared) -> None:
    recipes = experiment_recipes(searched.experiment)
    assert len(recipes) == 2 + 2 * 2
    for member_id in map(recipe_id, recipes):
        assert searched.run.has_member(member_id)
        for block in JUDGED_BLOCKS:
            asked = searched.requests[block]
            scores = searched.run.read_predictions(block, member_id, asked.row)
            assert scores.shape == (len(asked), searched.log.num_items)
            assert np.isfinite(scores).all()


def test_the_ledger_tells_every_epoch_once_and_how_each_member_ended(searched: Prepared) -> None:
    ended, epochs = {}, {}
    for event in Ledger(searched.run.ledger).read():
        if event["state"] == "epoch":
            epochs.setdefault(event["member"], []).append(event["epoch"])
        else:
            ended[event["member"]] = event["state"]
    recipes = experiment_recipes(searched.experiment)
    assert ended == {recipe_id(r): "done" for r in recipes} | {"hollow": "failed"}
    assert epochs == {recipe_id(r): list(range(r.epochs)) for r in recipes if r.kind == "sequence"}


def test_a_member_that_fails_is_named_with_its_cause_and_the_others_are_kept(
    searched: Prepared, search_error: str
) -> None:
    first, failure, last = search_error.splitlines()
    assert first == "1 of 7 members failed:"
    assert re.match(r"  hollow: ConfigError: base model .* has as weights: none", failure)
    assert last == "What was finished is kept: mend the cause and run again."
    assert not searched.run.has_member("hollow")


def test_a_second_call_does_nothing_and_needs_no_ray(searched: Prepared) -> None:
    before = Ledger(searched.run.ledger).read()
    recipes = experiment_recipes(searched.experiment)
    with Progress(quiet=True) as progress:
        fit_members(searched, recipes, progress, until_ms=searched.blocks.select_ms)
    assert Ledger(searched.run.ledger).read() == before


def test_another_recipe_under_the_name_of_a_finished_member_is_refused(searched: Prepared) -> None:
    other = PopularityRecipe(kind="popularity", name="popular")
    with Progress(quiet=True) as progress, pytest.raises(ConfigError, match="another recipe"):
        fit_members(searched, [other], progress, until_ms=searched.blocks.select_ms)
