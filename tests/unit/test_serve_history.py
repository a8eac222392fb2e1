"""HTTP histories become event logs in the order of the log, and merge without changing a score."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.platform.config import Requests
from penchant.platform.events import Catalog
from penchant.serve.answering.history import MAX_PAIRS, Question, Reader, merge, trial_question
from penchant.serve.wire.schema import RecommendBody, RefusedError
from penchant.trainers.member import Member

CATALOG = Catalog(item_ids=["a", "b", "c"], item_texts=["", "", ""])
NOW_MS = 10_000


def reader(
    unit: str = "group", *, groups: bool = True, types: tuple[str, ...] = ("buy",)
) -> Reader:
    spec = Requests.model_validate({"unit": unit})
    return Reader(catalog=CATALOG, types=types, has_groups=groups, requests=spec)


def body(*events: tuple[Any, ...], **more: Any) -> RecommendBody:
    names = ("item", "time", "group", "type", "value")
    history = [dict(zip(names, event, strict=False)) for event in events]
    return RecommendBody.model_validate({"history": history} | more)


def items(question: Question) -> list[str]:
    return [CATALOG.item_ids[item] for item in question.item]


def test_events_are_sorted_by_time_and_equal_times_keep_their_order() -> None:
    asked = body(("c", 9), ("a", 5), ("b", 9), ("b", 5))
    question, ignored = reader("event", groups=False).question(asked, NOW_MS)
    assert items(question) == ["a", "b", "c", "b"]
    assert question.time_ms.tolist() == [5, 5, 9, 9]
    assert (question.group, ignored) == (None, 0)


def test_equal_events_count_as_often_as_they_are_given() -> None:
    """As in the log, where two of an item in a basket are two rows."""
    question, _ = reader().question(body(("a", 5, "x"), ("a", 5, "x"), ("a", 5, "x")), NOW_MS)
    assert items(question) == ["a", "a", "a"]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc?"), st.integers(1, 4), st.sampled_from("xyz")), max_size=12
    ),
    st.booleans(),
)
def test_events_stand_in_the_order_of_the_log(
    events: list[tuple[str, int, str]], named: bool
) -> None:
    given_ = [event if named else event[:2] for event in events]
    question, ignored = reader().question(body(*given_), NOW_MS)
    keys = [(time, group if named else "") for _, time, group in events]
    order = sorted(range(len(events)), key=lambda at: (keys[at][0], keys.index(keys[at]), at))
    known = [at for at in order if events[at][0] != "?"]
    assert items(question) == [events[at][0] for at in known]
    assert ignored == len(events) - len(known)
    groups = [keys[at][1] or keys[at][0] for at in known]
    runs = [len(list(run)) for _, run in itertools.groupby(groups)]
    assert question.group is not None
    assert question.group.tolist() == [at for at, size in enumerate(runs) for _ in range(size)]


def test_a_group_stands_together_where_its_first_event_of_a_moment_stood() -> None:
    asked = body(("a", 5, "x"), ("b", 5, "y"), ("c", 5, "x"), ("a", 4, "w"))
    question, _ = reader().question(asked, NOW_MS)
    assert items(question) == ["a", "a", "c", "b"]
    assert question.group is not None
    assert question.group.tolist() == [0, 1, 1, 2]


def test_events_of_equal_time_are_a_group_where_none_is_given() -> None:
    question, _ = reader().question(body(("a", 5), ("b", 5), ("c", 6)), NOW_MS)
    assert question.group is not None
    assert question.group.tolist() == [0, 0, 1]


def test_a_group_that_comes_back_later_is_another_group() -> None:
    question, _ = reader().question(body(("a", 5, "x"), ("b", 6, "y"), ("c", 7, "x")), NOW_MS)
    assert question.group is not None
    assert question.group.tolist() == [0, 1, 2]


def test_events_of_unknown_items_are_ignored_and_counted() -> None:
    question, ignored = reader().question(body(("a", 5), ("no", 6), ("no", 7)), NOW_MS)
    assert (items(question), ignored) == (["a"], 2)


def test_value_is_1_and_the_type_is_the_only_one_unless_they_are_given() -> None:
    question, _ = reader().question(body(("a", 5), ("b", 6, None, "buy", 2.5)), NOW_MS)
    assert question.value.tolist() == [1.0, 2.5]
    assert question.kind.tolist() == [0, 0]


def test_a_type_is_needed_where_the_data_have_several() -> None:
    two = reader(types=("buy", "view"))
    question, _ = two.question(body(("a", 5, None, "view")), NOW_MS)
    assert question.kind.tolist() == [1]
    for event in (("a", 5), ("a", 5, None, "sell")):
        with pytest.raises(RefusedError) as caught:
            two.question(body(event), NOW_MS)
        assert caught.value.place == "body.history.0.type"
        assert caught.value.problem == "expected one of: buy, view"


@pytest.mark.parametrize(("unit", "allowed"), [("group", 99), ("event", 100)])
def test_events_that_are_not_before_the_request_are_refused(unit: str, allowed: int) -> None:
    asks = reader(unit)
    question, _ = asks.question(body(("a", allowed), time=100), NOW_MS)
    assert items(question) == ["a"]
    with pytest.raises(RefusedError) as caught:
        asks.question(body(("a", 1), ("b", allowed + 1), time=100), NOW_MS)
    assert caught.value.place == "body.history.1.time"


def test_the_moment_is_now_unless_it_is_given() -> None:
    assert reader().question(body(), NOW_MS)[0].asked_ms == NOW_MS
    assert reader().question(body(time=77), NOW_MS)[0].asked_ms == 77


def test_groups_are_for_all_events_or_for_none() -> None:
    with pytest.raises(RefusedError, match="every event or for none"):
        reader().question(body(("a", 5, "x"), ("b", 6)), NOW_MS)
    with pytest.raises(RefusedError, match="have no groups"):
        reader(groups=False).question(body(("a", 5, "x")), NOW_MS)


def test_an_unknown_candidate_is_refused_by_its_place() -> None:
    assert reader().candidates(["c", "a"]).tolist() == [2, 0]
    with pytest.raises(RefusedError) as caught:
        reader().candidates(["a", "secret"])
    assert caught.value.place == "body.candidates.1"
    assert "secret" not in caught.value.problem


def test_candidates_times_events_are_bounded() -> None:
    spec = Requests(task="binary", positive_above=0.5)
    asks = Reader(catalog=CATALOG, types=("buy",), has_groups=False, requests=spec)
    history = body(*[("a", at) for at in range(1001)])
    thousand = np.zeros(1000, dtype=np.int32)
    with pytest.raises(RefusedError, match=str(MAX_PAIRS)):
        asks.question(history, NOW_MS, thousand)
    asks.question(body(*[("a", at) for at in range(1000)]), NOW_MS, thousand)


def test_merged_questions_keep_their_users_groups_and_rows_apart() -> None:
    asks = reader()
    first, _ = asks.question(body(("a", 5, "x"), ("b", 6, "y")), NOW_MS)
    none = trial_question(asks.requests, 0, has_groups=True)
    last, _ = asks.question(body(("c", 7, "x"), ("c", 7, "x"), time=20), NOW_MS)
    log, requests = merge([first, none, last], 3)
    assert log.offsets.tolist() == [0, 2, 2, 4]
    assert log.group_starts.tolist() == [0, 1, 2, 4]
    assert requests.user.tolist() == [0, 1, 2]
    assert requests.end.tolist() == [2, 2, 4]
    assert requests.time_ms.tolist() == [NOW_MS, 0, 20]
    assert requests.candidate is None


def test_a_binary_question_makes_a_request_of_each_candidate() -> None:
    spec = Requests(task="binary", positive_above=0.5)
    asks = Reader(catalog=CATALOG, types=("buy",), has_groups=False, requests=spec)
    first, _ = asks.question(body(("a", 5)), NOW_MS, np.array([2, 0], dtype=np.int32))
    last, _ = asks.question(body(), NOW_MS, np.array([1], dtype=np.int32))
    log, requests = merge([first, last], 3)
    assert log.group is None
    assert requests.candidate is not None
    assert requests.candidate.tolist() == [2, 0, 1]
    assert requests.user.tolist() == [0, 0, 1]
    assert (first.rows, first.cost) == (2, 4)


def stored_question(world: Any, at: int) -> Question:
    """The question behind a request of a world, cut out of its log."""
    requests, log = world.asked(), world.log
    rows = slice(int(requests.first(log)[at]), int(requests.end[at]))
    group = None if log.group is None else log.group[rows]
    return Question(
        item=log.item[rows],
        time_ms=log.time_ms[rows],
        kind=log.kind[rows],
        value=log.value[rows],
        group=None if group is None else group - group[:1],
        asked_ms=int(requests.time_ms[at]),
        candidate=None if requests.candidate is None else requests.candidate[at : at + 1],
    )


def test_alone_or_merged_a_history_scores_as_in_the_log(case: tuple[Member, Any]) -> None:
    member, world = case
    stored = member.score(world.log, world.asked())[:12]
    questions = [stored_question(world, at) for at in range(len(stored))]
    alone = [member.score(*merge([question], world.log.num_items))[0] for question in questions]
    np.testing.assert_allclose(alone, stored, rtol=1e-5, atol=1e-5)
    nobody = trial_question(world.spec, 0, has_groups=world.log.group is not None)
    merged = member.score(*merge([*questions[:5], nobody, *questions[5:]], world.log.num_items))
    np.testing.assert_allclose(np.delete(merged, 5, axis=0), stored, rtol=1e-5, atol=1e-5)


def test_an_empty_history_has_finite_scores(case: tuple[Member, Any]) -> None:
    member, world = case
    nobody = trial_question(world.spec, 0, has_groups=world.log.group is not None)
    assert np.isfinite(member.score(*merge([nobody], world.log.num_items))).all()
