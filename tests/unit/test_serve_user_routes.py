"""Events come in by /v1/events, answer questions that name their user, and can be forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import Ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.config import Requests
from penchant.platform.errors import UnreachableError
from penchant.platform.events import Catalog
from penchant.serve.answering.desk import Desk
from penchant.serve.answering.history import Question, Reader
from penchant.serve.answering.panel import Panel
from penchant.serve.routes.ingress import make_app
from penchant.serve.users.asked_users import AskedUsers
from penchant.serve.users.users import SqliteUsers, UserStore
from penchant.serve.versions.traffic import LiveDesks, Split
from penchant.serve.wire.fields import Event
from penchant.serve.wire.schema import EnsembleCard, ScoreBody

NOW_MS = 1_512_129_600_000
IDS = ["a", "b", "c"]
SECRET = "embarrassing"


async def count(member_id: str, question: Question) -> NDArray[np.float32]:
    """How often the user had each item."""
    return np.bincount(question.item, minlength=3)[None].astype(np.float32)


def desk(*, types: Sequence[str] = ("buy",), groups: bool = False, version: str = "one") -> Desk:
    requests = Requests.model_validate({"unit": "group"})
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
        version=version,
        task="next_item",
        unit="group",
        has_groups=groups,
        types=list(types),
        exclude_seen=False,
        normalization="none",
        items=3,
        metric="ndcg@10",
        data_until=None,
        test={},
        members=[],
    )
    catalog = Catalog(item_ids=IDS, item_texts=[""] * 3)
    reader = Reader(catalog=catalog, types=types, has_groups=groups, requests=requests)
    return Desk(card=card, reader=reader, panel=Panel(ensemble, count), now_ms=lambda: NOW_MS)


class Service:
    """The application with a store of users."""

    def __init__(self, users: UserStore | None, to: Desk | Split | None = None) -> None:
        self.forgotten: list[str] = []
        split = to if isinstance(to, Split) else Split(primary=to or desk())
        asked = None if users is None else AskedUsers(users)
        self.app = make_app(LiveDesks(split), users=asked, forget=self.forget)

    async def forget(self, user: str) -> None:
        if user == "of a replica that hangs":
            raise UnreachableError(SECRET)
        self.forgotten.append(user)

    def send(self, path: str, body: Any = None, method: str = "POST") -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, json=body)

        return asyncio.run(go())

    def tell(self, user: str, *events: dict[str, Any]) -> Any:
        response = self.send("/v1/events", {"user": user, "events": events})
        assert response.status_code == 200, response.text
        return response.json()

    def counts(self, **asked: Any) -> tuple[dict[str, float], dict[str, Any]]:
        """Scores, and the whole answer."""
        response = self.send("/v1/score", {"candidates": IDS} | asked)
        assert response.status_code == 200, response.text
        answer = response.json()
        return {result["item"]: result["score"] for result in answer["results"]}, answer


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = SqliteUsers(tmp_path / "users.sqlite")
    yield made
    made.close()


def event(item: str, before_ms: int, **more: Any) -> dict[str, Any]:
    return {"item": item, "time": NOW_MS - before_ms} | more


def test_a_user_who_is_named_is_asked_about_with_what_was_told(store: SqliteUsers) -> None:
    service = Service(store)
    assert service.tell("ann", event("b", 5), event("a", 9), event(SECRET, 7)) == {
        "added": 3,
        "known": 0,
    }
    assert service.tell("ann", event("b", 5), event("b", 3)) == {"added": 1, "known": 1}
    scores, answer = service.counts(user="ann")
    assert scores == {"a": 1.0, "b": 2.0, "c": 0.0}
    facts = (answer["used_events"], answer["ignored_events"], answer["cold_start"])
    assert facts == (3, 1, False)
    best = service.send("/v1/recommend", {"user": "ann", "k": 1}).json()["results"]
    assert [result["item"] for result in best] == ["b"]
    reasons = service.send("/v1/explain", {"user": "ann", "candidates": ["b"]}).json()
    assert [e["effect"] for e in reasons["results"][0]["events"]] == [2.0]


def test_a_history_that_is_given_is_the_whole_history(store: SqliteUsers) -> None:
    service = Service(store)
    service.tell("ann", event("b", 5))
    assert service.counts(user="ann", history=[event("c", 5)])[0] == {"a": 0, "b": 0, "c": 1}
    assert service.counts(user="ann", history=[])[1]["cold_start"] is True


def test_an_unknown_user_is_a_cold_start(store: SqliteUsers) -> None:
    scores, answer = Service(store).counts(user="nobody")
    assert scores == {"a": 0, "b": 0, "c": 0}
    assert (answer["used_events"], answer["cold_start"]) == (0, True)


def test_what_came_after_the_moment_asked_about_is_not_seen(store: SqliteUsers) -> None:
    service = Service(store)
    service.tell("ann", event("a", 50), event("b", 20), event("c", -30_000))  # clocks differ
    assert service.counts(user="ann", time=NOW_MS - 20)[0] == {"a": 1, "b": 0, "c": 0}
    assert service.counts(user="ann", time=NOW_MS - 19)[0] == {"a": 1, "b": 1, "c": 0}
    assert service.counts(user="ann")[0] == {"a": 1, "b": 1, "c": 0}


def test_without_a_history_there_must_be_a_user_and_a_store(store: SqliteUsers) -> None:
    nobody = Service(store).send("/v1/score", {"candidates": ["a"]})
    nowhere = Service(None).send("/v1/score", {"candidates": ["a"], "user": SECRET})
    for response, word in ((nobody, "a user whose events are kept"), (nowhere, "keeps no events")):
        assert response.status_code == 422
        assert response.json()["problems"][0]["place"] == "body.history"
        assert word in response.json()["problems"][0]["problem"]
        assert SECRET not in response.text
    told = Service(None).send("/v1/events", {"user": "u", "events": [event("a", 1)]})
    assert told.status_code == 404
    assert Service(None).counts(user="u", history=[event("a", 1)])[0]["a"] == 1


def test_a_user_is_forgotten_everywhere_however_often_it_is_said(store: SqliteUsers) -> None:
    service = Service(store)
    user = "Zoë/../1 ?%2F"
    service.tell(user, event("a", 5), event("b", 6))
    service.tell("bob", event("c", 5))
    path = "/v1/users/" + quote(user, safe="")
    assert service.send(path, method="DELETE").json() == {"deleted": 2}
    assert service.send(path, method="DELETE").json() == {"deleted": 0}
    assert service.forgotten == [user, user]
    assert service.counts(user=user)[1]["cold_start"] is True
    assert service.counts(user="bob")[0]["c"] == 1
    for odd, status in (("a\x00b", 422), ("x" * 129, 422), ("", 422), ("a\nb", 404)):
        assert service.send("/v1/users/" + quote(odd), method="DELETE").status_code == status
    assert Service(None).send("/v1/users/ann", method="DELETE").json() == {"deleted": 0}


@pytest.mark.parametrize(
    ("events", "place"),
    [
        ([event("a", 1), event("a", -60_001)], "body.events.1.time"),
        ([event("a", 1) | {"time": "0001-01-01"}], "body.events.0.time"),
        ([event("a", 1) | {"time": "9999-12-31T00:00:00Z"}], "body.events.0.time"),
        ([event("a", 1, group=SECRET)], "body.events.0.group"),
        ([event("a", 1, type=SECRET)], "body.events.0.type"),
        ([event("a", 1, value=1e10)], "body.events.0.value"),
        ([event("a", 1, price=1)], "body.events.0.price"),
        ([], "body.events"),
        ([event("a", 1)] * 10_001, "body.events"),
    ],
)
def test_events_that_could_be_no_history_are_refused(
    store: SqliteUsers, events: Any, place: str
) -> None:
    service = Service(store)
    response = service.send("/v1/events", {"user": "ann", "events": events})
    assert response.status_code == 422
    assert [problem["place"] for problem in response.json()["problems"]] == [place]
    assert SECRET not in response.text
    assert store.history("ann") == []


def test_a_type_is_needed_where_there_are_several(store: SqliteUsers) -> None:
    service = Service(store, desk(types=("buy", "view")))
    refused = service.send("/v1/events", {"user": "ann", "events": [event("a", 1)]})
    assert refused.json()["problems"] == [
        {"place": "body.events.0.type", "problem": "expected one of: buy, view"}
    ]
    service.tell("ann", event("a", 1, type="view"))
    assert service.counts(user="ann")[0]["a"] == 1


def test_events_of_mixed_zones_and_any_order_are_one_history(store: SqliteUsers) -> None:
    service = Service(store, desk(groups=True))
    service.tell("ann", event("a", 1) | {"time": "2017-12-01T10:00:00+01:00"})
    service.tell("ann", event("a", 1) | {"time": "2017-12-01 09:00"}, event("b", 99_999_999))
    assert [e["item"] for e in store.history("ann")] == ["b", "a"]


@pytest.mark.parametrize("groups", [True, False])
def test_stored_events_ask_what_the_same_history_asks(store: SqliteUsers, groups: bool) -> None:
    random = np.random.default_rng(3)
    drawn = {
        (IDS[item], int(before), f"g{group}")
        for item, before, group in zip(
            *random.integers(1, 9, (3, 60)) % [[3], [9], [3]], strict=True
        )
    }
    events = [event(i, 1 + before, value=before) for i, before, _ in sorted(drawn)]
    if groups:
        events = [
            e | {"group": group} for e, (_, _, group) in zip(events, sorted(drawn), strict=True)
        ]
    events = [*{(e["item"], e["time"], e.get("group")): e for e in events}.values()]
    random.shuffle(events)  # type: ignore[arg-type]
    to = desk(groups=groups)
    Service(store, to).tell("ann", *events)
    named = ScoreBody.model_validate({"user": "ann", "candidates": ["a"]})
    given = ScoreBody.model_validate({"history": events, "candidates": ["a"]})
    recalled, _ = to.reader.question(to.recalled(named, store.history("ann")), NOW_MS)
    expected, _ = to.reader.question(given, NOW_MS)
    assert len(expected.item) > 20
    for name in ("item", "time_ms", "kind", "value", "group"):
        np.testing.assert_array_equal(getattr(recalled, name), getattr(expected, name))


def test_a_version_with_other_data_takes_what_it_can_of_stored_events() -> None:
    stored: list[Event] = [
        {"item": "a", "time": 5, "type": "buy", "group": None, "value": None},
        {"item": "b", "time": 5, "type": "buy", "group": "x", "value": 2.0},
        {"item": "a", "time": 6, "type": "gone", "group": "x", "value": 3.0},
        {"item": "c", "time": 99, "type": "buy", "group": "x", "value": 4.0},
    ]
    asked = ScoreBody.model_validate({"user": "ann", "time": 99, "candidates": ["a"]})
    for groups, expected in ((True, [0, 1]), (False, None)):
        to = desk(groups=groups)
        question, ignored = to.reader.question(to.recalled(asked, stored), NOW_MS)
        assert (question.item.tolist(), question.value.tolist()) == ([0, 1], [1.0, 2.0])
        assert (None if question.group is None else question.group.tolist()) == expected
        assert ignored == 0


def test_a_user_stays_with_a_version(store: SqliteUsers) -> None:
    split = Split(primary=desk(), canary=desk(version="two"), canary_share=0.5)
    service = Service(store, split)
    found = {user: {service.counts(user=user)[1]["version"] for _ in range(3)} for user in "abcdef"}
    assert all(len(versions) == 1 for versions in found.values())
    assert set.union(*found.values()) == {"one", "two"}


def test_a_store_that_does_not_answer_is_503() -> None:
    class Down:
        def add(self, user: str, events: Sequence[Event]) -> tuple[int, int]:
            raise UnreachableError(SECRET)

        def history(self, user: str, limit: int = 1) -> list[Event]:
            raise UnreachableError(SECRET)

        def delete(self, user: str) -> int:
            raise UnreachableError(SECRET)

    service = Service(Down())
    for response in (
        service.send("/v1/events", {"user": "ann", "events": [event("a", 1)]}),
        service.send("/v1/recommend", {"user": "ann"}),
        service.send("/v1/users/ann", method="DELETE"),
    ):
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert SECRET not in response.text
    assert service.forgotten == []


def test_a_user_whom_a_replica_does_not_forget_is_503_and_can_be_deleted_again(
    store: SqliteUsers,
) -> None:
    service = Service(store)
    for _ in range(2):
        answer = service.send("/v1/users/" + quote("of a replica that hangs"), method="DELETE")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert SECRET not in answer.text
