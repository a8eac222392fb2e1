"""What could only wait past its deadline is refused at once; all else is let in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penchant.serve.gate.admission import Admission, Rate
from penchant.serve.gate.gate import Gate


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def work(rate: Rate, clock: Clock, at_once: int, took_s: float, *, good: bool = True) -> None:
    """So many requests that begin and end together."""
    for _ in range(at_once):
        rate.begun()
    clock.now_s += took_s
    for _ in range(at_once):
        rate.ended(good=good)


#: That are under way with others, but end when too few are left to count.
FEW = 15


def test_the_rate_is_that_of_the_best_two_seconds_with_many_under_way() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.best() is None
    for at_once in (8, 20, 30, 10, 9):
        work(rate, clock, at_once + FEW, 1.0)
    assert rate.under_way == 0
    assert rate.best() == pytest.approx((20 + 30) / 2)


def test_a_rate_of_few_who_ask_says_nothing() -> None:
    clock = Clock()
    rate = Rate(clock)
    for _ in range(20):
        work(rate, clock, FEW, 0.5)
    assert rate.best() is None


def test_a_second_in_which_nothing_moves_does_not_lower_it_and_refusals_do_not_count() -> None:
    clock = Clock()
    rate = Rate(clock)
    for _ in range(4):
        work(rate, clock, 40 + FEW, 1.0)
    work(rate, clock, 8 + FEW, 2.0)
    work(rate, clock, 500, 0.5, good=False)
    assert rate.best() == pytest.approx(40.0)


def test_three_seconds_of_waiting_for_the_dead_say_nothing_and_five_of_work_do() -> None:
    """While they wait, as many end as come: what can be done is not to be seen."""
    clock = Clock()
    rate = Rate(clock)
    for _ in range(3):
        work(rate, clock, 17 + FEW, 1.0)
    assert rate.best() is None
    for _ in range(2):
        work(rate, clock, 17 + FEW, 1.0)
    assert rate.best() == pytest.approx(17.0)


def test_what_was_found_holds_until_there_is_enough_to_tell_anew() -> None:
    clock = Clock()
    rate = Rate(clock)
    for _ in range(5):
        work(rate, clock, 40 + FEW, 1.0)
    assert rate.best() == pytest.approx(40.0)
    clock.now_s += 600.0
    for second in range(5):
        assert rate.best() == pytest.approx(40.0), second
        work(rate, clock, 10 + FEW, 1.0)
    assert rate.best() == pytest.approx(10.0)


def known(per_s: int) -> Rate:
    """So many requests were finished in each second of work; then time stands still."""
    clock = Clock()
    rate = Rate(clock)
    for _ in range(5):
        work(rate, clock, per_s + FEW, 1.0)
    return rate


def glimpsed(per_s: int, before: int | None = None) -> Rate:
    """So many were finished in a single second, a minute after others were in each of five."""
    clock = Clock()
    rate = Rate(clock)
    if before is not None:
        for _ in range(5):
            work(rate, clock, before + FEW, 1.0)
        assert rate.best() == pytest.approx(before)
        clock.now_s += 60.0
    work(rate, clock, per_s + FEW, 1.0)
    return rate


async def burst(
    path: str, number: int, deadline_ms: int, *, part: float = 0.9, rate: Rate | None = None
) -> list[httpx.Response]:
    """So many requests at once; none is answered before all are let in or refused."""
    decided, let_in = asyncio.Event(), 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal let_in
        while (await receive())["more_body"]:
            pass  # else it would count as coming, and for one second only
        let_in += 1
        await decided.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(Admission(app, rate or known(160), part=part))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"x-deadline-ms": str(deadline_ms)}
        asked = [asyncio.create_task(client.post(path, headers=headers)) for _ in range(number)]
        async with asyncio.timeout(30):
            while let_in + sum(task.done() for task in asked) < number:
                await asyncio.sleep(0)
        decided.set()
        return await asyncio.gather(*asked)


@pytest.mark.parametrize(("part", "let_in"), [(0.9, 145), (0.45, 73)])
def test_of_a_burst_as_many_are_let_in_as_can_be_answered_in_time(part: float, let_in: int) -> None:
    """At 160 a second, 144 take 0.9 s and one more is let in; 72 take 0.45 s."""
    answers = asyncio.run(burst("/v1/score", 200, 1000, part=part))
    good = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert (len(good), len(refused)) == (let_in, 200 - let_in)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def test_a_few_are_let_in_where_nothing_is_known() -> None:
    answers = asyncio.run(burst("/v1/score", 100, 1000, rate=Rate()))
    assert sum(answer.status_code == 200 for answer in answers) == 64


@pytest.mark.parametrize(
    ("per_s", "before", "let_in"),
    [
        (160, None, 145),  # 144 take 0.9 s
        (17, None, 64),  # as where nothing is known
        (160, 80, 145),
        (80, 160, 145),
    ],
)
def test_a_second_of_evidence_lets_in_more_and_never_less(
    per_s: int, before: int | None, let_in: int
) -> None:
    answers = asyncio.run(burst("/v1/score", 200, 1000, rate=glimpsed(per_s, before)))
    assert sum(answer.status_code == 200 for answer in answers) == let_in


def test_a_few_are_always_let_in_and_other_paths_too() -> None:
    assert {a.status_code for a in asyncio.run(burst("/v1/score", 16, 10))} == {200}
    assert {a.status_code for a in asyncio.run(burst("/healthz", 100, 10))} == {200}


@pytest.mark.parametrize("deadline_ms", [2000, 10_000])
def test_who_may_wait_longer_is_let_in_where_others_are_not(deadline_ms: int) -> None:
    """At 160 a second, 400 take 2.5 s."""
    answers = asyncio.run(burst("/v1/score", 400, deadline_ms))
    refused = sum(answer.status_code == 503 for answer in answers)
    assert (refused == 0) == (deadline_ms == 10_000)


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def asked_by_a_proxy(app: ASGIApp) -> ASGIApp:
    """Asks for messages until the client leaves, in a task of its own, as Serve's proxy does."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        messages = asyncio.Queue[Message]()

        async def fetch() -> None:
            while True:
                message = await receive()
                messages.put_nowait(message)
                if message["type"] == "http.disconnect":
                    return

        fetching = asyncio.create_task(fetch())
        try:
            await app(scope, messages.get, send)
        finally:
            fetching.cancel()

    return proxy


