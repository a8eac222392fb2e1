"""Calls to a place are few: what gathers meanwhile travels together, each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ray.exceptions import RayActorError

from penchant.platform.config import Requests
from penchant.serve.answering.breaker import Breaker
from penchant.serve.answering.carrier import Answers, Asked, Carrier
from penchant.serve.answering.history import Question, trial_question
from penchant.serve.answering.panel import DownError

TRIAL = trial_question(Requests(), 1, has_groups=False)


class Place:
    """Answers each question with its time, once the test lets it go on."""

    def __init__(self, fails: type[Exception] | None = None, each_s: float = 0.0) -> None:
        self.calls: list[list[int]] = []  # times of the questions of each
        self.members: list[list[str]] = []  # of each question
        self.cancelled = 0
        self.go = asyncio.Event()
        self._fails, self._each_s = fails, each_s

    async def send(self, asked: Sequence[Asked]) -> Sequence[Answers]:
        self.calls.append([one.question.asked_ms for one in asked])
        self.members += [list(one.members) for one in asked]
        try:
            await self.go.wait()
            await asyncio.sleep(self._each_s * len(asked))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._fails is not None and self.calls[-1] == self.calls[0]:
            raise self._fails
        return [
            {name: np.float32([[one.question.asked_ms]]) for name in one.members} for one in asked
        ]


async def nobody() -> object:
    raise RuntimeError("it does not move")


def carrier(
    place: Place, most_calls: int = 2, gather: Callable[[int], None] = lambda _: None
) -> Carrier:
    return Carrier(place.send, Breaker("a place", nobody, nobody), most_calls, gather)


def question(at: int) -> Question:
    return replace(TRIAL, asked_ms=at)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(5):
            await body()

    asyncio.run(limited())


async def asked(way: Carrier, *times: int) -> list[asyncio.Task[object]]:
    """Put one question after the other, each in its own turn of the loop."""
    tasks: list[asyncio.Task[object]] = []
    for at in times:
        tasks.append(asyncio.create_task(way.ask("one", question(at))))
        await asyncio.sleep(0.002)
    return tasks


async def one_under_way_and_two_that_gather(place: Place) -> list[object]:
    """What became of the three."""
    tasks = await asked(carrier(place, 1), 0, 1, 2)
    place.go.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def _quick_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls take no time, however busy the machine of the test is: slow ones carry less."""
    still = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr("penchant.serve.answering.carrier.time", still)


@pytest.mark.usefixtures("_quick_calls")
def test_what_gathers_while_all_calls_are_under_way_shares_the_next() -> None:
    async def body() -> None:
        place = Place()
        tasks = await asked(carrier(place), *range(6))
        assert place.calls == [[0], [1]]
        place.go.set()
        answers = await asyncio.gather(*tasks)
        assert place.calls == [[0], [1], [2, 3, 4, 5]]
        assert [int(answer[0, 0]) for answer in answers] == list(range(6))

    run(body)


@pytest.mark.parametrize("most_calls", [1, 3])
def test_no_more_calls_are_under_way_than_allowed(most_calls: int) -> None:
    async def body() -> None:
        place = Place()
        tasks = await asked(carrier(place, most_calls), *range(5))
        assert len(place.calls) == most_calls
        place.go.set()
        await asyncio.gather(*tasks)

    run(body)


@pytest.mark.usefixtures("_quick_calls")
def test_a_call_carries_eight_questions_at_most() -> None:
    async def body() -> None:
        place = Place()
        tasks = await asked(carrier(place, 1), *range(18))
        place.go.set()
        answers = await asyncio.gather(*tasks)
        assert [len(call) for call in place.calls] == [1, 8, 8, 1]
        assert [int(answer[0, 0]) for answer in answers] == list(range(18))

    run(body)


def test_a_question_that_is_taken_back_before_it_left_is_not_sent() -> None:
    async def body() -> None:
        place = Place()
        first, leaver, stayer = await asked(carrier(place, 1), 0, 1, 2)
        leaver.cancel()
        await asyncio.sleep(0)
        place.go.set()
        await asyncio.gather(first, stayer)
        assert place.calls == [[0], [2]]

    run(body)


