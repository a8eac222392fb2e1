"""A front takes over what can answer, tries the rest again, and says what it goes by."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penchant.serve.answering.desk import Desk
from penchant.serve.answering.places import Layout, Place
from penchant.serve.routes.ingress import make_app
from penchant.serve.versions.follower import Follower
from penchant.serve.versions.service import Live, Service, Traffic
from penchant.serve.versions.traffic import LiveDesks


def live(version: str) -> Live:
    places = [Place(name="members", members=["own"], alone=True)]
    return Live(version=version, directory=version, source=version, layout=Layout(), places=places)


class Bench:
    """A front without Ray: desks are names, versions fail while they are told to."""

    def __init__(self, directory: Path) -> None:
        self.service = Service(directory)
        self.desks = LiveDesks()
        self.failing: dict[str, Exception] = {}
        self.tried: list[str] = []
        self.now = 0.0
        self.follower = Follower(self.service, self.desks, self.open, lambda: self.now)

    async def open(self, wanted: Live) -> Desk:
        self.tried.append(wanted.version)
        if wanted.version in self.failing:
            raise self.failing[wanted.version]
        desk: Any = wanted.version
        return desk

    def switch(self, traffic: Traffic) -> None:
        self.service.switch(traffic, "test")

    def look(self, after_s: float = 0.0) -> None:
        self.now += after_s
        asyncio.run(self.follower.look())

    def answering(self, user: str | None = None) -> object:
        return self.desks.choose(user)[1]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_version_that_cannot_be_opened_is_tried_again_until_it_can(bench: Bench) -> None:
    bench.failing["a"] = KeyError("no such application")
    bench.switch(Traffic(primary=live("a")))
    bench.look()
    with pytest.raises(LookupError):
        bench.answering()
    assert "no such application" in bench.follower.following.trouble[live("a").app]
    del bench.failing["a"]
    bench.look(after_s=5.0)
    assert bench.answering() == "a"
    assert bench.follower.following.traffic == Traffic(primary=live("a"))
    assert bench.follower.following.trouble == {}
    bench.look(after_s=5.0)
    assert bench.tried == ["a", "a"]  # what is open stays open


def test_pauses_between_tries_grow_to_seconds(bench: Bench) -> None:
    bench.failing["a"] = OSError("gone")
    bench.switch(Traffic(primary=live("a")))
    moments = []
    for _ in range(300):  # a minute, at five looks a second
        tries = len(bench.tried)
        bench.look(after_s=0.2)
        if len(bench.tried) > tries:
            moments.append(bench.now)
    pauses = [after - before for before, after in zip(moments, moments[1:], strict=False)]
    assert pauses[:5] == pytest.approx([0.4, 0.8, 1.6, 3.2, 5.0], abs=0.25)  # a look is 0.2 s
    assert pauses[5:] == pytest.approx([5.0] * len(pauses[5:]), abs=0.25)
    bench.switch(Traffic(primary=live("b")))  # a file that is new is not waited for
    bench.look()
    assert bench.answering() == "b"


def test_the_first_failure_and_other_reasons_are_logged_and_not_each_try(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.switch(Traffic(primary=live("a")))
    with caplog.at_level(logging.WARNING):
        for reason in ("one", "one", "one", "two", "two"):
            bench.failing["a"] = OSError(reason)
            bench.look(after_s=10)
        bench.failing.clear()
        bench.look(after_s=10)
        bench.look(after_s=10)
    told = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert [text.rpartition(" is ")[2] for text in told] == ["one", "two", "in trouble no more"]


def test_what_a_rollback_returns_to_is_not_needed_by_a_front_that_starts(bench: Bench) -> None:
    bench.failing["october"] = FileNotFoundError("runs/october")
    bench.switch(Traffic(primary=live("november"), previous=live("october")))
    bench.look()
    assert bench.answering() == "november"
    assert bench.follower.following.trouble == {}


def test_a_front_that_starts_answers_though_the_canary_cannot_be_opened(bench: Bench) -> None:
    bench.failing["b"] = FileNotFoundError("runs/b")
    both = Traffic(primary=live("a"), canary=live("b"), canary_share=1.0)
    bench.switch(both)
    bench.look()
    assert bench.answering("ann") == "a"
    assert bench.follower.following.traffic is None  # a verb is not told that all is well
    assert "runs/b" in bench.follower.following.trouble[live("b").app]
    del bench.failing["b"]
    bench.look(after_s=5.0)
    assert bench.answering("ann") == "b"
    assert bench.follower.following.traffic == both


def test_a_version_that_stays_up_for_a_rollback_stays_open(bench: Bench) -> None:
    for traffic in (
        Traffic(primary=live("a")),
        Traffic(primary=live("b"), previous=live("a")),
        Traffic(primary=live("a"), previous=live("b")),
    ):
        bench.switch(traffic)
        bench.look()
    assert bench.answering() == "a"
    assert bench.tried == ["a", "b"]


def test_a_shadow_that_cannot_be_opened_keeps_nothing_back_and_is_tried_again(
    bench: Bench,
) -> None:
    bench.failing["s"] = OSError("gone")
    traffic = Traffic(primary=live("a"), shadow=live("s"))
    bench.switch(traffic)
    bench.look()
    assert bench.answering() == "a"
    assert bench.follower.following.traffic == traffic
    assert set(bench.follower.following.trouble) == {live("s").app}
    copied: list[object] = []

    async def copy(desk: Desk) -> None:
        copied.append(desk)

    async def mirrored() -> None:
        bench.desks.mirror(copy)
        await asyncio.sleep(0)

    asyncio.run(mirrored())
    assert copied == []
    bench.failing.clear()
    bench.look(after_s=5)
    asyncio.run(mirrored())
    assert copied == ["s"]
    assert bench.follower.following.trouble == {}


def test_a_canary_is_taken_over_with_its_primary_or_not_at_all(bench: Bench) -> None:
    bench.switch(Traffic(primary=live("a")))
    bench.look()
    bench.failing["c"] = OSError("gone")
    bench.switch(Traffic(primary=live("b"), canary=live("c"), canary_share=1.0))
    bench.look()
    assert (bench.answering(), bench.answering("user")) == ("a", "a")
    assert bench.follower.following.traffic == Traffic(primary=live("a"))
    bench.failing.clear()
    bench.look(after_s=5)
    assert (bench.answering(), bench.answering("user")) == ("b", "c")
    assert bench.tried.count("b") == 1


def test_a_file_that_changes_meanwhile_is_followed_before_the_look_ends(tmp_path: Path) -> None:
    class Changing(Bench):
        async def open(self, wanted: Live) -> Desk:
            if wanted.version == "a":
                self.switch(Traffic(primary=live("b")))
            return await super().open(wanted)

    bench = Changing(tmp_path)
    bench.switch(Traffic(primary=live("a")))
    bench.look()
    assert bench.answering() == "b"


def test_a_torn_file_leaves_live_what_is_live(bench: Bench) -> None:
    bench.switch(Traffic(primary=live("a")))
    bench.look()
    bench.service.traffic_file.write_text('{"primary": 1}')
    bench.look()
    assert bench.answering() == "a"
    assert "not as Penchant writes it" in bench.follower.following.trouble["traffic.json"]
    bench.service.traffic_file.unlink()
    bench.look(after_s=5)
    assert bench.answering() == "a"


def test_a_front_that_has_opened_nothing_is_not_ready() -> None:
    with TestClient(make_app(LiveDesks())) as client:
        answer = client.get("/readyz")
        assert client.get("/healthz").status_code == 200
    assert answer.status_code == 503
    assert "no version is ready" in answer.text
