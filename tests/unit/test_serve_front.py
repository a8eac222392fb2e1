"""A front starts though its service directory cannot be written to, and forgets everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penchant.platform.errors import ConfigError
from penchant.serve import front as front_module
from penchant.serve.answering.places import Layout, Place
from penchant.serve.front import Front
from penchant.serve.users.late_users import LateUsers
from penchant.serve.versions.service import Live, Service, Traffic

from .test_serve_user_routes import desk, event

LIVE = Live(
    version="one",
    directory="one",
    source="one",
    layout=Layout(),
    places=[Place(name="members", members=["count"], alone=True)],
)


class Replicas:
    """In the place of Ray Serve: replicas of the front and of members that forget, or do not."""

    def __init__(self) -> None:
        self.forgot: list[tuple[str, ...]] = []
        self.trouble: Exception | None = None

    def get_replica_context(self) -> Any:
        return SimpleNamespace(replica_id=SimpleNamespace(unique_id="r1"))

    def get_deployment_handle(self, name: str, app: str) -> Any:
        def broadcast(*called: str) -> Any:
            async def results() -> list[None]:
                if self.trouble is not None:
                    raise self.trouble
                self.forgot.append((name, app, *called))
                return [None]

            return SimpleNamespace(results_async=results)

        return SimpleNamespace(broadcast=broadcast)


@pytest.fixture
def replicas(monkeypatch: pytest.MonkeyPatch) -> Replicas:
    async def open_live(live: Live) -> Any:
        return desk()

    made = Replicas()
    monkeypatch.setattr(front_module, "serve", made)
    monkeypatch.setattr(front_module, "open_live", open_live)
    return made


Start = Callable[[], TestClient]


@pytest.fixture
def start(tmp_path: Path, replicas: Replicas) -> Iterator[Start]:
    """Starts a front of a service that answers."""
    Service(tmp_path).switch(Traffic(primary=LIVE), "start")
    started: list[TestClient] = []

    def begin() -> TestClient:
        app = Front(
            str(tmp_path), 1_000_000, guarded=False, users=str(tmp_path / "users.sqlite")
        ).__serve_build_asgi_app__()
        started.append(TestClient(app))
        return started[-1].__enter__()

    yield begin
    for one in started:
        one.__exit__(None, None, None)


KEPT = ("users.sqlite", "feedback-r1.sqlite", "user-hash.key")
OUTCOME = {"request_id": "r", "item": "a", "label": 1, "time": 1}


def test_what_cannot_be_kept_is_503_until_it_can_and_scoring_goes_on(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in KEPT:
        (tmp_path / name).mkdir()  # where a file should be made
    (tmp_path / "predictions").write_text("no directory")
    client = start()
    assert "users.sqlite" in caplog.text
    asked = {"candidates": ["a", "b"]}
    given = asked | {"history": [event("a", 5)], "user": "ann"}

    def of_users() -> list[Any]:
        return [
            client.post("/v1/events", json={"user": "ann", "events": [event("a", 5)]}),
            client.post("/v1/score", json=asked | {"user": "ann"}),
            client.post("/v1/feedback", json={"outcomes": [OUTCOME]}),
            client.delete("/v1/users/ann"),
        ]

    for answer in of_users():
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert client.post("/v1/score", json=given).json()["results"][0]["score"] == 1.0
    for name in KEPT:
        (tmp_path / name).rmdir()
    assert [answer.status_code for answer in of_users()] == [200] * 4
    assert client.post("/v1/score", json=given).status_code == 200


def test_a_user_is_forgotten_in_all_fronts_and_members(start: Start, replicas: Replicas) -> None:
    assert start().delete("/v1/users/ann").json() == {"deleted": 0}
    assert replicas.forgot == [
        ("front", "front", "flush"),
        ("members", LIVE.app, "forget"),
    ]


@pytest.mark.parametrize("trouble", [TimeoutError("silent"), RuntimeError("the actor is dead")])
def test_a_replica_that_does_not_forget_is_503(
    start: Start, replicas: Replicas, trouble: Exception
) -> None:
    client = start()
    replicas.trouble = trouble
    answer = client.delete("/v1/users/ann")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    replicas.trouble = None
    assert client.delete("/v1/users/ann").status_code == 200


def test_a_place_where_no_store_could_ever_be_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="mysql"):
        LateUsers("mysql://host/users")


def test_where_nothing_is_kept_of_users_scoring_goes_on(tmp_path: Path, replicas: Replicas) -> None:
    """On several machines without a Redis: they cannot share a file."""
    Service(tmp_path).switch(Traffic(primary=LIVE), "start")
    front = Front(str(tmp_path), 1_000_000, guarded=False)
    with TestClient(front.__serve_build_asgi_app__()) as client:
        asked = {"candidates": ["a"], "user": "ann"}
        kept = client.post("/v1/events", json={"user": "ann", "events": [event("a", 5)]})
        assert kept.status_code == 404
        assert client.post("/v1/score", json=asked).status_code == 422
        given = asked | {"history": [event("a", 5)]}
        assert client.post("/v1/score", json=given).status_code == 200
        assert client.delete("/v1/users/ann").json() == {"deleted": 0}
    assert not (tmp_path / "users.sqlite").exists()
