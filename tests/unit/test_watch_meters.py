"""What is counted of an answer, with labels that take few values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penchant.serve.answering.panel import Verdict
from penchant.serve.gate.gate import Refusal
from penchant.serve.routes.observe import Seen
from penchant.serve.watch.agreement import disagreement, member_scores
from penchant.serve.watch.instruments import INSTRUMENTS, Instrument, exported, ray_record
from penchant.serve.watch.meters import MemberMeters, Meters, PlaceMeters
from penchant.serve.wire.schema import Answer, LeftOut, Result

Noted = list[tuple[str, float, dict[str, str]]]


def noting(noted: Noted) -> Any:
    def record(instrument: Instrument, value: float, labels: Mapping[str, str]) -> None:
        assert set(labels) == set(instrument.labels)
        noted.append((instrument.name.removeprefix("penchant_"), value, dict(labels)))

    return record


def seen(members: Mapping[str, list[float]], *, left_out: list[LeftOut], ignored: int = 0) -> Seen:
    """A yes or no for two candidates."""
    answer = Answer(
        request_id="r1",
        ensemble="greedy",
        version="v1",
        time_ms=5,
        degraded=bool(left_out),
        left_out=left_out,
        used_events=1,
        ignored_events=ignored,
        results=[Result(item="a", score=1.0), Result(item="b", score=0.0)],
    )
    verdict = Verdict(
        scores=np.zeros((2, 1), dtype=np.float32),
        probabilities=None,
        members={m: np.array(s, dtype=np.float32)[:, None] for m, s in members.items()},
        left_out=left_out,
        latency_ms=dict.fromkeys(members, 3.0),
    )
    return Seen(
        path="/v1/score",
        role="canary",
        answer=answer,
        verdict=verdict,
        columns=None,
        user="u",
        caller="shop",
        latency_ms=7.5,
    )


def test_an_answer_is_counted_with_its_members() -> None:
    noted: Noted = []
    late = LeftOut(member="three", reason="deadline")
    Meters(noting(noted)).answered(
        seen({"one": [0.0, 0.0], "two": [0.0, np.log(3)]}, left_out=[late], ignored=4)
    )
    asked = {"path": "/v1/score", "role": "canary"}
    version = {"version": "v1", "role": "canary"}
    assert noted[:-1] == [
        ("requests", 1, {**asked, "status": "200", "degraded": "true"}),
        ("latency_ms", 7.5, asked),
        ("member_latency_ms", 3.0, {**version, "member": "one"}),
        ("member_latency_ms", 3.0, {**version, "member": "two"}),
        ("left_out", 1, {**version, "member": "three", "reason": "deadline"}),
        ("ignored_events", 4, version),
    ]
    # Chances are 1/2 and 1/2 for a, 1/2 and 3/4 for b: spreads of 0 and 1/4.
    name, value, labels = noted[-1]
    assert (name, labels) == ("disagreement", version)
    assert value == pytest.approx(0.125)


def test_a_lone_member_disagrees_with_nobody() -> None:
    noted: Noted = []
    Meters(noting(noted)).answered(seen({"one": [1.0, 2.0]}, left_out=[]))
    assert "disagreement" not in {name for name, _, _ in noted}


def test_an_answer_that_no_member_was_asked_for_is_a_request_too() -> None:
    """Else the errors of a route would be all that is known of it."""
    noted: Noted = []
    Meters(noting(noted)).passed("/v1/users/somebody@example.org", 200, 4.0)
    asked = {"path": "/v1/users", "role": "none"}
    assert noted == [
        ("requests", 1, {**asked, "status": "200", "degraded": "none"}),
        ("latency_ms", 4.0, asked),
    ]


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/v1/recommend", "/v1/recommend"),
        ("/v1/users/somebody@example.org", "/v1/users"),
        ("/wp-admin/setup.php", "other"),
    ],
)
def test_a_path_that_somebody_makes_up_is_no_label(path: str, label: str) -> None:
    noted: Noted = []
    Meters(noting(noted)).refused(Refusal(path=path, status=404))
    expected = {"path": label, "role": "none", "status": "404", "degraded": "none"}
    assert noted == [("requests", 1, expected)]


def test_a_member_counts_its_batches_its_queue_and_its_cache() -> None:
    noted: Noted = []
    meters = MemberMeters("v1", "one", noting(noted))
    meters.batch(size=3, cost=70, seconds=0.25)
    meters.queue(2)
    meters.cache(hits=5, misses=1)
    assert {(name, value) for name, value, _ in noted} == {
        ("batch_size", 3),
        ("batch_cost", 70),
        ("scoring_seconds", 0.25),
        ("queue_length", 2),
        ("cache_hits", 5),
        ("cache_misses", 1),
    }
    assert all(labels == {"version": "v1", "member": "one"} for _, _, labels in noted)


def test_a_front_says_how_many_questions_gather_for_a_place() -> None:
    noted: Noted = []
    meters = PlaceMeters("v1", "members", noting(noted))
    meters.gathering(3)
    meters.gathering(0)
    labels = {"version": "v1", "place": "members"}
    assert noted == [("gathering_questions", 3, labels), ("gathering_questions", 0, labels)]


def test_without_ray_numbers_go_nowhere_and_nothing_fails() -> None:
    record = ray_record()
    for instrument in INSTRUMENTS:
        for value in (0, 1, 2.5):
            record(instrument, value, dict.fromkeys(instrument.labels, "x"))


def test_names_are_exported_as_ray_exports_them() -> None:
    """Seen in a scrape of Ray 2.60: prefix `ray_`, suffix of the kind."""
    names = {name for instrument in INSTRUMENTS for name in exported(instrument)}
    assert {
        "ray_penchant_requests_total",
        "ray_penchant_latency_ms_bucket",
        "ray_penchant_latency_ms_count",
        "ray_penchant_latency_ms_sum",
        "ray_penchant_queue_length",
    } <= names
    assert len({instrument.name for instrument in INSTRUMENTS}) == len(INSTRUMENTS)


def floats(**scores: list[float]) -> dict[str, Any]:
    return {name: np.array(row, dtype=np.float32) for name, row in scores.items()}


def test_members_that_order_alike_agree_and_those_that_do_not_lie_two_apart() -> None:
    assert disagreement(floats(a=[1, 2, 3], b=[10, 20, 90]), binary=False) == pytest.approx(0)
    assert disagreement(floats(a=[1, 2, 3], b=[3, 2, 1]), binary=False) == pytest.approx(2)


def test_disagreement_is_the_mean_over_pairs_with_ties_at_their_mean() -> None:
    """Spearman of (1,2,3) and (1,3,2) is 1 - 6*2/24 = 0.5, of either with (1,1,2) sqrt(3)/2 or 0.

    Ranks (1.5, 1.5, 3) centred are (-.5, -.5, 1): with (-1, 0, 1) 1.5 / (sqrt(2) sqrt(1.5)), with
    (-1, 1, 0) 0.
    """
    scores = floats(a=[1, 2, 3], b=[1, 3, 2], c=[1, 1, 2])
    expected = 1 - (0.5 + 1.5 / np.sqrt(3) + 0) / 3
    assert disagreement(scores, binary=False) == pytest.approx(expected)


@pytest.mark.parametrize(
    "scores",
    [
        floats(a=[1, 2]),
        floats(a=[1, 1], b=[1, 2]),
        floats(a=[1], b=[2]),
        floats(a=[-np.inf, 1], b=[-np.inf, 2]),
        floats(a=[], b=[]),
    ],
)
def test_where_nothing_can_be_compared_there_is_no_disagreement(scores: Any) -> None:
    assert disagreement(scores, binary=False) is None


def test_items_that_were_not_asked_for_do_not_count() -> None:
    scores = floats(a=[-np.inf, 1, 2], b=[-np.inf, 1, 2])
    assert disagreement(scores, binary=False) == pytest.approx(0)


def test_scores_of_a_ranking_are_those_of_the_items_that_were_answered() -> None:
    """Two items of a catalogue of four: the third and the first."""
    told = seen({}, left_out=[])
    scores = np.array([[4, 3, 2, 1]], dtype=np.float32)
    verdict = Verdict(scores=scores, probabilities=None, members={"one": scores}, left_out=[])
    columns = np.array([2, 0], dtype=np.int32)
    ranked = replace(told, verdict=verdict, columns=columns)
    assert member_scores(ranked)["one"].tolist() == [2, 4]
