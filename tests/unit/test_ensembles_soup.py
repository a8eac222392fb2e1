"""Soups: the mean of weights that began alike, chosen on `select`, kept as a member."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from penchant.ensembles.artefacts.soup import make_soup
from penchant.ensembles.combiners.combiner import quality
from penchant.ensembles.standing import finished_members
from penchant.platform.config import Experiment
from penchant.platform.errors import ConfigError
from penchant.platform.prepared import prepare
from penchant.platform.recipes import PopularityRecipe, SequenceRecipe, TextRecipe
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.trainers.fit import load_member
from penchant.trainers.mean_member import check_alike, mean_member
from penchant.trainers.refit import refit_recipes
from penchant.trainers.score import keep_member
from penchant.trainers.sequence.model import SequenceMember
from penchant.trainers.sequence.network import SequenceNetwork

RECIPE = SequenceRecipe.model_validate(
    {
        "kind": "sequence",
        "ids": False,
        "text": "minilm",
        "init_from": "runs/other/members/source",
        "size": {"dim": 8, "layers": 1, "heads": 2},
        "copy_half_lives_days": [],
    }
)
ORIGIN = {"directory": "runs/other/members/source", "sha256": "ab"}


@pytest.fixture
def prepared(draw, log_rows, tmp_path):
    log = draw("events", users=60, groups=20, items=12, seed=3)
    lines = [f"u{u},i{item:02},{time}" for u, time, item, *_ in log_rows(log)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time", *lines]) + "\n")
    events = {
        "paths": [str(tmp_path / "events.csv")],
        "columns": {name: name for name in ("user", "item", "time")},
        "time_unit": "ms",
    }
    settings = {
        "name": "soup",
        "data": {"events": events},
        "time": {"quantiles": {"select": 0.5, "blend": 0.7, "test": 0.85}},
        "requests": {"unit": "event", "exclude_seen": True},
        "members": [
            RECIPE.model_dump(mode="json", exclude_none=True) | {"name": name}
            for name in ("plus", "minus", "wild", "good")
        ],
    }
    return prepare(Experiment.model_validate(settings), RunDirectory(tmp_path / "run"))


def member(prepared, name, bias, **settings):
    """A sequence member that differs from others in its items' biases alone; kept in the run."""
    recipe = RECIPE.model_copy(update={"name": name, **settings})
    torch.manual_seed(0)
    text = torch.zeros(prepared.log.num_items, 5)
    network = SequenceNetwork(recipe, prepared.log.num_items, text)
    with torch.no_grad():
        network.item_bias.copy_(torch.as_tensor(bias, dtype=torch.float32))
    made = SequenceMember(recipe=recipe, network=network, origin=ORIGIN)
    facts = {"train_s": 2.0, "history": [], "until_ms": prepared.blocks.select_ms}
    keep_member(prepared.run, name, made, prepared.log, prepared.requests, facts, exclude_seen=True)
    return made


def popular(prepared) -> np.ndarray:
    """What is chosen most often in `select`: the order that is best there."""
    select = prepared.requests[Block.SELECT]
    return np.bincount(select.target, minlength=prepared.log.num_items).astype(float)


def test_errors_that_cancel_make_a_soup_and_what_spoils_it_is_left_out(prepared):
    good, noise = popular(prepared), np.random.default_rng(0).normal(0, 25, 12)
    member(prepared, "plus", good + noise)
    member(prepared, "minus", good - noise)
    member(prepared, "wild", -200 * good)
    told: list[str] = []
    found = make_soup(prepared, ["minus", "plus", "wild"], told.append)
    assert set(found.parts) == {"minus", "plus"}
    assert found.value > max(found.alone.values())
    assert len(told) == 3
    assert told[-1].endswith("left out")
    assert finished_members(prepared.run.root) == ["minus", "plus", found.member_id, "wild"]
    facts = prepared.run.member_facts(found.member_id)
    assert (facts["soup_of"], facts["train_s"]) == (list(found.parts), 4.0)
    assert facts["until_ms"] == prepared.blocks.select_ms
    whole = load_member(prepared.run.member(found.member_id))
    assert torch.allclose(whole.network.item_bias, torch.tensor(good, dtype=torch.float32))
    select = prepared.requests[Block.SELECT]
    stored = prepared.run.read_predictions(Block.SELECT, found.member_id, select.row)
    assert quality(stored, select, "ndcg@10") == pytest.approx(found.value)
    again = make_soup(prepared, finished_members(prepared.run.root), told.append)
    assert again == found  # the soup itself is no part of another
    assert f"{found.member_id} is left out: it is a mean itself" in told


