"""Many questions in a body: each is answered as it would be alone, and none spoils another."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import Ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.config import Requests
from penchant.platform.events import Catalog
from penchant.serve.answering.desk import Desk
from penchant.serve.answering.history import Question, Reader
from penchant.serve.answering.panel import Panel
from penchant.serve.gate.gate import Refusal
from penchant.serve.gate.guard import Guard
from penchant.serve.gate.keys import KeyRing
from penchant.serve.routes import batch
from penchant.serve.routes.ingress import make_app
from penchant.serve.routes.observe import Seen
from penchant.serve.users.asked_users import AskedUsers
from penchant.serve.versions.traffic import LiveDesks, Split
from penchant.serve.wire.fields import Event
from penchant.serve.wire.schema import EnsembleCard

NOW_MS = 1_512_129_600_000
IDS = ["a", "b", "c", "slow", "broken"]
SECRET = "embarrassing"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Members:
    """One member that counts; it is slow or broken for users who had such an item."""

    def __init__(self) -> None:
        self.under_way = self.most = 0

    async def __call__(self, member_id: str, question: Question) -> NDArray[np.float32]:
        counts = np.bincount(question.item, minlength=5)[None].astype(np.float32)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(9 if counts[0, 3] else 0.001)
        self.under_way -= 1
        if counts[0, 4]:
            raise RuntimeError(SECRET)
        return counts


class Stored:
    """Users who had as many of `a` as their name says."""

    def add(self, user: str, events: Sequence[Event]) -> tuple[int, int]:
        raise NotImplementedError

    def delete(self, user: str) -> int:
        raise NotImplementedError

    def history(self, user: str, limit: int = 9) -> list[Event]:
        if user == SECRET:
            raise ValueError(SECRET)
        return [{"item": "a", "time": NOW_MS - 1 - at} for at in range(int(user))]


class Watcher:
    """Whoever is told of answers."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.failed: list[tuple[str | None, int]] = []

    def answered(self, seen: Seen) -> None:
        self.seen.append(seen)

    def refused(self, refusal: Refusal) -> None:
        self.failed.append((refusal.request_id, refusal.status))
        assert (refusal.path, refusal.traceparent) == ("/v1/batch", TRACE)
        assert refusal.latency_ms > 0

    def passed(self, path: str, status: int, latency_ms: float) -> None:
        raise AssertionError("questions were answered or refused: nothing else is told")


def desk(members: Members) -> Desk:
    requests = Requests.model_validate({"unit": "event"})
    ensemble = Ensemble(
        name="test",
        members={},
        combination=Linear(normalization="none", weights={"count": 1.0}),
        requests=requests,
        item_ids=IDS,
        card={},
    )
    card = EnsembleCard(
        name="test",
        version="abc",
        task="next_item",
        unit="event",
        has_groups=False,
        types=["buy"],
        exclude_seen=False,
        normalization="none",
        items=5,
        metric="ndcg@10",
        data_until=None,
        test={},
        members=[],
    )
    catalog = Catalog(item_ids=IDS, item_texts=[""] * 5)
    reader = Reader(catalog=catalog, types=["buy"], has_groups=False, requests=requests)
    return Desk(card=card, reader=reader, panel=Panel(ensemble, members), now_ms=lambda: NOW_MS)


def send(
    *requests: Any,
    members: Members | None = None,
    watcher: Watcher | None = None,
    guard: Guard | None = None,
    **headers: str,
) -> httpx.Response:
    app = make_app(
        LiveDesks(Split(primary=desk(members or Members()))),
        observer=watcher,
        users=AskedUsers(Stored()),
        guard=guard,
    )

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.post("/v1/batch", json={"requests": requests}, headers=given)

    return asyncio.run(go())


def history(*items: str) -> list[dict[str, Any]]:
    return [{"item": item, "time": NOW_MS - 5} for item in items]


def test_each_question_has_its_answer_in_their_order() -> None:
    watcher = Watcher()
    response = send(
        {"score": {"history": history("b", "b"), "candidates": ["b", "a"]}},
        {"recommend": {"user": "3", "k": 1}},
        watcher=watcher,
        x_request_id="mine",
    )
    assert response.status_code == 200, response.text
    assert response.json()["request_id"] == "mine"
    first, second = response.json()["results"]
    assert first == {
        "status": 200,
        "answer": {
            "request_id": "mine-0",
            "ensemble": "test",
            "version": "abc",
            "time_ms": NOW_MS,
            "degraded": False,
            "left_out": [],
            "cold_start": False,
            "used_events": 2,
            "ignored_events": 0,
            "results": [{"item": "b", "score": 2.0}, {"item": "a", "score": 0.0}],
        },
    }
    assert second["answer"]["request_id"] == "mine-1"
    assert second["answer"]["results"] == [{"item": "a", "score": 3.0}]
    told = sorted((seen.answer.request_id, seen.user, seen.path) for seen in watcher.seen)
    assert told == [("mine-0", None, "/v1/batch"), ("mine-1", "3", "/v1/batch")]


