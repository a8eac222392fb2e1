"""What could only wait past its deadline is refused at once; all else is let in."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from penchant.serve.gate.admission import Admission, Rate


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_rate_is_the_best_half_second_of_the_last_ten_seconds() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.peak() is None
    for _ in range(10):
        rate.finished()
    clock.now_s += 0.5
    for _ in range(4):
        rate.finished()
    assert rate.peak() == 20.0
    clock.now_s += 9.6
    assert rate.peak() == 8.0
    clock.now_s += 10
    assert rate.peak() is None


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """Answers a request in 50 ms, eight at a time: 160 a second."""
    async with scope["app_slots"]:
        await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def burst(path: str, number: int, deadline_ms: int, *, warm: int = 8) -> list[httpx.Response]:
    slots = asyncio.Semaphore(8)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["app_slots"] = slots
        await admission(scope, receive, send)

    admission = Admission(slow)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"x-deadline-ms": str(deadline_ms)}
        await asyncio.gather(*(client.post(path, headers=headers) for _ in range(warm)))
        return await asyncio.gather(*(client.post(path, headers=headers) for _ in range(number)))


def test_of_a_burst_as_many_are_let_in_as_can_be_answered_in_time() -> None:
    """16 a second and more are known; 2 s x 0.6 of them are let in, and 16 in any case."""
    answers = asyncio.run(burst("/v1/score", 200, 1000))
    good = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(good) + len(refused) == 200
    assert 16 <= len(good) < 100
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def test_a_few_are_always_let_in_and_other_paths_too() -> None:
    assert {a.status_code for a in asyncio.run(burst("/v1/score", 16, 10))} == {200}
    assert {a.status_code for a in asyncio.run(burst("/healthz", 100, 10))} == {200}


@pytest.mark.parametrize("deadline_ms", [2000, 10_000])
def test_who_may_wait_longer_is_let_in_where_others_are_not(deadline_ms: int) -> None:
    """8 are finished in half a second: 16 a second, so that 40 would take 2.5 s."""
    answers = asyncio.run(burst("/v1/score", 40, deadline_ms))
    refused = sum(answer.status_code == 503 for answer in answers)
    assert (refused == 0) == (deadline_ms == 10_000)
