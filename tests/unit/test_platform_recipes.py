"""Recipes: equal ones share an id, different ones never do."""

from __future__ import annotations

import hashlib
import json
import math
import re

import pytest
from pydantic import TypeAdapter, ValidationError

from penchant.platform.recipes import (
    Alike,
    BoostedRecipe,
    ItemItemRecipe,
    PersonalRecipe,
    PopularityRecipe,
    Recipe,
    SequenceRecipe,
    Size,
    recipe_id,
)
from penchant.platform.timeline import Window

ANY = TypeAdapter[Recipe](Recipe)
DISTINCT = [
    PopularityRecipe(kind="popularity"),
    PopularityRecipe(kind="popularity", window=Window(days=30)),
    PopularityRecipe(kind="popularity", window=Window(events=30)),
    PopularityRecipe(kind="popularity", window=Window(half_life_days=30)),
    PersonalRecipe(kind="personal"),
    PersonalRecipe(kind="personal", min_group_items=2),
    PersonalRecipe(kind="personal", prior_weight=2),
    PersonalRecipe(kind="personal", alike=Alike()),
    PersonalRecipe(kind="personal", alike=Alike(weight=1)),
    ItemItemRecipe(kind="item_item"),
    ItemItemRecipe(kind="item_item", regularization=100),
    BoostedRecipe(kind="boosted"),
    BoostedRecipe(kind="boosted", seed=1),
    SequenceRecipe(kind="sequence"),
    SequenceRecipe(kind="sequence", seed=1),
    SequenceRecipe(kind="sequence", size=Size(dim=64, layers=2, heads=4)),
    SequenceRecipe(kind="sequence", copy_half_lives_days=()),
    SequenceRecipe(kind="sequence", copy_half_lives_days=(math.inf,)),
]


def test_different_recipes_have_different_ids():
    assert len({recipe_id(recipe) for recipe in DISTINCT}) == len(DISTINCT)


@pytest.mark.parametrize("recipe", DISTINCT, ids=recipe_id)
def test_a_recipe_survives_json_with_its_id(recipe):
    read = ANY.validate_python(json.loads(recipe.model_dump_json()))
    assert read == recipe
    assert recipe_id(read) == recipe_id(recipe)
    assert re.fullmatch(r"[a-z_]+-[a-z0-9.+-]+-[0-9a-f]{6}", recipe_id(recipe))


def test_an_id_does_not_depend_on_how_a_number_was_written():
    whole, broken = (ANY.validate_python({"kind": "personal", "prior_weight": w}) for w in (1, 1.0))
    assert recipe_id(whole) == recipe_id(broken) == recipe_id(PersonalRecipe(kind="personal"))


def test_an_id_stays_the_same_from_version_to_version():
    """Members in a store are found by it: when this fails, finished members are fitted again."""
    text = (
        '{"kind": "popularity", "window": {"days": null, "events": null, "half_life_days": null}}'
    )
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    assert recipe_id(DISTINCT[0]) == f"popularity-all-{digest}"


@pytest.mark.parametrize(
    ("settings", "begin"),
    [
        ({}, "sequence-all-d64x2-"),
        ({"window": {"days": 60}}, "sequence-60d-d64x2-"),
        ({"tokens": "event"}, "sequence-all-d64x2-events-"),
        ({"text": "minilm"}, "sequence-all-d64x2-ids-text-"),
        ({"text": "minilm", "ids": False}, "sequence-all-d64x2-text-"),
        ({"size": {"dim": 32, "layers": 1}}, "sequence-all-d32x1-"),
    ],
)
def test_an_id_says_what_the_member_reads(settings, begin):
    recipe = ANY.validate_python({"kind": "sequence", **settings})
    assert re.fullmatch(re.escape(begin) + "[0-9a-f]{6}", recipe_id(recipe))


def test_a_name_is_the_id():
    named = ANY.validate_python({"kind": "popularity", "name": "what-everybody-buys"})
    assert recipe_id(named) == "what-everybody-buys"


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"kind": "popular"}, "does not match any of the expected tags"),
        ({"kind": "popularity", "name": "../up"}, "should match pattern"),
        ({"kind": "popularity", "trees": 3}, "Extra inputs are not permitted"),
        ({"kind": "sequence", "ids": False}, "needs item vectors: set `ids: true`"),
        ({"kind": "sequence", "copy_half_lives_days": [7, 0]}, "must be positive"),
        ({"kind": "sequence", "copy_half_lives_days": [math.nan]}, "must be positive"),
        ({"kind": "sequence", "size": {"dim": 10, "heads": 4}}, "dim must be a multiple of heads"),
        ({"kind": "sequence", "dropout": 1.0}, "less than 1"),
        ({"kind": "sequence", "window": {"half_life_days": 3}}, "half_life_days does nothing"),
        ({"kind": "boosted", "window": {"half_life_days": 3}}, "half_life_days does nothing"),
        ({"kind": "boosted", "seed": -1}, "greater than or equal to 0"),
    ],
)
def test_a_recipe_that_cannot_be_cooked_is_refused(recipe, message):
    with pytest.raises(ValidationError, match=message):
        ANY.validate_python(recipe)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        DISTINCT[0].window = Window(days=1)
