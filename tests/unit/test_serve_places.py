"""Small members share a process, large ones have their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penchant.serve.answering.places import HOP_MS, Placement, measured_ms, place_members

COST_MS = {"text": 20.0, "own": 0.2, "trees of ours": 1.5}


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("auto", [["text"], ["own", "trees of ours"]]),
        ("together", [["text", "own", "trees of ours"]]),
        ("apart", [["text"], ["own"], ["trees of ours"]]),
    ],
)
def test_members_are_placed_by_what_they_cost(
    placement: Placement, expected: list[list[str]]
) -> None:
    places = place_members(COST_MS, placement)
    assert [place.members for place in places] == expected
    assert len({place.name for place in places}) == len(places)
    assert all(place.name.replace("-", "").replace("_", "").isalnum() for place in places)


def test_where_the_answer_hangs_on_one_process_there_are_two_of_it() -> None:
    assert [place.replicas for place in place_members(COST_MS, "together")] == [2]
    assert [place.replicas for place in place_members(COST_MS, "apart")] == [1, 1, 1]
    assert [place.replicas for place in place_members({"own": 1.0}, "apart")] == [2]


def test_costs_are_those_that_were_measured_when_the_members_were_fitted(tmp_path: Path) -> None:
    path = tmp_path / "members" / "own" / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"score_ms": 0.25}))
    assert measured_ms(tmp_path, ["own", "foreign"]) == {"own": 0.25, "foreign": HOP_MS}