class Door:
    """Admission before the gate, as they stand in production, with or without a proxy between."""

    def __init__(self, app: ASGIApp, *, rate: Rate | None = None, proxied: bool = False) -> None:
        self.clock = Clock()
        self.rate = rate or Rate(self.clock)
        gate: ASGIApp = Gate(app, read_timeout_s=600)
        behind = asked_by_a_proxy(gate) if proxied else gate
        self.app = Admission(behind, self.rate, now=self.clock)

    async def post(self, content: Any = b"{}", deadline_ms: int = 2000) -> int:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"content-type": "application/json", "x-deadline-ms": str(deadline_ms)}
            return (await client.post("/v1/score", content=content, headers=headers)).status_code


class Trickle:
    """A body whose second half comes late."""

    def __init__(self) -> None:
        self.begun, self.rest = 0, asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun += 1
        yield b"{"
        await self.rest.wait()
        yield b"}"


async def trickling(door: Door, number: int) -> tuple[Trickle, list[asyncio.Task[int]]]:
    """So many bodies of which the first half has come."""
    body = Trickle()
    tasks = [asyncio.create_task(door.post(aiter(body), 10_000)) for _ in range(number)]
    while body.begun < number:
        await asyncio.sleep(0)
    return body, tasks


@pytest.mark.parametrize("proxied", [False, True])
def test_bodies_that_trickle_shut_nobody_out(proxied: bool) -> None:
    """Were the 20 under way, 5 answers a second would be all that can be done, and 4 s the wait."""

    async def go() -> None:
        door = Door(fine, proxied=proxied)
        body, tasks = await trickling(door, 20)
        for _ in range(5 * 8):
            door.clock.now_s += 0.2
            assert await door.post() == 200
        assert (door.rate.best(), door.rate.under_way) == (None, 0)
        body.rest.set()
        assert await asyncio.gather(*tasks) == [200] * 20
        assert door.rate.under_way == 0

    asyncio.run(asyncio.wait_for(go(), 30))


