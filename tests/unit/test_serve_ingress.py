"""The HTTP face: answers, and refusals that repeat nothing of what was sent."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
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
from penchant.serve.routes.greeted import Greeted
from penchant.serve.routes.ingress import make_app
from penchant.serve.routes.observe import Seen
from penchant.serve.versions.traffic import LiveDesks, Split
from penchant.serve.wire.schema import EnsembleCard, MemberCard

NOW_MS = 1_512_129_600_000
SECRET = "embarrassing-purchase"
JSON = {"content-type": "application/json"}
CATALOG = Catalog(item_ids=["a", "b", "c", "d"], item_texts=["apples", "", "cheese", "dates"])
#: Scores of `one` for a to d; `two` has them the other way round.
ONE = [4.0, 3.0, 2.0, 1.0]


async def ask(member_id: str, question: Question) -> NDArray[np.float32] | None:
    if len(question.item) == 3 and member_id == "two":
        return None
    if len(question.item) == 4:
        raise RuntimeError(SECRET)
    if question.candidate is not None:
        return np.array(ONE, dtype=np.float32)[question.candidate][:, None] - 2
    return np.array([ONE if member_id == "one" else ONE[::-1]], dtype=np.float32)


def desk(weights: dict[str, float] | None = None, **spec: Any) -> Desk:
    requests = Requests.model_validate({"unit": "event"} | spec)
    chosen = weights or {"one": 1.0}
    binary = requests.task == "binary"
    ensemble = Ensemble(
        name="test",
        members={},
        combination=Linear(normalization="none" if binary else "zscore", weights=chosen),
        requests=requests,
        item_ids=CATALOG.item_ids,
        card={},
    )
    members = [
        MemberCard(id=name, kind="personal", weight=weight, window={"days": 3.0})
        for name, weight in chosen.items()
    ]
    card = EnsembleCard(
        name="test",
        version="abc",
        task=requests.task,
        unit="event",
        has_groups=False,
        types=["buy"],
        exclude_seen=requests.exclude_seen,
        normalization=ensemble.combination.normalization,
        items=4,
        metric="ndcg@10",
        data_until=None,
        test={},
        members=members,
    )
    reader = Reader(catalog=CATALOG, types=["buy"], has_groups=False, requests=requests)
    return Desk(card=card, reader=reader, panel=Panel(ensemble, ask), now_ms=lambda: NOW_MS)


def send(
    path: str, content: Any = None, *, to: Desk | None = None, method: str = "POST", **headers: str
) -> httpx.Response:
    """One request; a dictionary is sent as JSON, all else as it is."""
    app = make_app(LiveDesks(Split(primary=to or desk())), max_body_bytes=5_000)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(content, dict):
        content = json.dumps(content)

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, content=content, headers=JSON | given)

    return asyncio.run(go())


def history(*items: str) -> list[dict[str, Any]]:
    return [{"item": item, "time": NOW_MS - 1000} for item in items]


def results(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {result["item"]: result["score"] for result in response.json()["results"]}


def test_candidates_are_answered_in_the_order_in_which_they_are_asked_about() -> None:
    body = {"history": history("a"), "candidates": ["c", "a"]}
    response = send("/v1/score", body, x_request_id="mine-1")
    assert response.json() == {
        "request_id": "mine-1",
        "ensemble": "test",
        "version": "abc",
        "time_ms": NOW_MS,
        "degraded": False,
        "left_out": [],
        "cold_start": False,
        "used_events": 1,
        "ignored_events": 0,
        "results": [
            {"item": "c", "text": "cheese", "score": 2.0},
            {"item": "a", "text": "apples", "score": 4.0},
        ],
    }


def test_the_best_items_come_first_and_may_be_left_out() -> None:
    asked = {"history": history("a"), "k": 3}
    assert list(results(send("/v1/recommend", asked))) == ["a", "b", "c"]
    without = asked | {"exclude_seen": True, "exclude": ["c", "no such item"]}
    assert list(results(send("/v1/recommend", without))) == ["b", "d"]


def test_the_best_items_are_chosen_from_those_that_are_given_alone() -> None:
    asked = {"history": history("a"), "k": 3}
    of_all = results(send("/v1/recommend", asked | {"k": 4}))
    some = results(send("/v1/recommend", asked | {"only": ["d", "a", "c", "d"]}))
    assert list(some.items()) == [(item, of_all[item]) for item in ("a", "c", "d")]
    but = {"only": ["d", "a", "c"], "exclude": ["c", "b"], "exclude_seen": True}
    assert list(results(send("/v1/recommend", asked | but))) == ["d"]
    assert results(send("/v1/recommend", asked | {"only": ["c"], "exclude": ["c"]})) == {}
    assert results(send("/v1/recommend", asked | {"only": None})).keys() == {"a", "b", "c"}


def test_an_empty_history_is_a_cold_start_with_an_answer() -> None:
    response = send("/v1/recommend", {"history": [], "k": 1})
    assert results(response) == {"a": 4.0}
    assert (response.json()["used_events"], response.json()["cold_start"]) == (0, True)


def test_events_of_unknown_items_are_counted() -> None:
    response = send("/v1/recommend", {"history": history("a", SECRET)})
    assert (response.json()["used_events"], response.json()["ignored_events"]) == (1, 1)
    assert SECRET not in response.text


def test_a_candidate_that_is_known_may_bring_its_text() -> None:
    body = {"history": [], "candidates": [{"id": "c", "text": "Stilton"}, "a"]}
    assert results(send("/v1/score", body)) == {"c": 2.0, "a": 4.0}


def test_members_scores_come_along_when_asked_for() -> None:
    to = desk({"one": 0.75, "two": 0.25})
    body = {"history": [], "candidates": ["a"], "members": True}
    response = send("/v1/score", body, to=to)
    assert response.json()["results"][0]["members"] == {"one": 4.0, "two": 1.0}
    deviation = np.std(ONE)
    assert results(response)["a"] == pytest.approx(0.5 * 1.5 / deviation, rel=1e-6)


def test_a_binary_score_is_a_log_odds_with_its_probability() -> None:
    to = desk(task="binary", positive_above=0.5)
    response = send("/v1/score", {"history": [], "candidates": ["a", "c"]}, to=to)
    first, second = response.json()["results"]
    assert (first["score"], second["score"], second["probability"]) == (2.0, 0.0, 0.5)
    assert first["probability"] == pytest.approx(1 / (1 + np.exp(-2)))
    refused = send("/v1/recommend", {"history": []}, to=to)
    assert refused.status_code == 422
    assert "/v1/score" in refused.text


def test_seen_items_cannot_be_asked_for_where_the_ensemble_never_does() -> None:
    to = desk(exclude_seen=True)
    response = send("/v1/recommend", {"history": [], "exclude_seen": False}, to=to)
    assert response.status_code == 422
    assert response.json()["problems"][0]["place"] == "body.exclude_seen"


def test_an_answer_without_a_member_says_so() -> None:
    to = desk({"one": 0.75, "two": 0.25})
    response = send("/v1/recommend", {"history": history("a", "b", "c"), "k": 1}, to=to)
    assert response.json()["degraded"] is True
    assert response.json()["left_out"] == [{"member": "two", "reason": "failed"}]
    assert results(response)["a"] == pytest.approx(1.5 / np.std(ONE), rel=1e-6)


def test_without_any_member_there_is_503_and_a_time_to_come_back() -> None:
    response = send("/v1/recommend", {"history": history("a", "b", "c", "d")})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert SECRET not in response.text


@pytest.mark.parametrize(
    ("path", "change", "place"),
    [
        ("/v1/score", {"candidates": ["a", SECRET]}, "body.candidates.1"),
        ("/v1/score", {"candidates": []}, "body.candidates"),
        ("/v1/score", {}, "body.candidates"),
        ("/v1/score", {"candidates": ["a"], "k": 1}, "body.k"),
        ("/v1/score", {"candidates": ["a"], f"x {SECRET}": 1}, "body.(unknown field)"),
        ("/v1/recommend", {"history": [{"item": SECRET, "time": SECRET}]}, "body.history.0.time"),
        (
            "/v1/recommend",
            {"history": [{"item": SECRET, "time": NOW_MS + 1}]},
            "body.history.0.time",
        ),
        ("/v1/recommend", {"history": [{"item": [SECRET], "time": 1}]}, "body.history.0.item"),
        ("/v1/recommend", {"history": SECRET}, "body.history"),
        ("/v1/recommend", {"history": None}, "body.history"),
        ("/v1/recommend", {"history": None, "user": SECRET}, "body.history"),
        ("/v1/recommend", {"user": f"{SECRET}\n"}, "body.user"),
        ("/v1/recommend", {"user": ""}, "body.user"),
        ("/v1/recommend", {"user": "x" * 129}, "body.user"),
        ("/v1/score", {"candidates": [{"id": SECRET, "text": SECRET}]}, "body.candidates.0"),
        ("/v1/score", {"candidates": ["a", {"id": "b"}]}, "body.candidates.1"),
        ("/v1/recommend", {"k": SECRET}, "body.k"),
        ("/v1/recommend", {"history": [], "only": ["a", SECRET]}, "body.only.1"),
        ("/v1/recommend", {"history": [], "only": []}, "body.only"),
        ("/v1/recommend", {"history": [], "only": [{"id": SECRET}]}, "body.only.0"),
        ("/v1/recommend", {"k": True}, "body.k"),
        ("/v1/recommend", {"members": 1}, "body.members"),
    ],
)
def test_a_field_that_is_wrong_is_named_and_not_repeated(
    path: str, change: dict[str, Any], place: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        response = send(path, {"history": []} | change)
    assert response.status_code == 422, response.text
    assert [problem["place"] for problem in response.json()["problems"]] == [place]
    assert SECRET not in response.text + caplog.text + str(response.headers)


@pytest.mark.parametrize("deadline", ["9", "10001", "soon", "1e3", "nan", ""])
def test_a_deadline_is_10_to_10000_milliseconds(deadline: str) -> None:
    response = send("/v1/recommend", {"history": []}, x_deadline_ms=deadline)
    assert response.status_code == 422
    assert response.json()["problems"][0]["place"] == "header.X-Deadline-Ms"


@pytest.mark.parametrize("content", [b"", b'{"history": [], "k": NaN}', b'{"k": 1, "k": 1}'])
def test_what_is_no_strict_json_is_refused(content: bytes) -> None:
    response = send("/v1/recommend", content)
    assert response.status_code in (400, 422)
    assert set(response.json()) == {"error", "problems", "request_id"}


def test_what_is_served_is_told() -> None:
    response = send("/v1/ensemble", method="GET")
    assert response.json()["members"] == [
        {"id": "one", "kind": "personal", "weight": 1.0, "window": {"days": 3.0}, "size": None}
    ]
    assert send("/healthz", method="GET").json() == {"status": "ok"}
    ready = send("/readyz", method="GET")
    assert ready.json() == {"status": "ready", "ensemble": "test", "version": "abc"}


def test_the_routes_and_their_bounds_are_in_openapi() -> None:
    described = send("/openapi.json", method="GET").json()
    assert set(described["paths"]) == {
        *("/v1/score", "/v1/recommend", "/v1/explain", "/v1/batch", "/v1/ensemble"),
        *("/v1/events", "/v1/users/{user}", "/healthz", "/readyz"),
    }
    schemas = described["components"]["schemas"]
    assert schemas["ScoreBody"]["properties"]["history"]["anyOf"][0]["maxItems"] == 10_000
    assert schemas["ScoreBody"]["properties"]["candidates"]["maxItems"] == 1_000
    assert schemas["ExplainBody"]["properties"]["candidates"]["maxItems"] == 5
    assert schemas["Candidate"]["properties"]["text"]["maxLength"] == 2_000
    assert "at most 100" in schemas["ScoreBody"]["properties"]["candidates"]["description"]
    assert schemas["Result"]["properties"]["unknown"]["type"] == "boolean"
    assert schemas["BatchBody"]["properties"]["requests"]["maxItems"] == 64
    assert schemas["Event"]["additionalProperties"] is False
    assert schemas["RecommendBody"]["properties"]["k"]["maximum"] == 100
    assert schemas["ScoreBody"]["additionalProperties"] is False


@pytest.mark.parametrize("path", ["score", "recommend", "explain", "batch", "events"])
def test_every_route_with_a_body_describes_its_refusals(path: str) -> None:
    described = send("/openapi.json", method="GET").json()["paths"][f"/v1/{path}"]["post"]
    expected = {"200", "400", "401", "408", "413", "415", "422", "429", "503"}
    assert expected <= set(described["responses"])


def test_keys_are_in_openapi_where_they_are_asked_for(tmp_path: Path) -> None:
    """Clients that are made of it send them."""
    open_to_all = make_app(LiveDesks(Split(primary=desk()))).openapi()
    assert "security" not in open_to_all
    guard = Guard(ring=KeyRing(tmp_path))
    described = make_app(LiveDesks(Split(primary=desk())), guard=guard).openapi()
    schemes = described["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["header"]["in"], schemes["header"]["name"]) == ("header", "X-API-Key")
    assert described["security"] == [{"bearer": []}, {"header": []}]  # the one or the other
    assert "security" not in described["paths"]["/v1/score"]["post"]
    assert described["paths"]["/healthz"]["get"]["security"] == []


class Told:
    """Whoever is told of answers."""

    def __init__(self) -> None:
        self.of: list[tuple[str, str, int]] = []

    def answered(self, seen: Seen) -> None:
        self.of.append(("answered", seen.path, 200))

    def refused(self, refusal: Refusal) -> None:
        self.of.append(("refused", refusal.path, refusal.status))

    def passed(self, path: str, status: int, latency_ms: float) -> None:
        assert latency_ms > 0
        self.of.append(("passed", path, status))


def test_every_answer_is_told_of_once() -> None:
    told, ask_for = Told(), {"history": history("a"), "candidates": ["a"]}
    with TestClient(make_app(LiveDesks(Split(primary=desk())), observer=told)) as client:
        for path, body in (
            ("/v1/score", ask_for),
            ("/v1/score", {}),
            ("/v1/batch", {"requests": [{"score": ask_for}]}),
            ("/v1/batch", {"requests": [{"score": {"history": [], "candidates": ["x"]}}]}),
        ):
            client.post(path, json=body)
        for path in ("/v1/ensemble", "/healthz", "/nothing"):
            client.get(path)
    assert told.of == [
        ("answered", "/v1/score", 200),
        ("refused", "/v1/score", 422),
        ("answered", "/v1/batch", 200),
        ("refused", "/v1/batch", 422),
        ("passed", "/v1/ensemble", 200),
        ("passed", "/healthz", 200),
        ("refused", "/nothing", 404),
    ]


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        ({}, True),
        ({"k": 1}, True),
        ({"members": True}, True),
        ({"exclude_seen": True}, False),
        ({"exclude_seen": False}, True),
        ({"only": ["a", "b"]}, False),
        ({"exclude": ["a"]}, False),
    ],
)
def test_rankings_that_leave_something_out_are_told_from_others(
    body: dict[str, Any], whole: bool
) -> None:
    """The test block's were of all: best scores of the others are not to be compared with them."""
    seen: list[bool] = []

    class Watcher(Told):
        def answered(self, seen_now: Seen) -> None:
            seen.append(seen_now.whole)

    app = make_app(LiveDesks(Split(primary=desk())), observer=Watcher())
    with TestClient(app) as client:
        asked = {"history": history("a"), **body}
        assert client.post("/v1/recommend", json=asked).status_code == 200
        one = {"requests": [{"recommend": asked}]}
        assert client.post("/v1/batch", json=one).status_code == 200
        scored = {"history": history("a"), "candidates": ["a"]}
        assert client.post("/v1/score", json=scored).status_code == 200
    assert seen == [whole, whole, False]


