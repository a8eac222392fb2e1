"""What histories cannot tell is counted and said; where that is all, nothing is learned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penchant.platform.config import Requests
from penchant.platform.errors import DataError
from penchant.platform.requests import all_requests
from penchant.platform.text import HistoryWriter
from penchant.platform.text_recipes import HistoryText, TextRecipe
from penchant.platform.timeline import Window
from penchant.trainers.text.left_out import words_of_left_out
from penchant.trainers.text.network import build_network
from penchant.trainers.text.plan import TextPlan
from penchant.trainers.text.words import read_words

SHORT = HistoryText(max_tokens=8, gaps=False)
#: With the comma 2 tokens and 9 tokens; and nothing.
TEXTS = ("milk", " ".join(["milk"] * 8), "")


def words(texts: list[str]) -> list[list[int]]:
    return [[7 for _ in text.split()] for text in texts]


def said(make_log, items, window=None, settings=SHORT):
    """Of one user who has these items, and is asked before each of them."""
    log = make_log([(0, 1000 * at, item) for at, item in enumerate(items)], 3)
    requests = all_requests(log, Requests(unit="event"), 0, 2**62)
    writer = HistoryWriter.make(settings, TEXTS, ("buy",), words)
    return words_of_left_out("text", writer, log, requests, window or Window())


def test_events_without_a_text_and_longer_than_the_budget_are_counted_in_each_history(make_log):
    """Histories are (0), (0, 1) and (0, 1, 2): of six events three are milk, which is told."""
    assert said(make_log, [0, 1, 2, 0]).startswith(
        "3 of 6 events in histories (50.0%) have no text"
    )


def test_what_the_window_leaves_out_is_not_missed(make_log):
    """The last event of each history alone: 0, 1, 2."""
    found = said(make_log, [0, 1, 2, 0], Window(events=1))
    assert found.startswith("2 of 3 events in histories (66.7%)")


def test_nothing_is_said_where_all_can_be_told_or_there_is_no_event(make_log):
    assert said(make_log, [0, 0, 0]) == ""
    assert said(make_log, [1]) == ""


def test_where_every_event_can_be_told_no_history_is_looked_at(make_log, monkeypatch):
    """Unrolled, histories of a long log are all events before all requests."""
    monkeypatch.setattr("penchant.platform.text.history_of", None)
    texts = ("milk", "bread")
    log = make_log([(0, 1000 * at, at % 2) for at in range(9)], 2)
    writer = HistoryWriter.make(SHORT, texts, ("buy",), words)
    asked = all_requests(log, Requests(unit="event"), 0, 2**62)
    assert words_of_left_out("text", writer, log, asked, Window()) == ""


def test_histories_that_can_tell_nothing_are_refused(make_log):
    with pytest.raises(DataError, match=r"none of the 3 events .*at most 8 tokens.*max_tokens \(8"):
        said(make_log, [1, 2, 0])
    longer = SHORT.model_copy(update={"max_tokens": 9})
    assert said(make_log, [1, 2, 0], settings=longer).startswith("1 of 3 events")


@pytest.fixture
def plan_of(tiny_base):
    def made(past, **history):
        recipe = TextRecipe(kind="text", base=str(tiny_base), history=HistoryText(**history))
        config = build_network(recipe, binary=False).base.config
        words = read_words(recipe, past, config)
        return TextPlan(recipe, past, words.writer, words.frame, words.log_share)

    return made


def test_a_plan_of_empty_histories_is_refused_and_one_of_some_says_so(world, plan_of):
    past = world("events").past
    long = replace(past, texts=(" ".join(["milk"] * 20),) * 30)
    with pytest.raises(DataError, match=r"text: none of the .* at most 16 tokens"):
        plan_of(long, max_tokens=16, item_tokens=24)
    assert plan_of(long, max_tokens=16, item_tokens=8).left_out == ""
    assert "events in histories" in plan_of(past).left_out  # the last item has no text


def test_texts_of_blanks_are_no_texts(world, plan_of):
    past = world("events").past
    with pytest.raises(DataError, match="no item has a text"):
        plan_of(replace(past, texts=(" ",) * 30))
