"""Items that nobody knew when the member learned, scored by their texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.platform.text_recipes import HistoryText
from penchant.trainers.member import ReadsTexts, reads_texts
from penchant.trainers.score import seen_items
from penchant.trainers.text.model import TextMember

HISTORIES = {
    "plain": HistoryText(),
    "cut texts": HistoryText(item_tokens=2, order="newest_first"),
    "no gaps": HistoryText(gaps=False, max_tokens=20),
}


def fitted(fit_member, recipes, here, history):
    return fit_member(recipes["text-window"].model_copy(update={"history": history}), here.past)


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_the_text_of_a_known_item_has_its_score(world, recipes, fit_member, history):
    """Where all items are as common, and the user has not had it."""
    here = world("baskets")
    member = fit_member(recipes["text"].model_copy(update={"history": history}), here.past)
    even = np.full_like(member.tower.log_share, -3.0)
    member = replace(member, tower=replace(member.tower, log_share=even))
    asked, texts = here.asked(), here.past.texts[:-1]
    known = member.score(here.log, asked)[:, :-1]
    cold = member.cold_scores(here.log, asked, texts)
    new = ~seen_items(here.log, asked)[:, :-1]
    assert 100 < new.sum() < new.size
    np.testing.assert_allclose(cold[new], known[new], rtol=0, atol=1e-5)


def test_it_is_taken_to_be_as_common_as_the_least_common_one(world, recipes, fit_member):
    """A popularity head of -0.5, say, makes of a share e times as large half a score less."""
    here = world("baskets")
    member = fitted(fit_member, recipes, here, HistoryText())
    asked, share = here.asked(), member.tower.log_share[:-1]
    known = member.score(here.log, asked)[:, :-1]
    cold = member.cold_scores(here.log, asked, here.past.texts[:-1])
    head = float(member.network.popularity.detach())
    expected = known - head * (share - member.tower.log_share.min())
    np.testing.assert_allclose(cold, expected, rtol=0, atol=1e-5)
    assert np.ptp(share) > 0.5


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_a_yes_or_no_is_asked_with_the_text_as_the_candidate(world, recipes, fit_member, history):
    here = world("binary")
    member = fitted(fit_member, recipes, here, history)
    asked = here.asked()
    texts = [here.past.texts[item] for item in asked.candidate]
    cold = member.cold_scores(here.log, asked, texts)
    assert cold.shape == (len(asked), len(asked))
    np.testing.assert_allclose(
        np.diagonal(cold), member.score(here.log, asked)[:, 0], rtol=0, atol=1e-5
    )
    assert len(asked) > 20


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_events_that_are_like_the_text_are_read_first(world, recipes, fit_member, share):
    """As for a known item with that text, where the user has not had it."""
    here = world("binary")
    history = HistoryText(max_tokens=20, relevant_share=share)
    member = fitted(fit_member, recipes, here, history)
    asked, texts = here.asked(), here.past.texts[:-1]
    seen = seen_items(here.log, asked)[:, :-1]
    cold = member.cold_scores(here.log, asked, texts)
    compared = 0
    for item in range(len(texts)):
        one = replace(asked, candidate=np.full(len(asked), item, dtype=np.int32))
        new = ~seen[:, item]
        compared += int(new.sum())
        known = member.score(here.log, one)[new, 0]
        np.testing.assert_allclose(cold[new, item], known, rtol=0, atol=1e-5)
    assert compared > 100


@pytest.mark.parametrize("task", ["baskets", "binary"])
def test_a_text_has_its_score_whatever_else_is_asked(world, recipes, fit_member, task, tmp_path):
    """And it stays when the member has been saved, and when its request has no candidate."""
    here = world(task)
    member = fitted(fit_member, recipes, here, HistoryText())
    asked, texts = here.asked(), ["white milk", "red red wine", "bread", "white milk"]
    whole = member.cold_scores(here.log, asked, texts)
    assert whole.shape == (len(asked), 4)
    np.testing.assert_allclose(whole[:, 0], whole[:, 3], rtol=0, atol=1e-6)
    member.save(tmp_path / "member")
    saved = TextMember.load(tmp_path / "member")
    plain = replace(asked, candidate=None)
    for at, text in enumerate(texts):
        alone = saved.cold_scores(here.log, plain, [text])
        np.testing.assert_allclose(alone[:, 0], whole[:, at], rtol=0, atol=1e-5)
    assert member.cold_scores(here.log, asked, []).shape == (len(asked), 0)


def test_a_text_that_says_nothing_has_no_direction(world, recipes, fit_member):
    here = world("baskets")
    member = fitted(fit_member, recipes, here, HistoryText())
    found = member.cold_scores(here.log, here.asked(), ["", " \t ", "\u200b\x00"])
    head = float(member.network.popularity.detach())
    np.testing.assert_allclose(found, head * member.tower.log_share.min(), rtol=1e-6)


def test_what_was_read_is_not_read_again(world, recipes, fit_member):
    """After the catalogue was scored, only the texts are new to a cache."""
    here = world("baskets")
    member = fitted(fit_member, recipes, here, HistoryText()).on_engine("torch", threads=1)
    asked = here.asked()
    member.score(here.log, asked)
    read, texts = member.cache.misses, ["white milk", "brown wine ago"]
    first = member.cold_scores(here.log, asked, texts)
    assert member.cache.misses == read + 2
    np.testing.assert_array_equal(member.cold_scores(here.log, asked, texts), first)
    assert member.cache.misses == read + 2


@pytest.mark.slow
@pytest.mark.parametrize("task", ["baskets", "binary"])
def test_on_onnx_the_scores_are_the_same(world, recipes, fit_member, task, tmp_path):
    here = world(task)
    member = fitted(fit_member, recipes, here, HistoryText())
    asked, texts = here.asked(), ["white milk", "red red wine"]
    served = member.on_engine("onnx", threads=1, cache_dir=tmp_path)
    expected = member.cold_scores(here.log, asked, texts)
    np.testing.assert_allclose(
        served.cold_scores(here.log, asked, texts), expected, rtol=0, atol=1e-5
    )


def test_events_to_come_change_nothing(world, recipes, fit_member, make_log, log_rows):
    here = world("baskets")
    member = fitted(fit_member, recipes, here, HistoryText())
    asked = here.asked().take(np.array([0]))
    rows = log_rows(here.log)
    past = [row for row in rows if row[0] != asked.user[0] or row[1] < asked.time_ms[0]]
    without = make_log(past, here.log.num_items, here.log.num_users)
    assert len(past) < len(rows)
    np.testing.assert_allclose(
        member.cold_scores(without, asked, ["brown milk"]),
        member.cold_scores(here.log, asked, ["brown milk"]),
        rtol=0,
        atol=1e-6,
    )


def test_a_recipe_says_whether_its_members_read(world, recipes, fit_member):
    for name in ("text", "text-window", "personal", "popularity"):
        member = fit_member(recipes[name], world("baskets").past)
        assert isinstance(member, ReadsTexts) is reads_texts(recipes[name])