def test_other_paths_and_methods_are_refused_as_json() -> None:
    assert send("/v1/nothing", method="GET").json()["error"] == "Not Found"
    assert send("/v1/score", method="GET").status_code == 405


def test_without_a_member_it_is_alive_and_not_ready() -> None:
    async def nobody(member_id: str, question: Question) -> NDArray[np.float32] | None:
        return None

    whole = desk({"one": 0.5, "two": 0.5})
    whole.panel._ask = nobody
    assert send("/healthz", to=whole, method="GET").status_code == 200
    response = send("/readyz", to=whole, method="GET")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def test_however_often_it_is_asked_whether_it_is_ready_members_are_asked_once_a_second() -> None:
    """Anybody may ask, without a key."""
    now_s, calls = [0.0], []

    async def slowly(member_id: str, question: Question) -> NDArray[np.float32] | None:
        calls.append(member_id)
        await asyncio.sleep(0.01)
        return np.zeros((1, len(whole.reader.catalog.item_ids)), dtype=np.float32)

    whole, other = desk({"one": 1.0}), desk({"one": 1.0})
    whole.panel._ask = other.panel._ask = slowly
    greeted = Greeted(clock=lambda: now_s[0])

    async def ask(to: Desk) -> None:
        assert all(await asyncio.gather(*(greeted.ready(to) for _ in range(50))))

    async def all_along() -> None:
        await ask(whole)
        assert len(calls) == 1
        now_s[0] = 1.1
        await ask(whole)
        assert len(calls) == 2
        await ask(other)  # another version by now

    asyncio.run(all_along())
    assert len(calls) == 3
