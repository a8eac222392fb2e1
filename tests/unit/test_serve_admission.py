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


def test_the_rate_is_the_mean_of_the_seconds_in_which_there_was_work() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.mean() is None
    for _ in range(10):  # half a second of work, then half a second of nothing
        rate.begun()
        rate.begun()
        clock.now_s += 0.5
        rate.ended(good=True)
        rate.ended(good=True)
        clock.now_s += 0.5
    assert rate.under_way == 0
    assert rate.mean() == pytest.approx(4.0)


def test_bursts_count_by_their_mean_and_refusals_do_not_count() -> None:
    clock = Clock()
    rate = Rate(clock)
    for _ in range(20):
        rate.begun()
    clock.now_s += 2.0
    for at in range(20):  # all at once
        rate.ended(good=at % 2 == 0)
    assert rate.mean() == pytest.approx(5.0)


def test_what_is_long_ago_is_forgotten() -> None:
    clock = Clock()
    rate = Rate(clock)
    rate.begun()
    clock.now_s += 1.0
    rate.ended(good=True)
    clock.now_s += 12.0
    assert rate.mean() is None


def known(per_s: int) -> Rate:
    """So many requests were finished in a second of work; then time stands still."""
    clock = Clock()
    rate = Rate(clock)
    for _ in range(per_s):
        rate.begun()
    clock.now_s += 1.0
    for _ in range(per_s):
        rate.ended(good=True)
    return rate


async def burst(
    path: str, number: int, deadline_ms: int, *, part: float = 0.9, rate: Rate | None = None
) -> list[httpx.Response]:
    """So many requests at once; none is answered before all are let in or refused."""
    decided = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await decided.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(Admission(app, rate or known(160), part=part))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"x-deadline-ms": str(deadline_ms)}
        asked = [asyncio.create_task(client.post(path, headers=headers)) for _ in range(number)]
        await asyncio.sleep(0.5)
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
    answers = asyncio.run(burst("/v1/score", 40, 1000, rate=Rate()))
    assert sum(answer.status_code == 200 for answer in answers) == 16


def test_a_few_are_always_let_in_and_other_paths_too() -> None:
    assert {a.status_code for a in asyncio.run(burst("/v1/score", 16, 10))} == {200}
    assert {a.status_code for a in asyncio.run(burst("/healthz", 100, 10))} == {200}


@pytest.mark.parametrize("deadline_ms", [2000, 10_000])
def test_who_may_wait_longer_is_let_in_where_others_are_not(deadline_ms: int) -> None:
    """At 160 a second, 400 take 2.5 s."""
    answers = asyncio.run(burst("/v1/score", 400, deadline_ms))
    refused = sum(answer.status_code == 503 for answer in answers)
    assert (refused == 0) == (deadline_ms == 10_000)
