"""The language model behind item vectors: what it reads, what of it learns, what it leaves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from penchant.platform.item_vectors import item_vectors
from penchant.platform.recipes import SequenceRecipe, TextTraining, recipe_id
from penchant.platform.text_recipes import Lora
from penchant.trainers.course import Group
from penchant.trainers.sequence.item_encoder import build_encoder
from penchant.trainers.sequence.learner import _Joint, read_items
from penchant.trainers.sequence.model import SequenceMember
from penchant.trainers.sequence.network import SequenceNetwork, basket_loss
from penchant.trainers.sequence.plan import TrainingPlan

#: peft asks transformers for something by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")

ALONE = Group(rank=0, workers=1)
TEXTS = ["milk", "red wine", "", "brown bread and milk", "white bread", "wine milk red"]


def encoder_of(base, *, texts=TEXTS, batch_items=256, learned=True):
    """An encoder; a learned one has adapters drawn at random."""
    training = TextTraining(batch_items=batch_items, lora=Lora(rank=2, alpha=4))
    encoder = build_encoder(str(base), training, texts, seed=0)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad and learned:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.3)
    return encoder


def gradients(module):
    """Of all that learns, by name."""
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def test_training_begins_with_the_frozen_vectors(tiny_base, tmp_path):
    fresh = encoder_of(tiny_base, learned=False).all_vectors(ALONE).numpy()
    np.testing.assert_allclose(fresh, item_vectors(str(tiny_base), TEXTS, tmp_path), atol=1e-6)
    assert not fresh[2].any()  # an item without a text


def test_only_adapters_learn_and_only_they_are_kept(tiny_base):
    encoder = encoder_of(tiny_base)
    learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in name and "pooler" not in name for name in learning)
    assert encoder.state_dict().keys() == learning
    other = encoder_of(tiny_base, learned=False)
    other.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(other.all_vectors(ALONE), encoder.all_vectors(ALONE))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(dict(list(encoder.state_dict().items())[1:]))


def test_few_items_at_once_give_the_vectors_and_gradients_of_all_at_once(tiny_base):
    items = np.array([5, 0, 3, 2, 4, 1])
    pull = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for batch_items in (6, 4, 1):
        encoder = encoder_of(tiny_base, batch_items=batch_items)
        vectors = encoder(items)
        (vectors * pull).sum().backward()
        found.append((vectors.detach(), gradients(encoder)))
    for vectors, gradient in found[1:]:
        torch.testing.assert_close(vectors, found[0][0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-3, atol=1e-5)


def seen_rows(encoder):
    """Collects how many texts each pass through the language model reads."""
    rows = []
    encoder.base.register_forward_pre_hook(
        lambda _, __, named: rows.append(len(named["input_ids"])), with_kwargs=True
    )
    return rows


def test_no_more_than_batch_items_pass_at_once_forth_and_back(tiny_base):
    encoder = encoder_of(tiny_base, batch_items=2)
    rows = seen_rows(encoder)
    encoder(np.array([0, 1, 3, 4, 5])).sum().backward()
    assert sorted(rows) == [1, 1, 2, 2, 2, 2]  # three parts, each computed again on the way back


def test_the_exported_model_gives_the_same_vectors_elsewhere(tiny_base, tmp_path):
    encoder = encoder_of(tiny_base)
    vectors = encoder.all_vectors(ALONE).numpy()
    encoder.write(tmp_path / "model")
    elsewhere = item_vectors(str(tmp_path / "model"), TEXTS, tmp_path)
    np.testing.assert_allclose(elsewhere, vectors, atol=1e-5)
    before = item_vectors(str(tiny_base), TEXTS, tmp_path)
    assert np.abs(before - vectors).max() > 0.05  # the adapters did change something


def test_vectors_of_a_directory_follow_its_weights(tiny_base, tmp_path):
    """A model that is trained again under its name has other vectors: the old ones are not read."""
    place, found = tmp_path / "model", []
    for learned in (False, True):
        encoder_of(tiny_base, learned=learned).write(place)
        found.append(item_vectors(str(place), TEXTS, tmp_path / "cache"))
    assert np.abs(found[0] - found[1]).max() > 0.05


def recipe_of(**settings) -> SequenceRecipe:
    base = {"kind": "sequence", "ids": False, "text": "a model", "dropout": 0.0}
    sizes = {"size": {"dim": 8, "layers": 1, "heads": 2}, "batch_tokens": 32}
    return SequenceRecipe.model_validate(base | sizes | settings)


class One:
    """A random generator that draws one given item."""

    def __init__(self, item):
        self.item = item

    def choice(self, others, size, replace):
        assert (size, replace) == (1, False)
        return np.array([self.item])


def test_items_that_are_drawn_stand_for_all_others(tiny_base, world):
    """The mean over all draws is the gradient that all items together would give."""
    here, recipe = world("events"), recipe_of(text_training={})
    texts = [*here.past.texts[:-1], "milk"]
    plan = TrainingPlan(recipe, here.past)
    step = plan.step(plan.pieces(0), plan.batches(0)[0][:1], 0, 0, 1)
    in_batch = np.zeros(30, dtype=bool)
    in_batch[step.batch.item] = in_batch[step.target] = True
    assert 0 < in_batch.sum() < 28

    def gradient(items, weight):
        encoder = encoder_of(tiny_base, texts=texts)
        torch.manual_seed(0)
        network = SequenceNetwork(recipe, 30, encoder.all_vectors(ALONE))
        joint = _Joint(network, encoder, ALONE)
        basket_loss(
            joint(step.batch, items, weight), step.target, step.target_request
        ).sum().backward()
        return torch.cat([g.flatten() for g in gradients(encoder).values()])

    whole = gradient(np.arange(30), torch.ones(30, 1))
    others = np.flatnonzero(~in_batch)
    drawn = [gradient(*read_items(in_batch, 1, One(item))) for item in others]
    torch.testing.assert_close(torch.stack(drawn).mean(0), whole, rtol=1e-3, atol=1e-5)
    batch_alone = gradient(np.flatnonzero(in_batch), torch.ones(int(in_batch.sum()), 1))
    assert (batch_alone - whole).norm() > 0.1 * whole.norm()  # which is why they are drawn


def test_the_items_of_a_batch_pass_and_so_many_others():
    in_batch = np.isin(np.arange(50), [3, 7, 40])
    items, weight = read_items(in_batch, 10, np.random.default_rng(0))
    assert len(set(items)) == 13
    assert set(items[:3]) == {3, 7, 40}
    assert weight[:, 0].tolist() == pytest.approx([1.0] * 3 + [4.7] * 10)
    items, weight = read_items(in_batch, 99, np.random.default_rng(0))
    assert sorted(items) == list(range(50))
    assert weight.unique().tolist() == [1.0]
    items, weight = read_items(np.ones(4, dtype=bool), 9, np.random.default_rng(0))
    assert (items.tolist(), weight.tolist()) == ([0, 1, 2, 3], [[1.0]] * 4)


def test_a_step_leaves_the_latest_vectors_behind(tiny_base, world):
    here, recipe = world("events"), recipe_of(text_training={})
    plan = TrainingPlan(recipe, here.past)
    step = plan.step(plan.pieces(0), plan.batches(0)[0], 0, 0, 1)
    encoder = encoder_of(tiny_base, texts=here.past.texts)
    network = SequenceNetwork(recipe, 30, torch.zeros(30, 16))
    _Joint(network, encoder, ALONE)(step.batch, np.array([4, 9]), torch.ones(2, 1))
    assert network.text.any(dim=1).nonzero()[:, 0].tolist() == [4, 9]
    torch.testing.assert_close(network.text[[4, 9]], encoder.all_vectors(ALONE)[[4, 9]])


def test_a_member_keeps_its_language_model_however_often_it_is_saved(tiny_base, world, tmp_path):
    here, recipe = world("events"), recipe_of(text_training={})
    encoder = encoder_of(tiny_base, texts=here.past.texts)
    network = SequenceNetwork(recipe, 30, encoder.all_vectors(ALONE))
    member = SequenceMember(recipe=recipe, network=network, write_text=encoder.write)
    for place in ("one", "again"):
        member.save(tmp_path / place)
    loaded = SequenceMember.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    one, again, two = (
        {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (tmp_path / "one", tmp_path / "again", tmp_path / "two")
    )
    assert "text/model.safetensors" in one
    card = one["text/README.md"].decode()
    assert card.startswith("---\nlibrary_name: transformers\nbase_model: ")
    assert json.loads(card.partition("```json\n")[2].partition("```")[0])["kind"] == "sequence"
    assert one == again == two
    scores = (m.score(here.log, here.asked()) for m in (member, loaded))
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": None, "ids": True, "text_training": {}}, "name it in `text`"),
        ({"text_training": {"vectors": "sometimes"}}, "'joint' or 'refreshed'"),
        ({"text_training": {"batch_items": 0}}, "greater than or equal to 1"),
        ({"ids": True, "init_from": "somewhere"}, "set `ids: false`"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        recipe_of(**settings)


def test_a_recipe_without_these_settings_keeps_the_id_it_had():
    plain = recipe_of()
    told = json.loads(plain.model_dump_json())
    assert recipe_id(SequenceRecipe.model_validate(told)) == recipe_id(plain)
    del told["text_training"], told["init_from"]
    assert recipe_id(SequenceRecipe.model_validate(told)) == recipe_id(plain)
    trained = [
        recipe_of(text_training=t) for t in ({}, {"vectors": "refreshed"}, {"drawn_items": 5})
    ]
    ids = {
        recipe_id(r) for r in [plain, *trained, recipe_of(init_from="a"), recipe_of(init_from="b")]
    }
    assert len(ids) == 6
    assert recipe_id(trained[0]).startswith("sequence-all-d8x1-text-joint-")
