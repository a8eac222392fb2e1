"""Law 8: every key of an experiment does something; one that did nothing would fail here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from penchant.platform import config, recipes, timeline
from penchant.platform.recipes import Size
from penchant.platform.timeline import Window
from penchant.trainers.sequence.plan import TrainingPlan

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("platform", "trainers", "ensembles", "serve", "cli")

#: Another value for each key of each kind, from which other scores must follow.
CHANGES = {
    "popularity": {
        "window.days": 3,
        "window.events": 50,
        "window.half_life_days": 2,
    },
    "personal": {
        "window.days": 3,
        "window.events": 5,
        "window.half_life_days": 2,
        "prior_weight": 9.0,
        "min_group_items": 3,
        "alike": {"text": "tiny", "temperature": 0.1},
    },
    "item_item": {
        "window.days": 3,
        "window.events": 5,
        "window.half_life_days": 2,
        "relation": "transition",
        "regularization": 5.0,
        "half_life_events": 2.0,
    },
    "boosted": {
        "window.days": 3,
        "window.events": 5,
        "fit_requests": 100,
        "negative_share": 0.5,
        "trees": 5,
        "learning_rate": 0.5,
        "leaves": 3,
        "bags": 2,
        "popular_candidates": 2,
        "seed": 1,
    },
    "sequence": {
        "window.days": 3,
        "window.events": 5,
        "size": Size(dim=8, layers=1, heads=1),
        "tokens": "event",
        "max_tokens": 2,
        "ids": False,
        "text": "a model",
        "copy_half_lives_days": (3.0,),
    },
}
#: Keys of `sequence` that shape its training; `TRAINED` of them need a worker group.
PLANNED = {"batch_tokens": 64, "dropout": 0.5, "seed": 1, "max_tokens": 2}
TRAINED = {
    "epochs",
    "patience",
    "average",
    "kept_epochs",
    "epoch_members",
    "learning_rate",
    "weight_decay",
    "text_training",
    "init_from",
}


def changed(recipe, key, value):
    section, _, name = key.partition(".")
    if not name:
        return type(recipe).model_validate(recipe.model_dump() | {key: value})
    return recipe.model_copy(update={section: Window(**{name: value})})


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, key) for kind in CHANGES for key in CHANGES[kind]]
)
def test_another_value_of_a_key_gives_other_scores(kind, key, world, recipes, fit_member):
    here, name = world("sessions"), "sequence-groups" if kind == "sequence" else kind
    recipe = recipes[name].model_copy(update={"window": Window()})
    if key == "ids":
        recipe = recipe.model_copy(update={"text": "a model"})
    scores = [
        fit_member(r, here.past).score(here.log, here.asked())
        for r in (recipe, changed(recipe, key, CHANGES[kind][key]))
    ]
    assert not np.allclose(*scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize("key", PLANNED)
def test_another_value_of_a_training_key_gives_another_plan(key, world, recipes):
    recipe = recipes["sequence-groups"].model_copy(update={"batch_tokens": 200, "dropout": 0.1})
    batches = []
    for value in (getattr(recipe, key), PLANNED[key]):
        plan = TrainingPlan(recipe.model_copy(update={key: value}), world("baskets").past)
        batches.append(plan.step(plan.pieces(0), plan.batches(0)[0], 0, 0, 1).batch)
    kept = [batch.kept for batch in batches]
    assert kept[0].shape != kept[1].shape or not torch.equal(*kept)


def test_no_key_of_a_recipe_is_left_out_above():
    kinds = {
        "popularity": recipes.PopularityRecipe,
        "personal": recipes.PersonalRecipe,
        "item_item": recipes.ItemItemRecipe,
        "boosted": recipes.BoostedRecipe,
        "sequence": recipes.SequenceRecipe,
    }
    for kind, model in kinds.items():
        windows = {f"window.{name}" for name in Window.model_fields}
        if not model.fades:
            windows -= {"window.half_life_days"}
            with pytest.raises(ValueError, match="half_life_days does nothing"):
                model(kind=kind, window=Window(half_life_days=3))
        keys = (set(model.model_fields) - {"name", "kind", "window"}) | windows
        tried = set(CHANGES[kind]) | (set(PLANNED) | TRAINED if kind == "sequence" else set())
        assert tried == keys, kind


def models(module) -> Iterator[type[BaseModel]]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel:
            yield value


def test_every_key_of_an_experiment_is_read_by_shipped_code():
    """As an attribute, outside of the checks that only refuse wrong values."""
    read: set[str] = set()
    for path in (path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")):
        tree = ast.parse(path.read_text())
        checks = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            and any("_validator" in ast.unparse(mark) for mark in node.decorator_list)
            for inner in ast.walk(node)
        }
        read |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Load)
            and id(node) not in checks
        }
    found = {m for module in (config, recipes, timeline) for m in models(module)}
    assert {config.Experiment, recipes.SequenceRecipe, Window} <= found
    unread = [
        f"{model.__name__}.{name}"
        for model in found
        for name in model.model_fields
        if name not in read
    ]
    assert unread == []
