"""Bodies are bounded and typed, and problems name places."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from penchant.serve.wire.schema import MAX_CANDIDATES, MAX_EVENTS, RecommendBody, ScoreBody

EVENT = {"item": "milk", "time": "2017-12-01"}
NOON_MS = 1_512_129_600_000  # 2017-12-01 12:00 UTC


def places(body: dict[str, Any]) -> set[tuple[Any, ...]]:
    with pytest.raises(ValidationError) as caught:
        ScoreBody.model_validate({"history": [], "candidates": ["milk"]} | body)
    return {problem["loc"] for problem in caught.value.errors()}


@pytest.mark.parametrize(
    "moment",
    [
        NOON_MS,
        "2017-12-01T12:00:00Z",
        "2017-12-01T12:00:00",
        "2017-12-01 12:00",
        "2017-12-01T13:00:00+01:00",
        "20171201T120000.000Z",
    ],
)
def test_a_moment_is_milliseconds_or_iso_8601_and_utc_without_a_zone(moment: object) -> None:
    body = RecommendBody.model_validate({"history": [], "time": moment})
    assert body.time == NOON_MS


@pytest.mark.parametrize(
    "moment",
    [
        True,
        1.5,
        "noon",
        "",
        "0001-01-01",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        10**30,
        -(10**30),
        "2017-12-01" + " " * 40,
        ["2017-12-01"],
        {},
        float("nan"),
    ],
)
def test_anything_else_is_no_moment(moment: object) -> None:
    assert places({"time": moment}) == {("time",)}


def test_lists_longer_than_their_bounds_are_refused() -> None:
    assert places({"history": [EVENT] * (MAX_EVENTS + 1)}) == {("history",)}
    assert places({"candidates": ["a"] * (MAX_CANDIDATES + 1)}) == {("candidates",)}
    assert places({"candidates": []}) == {("candidates",)}


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"item": ""}, "item"),
        ({"item": "x" * 257}, "item"),
        ({"item": 7}, "item"),
        ({"item": None}, "item"),
        ({"item": "\ud800"}, "item"),
        ({"group": ""}, "group"),
        ({"group": 3}, "group"),
        ({"value": float("nan")}, "value"),
        ({"value": float("inf")}, "value"),
        ({"value": 1e10}, "value"),
        ({"value": "1"}, "value"),
        ({"value": True}, "value"),
        ({"type": "x" * 129}, "type"),
        ({"price": 1}, "price"),
    ],
)
def test_a_bad_field_of_an_event_is_named(event: dict[str, Any], field: str) -> None:
    assert places({"history": [EVENT, EVENT | event]}) == {("history", 1, field)}


@pytest.mark.parametrize("k", [0, 101, True, 5.0, "5", 10**40])
def test_k_is_a_whole_number_from_1_to_100(k: object) -> None:
    with pytest.raises(ValidationError, match="k\n"):
        RecommendBody.model_validate({"history": [], "k": k})


def test_only_the_first_bad_event_of_many_is_reported() -> None:
    assert places({"history": [{"item": 1, "time": 1}] * MAX_EVENTS}) == {("history", 0, "item")}


def test_no_history_is_not_an_empty_one() -> None:
    assert RecommendBody.model_validate({"user": "ann"}).history is None
    assert RecommendBody.model_validate({"user": "ann", "history": []}).history == []


@pytest.mark.parametrize("user", ["", "x" * 129, "two\nlines", "nul\x00", "\u202erl", 7, "\ud800"])
def test_a_user_is_1_to_128_printable_characters(user: object) -> None:
    assert places({"user": user}) == {("user",)}
    assert RecommendBody.model_validate({"user": "Zoë 7/\u05d0"}).user == "Zoë 7/\u05d0"


@pytest.mark.parametrize(
    "candidate", [7, None, {}, {"id": "a"}, {"text": "a"}, {"id": "", "text": "a"}]
)
def test_a_candidate_is_an_id_or_an_id_with_a_text(candidate: object) -> None:
    assert places({"candidates": ["milk", candidate]}) == {("candidates", 1)}
    given = ["milk", {"id": "new", "text": "a new one"}]
    assert ScoreBody.model_validate({"history": [], "candidates": given}).candidates == given
