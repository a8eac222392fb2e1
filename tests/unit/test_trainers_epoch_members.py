"""Epochs of one training as members: their recipes, their refits, and where they are found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from penchant.platform.config import Experiment
from penchant.platform.prepared import prepare
from penchant.platform.recipes import PopularityRecipe, SequenceRecipe, Size, recipe_id
from penchant.platform.store import RunDirectory, write_json
from penchant.platform.timeline import Block
from penchant.trainers import worker
from penchant.trainers.epoch_members import epoch_recipe, epochs_in
from penchant.trainers.fit import learned_from, load_member
from penchant.trainers.refit import refit_recipes

RECIPE = SequenceRecipe(kind="sequence", epochs=9, epoch_members=3)


def test_an_epoch_is_the_same_training_that_keeps_it_alone():
    one = epoch_recipe(RECIPE, 3)
    assert (one.kept_epochs, one.epoch_members) == ((4,), None)
    assert recipe_id(one) == f"{recipe_id(RECIPE)}-epoch-4"
    assert SequenceRecipe.model_validate_json(one.model_dump_json()) == one
    changed = {"name", "kept_epochs", "epoch_members"}
    assert one.model_dump(exclude=changed) == RECIPE.model_dump(exclude=changed)


def test_epochs_are_found_beside_their_member_and_refits_are_not(tmp_path):
    run, name = RunDirectory(tmp_path), recipe_id(RECIPE)
    for made in (name, f"{name}-epoch-2", f"{name}-epoch-4", f"{name}-epoch-2@newest", "other"):
        write_json(run.member(made) / "metrics.json", {})
    run.member(f"{name}-epoch-7").mkdir()  # not finished
    recipes = [RECIPE, PopularityRecipe(kind="popularity")]
    assert epochs_in(run, recipes) == [f"{name}-epoch-2", f"{name}-epoch-4"]
    assert epochs_in(run, [RECIPE.model_copy(update={"epoch_members": None})]) == []


def test_the_refit_of_an_epoch_is_of_that_epoch_and_of_a_member_without_others(tmp_path):
    run, one = RunDirectory(tmp_path), epoch_recipe(RECIPE, 3)
    history = [{"select_loss": loss} for loss in (3.0, 1.0, 2.0, 2.5)]
    for recipe in (RECIPE, one):
        write_json(run.member(recipe_id(recipe)) / "metrics.json", {"history": history})
    whole, epoch = refit_recipes(run, [RECIPE, one])
    assert epoch == one
    assert (whole.kept_epochs, whole.epoch_members) == ((2,), None)


def test_epochs_go_neither_with_told_ones_nor_with_long_names_nor_a_model_that_learns_along():
    with pytest.raises(ValidationError, match="goes neither with kept_epochs"):
        SequenceRecipe(kind="sequence", epoch_members=2, kept_epochs=(1,))
    with pytest.raises(ValidationError, match="adds to the name: expected 52 characters"):
        SequenceRecipe(kind="sequence", epoch_members=2, name="n" * 53)
    with pytest.raises(ValidationError, match="nor with text_training"):
        SequenceRecipe.model_validate(
            {"kind": "sequence", "text": "minilm", "text_training": {}, "epoch_members": 2}
        )


@pytest.fixture
def prepared(draw, log_rows, tmp_path):
    log = draw("events", users=30, groups=12, items=9, seed=3)
    lines = [f"u{u},i{item},{time}" for u, time, item, *_ in log_rows(log)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time", *lines]) + "\n")
    columns = {name: name for name in ("user", "item", "time")}
    paths = [str(tmp_path / "events.csv")]
    settings = {
        "name": "epochs",
        "data": {"events": {"paths": paths, "columns": columns, "time_unit": "ms"}},
        "time": {"quantiles": {"select": 0.5, "blend": 0.7, "test": 0.85}},
        "requests": {"unit": "event"},
        "members": [{"kind": "popularity"}],
    }
    return prepare(Experiment.model_validate(settings), RunDirectory(tmp_path / "run"))


def test_a_worker_keeps_the_epochs_beside_the_member(
    prepared, fit_member, monkeypatch, tmp_path, tmp_path_factory
):
    """The training itself is held to one that keeps an epoch alone in test_tracking.py."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))  # where Ray Train puts its workers
    past = learned_from(prepared, prepared.blocks.select_ms)
    recipe = RECIPE.model_copy(update={"size": Size(dim=8, layers=1, heads=2)})
    other = fit_member(epoch_recipe(recipe, 0).model_copy(update={"seed": 1}), past)
    member = replace(fit_member(recipe, past), epochs={0: other})
    history = [{"seconds": 2.0, "select_loss": 3.0}, {"seconds": 3.0, "select_loss": 1.0}]
    monkeypatch.setattr(worker, "_train", lambda *_: (member, history))
    monkeypatch.setattr(worker, "last_checkpoint", lambda _: (None, 0))
    alone = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr("ray.train.get_context", lambda: alone)
    monkeypatch.setattr("ray.train.report", lambda *_, **__: None)
    task = {"recipes": [recipe.model_dump(mode="json")], "suffix": ""}
    task |= {"run": str(prepared.run.root), "until_ms": past.until_ms, "directory": str(tmp_path)}
    task |= {"blocks": ["select", "test"], "storage": str(prepared.run.root), "name": "train"}
    worker.train_group(task)
    assert Path.cwd() == tmp_path  # `base: models/mine` means what it means where the run began
    [epoch] = epochs_in(prepared.run, [recipe])
    assert prepared.run.member_facts(epoch)["train_s"] == 2.0
    assert prepared.run.member_facts(recipe_id(recipe))["train_s"] == 5.0
    asked = prepared.requests[Block.TEST]
    for name, one in ((epoch, other), (recipe_id(recipe), member)):
        stored = prepared.run.read_predictions(Block.TEST, name, asked.row)
        np.testing.assert_allclose(stored, one.score(prepared.log, asked), atol=1e-5)
    assert load_member(prepared.run.member(epoch)).recipe.kept_epochs == (1,)
