"""The breaker: who is stuck is left out soon, who is slow is not, who is back is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from penchant.serve.answering.breaker import Breaker

__all__: list[str] = []


class Place:
    """Something to probe, and a clock to move."""

    def __init__(self) -> None:
        self.now, self.alive, self.probes = 100.0, False, 0
        self.breaker = Breaker("a place", self.probe, lambda: self.now)

    async def probe(self) -> object:
        self.probes += 1
        if not self.alive:
            raise RuntimeError("nobody")
        return None


def run(body: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(body(Place()))


def test_a_place_that_says_nothing_for_a_second_is_left_out() -> None:
    async def body(place: Place) -> None:
        place.breaker.asked()
        place.now += 0.9
        place.breaker.asked()
        assert not place.breaker.is_down()
        place.now += 0.1
        assert place.breaker.is_down()

    run(body)


def test_a_place_that_answers_somebody_is_not_stuck() -> None:
    async def body(place: Place) -> None:
        place.breaker.asked()
        for _ in range(5):
            quick = place.breaker.asked()
            place.now += 0.6
            place.breaker.answered(quick)
            assert not place.breaker.is_down()

    run(body)


def test_nobody_is_stuck_who_was_not_asked() -> None:
    async def body(place: Place) -> None:
        place.breaker.missed(place.breaker.asked())
        place.now += 3600
        assert not place.breaker.is_down()

    run(body)


@pytest.mark.parametrize(("waited_s", "stuck"), [(1.5, True), (0.2, False)])
def test_only_patient_callers_say_who_is_stuck(waited_s: float, stuck: bool) -> None:
    async def body(place: Place) -> None:
        for _ in range(3):
            asked = place.breaker.asked()
            place.now += waited_s
            place.breaker.missed(asked)
        assert place.breaker.is_down() is stuck

    run(body)


def test_it_is_asked_again_once_a_probe_is_answered() -> None:
    async def body(place: Place) -> None:
        place.breaker.failed(place.breaker.asked())
        await asyncio.sleep(0.05)
        assert place.breaker.is_down()
        place.alive, place.now = True, place.now + 60
        await asyncio.sleep(0.2)
        assert not place.breaker.is_down()
        assert place.probes >= 2

    run(body)


def test_a_full_place_is_not_stuck() -> None:
    async def body(place: Place) -> None:
        for _ in range(10):
            place.breaker.refused(place.breaker.asked())
            place.now += 1
        assert not place.breaker.is_down()

    run(body)
