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
    answers = asyncio.run(burst("/v1/score", 100, 1000, rate=Rate()))
    assert sum(answer.status_code == 200 for answer in answers) == 64


def test_a_few_are_always_let_in_and_other_paths_too() -> None:
    assert {a.status_code for a in asyncio.run(burst("/v1/score", 16, 10))} == {200}
    assert {a.status_code for a in asyncio.run(burst("/healthz", 100, 10))} == {200}


@pytest.mark.parametrize("deadline_ms", [2000, 10_000])
def test_who_may_wait_longer_is_let_in_where_others_are_not(deadline_ms: int) -> None:
    """At 160 a second, 400 take 2.5 s."""
    answers = asyncio.run(burst("/v1/score", 400, deadline_ms))
    refused = sum(answer.status_code == 503 for answer in answers)
    assert (refused == 0) == (deadline_ms == 10_000)