def test_where_no_mean_is_better_nothing_is_kept(prepared):
    member(prepared, "good", popular(prepared))
    member(prepared, "wild", -200 * popular(prepared))
    found = make_soup(prepared, ["good", "wild"], lambda _: None)
    assert (found.member_id, list(found.parts)) == ("good", ["good"])
    assert finished_members(prepared.run.root) == ["good", "wild"]


def test_a_soup_is_not_refitted_as_if_it_were_its_first_member(prepared):
    good, noise = popular(prepared), np.random.default_rng(0).normal(0, 25, 12)
    member(prepared, "plus", good + noise)
    member(prepared, "minus", good - noise)
    found = make_soup(prepared, ["minus", "plus"], lambda _: None)
    recipe = load_member(prepared.run.member(found.member_id)).recipe
    with pytest.raises(ConfigError, match="is the mean of .*no training of its own"):
        refit_recipes(prepared.run, [recipe])


def test_one_member_makes_no_soup(prepared):
    member(prepared, "plus", popular(prepared))
    with pytest.raises(ConfigError, match="several members, got plus"):
        make_soup(prepared, ["plus"], lambda _: None)


TEXT = TextRecipe(kind="text", base="minilm", layers=3)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (PopularityRecipe(kind="popularity"), TEXT, "a is a popularity member"),
        (RECIPE.model_copy(update={"init_from": None}), RECIPE, "a began with random weights"),
        (RECIPE, RECIPE.model_copy(update={"init_from": "x"}), "b has init_from: x, expected"),
        (TEXT, RECIPE, "b is a sequence member and a a text member"),
        (TEXT, TEXT.model_copy(update={"base": "smollm2"}), "b has base: smollm2, expected minilm"),
        (TEXT, TEXT.model_copy(update={"layers": 2}), "b has layers: 2, expected 3"),
    ],
)
def test_weights_that_did_not_begin_alike_are_refused(one, other, message):
    with pytest.raises(ConfigError, match=message):
        check_alike({"a": one, "b": other})


def test_other_windows_rates_and_seeds_are_welcome():
    other = TEXT.model_copy(update={"seed": 5, "learning_rate": 1e-5})
    check_alike({"a": TEXT, "b": other})


def test_what_init_from_names_must_not_have_changed(prepared):
    first = member(prepared, "first", np.zeros(12))
    later = replace(first, origin={**ORIGIN, "sha256": "cd"})
    with pytest.raises(ConfigError, match="began with different files"):
        mean_member([first, later], "soup")


def test_a_mean_of_readers_reads_the_items_anew(world, recipes, fit_member):
    """Item vectors of the mean are the mean network's, not the mean of vectors."""
    past = world("baskets").past
    first = fit_member(recipes["text"], past)
    second = fit_member(recipes["text"], past)
    with torch.no_grad():
        for parameter in second.network.parameters():
            parameter.mul_(3)
    mean = mean_member([first, second], "soup")
    for name, tensor in mean.network.state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, 2 * first.network.state_dict()[name], atol=1e-6)
    assert np.allclose(np.linalg.norm(mean.tower.vectors, axis=1)[:-1], 1)
    assert not np.allclose(mean.tower.vectors, first.tower.vectors, atol=1e-3)
    again = mean_member([mean, mean], "again")
    asked = world("baskets").asked()
    assert np.allclose(again.score(past.log, asked), mean.score(past.log, asked), atol=1e-5)
