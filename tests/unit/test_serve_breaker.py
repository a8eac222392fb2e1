"""The breaker: who stands still is left out, who is busy is not, who is back is asked again."""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from penchant.serve.answering.breaker import Breaker

__all__: list[str] = []


class Skipping(selectors.DefaultSelector):
    """Skips what a loop would wait for: only the clock moves."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everybody waits for something that nobody will do")
        self.skipped_s += timeout + 1e-6  # a turn of the loop takes some time too
        return super().select(0)


class SkippingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.skipping = Skipping()
        super().__init__(self.skipping)

    def time(self) -> float:
        return self.skipping.skipped_s


class Place:
    """Gives signs and answers probes after so many seconds; None: it does not move."""

    def __init__(self, sign_s: float | None = None, answer_s: float | None = None) -> None:
        self.sign_s, self.answer_s = sign_s, answer_s
        self.signs, self.probes = 0, 0
        self.breaker = Breaker("a place", self.sign, self.probe, now)

    async def sign(self) -> object:
        self.signs += 1
        return await moves(self.sign_s)

    async def probe(self) -> object:
        self.probes += 1
        return await moves(self.answer_s)


def now() -> float:
    return asyncio.get_running_loop().time()


async def moves(after_s: float | None) -> None:
    if after_s is None:
        await asyncio.sleep(3600)
        raise RuntimeError("it does not move")
    await asyncio.sleep(after_s)


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]  # there is one


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(body())


def test_a_place_that_stands_still_is_left_out_after_a_second_and_a_half() -> None:
    async def body() -> None:
        place = Place()
        place.breaker.asked()
        await asyncio.sleep(0.99)
        assert place.signs == 0
        await asyncio.sleep(0.5)  # its sign is awaited
        assert place.signs == 1
        assert not place.breaker.is_down()
        await asyncio.sleep(0.02)
        assert place.breaker.is_down()

    run(body)


def test_a_place_that_is_busy_is_asked_however_long_its_answer_takes() -> None:
    async def body() -> None:
        place = Place(sign_s=0.4)
        place.breaker.asked()
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert not place.breaker.is_down()
        # A sign of .4 s is asked for after each second of silence: at 1, 2.4, 3.8, ... 9.4 s.
        assert place.signs == 7
        place.breaker.answered()

    run(body)


@pytest.mark.parametrize("deadline_s", [0.2, 1.5])
@pytest.mark.parametrize(("sign_s", "down"), [(0.01, False), (None, True)])
def test_late_answers_say_nothing_and_the_sign_says_who_stands_still(
    sign_s: float | None, down: bool, deadline_s: float
) -> None:
    """However impatient the callers are."""

    async def body() -> None:
        place = Place(sign_s)
        for _ in range(10):
            place.breaker.asked()
            await asyncio.sleep(deadline_s)
            place.breaker.unanswered()
        assert place.breaker.is_down() is down

    run(body)


def test_a_place_that_answers_somebody_is_asked_for_no_sign() -> None:
    async def body() -> None:
        place = Place()
        place.breaker.asked()
        for _ in range(5):
            place.breaker.asked()
            await asyncio.sleep(0.6)
            place.breaker.answered()
        assert (place.signs, place.breaker.is_down()) == (0, False)

    run(body)


def test_an_answer_while_the_sign_is_awaited_is_one() -> None:
    async def body() -> None:
        place = Place()
        place.breaker.asked()
        place.breaker.asked()
        await asyncio.sleep(1.3)
        place.breaker.answered()
        await asyncio.sleep(0.9)  # a second from that answer has not passed
        assert (place.signs, place.breaker.is_down()) == (1, False)
        await asyncio.sleep(0.7)  # its second and the next sign's time have
        assert (place.signs, place.breaker.is_down()) == (2, True)

    run(body)


def test_a_sign_that_fails_at_once_is_asked_for_anew() -> None:
    """One of two replicas has died, the other one is busy."""

    async def body() -> None:
        place = Place(sign_s=0.0)
        failing = iter([ConnectionError(), ConnectionError()])

        async def sign() -> object:
            for error in failing:
                raise error
            return await place.sign()

        breaker = Breaker("a place", sign, place.probe, now)
        breaker.asked()
        await asyncio.sleep(1.6)
        assert (place.signs, breaker.is_down()) == (1, False)

    run(body)


def test_nobody_is_asked_for_a_sign_who_was_asked_nothing() -> None:
    async def body() -> None:
        place = Place()
        await asyncio.sleep(3600)
        place.breaker.asked()
        place.breaker.answered()
        await asyncio.sleep(3600)
        assert (place.signs, place.breaker.is_down()) == (0, False)
        assert not others()

    run(body)


def test_who_waits_is_told_once_that_a_place_is_down() -> None:
    async def body() -> None:
        place, told = Place(), list[bool]()
        place.breaker.when_down(lambda: told.append(place.breaker.is_down()))
        place.breaker.asked()
        place.breaker.asked()
        place.breaker.failed()
        place.breaker.failed()
        assert told == [True]

    run(body)


def test_it_is_asked_again_once_a_probe_is_answered() -> None:
    async def body() -> None:
        place = Place(sign_s=0.0)  # a sign is not enough
        place.breaker.asked()
        place.breaker.failed()
        await asyncio.sleep(60)
        assert place.breaker.is_down()
        assert place.probes == 6  # ten seconds each, and a pause
        place.answer_s = 0.05
        await asyncio.sleep(11)
        assert not place.breaker.is_down()
        assert place.probes == 7

    run(body)


def test_a_place_that_answers_what_was_under_way_is_back_at_once() -> None:
    """A place that is slow to be reached at first has its first questions under way by then."""

    async def body() -> None:
        place = Place()
        place.breaker.asked()
        await asyncio.sleep(1.6)
        assert place.breaker.is_down()
        place.breaker.answered()
        assert not place.breaker.is_down()
        await asyncio.sleep(0.1)
        assert not others()  # the probe is taken back

    run(body)


def test_a_sign_of_life_does_not_bring_back_a_place_that_has_failed_meanwhile() -> None:
    async def body() -> None:
        place = Place(sign_s=0.4)
        place.breaker.asked()
        place.breaker.asked()
        await asyncio.sleep(1.2)
        place.breaker.failed()
        await asyncio.sleep(0.3)
        assert (place.signs, place.breaker.is_down()) == (1, True)

    run(body)


def test_a_place_that_is_back_and_stands_still_again_is_left_out_again() -> None:
    async def body() -> None:
        place = Place(answer_s=0.0)
        place.breaker.asked()
        place.breaker.asked()
        place.breaker.failed()
        await asyncio.sleep(0.01)
        assert not place.breaker.is_down()
        place.answer_s = None
        await asyncio.sleep(1.6)  # the other question has been under way all the time
        assert place.breaker.is_down()

    run(body)


def test_a_full_place_is_not_down() -> None:
    async def body() -> None:
        place = Place(sign_s=0.0)
        for _ in range(10):
            place.breaker.asked()
            place.breaker.unanswered()
            await asyncio.sleep(1)
        assert not place.breaker.is_down()

    run(body)


def test_a_breaker_that_nobody_has_any_more_leaves_no_task() -> None:
    async def body() -> None:
        place = Place()
        place.breaker.when_down(place.breaker.is_down)  # as a carrier does: a circle
        place.breaker.asked()
        place.breaker.failed()
        await asyncio.sleep(1)
        assert len(others()) == 1
        del place.breaker
        gc.collect()
        await asyncio.sleep(11)
        assert not others()

    run(body)