@pytest.mark.parametrize("proxied", [False, True])
def test_a_request_is_in_the_queue_for_a_second_and_again_when_its_body_is_whole(
    proxied: bool,
) -> None:
    """At 5 a second 20 requests take 4 s."""

    async def go() -> None:
        answer = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await answer.wait()
            await fine(scope, receive, send)

        door = Door(app, rate=known(5), proxied=proxied)
        body, tasks = await trickling(door, 20)
        assert await door.post() == 503
        door.clock.now_s += 1.0
        late = asyncio.create_task(door.post())
        while door.rate.under_way < 1:
            await asyncio.sleep(0)
        body.rest.set()
        while door.rate.under_way < 21:
            await asyncio.sleep(0)
        assert await door.post() == 503
        answer.set()
        assert await asyncio.gather(late, *tasks) == [200] * 21
        assert door.rate.under_way == 0

    asyncio.run(asyncio.wait_for(go(), 30))


@pytest.mark.parametrize("proxied", [False, True])
def test_a_burst_is_cut_though_bodies_are_read_later(proxied: bool) -> None:
    async def go() -> None:
        door = Door(fine, rate=known(160), proxied=proxied)
        body = Trickle()
        tasks = [asyncio.create_task(door.post(aiter(body), 1000)) for _ in range(200)]
        while sum(task.done() for task in tasks) < 200 - 145:
            await asyncio.sleep(0)
        body.rest.set()
        answers = await asyncio.gather(*tasks)
        assert (answers.count(200), answers.count(503)) == (145, 55)

    asyncio.run(asyncio.wait_for(go(), 30))


@pytest.mark.parametrize("proxied", [False, True])
def test_who_leaves_before_the_body_is_whole_was_never_there(proxied: bool) -> None:
    async def go() -> None:
        door = Door(fine, rate=known(5), proxied=proxied)
        said: list[Message] = []

        async def leave(*messages: Message) -> None:
            left = list(messages)

            async def receive() -> Message:
                return left.pop(0) if len(left) > 1 else left[0]

            async def send(message: Message) -> None:
                said.append(message)

            headers = [(b"content-type", b"application/json")]
            scope = {"type": "http", "method": "POST", "path": "/v1/score", "headers": headers}
            await door.app(scope, receive, send)

        part = {"type": "http.request", "body": b"{", "more_body": True}
        for _ in range(100):
            await leave(part, {"type": "http.disconnect"})
        assert (said, door.rate.under_way) == ([], 0)
        assert await door.post() == 200

    asyncio.run(asyncio.wait_for(go(), 30))


def test_who_leaves_stands_in_nobodys_way_though_the_work_goes_on() -> None:
    """At 5 a second the 16 would take 3.2 s; of a thousand, the last is called off in a while."""

    async def go() -> None:
        called_off, gone = asyncio.Event(), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await called_off.wait()
            await fine(scope, receive, send)

        door = Door(app, rate=known(5), proxied=True)

        async def leave() -> None:
            messages: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}]

            async def receive() -> Message:
                if messages:
                    return messages.pop()
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message: Message) -> None: ...

            headers = [(b"content-type", b"application/json")]
            scope = {"type": "http", "method": "POST", "path": "/v1/score", "headers": headers}
            await door.app(scope, receive, send)

        tasks = [asyncio.create_task(leave()) for _ in range(16)]
        while door.rate.under_way < 16:
            await asyncio.sleep(0)
        assert await door.post() == 503
        gone.set()
        assert await door.app._settled_wait_s(1.0) == 0.0  # asked before the loop has heard of it
        assert door.rate.under_way == 0
        assert not any(task.done() for task in tasks)
        called_off.set()
        await asyncio.gather(*tasks)
        assert await door.post() == 200
        assert door.rate.under_way == 0

    asyncio.run(asyncio.wait_for(go(), 30))


@pytest.mark.parametrize("proxied", [False, True])
def test_what_was_answered_counts_once_and_as_answered(proxied: bool) -> None:
    """After an answer comes word that the client has left, often before the application ends."""

    async def go() -> None:
        clock = Clock()
        door = Door(fine, rate=Rate(clock), proxied=proxied)
        counted: list[bool] = []
        ended = door.rate.ended

        def count(*, good: bool) -> None:
            counted.append(good)
            ended(good=good)

        door.rate.ended = count  # type: ignore[method-assign]
        assert [await door.post() for _ in range(3)] == [200] * 3
        assert counted == [True] * 3

    asyncio.run(asyncio.wait_for(go(), 30))
