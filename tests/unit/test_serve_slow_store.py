"""A user store that hangs: who needs it is told so in time, and everybody else is answered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest

from penchant.platform.errors import UnreachableError
from penchant.serve.routes.ingress import make_app
from penchant.serve.users.asked_users import AskedUsers
from penchant.serve.versions.traffic import LiveDesks, Split
from penchant.serve.wire.fields import Event

from .test_serve_user_routes import NOW_MS, desk, event

#: Far beyond every deadline here: only a call that nobody bounds waits so long.
_HANGS_S = 20.0


class Hanging:
    """A store that does not answer about anybody until it is let go, but for `quick`."""

    def __init__(self) -> None:
        self.let_go, self._lock = threading.Event(), threading.Lock()
        self.under_way = self.most = 0

    def add(self, user: str, events: Sequence[Event]) -> tuple[int, int]:
        self._hang()
        return len(events), 0

    def history(self, user: str, limit: int = 9) -> list[Event]:
        if user != "quick":
            self._hang()
        return [{"item": "b", "time": NOW_MS - 1}]

    def delete(self, user: str) -> int:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def _hang(self) -> None:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self.let_go.wait(_HANGS_S)
        with self._lock:
            self.under_way -= 1


@pytest.fixture
def store() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.let_go.set()


Post = Callable[[str, dict[str, Any], int], Awaitable[httpx.Response]]


def talk(store: Any, say: Callable[[Post], Awaitable[None]]) -> None:
    """Put questions to an application with this store."""

    async def go() -> None:
        users = AskedUsers(store)
        transport = httpx.ASGITransport(make_app(LiveDesks(Split(primary=desk())), users=users))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            async def post(path: str, body: dict[str, Any], deadline_ms: int) -> httpx.Response:
                headers = {"x-deadline-ms": str(deadline_ms)}
                return await client.post(path, json=body, headers=headers)

            await say(post)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/score", {"candidates": ["a"]}),
        ("/v1/recommend", {}),
        ("/v1/explain", {"candidates": ["a"]}),
    ],
)
def test_who_waits_for_a_store_that_hangs_has_503_by_the_deadline(
    store: Hanging, path: str, more: dict[str, Any]
) -> None:
    async def say(post: Post) -> None:
        response = await post(path, {"user": "ann"} | more, 200)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert "kept of users" in response.json()["error"]
        assert not store.let_go.is_set()

    talk(store, say)


def test_of_a_batch_those_who_need_no_store_or_an_answer_that_came_have_theirs(
    store: Hanging,
) -> None:
    async def say(post: Post) -> None:
        asked: list[dict[str, Any]] = [{"user": "quick"}]
        asked += [{"user": f"u{at}"} for at in range(20)]
        asked += [{"history": [event("c", 5)]}]
        body = {"requests": [{"recommend": one | {"k": 1}} for one in asked]}
        results = (await post("/v1/batch", body, 4000)).json()["results"]
        assert [result["status"] for result in results] == [200] + [503] * 20 + [200]
        assert "kept of users" in results[1]["trouble"]["error"]

    talk(store, say)


def test_users_of_a_batch_are_looked_up_together() -> None:
    """Each waits until the others are looked up too."""

    class Together(Hanging):
        together = threading.Barrier(8)

        def _hang(self) -> None:
            self.together.wait(_HANGS_S)

    async def say(post: Post) -> None:
        asked = {"requests": [{"recommend": {"user": f"u{at}"}} for at in range(64)]}
        results = (await post("/v1/batch", asked, 10_000)).json()["results"]
        assert [result["status"] for result in results] == [200] * 64

    talk(Together(), say)


def test_threads_that_others_need_stay_free(store: Hanging) -> None:
    async def say(post: Post) -> None:
        events = {"user": "ann", "events": [event("a", 5)]}
        bodies = [("/v1/recommend", {"user": "ann"}), ("/v1/events", events)] * 20
        tasks = [asyncio.create_task(post(*body, 10_000)) for body in bodies]
        while not store.under_way:
            await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), _HANGS_S / 2) == "free"
        store.let_go.set()
        assert {response.status_code for response in await asyncio.gather(*tasks)} == {200}
        assert store.most <= 8

    talk(store, say)


def test_what_nobody_waits_for_any_more_is_not_asked(store: Hanging) -> None:
    async def say(post: Post) -> None:
        tasks = [asyncio.create_task(post("/v1/recommend", {"user": "ann"}, 500)) for _ in range(9)]
        assert {response.status_code for response in await asyncio.gather(*tasks)} == {503}
        assert store.most <= 8
        store.let_go.set()
        assert (await post("/v1/recommend", {"user": "ann"}, 10_000)).status_code == 200

    talk(store, say)


def test_at_the_end_the_store_is_closed_after_its_last_call_and_no_thread_stays() -> None:
    """A call after that would open a connection anew, which nobody closes."""
    told: list[str] = []

    class Closed(Hanging):
        def history(self, user: str, limit: int = 9) -> list[Event]:
            self._hang()
            told.append(user)
            return []

        def close(self) -> None:
            told.append("closed")

    async def go(store: Closed) -> None:
        users = AskedUsers(store)
        until = time.monotonic() + _HANGS_S
        asked = [asyncio.create_task(users.history(str(at), until)) for at in range(20)]
        while store.under_way < 8:
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(asyncio.to_thread(users.close))
        await asyncio.sleep(0.05)
        store.let_go.set()
        await closing
        await asyncio.gather(*asked, return_exceptions=True)

    before = set(threading.enumerate())
    asyncio.run(asyncio.wait_for(go(Closed()), _HANGS_S))
    assert (sorted(told[:-1]), told[-1]) == ([str(at) for at in range(8)], "closed")
    assert set(threading.enumerate()) <= before


def test_calls_that_were_given_up_leave_nothing_behind_a_store_that_hangs(store: Hanging) -> None:
    """Their events would stay in memory for as long as it does."""

    async def go() -> None:
        users = AskedUsers(store)
        for _ in range(3):
            asked = [users.history(f"u{n}", time.monotonic() + 0.05) for n in range(20)]
            told = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(error) for error in told} == {UnreachableError}
        assert store.under_way == 8
        assert users._calls._threads._work_queue.qsize() == 0
        store.let_go.set()
        await asyncio.sleep(0.1)
        assert await users.history("quick", time.monotonic() + 1) == [
            {"item": "b", "time": NOW_MS - 1}
        ]

    asyncio.run(go())
