"""A fine-tuned model leaves as a directory that plain transformers loads."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

from penchant.trainers.text.engine import HasEngine


def test_plain_transformers_loads_the_model_and_gives_the_items_their_vectors(
    world, recipes, fit_member, tmp_path
):
    here = world("baskets")
    member = fit_member(recipes["text"], here.past)
    member.save(tmp_path / "member")
    model = transformers.AutoModel.from_pretrained(tmp_path / "member", local_files_only=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "member")
    assert model.config.num_hidden_layers == recipes["text"].layers
    tokens = tokenizer([here.past.texts[3]], return_tensors="pt")
    with torch.inference_mode():
        states = model.eval()(**tokens).last_hidden_state[0]
    vector = torch.nn.functional.normalize(states.mean(0), dim=0).numpy()
    np.testing.assert_allclose(member.tower.vectors[3], vector, atol=1e-5)


def test_the_card_says_what_the_model_is_and_until_when_it_learned(
    world, recipes, fit_member, tmp_path
):
    member = fit_member(recipes["text"], world("baskets").past)
    member.save(tmp_path / "member")
    card = (tmp_path / "member" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "before 2017-" in card
    recipe = json.loads(card.partition("```json\n")[2].partition("```")[0])
    assert recipe == json.loads(member.recipe.model_dump_json())


def test_an_item_without_a_text_has_no_direction(world, recipes, fit_member):
    member = fit_member(recipes["text"], world("baskets").past)
    assert not member.tower.vectors[29].any()
    np.testing.assert_allclose(np.linalg.norm(member.tower.vectors[:29], axis=1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["baskets", "binary"])
def test_a_member_on_onnx_keeps_its_scores_and_reads_no_text_twice(
    task, world, recipes, fit_member, tmp_path
):
    here = world(task)
    member, asked = fit_member(recipes["text"], here.past), here.asked()
    expected = member.score(here.log, asked)
    served = member.on_engine("onnx", threads=1, cache_dir=tmp_path)
    first = served.score(here.log, asked)
    np.testing.assert_allclose(first, expected, rtol=0, atol=1e-5)
    read = served.cache.misses
    assert served.cache.hits == 0
    np.testing.assert_array_equal(served.score(here.log, asked), first)
    assert (served.cache.hits, served.cache.misses) == (read, read)
    assert served.engine_name == "onnx"
    assert member.cache is None


def test_only_members_that_run_a_language_model_have_engines(world, recipes, fit_member):
    past = world("baskets").past
    assert isinstance(fit_member(recipes["text"], past), HasEngine)
    assert not isinstance(fit_member(recipes["personal"], past), HasEngine)
