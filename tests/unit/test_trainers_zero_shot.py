"""`zero_shot` on a tiny random Llama: the cache changes nothing, and alone is as among others."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from penchant.platform.config import Experiment
from penchant.platform.errors import DataError
from penchant.platform.language_models import load_tokenizer
from penchant.platform.prepared import prepare
from penchant.platform.recipes import ZeroShotRecipe
from penchant.platform.store import RunDirectory
from penchant.platform.text_recipes import HistoryText
from penchant.platform.timeline import Block
from penchant.trainers.fit import fit_and_keep, fit_baseline, load_member
from penchant.trainers.refit import REFIT
from penchant.trainers.text.prompts import binary_prompt, next_item_prompt
from penchant.trainers.text.zero_shot import ZeroShotMember, begin, continue_, fit_zero_shot

WORDS = [f"w{n}" for n in range(30)] + ["yes", "no", "Answer", "Next", ":", "?"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    directory = tmp_path_factory.mktemp("models") / "llama"
    known = {word: at for at, word in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    words = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **ends).save_pretrained(directory)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(known),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def member_of(tiny, world, rerank=0):
    texts = ["", *(f"w{n} w{n % 7} w3" for n in range(1, world.log.num_items))]
    history = HistoryText(max_tokens=40)
    recipe = ZeroShotRecipe(kind="zero_shot", base=str(tiny), history=history, rerank=rerank)
    return fit_baseline(recipe, replace(world.past, texts=texts))


def test_continuing_a_cache_is_a_plain_pass_over_the_whole_text(tiny, world):
    model = member_of(tiny, world("events")).model
    prompts = [np.array(ids) for ids in ([5, 6, 7, 8], [9, 10], [4])]
    tails = [np.array(ids) for ids in ([3, 4, 5], [6], [7, 8])]
    rows = [1, 0, 1]
    with torch.inference_mode():
        found = continue_(model, begin(model, prompts), rows, tails)
        for place, (row, tail) in enumerate(zip(rows, tails, strict=True)):
            whole = torch.from_numpy(np.concatenate([prompts[row], tail]))[None]
            plain = model(whole).logits[0, -len(tail) :].log_softmax(-1)
            torch.testing.assert_close(found[place, : len(tail)], plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("place", "rerank"), [("events", 0), ("events", 4), ("binary", 0)])
def test_alone_as_among_others_and_after_saving(tiny, world, tmp_path, place, rerank):
    member, requests = member_of(tiny, world(place), rerank), world(place).asked()
    together = member.score(world(place).log, requests)
    assert np.isfinite(together).all()
    for at in range(0, len(requests), 5):
        alone = member.score(world(place).log, requests.take(np.array([at])))
        np.testing.assert_allclose(alone[0], together[at], rtol=0, atol=1e-4)
    member.save(tmp_path)
    again = load_member(tmp_path).score(world(place).log, requests)
    np.testing.assert_array_equal(again, together)
    if place == "events":
        assert (together.argmin(1) == 0).all()  # the item without a text


def test_the_best_are_ordered_by_the_likelihood_of_their_whole_text(tiny, world):
    place = world("events")
    plain, member = member_of(tiny, place), member_of(tiny, place, rerank=4)
    requests = place.asked().take(np.array([0]))
    best = set(np.argsort(-plain.score(place.log, requests)[0])[:4])
    order = np.argsort(-member.score(place.log, requests)[0])[:4]
    assert set(order) == best
    prompt = member.prompt.asked(member.writer.write(place.log, requests, member.recipe.window).ids)
    exact = []
    for item in order:
        text = member.writer.items.take(np.array([item])).ids.astype(np.int64)
        whole = torch.from_numpy(np.concatenate([prompt, text]))
        log_p = member.model(whole[None]).logits[0].detach().log_softmax(-1)
        steps = range(len(prompt), len(whole))
        exact.append(sum(float(log_p[at - 1, whole[at]]) for at in steps))
    assert exact == sorted(exact, reverse=True)


def test_a_question_of_ones_own_is_read_as_it_is_written(tiny, world):
    """All words are known to the tiny model; a blank before a placeholder is no word."""
    place = world("binary")
    settings = {"kind": "zero_shot", "base": str(tiny)}
    recipe = ZeroShotRecipe(**settings, question="w1 w2 {history}\nw3 w4 {item}? w5")
    past = replace(place.past, texts=tuple(f"w{n}" for n in range(30)))
    member = fit_zero_shot(recipe, past)
    ids = load_tokenizer(str(tiny)).convert_tokens_to_ids
    assert member.prompt.before == (ids("w1"), ids("w2"))
    assert member.prompt.middle == (ids("w3"), ids("w4"))
    assert member.prompt.after == tuple(map(ids, ["?", "w5", "Answer", ":"]))
    requests = place.asked()
    usual = fit_zero_shot(ZeroShotRecipe(**settings), past).score(place.log, requests)
    assert not np.allclose(member.score(place.log, requests), usual)


def test_the_usual_questions_may_be_written_out(tiny):
    tokenizer = load_tokenizer(str(tiny))
    chosen = "What a user chose so far: {history}\n"
    for prompt, asked in [
        (binary_prompt, "Will this user choose: {item}?"),
        (next_item_prompt, "What will this user choose next?"),
    ]:
        assert prompt(tokenizer, chosen + asked) == prompt(tokenizer)


@pytest.mark.parametrize(
    "question",
    ["", "what next?", "{item} after {history}?", "{history} {history}", "{history} {x}"],
)
def test_a_question_without_its_history_is_refused(question):
    with pytest.raises(ValidationError, match="question must hold `{history}` once"):
        ZeroShotRecipe(kind="zero_shot", question=question)


@pytest.mark.parametrize(
    ("task", "question", "expected"),
    [("binary", "{history}", "`{item}` after"), ("next_item", "{history} {item}", "no `{item}`")],
)
def test_a_question_fits_the_task(task, question, expected):
    recipe = ZeroShotRecipe(kind="zero_shot", question=question)
    with pytest.raises(ValueError, match=f"must hold {re.escape(expected)}"):
        recipe.check_task(task)


def test_another_base_and_items_without_texts_are_refused(tiny, world, tmp_path, monkeypatch):
    member_of(tiny, world("events")).save(tmp_path)
    monkeypatch.setattr("penchant.trainers.text.zero_shot.weights_digest", lambda name: "0" * 64)
    with pytest.raises(DataError, match="expected the same ones"):
        load_member(tmp_path)
    with pytest.raises(DataError, match="no item has a text"):
        fit_zero_shot(ZeroShotRecipe(kind="zero_shot"), replace(world("events").past, texts=()))


def test_a_refit_is_not_asked_again(tiny, tmp_path, monkeypatch):
    """Nothing was learned, so that nothing can have changed."""
    (tmp_path / "items.csv").write_text("item,text\na,w1 w2\nb,w3 w4\nc,w5\n")
    rows = [f"u{n % 3},{'abc'[n % 3 - n % 2]},{1000 * n}" for n in range(60)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    settings = Experiment.model_validate(
        {
            "name": "asked-once",
            "data": {
                "events": {
                    "paths": [str(tmp_path / "events.csv")],
                    "columns": {name: name for name in ("user", "item", "time")},
                    "time_unit": "ms",
                },
                "items": {
                    "paths": [str(tmp_path / "items.csv")],
                    "columns": {"item": "item", "text": "text"},
                },
            },
            "time": {"quantiles": {"select": 0.5, "blend": 0.65, "test": 0.8}},
            "members": [{"kind": "zero_shot", "base": str(tiny), "name": "asked"}],
        }
    )
    prepared = prepare(settings, RunDirectory(tmp_path / "run"))
    recipe = settings.members[0].model_dump(mode="json")
    asked = []
    score = ZeroShotMember.score

    def counted(member, log, requests):
        asked.append(len(requests))
        return score(member, log, requests)

    monkeypatch.setattr(ZeroShotMember, "score", counted)
    blocks = prepared.blocks
    for until_ms, suffix in ((blocks.select_ms, ""), (blocks.test_ms, REFIT)):
        asked.clear()
        fit_and_keep(str(tmp_path / "run"), recipe, until_ms, suffix, ["select", "test"], ".")
    assert set(asked) == {1}  # one at a time, to see how long it takes
    row = prepared.requests[Block.TEST].row
    first, again = (
        prepared.run.read_predictions(Block.TEST, name, row) for name in ("asked", f"asked{REFIT}")
    )
    np.testing.assert_array_equal(first, again)


def test_who_waits_is_told_what_histories_cannot_tell_and_nothing_is_asked_of_empty_ones(
    tiny, world
):
    """A third of the items have twelve words, which a history of eight tokens has no room for."""
    past, told = world("events").past, []
    history = HistoryText(max_tokens=8, gaps=False)
    recipe = ZeroShotRecipe(kind="zero_shot", base=str(tiny), history=history)
    long = " ".join(["w1"] * 12)
    member = fit_zero_shot(recipe, replace(past, texts=("w1", long, "w2") * 10), told.append)
    member.score(past.log, world("events").asked())
    assert re.search(r" histories read; [\d,]+ of [\d,]+ events in histories", told[-1])
    with pytest.raises(DataError, match=r"zero_shot: none of the .* at most 8 tokens"):
        fit_zero_shot(recipe, replace(past, texts=(long,) * 30))


@pytest.mark.parametrize("place", ["events", "binary"])
def test_who_waits_is_told_how_much_is_read(tiny, world, place):
    member, requests, told = member_of(tiny, world(place)), world(place).asked(), []
    expected = member.score(world(place).log, requests)
    again = replace(member, tell=told.append).score(world(place).log, requests)
    np.testing.assert_array_equal(again, expected)
    done, number = told[-1].removesuffix(" histories read").split(" of ")
    assert done == number
    assert 0 < int(number.replace(",", "")) <= len(requests)