def test_a_call_is_taken_back_when_nobody_waits_for_it_and_makes_room() -> None:
    async def body() -> None:
        place = Place()
        way = carrier(place, 1)
        (first,) = await asked(way, 0)
        shared = await asked(way, 1, 2)
        first.cancel()
        await asyncio.sleep(0.002)
        assert (place.calls, place.cancelled) == ([[0], [1, 2]], 1)
        shared[0].cancel()
        await asyncio.sleep(0.002)
        assert place.cancelled == 1  # the other still waits
        shared[1].cancel()
        await asyncio.sleep(0.002)
        assert place.cancelled == 2

    run(body)


def test_the_same_question_again_is_another_one() -> None:
    """A cascade asks a place twice: its later members when the first ones have answered."""

    async def body() -> None:
        place = Place()
        way, same = carrier(place, 1), question(7)
        first = asyncio.create_task(way.ask("one", same))
        await asyncio.sleep(0.002)
        second = asyncio.create_task(way.ask("two", same))
        await asyncio.sleep(0.002)
        first.cancel()  # takes back its own only
        await asyncio.sleep(0.002)
        place.go.set()
        answer = await second
        assert int(answer[0, 0]) == 7  # type: ignore[index]  # it is sound
        assert place.calls == [[7], [7]]

    run(body)


def test_members_that_are_asked_the_same_are_asked_together_however_long_it_gathers() -> None:
    async def body() -> None:
        place, same = Place(), question(7)
        way = carrier(place, 1)
        (first,) = await asked(way, 0)
        one, left, two = (asyncio.create_task(way.ask(n, same)) for n in ("one", "left", "two"))
        await asyncio.sleep(0.002)
        left.cancel()
        await asyncio.sleep(0.002)
        place.go.set()
        await asyncio.gather(first, one, two)
        assert place.calls == [[0], [7]]
        assert place.members == [["one"], ["one", "two"]]

    run(body)


def test_a_place_that_takes_its_time_gets_few_questions_at_once() -> None:
    """Their answers come together: the first of them shall not wait too long for the last."""

    async def body() -> None:
        place = Place(each_s=0.2)
        tasks = await asked(carrier(place, 1), *range(6))
        place.go.set()
        await asyncio.gather(*tasks)
        assert [len(call) for call in place.calls] == [1, 2, 2, 1]

    run(body)


def test_who_has_gathered_need_not_find_out_that_a_place_is_down() -> None:
    async def body() -> None:
        place = Place(fails=RayActorError)
        found = await one_under_way_and_two_that_gather(place)
        assert [type(one) for one in found] == [DownError] * 3
        assert place.calls == [[0], [0]]  # once more, and that was it

    run(body)


def test_who_gathers_for_a_place_that_stands_still_is_let_go_when_that_is_known() -> None:
    """Not only when the first call's deadline has passed; whoever is under way may be answered."""

    async def body() -> None:
        place = Place()
        breaker = Breaker("a place", nobody, nobody)
        under_way, gathers = await asked(Carrier(place.send, breaker, 1), 0, 1)
        breaker.asked()
        breaker.failed()
        with pytest.raises(DownError):
            await gathers
        assert not under_way.done()
        place.go.set()
        assert int((await under_way)[0, 0]) == 0  # type: ignore[index]  # it is sound

    run(body)


def test_how_many_gather_is_told_when_it_has_changed() -> None:
    async def body() -> None:
        place, told = Place(), list[int]()
        way = carrier(place, 1, told.append)
        first, second, third, fourth = await asked(way, 0, 1, 2, 3)
        assert told == [0, 1, 2, 3]
        third.cancel()
        await asyncio.sleep(0.002)
        assert told == [0, 1, 2, 3, 2]
        place.go.set()
        await asyncio.gather(first, second, fourth)
        await asked(way, 4, 5)  # calls are free: nothing gathers, and nothing is told
        assert told == [0, 1, 2, 3, 2, 0]

    run(body)


def test_what_goes_wrong_with_a_call_goes_wrong_for_its_questions_only() -> None:
    async def body() -> None:
        found = await one_under_way_and_two_that_gather(Place(fails=ValueError))
        assert isinstance(found[0], ValueError)
        assert [int(answer[0, 0]) for answer in found[1:]] == [1, 2]  # type: ignore[index]

    run(body)