def test_what_goes_wrong_with_one_is_told_of_that_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        response = send(
            {"score": {"history": [], "candidates": ["a", SECRET]}},
            {"recommend": {}},
            {"score": {"history": history("broken"), "candidates": ["a"]}},
            {"score": {"user": SECRET, "candidates": ["a"]}},
            {"score": {"history": history("a"), "candidates": ["a"]}},
            x_request_id="mine",
        )
    results = response.json()["results"]
    assert [result["status"] for result in results] == [422, 422, 503, 500, 200]
    places = [result["trouble"]["problems"][0]["place"] for result in results[:2]]
    assert places == ["body.requests.0.score.candidates.1", "body.requests.1.recommend.history"]
    assert [result["trouble"]["request_id"] for result in results[:4]] == [
        f"mine-{at}" for at in range(4)
    ]
    assert results[3]["trouble"]["error"] == "internal error"
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "asyncio"))]
    assert SECRET not in response.text + "".join(ours)


def test_questions_without_an_answer_are_counted_though_the_batch_has_one() -> None:
    """Else an outage would look like silence wherever clients send batches."""
    watcher, candidates = Watcher(), ["a"]
    fine, broken = ({"history": history(i), "candidates": candidates} for i in ("a", "broken"))
    unknown = {"history": history("a"), "candidates": ["unheard of"]}
    asked = [{"score": one} for one in (fine, broken, unknown, broken)]
    answer = send(*asked, watcher=watcher, traceparent=TRACE, x_request_id="mine")
    assert answer.status_code == 200
    assert watcher.failed == [("mine-1", 503), ("mine-2", 422), ("mine-3", 503)]
    assert len(watcher.seen) == 1


def test_all_keep_one_deadline_and_the_slow_ones_leave_the_others_time() -> None:
    slow = {"score": {"history": history("slow"), "candidates": ["a"]}}
    response = send(*[slow] * 63, {"recommend": {"history": []}}, x_deadline_ms="1200")
    statuses = [result["status"] for result in response.json()["results"]]
    assert statuses == [503] * 63 + [200]
    assert response.elapsed.total_seconds() < 3


def test_members_are_asked_by_and_by() -> None:
    members = Members()
    response = send(*[{"recommend": {"history": []}}] * 64, members=members)
    assert {result["status"] for result in response.json()["results"]} == {200}
    assert 2 <= members.most <= 16


@pytest.mark.parametrize(
    ("requests", "place"),
    [
        ([], "body.requests"),
        ([{"recommend": {"history": []}}] * 65, "body.requests"),
        ([{}], "body.requests.0"),
        ([{"score": {"history": [], "candidates": ["a"]}, "recommend": {}}], "body.requests.0"),
        ([{"recommend": {"history": [], "k": 0}}], "body.requests.0.recommend.k"),
        ([{"forget": {}}], "body.requests.0.forget"),
    ],
)
def test_a_batch_that_is_none_is_refused_as_a_whole(requests: list[Any], place: str) -> None:
    response = send(*requests)
    assert response.status_code == 422
    assert [problem["place"] for problem in response.json()["problems"]] == [place]


def test_events_are_bounded_in_all_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "MAX_BATCH_EVENTS", 6)
    members = Members()
    given = {"recommend": {"history": history("a", "b", "c")}}
    assert send(given, given, members=members).status_code == 200
    members = Members()
    for too_many in ([given] * 3, [given, {"recommend": {"user": "4"}}]):
        response = send(*too_many, members=members)
        assert response.status_code == 422
        assert json.loads(response.content)["problems"][0]["place"] == "body.requests"
    assert members.most == 0


def test_every_question_counts_for_the_rate_of_its_key(tmp_path: Path) -> None:
    """Else a key for one question a second would ask 64."""
    ring = KeyRing(tmp_path)
    token = ring.add("shop", rate_per_s=1.0, burst=2)
    guard, asked = Guard(ring=ring), {"score": {"history": history("a"), "candidates": ["a"]}}
    assert send(*[asked] * 10, guard=guard, x_api_key=token).status_code == 200
    held = send(asked, guard=guard, x_api_key=token)
    assert (held.status_code, held.headers["retry-after"]) == (429, "9")  # 11 less a burst of 2
