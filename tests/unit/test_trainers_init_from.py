"""Beginning with a member of another log: what goes over, what stays behind, what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from penchant.platform.errors import ConfigError
from penchant.platform.language_models import load_model
from penchant.platform.recipes import SequenceRecipe, TextRecipe
from penchant.platform.text_recipes import Lora
from penchant.trainers.init_from import init_network, origin, started_text_network, text_model
from penchant.trainers.sequence.model import SequenceMember
from penchant.trainers.sequence.network import SequenceNetwork
from penchant.trainers.text.network import build_network

SEQUENCE = {
    "kind": "sequence",
    "ids": False,
    "text": "minilm",
    "size": {"dim": 8, "layers": 1, "heads": 2},
    "copy_half_lives_days": [7.0],
}


def network_of(recipe, items, seed, width=5) -> SequenceNetwork:
    """A network whose every number is drawn at random."""
    random = torch.Generator().manual_seed(seed)
    network = SequenceNetwork(recipe, items, torch.randn(items, width, generator=random))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    return network


@pytest.fixture
def source(tmp_path):
    """Saves a sequence member of seven items: `source(ids=True)`."""

    def saved(*, width=5, **settings):
        recipe = SequenceRecipe.model_validate(SEQUENCE | settings)
        network = network_of(recipe, 7, seed=1, width=width)
        SequenceMember(recipe=recipe, network=network).save(tmp_path / "source")
        return tmp_path / "source", network

    return saved


def begun(place, **settings) -> SequenceRecipe:
    return SequenceRecipe.model_validate(SEQUENCE | {"init_from": str(place)} | settings)


def test_all_goes_over_but_what_knows_single_items(source):
    place, theirs = source()
    recipe = begun(place)
    ours = network_of(recipe, 9, seed=2)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    init_network(ours, recipe)
    for name, tensor in ours.state_dict().items():
        known = before if name in {"text", "item_bias", "copy_item.weight"} else theirs.state_dict()
        torch.testing.assert_close(tensor, known[name], rtol=0, atol=0)
    assert len(before) > 15


def test_without_a_source_nothing_is_touched(tmp_path):
    recipe = SequenceRecipe.model_validate(SEQUENCE)
    network = network_of(recipe, 9, seed=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    init_network(network, recipe)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert origin(recipe) is None
    assert text_model(recipe) == "minilm"


def test_item_vectors_come_from_the_model_that_learned_with_the_source(source):
    place, _ = source()
    assert text_model(begun(place)) == "minilm"
    (place / "text").mkdir()
    assert text_model(begun(place)) == str(place / "text")


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"ids": True}, "`ids: true`"),
        ({"text": "smollm2"}, "text: smollm2, expected minilm"),
        ({"size": {"dim": 16, "layers": 1}}, "size: dim=16 .* expected dim=8"),
        ({"copy_half_lives_days": [7.0, 30.0]}, r"copy_half_lives_days: \(7.0, 30.0\)"),
        ({"width": 6}, r"text_in.weight has the shape \(8, 6\), expected \(8, 5\)"),
    ],
)
def test_a_member_that_does_not_fit_is_refused(theirs, message, source):
    place, _ = source(**theirs)
    recipe = begun(place)
    with pytest.raises(ConfigError, match=message):
        init_network(network_of(recipe, 9, seed=2), recipe)


def test_a_place_without_a_member_is_refused(tmp_path):
    for asked in (origin, text_model):
        with pytest.raises(ConfigError, match=r"init_from .*nowhere: expected .* of a member"):
            asked(begun(tmp_path / "nowhere"))


def test_a_member_of_another_kind_is_refused(source):
    place, _ = source()
    recipe = TextRecipe(kind="text", base="tiny", init_from=str(place))
    with pytest.raises(ConfigError, match="is a sequence member, expected a text member"):
        started_text_network(recipe, binary=False)


def test_the_digest_tells_sources_apart(source):
    place, _ = source()
    first = origin(begun(place))
    assert first["directory"] == str(place)
    assert origin(begun(place)) == first
    copy = shutil.copytree(place, place.with_name("copy"))
    assert origin(begun(copy))["sha256"] == first["sha256"]
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert origin(begun(copy))["sha256"] != first["sha256"]


def test_a_member_keeps_its_origin(source, tmp_path):
    place, network = source()
    recipe = begun(place)
    member = SequenceMember(recipe=recipe, network=network, origin=origin(recipe))
    member.save(tmp_path / "member")
    loaded = SequenceMember.load(tmp_path / "member")
    assert loaded.origin == member.origin
    assert SequenceMember.load(place).origin is None


@pytest.fixture
def text_source(world, recipes, fit_member, tiny_base, tmp_path):
    """Saves a text member whose weights were moved, and returns it."""

    def saved(place: str, **settings):
        member = fit_member(recipes["text"].model_copy(update=settings), world(place).past)
        random = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in member.network.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=random) * 0.1)
        member = replace(member, recipe=member.recipe.model_copy(update={"base": str(tiny_base)}))
        member.save(tmp_path / "source")
        return tmp_path / "source", member

    return saved


def test_a_text_member_hands_on_its_model_and_its_heads(text_source):
    place, source = text_source("baskets")
    recipe = source.recipe.model_copy(update={"init_from": str(place)})
    network = started_text_network(recipe, binary=False)
    theirs = source.network.state_dict()
    assert network.state_dict().keys() == theirs.keys()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0)


def test_heads_that_say_something_else_begin_anew(text_source):
    place, source = text_source("baskets")
    theirs = source.network.state_dict()
    decays = {"init_from": str(place), "copy_half_lives_days": (1.0, 2.0, 3.0)}
    other = source.recipe.model_copy(update=decays)
    network, fresh = started_text_network(other, binary=False), build_network(other, binary=False)
    assert network.copy.shape == theirs["copy"].shape  # it would fit, but tells of other decays
    torch.testing.assert_close(network.copy, fresh.copy)
    torch.testing.assert_close(network.popularity.detach(), theirs["popularity"])
    asked = started_text_network(other, binary=True)
    assert not asked.answer.weight.any()
    name = "base.encoder.layer.0.output.dense.weight"
    torch.testing.assert_close(asked.state_dict()[name], theirs[name])


def test_a_text_member_of_another_base_or_depth_is_refused(text_source, grocer_bert):
    place, source = text_source("baskets")
    for settings, message in (
        ({"base": str(grocer_bert)}, "has base: "),
        ({"layers": 2}, "has layers: 1, expected 2"),
    ):
        recipe = source.recipe.model_copy(update={"init_from": str(place)} | settings)
        with pytest.raises(ConfigError, match=message):
            started_text_network(recipe, binary=False)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")
def test_adapters_are_put_around_what_the_source_learned(text_source):
    place, source = text_source("baskets")
    settings = {"init_from": str(place), "lora": Lora(rank=2)}
    network = started_text_network(source.recipe.model_copy(update=settings), binary=False)
    merged = network.base.merge_and_unload()
    name = "encoder.layer.0.output.dense.weight"
    theirs = load_model(str(place)).state_dict()[name]
    torch.testing.assert_close(merged.state_dict()[name], theirs)
    own = load_model(source.recipe.base).state_dict()[name]
    assert np.abs((theirs - own).numpy()).max() > 0.1
