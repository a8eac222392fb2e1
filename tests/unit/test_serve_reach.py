"""Questions to one place travel together; a place that dies is left out until it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from penchant.platform.config import Requests
from penchant.serve.answering.carrier import Asked
from penchant.serve.answering.history import trial_question
from penchant.serve.answering.panel import DownError, OverloadedError
from penchant.serve.answering.places import Place
from penchant.serve.answering.reach import Reach

QUESTION = trial_question(Requests(), 1, has_groups=False)
TRIAL = trial_question(Requests(), 0, has_groups=False)
PLACES = [
    Place(name="big", members=["big"], alone=False),
    Place(name="members", members=["x", "y"], alone=False),
]
SCORES = {"big": 1.0, "x": 2.0, "y": 3.0}


class Response:
    """What Serve's handle gives: awaitable, and it can be cancelled."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.cancelled, self._answer = False, answer

    def __await__(self) -> Any:
        return self._answer().__await__()

    def cancel(self) -> None:
        self.cancelled = True


class Signs:
    """The deployment's method for signs of life."""

    def __init__(self, asked: list[Response], sign_s: float) -> None:
        self._asked, self._sign_s = asked, sign_s

    def remote(self) -> Response:
        self._asked.append(Response(lambda: asyncio.sleep(self._sign_s)))
        return self._asked[-1]


class Handle:
    """A deployment: answers by turns as `acts` says, then well; gives signs as `signs` says."""

    def __init__(self, *acts: Exception | float, sign_s: float = 0.0) -> None:
        self.asked: list[tuple[str, ...]] = []  # members, question by question
        self.signs: list[Response] = []
        self.alive = Signs(self.signs, sign_s)
        self.responses: list[Response] = []
        self._acts = list(acts)

    @property
    def score(self) -> Handle:
        return self

    def remote(self, asked: Sequence[Asked]) -> Response:
        self.asked += [tuple(one.members) for one in asked]
        act = self._acts.pop(0) if self._acts else 0.0

        async def answer() -> list[dict[str, Any]]:
            if isinstance(act, Exception):
                raise act
            await asyncio.sleep(act)
            return [{name: np.float32([[SCORES[name]]]) for name in one.members} for one in asked]

        self.responses.append(Response(answer))
        return self.responses[-1]


def reach(big: Handle, members: Handle | None = None) -> Reach:
    handles: Any = {"big": big, "members": members or Handle()}
    return Reach("v1", PLACES, handles, TRIAL)


async def together(way: Reach, *names: str) -> list[Any]:
    return await asyncio.gather(*(way(n, QUESTION) for n in names), return_exceptions=True)


def test_members_of_one_place_are_asked_in_one_call() -> None:
    big, small = Handle(), Handle()
    answers = asyncio.run(together(reach(big, small), "x", "big", "y"))
    assert [answer.item() for answer in answers] == [2.0, 1.0, 3.0]
    assert (big.asked, small.asked) == ([("big",)], [("x", "y")])


def test_another_question_is_asked_for_itself() -> None:
    small = Handle()

    async def go() -> None:
        way = reach(Handle(), small)
        await asyncio.gather(way("x", QUESTION), way("x", TRIAL))
        await way("y", QUESTION)

    asyncio.run(go())
    assert small.asked == [("x",), ("x",), ("y",)]


def test_a_death_is_not_noticed_where_another_replica_answers() -> None:
    big = Handle(RayActorError())
    assert asyncio.run(together(reach(big), "big"))[0].item() == 1.0
    assert big.asked == [("big",), ("big",)]


def test_a_dead_place_is_left_out_at_once_until_it_answers_a_probe() -> None:
    big = Handle(RayActorError(), RayActorError(), RayActorError(), 0.05)

    async def go() -> tuple[list[Any], float]:
        way = reach(big)
        first = await together(way, "big")
        asked = len(big.asked)
        second = await together(way, "big")
        assert len(big.asked) == asked  # it was not asked
        began = asyncio.get_running_loop().time()
        while isinstance((await together(way, "big"))[0], DownError):
            await asyncio.sleep(0.01)
        return [*first, *second], asyncio.get_running_loop().time() - began

    answers, waited_s = asyncio.run(go())
    assert [type(answer) for answer in answers] == [DownError, DownError]
    assert waited_s < 1.0


@pytest.mark.parametrize(("sign_s", "outcome"), [(0.0, "TimeoutError"), (30.0, "DownError")])
def test_a_place_that_is_silent_is_left_out_where_it_gives_no_sign_of_life(
    sign_s: float, outcome: str
) -> None:
    big = Handle(30.0, 30.0, 30.0, sign_s=sign_s)

    async def go() -> str:
        way = reach(big)
        first = asyncio.create_task(way("big", QUESTION))
        await asyncio.sleep(1.55)
        try:
            async with asyncio.timeout(0.1):
                await way("big", QUESTION)
        except (TimeoutError, DownError) as error:
            return type(error).__name__
        finally:
            first.cancel()
        return "an answer"

    assert asyncio.run(go()) == outcome
    (sign,) = big.signs
    assert sign.cancelled is (sign_s > 0)


def test_impatient_callers_prove_nothing() -> None:
    big = Handle(*[30.0] * 5)

    async def go() -> Any:
        way = reach(big)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await way("big", QUESTION)
        return (await together(way, "big"))[0]

    assert asyncio.run(go()).item() == 1.0


def test_a_full_place_is_overloaded_and_not_down() -> None:
    big = Handle(BackPressureError(num_queued_requests=9, max_queued_requests=9))

    async def go() -> list[Any]:
        way = reach(big)
        return [*await together(way, "big"), *await together(way, "big")]

    full, answered = asyncio.run(go())
    assert isinstance(full, OverloadedError)
    assert answered.item() == 1.0


def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    small = Handle(0.05)

    async def go() -> Any:
        way = reach(Handle(), small)
        leaver = asyncio.create_task(way("x", QUESTION))
        stayer = asyncio.create_task(way("y", QUESTION))
        await asyncio.sleep(0.01)
        leaver.cancel()
        return await stayer

    assert asyncio.run(go()).item() == 3.0
    assert not small.responses[0].cancelled
