"""Carries questions to one place; those that gather meanwhile travel together.

A call to another process costs a front milliseconds, whatever it carries. So only some calls are
under way at a time, and what comes meanwhile shares the next one. As in the members' batcher, which
waits at the other end, nobody waits for company: a question that finds a free call leaves in the
same turn of the event loop. A replica that dies takes its answers along; since scoring changes
nothing, its questions are asked once more, and the place is left out when that does not help
either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from penchant.serve.answering.breaker import Breaker
from penchant.serve.answering.history import Question
from penchant.serve.answering.pace import Pace
from penchant.serve.answering.panel import DownError, OverloadedError

__all__ = ["Answers", "Asked", "Carrier", "Send"]

#: Questions that share a call at most, and how long it should take with them, by what calls took
#: lately: all of its questions wait for the last one's answer.
_TOGETHER = 8
_CALL_S = 0.5
#: How long the second try may take after a replica has died.
_AGAIN_S = 0.5

#: By member, (R, C) or (1, N) each; None where they are not sound.
Answers = Mapping[str, NDArray[np.float32] | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question to some of the members of a place."""

    members: Sequence[str]
    question: Question


Send = Callable[[Sequence[Asked]], Awaitable[Sequence[Answers]]]


@dataclass(kw_only=True, eq=False)
class _Waiting:
    """A question whose answer is awaited, for one or more members."""

    question: Question
    answer: asyncio.Future[Answers]
    members: list[str] = field(default_factory=list)
    askers: int = 0


class Carrier:
    """The way to one place.

    Args:
        send: puts questions to the place in one call.
        breaker: knows whether the place is worth asking, and is told how each call ended.
        most_calls: so many are under way at most.
        gather: is told how many questions gather, whenever that has changed.
    """

    def __init__(
        self,
        send: Send,
        breaker: Breaker,
        most_calls: int,
        gather: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._send, self._breaker, self._most_calls = send, breaker, most_calls
        self._gather, self._told = gather, -1
        breaker.when_down(self._depart)
        self._gathering: dict[int, _Waiting] = {}
        self._under_way: dict[asyncio.Task[None], Sequence[_Waiting]] = {}
        self._pace = Pace()  # of calls, for each of their questions

    async def ask(self, member_id: str, question: Question) -> NDArray[np.float32] | None:
        """One member's scores of a question.

        A caller that is cancelled takes its question back, unless it is under way with others that
        are waited for.

        Raises:
            DownError: the place is not to be reached.
            OverloadedError: it takes no more questions.
        """
        if self._breaker.is_down():
            raise DownError
        waiting = self._gathering.get(id(question))
        if waiting is None:
            loop = asyncio.get_running_loop()
            waiting = _Waiting(question=question, answer=loop.create_future())
            self._gathering[id(question)] = waiting
            loop.call_soon(self._depart)  # the others of this turn may come along
        waiting.members.append(member_id)
        waiting.askers += 1
        try:
            answers = await asyncio.shield(waiting.answer)
        finally:
            waiting.askers -= 1
            if not waiting.answer.done():
                self._take_back(waiting, member_id)
        return answers[member_id]

    def _depart(self) -> None:
        """Send what has gathered as far as calls are free, and nothing to a place that is down."""
        if self._gathering and self._breaker.is_down():
            for waiting in self._gathering.values():
                waiting.answer.set_exception(DownError())
            self._gathering.clear()
        while self._gathering and len(self._under_way) < self._most_calls:
            largest = self._pace.affordable(_CALL_S, _TOGETHER)
            load = [self._gathering.pop(key) for key in list(self._gathering)[:largest]]
            call = asyncio.create_task(self._carry(load))
            self._under_way[call] = load
            call.add_done_callback(self._returned)
        self._tell()

    def _tell(self) -> None:
        if len(self._gathering) != self._told:
            self._told = len(self._gathering)
            self._gather(self._told)

    def _returned(self, call: asyncio.Task[None]) -> None:
        del self._under_way[call]
        self._depart()

    def _take_back(self, left: _Waiting, member_id: str) -> None:
        """An asker has gone, perhaps the last one of this question."""
        gathering = self._gathering.get(id(left.question)) is left
        if gathering:
            left.members.remove(member_id)
        if left.askers:
            return
        left.answer.cancel()
        if gathering:
            del self._gathering[id(left.question)]
            self._tell()
        for call, load in self._under_way.items():
            if left in load and not any(waiting.askers for waiting in load):
                call.cancel()

    async def _carry(self, load: Sequence[_Waiting]) -> None:
        asked = [Asked(members=waiting.members, question=waiting.question) for waiting in load]
        began = time.monotonic()
        try:
            for waiting, answers in zip(load, await self._ask(asked), strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answers)
            self._pace.note(time.monotonic() - began, len(load))
        except Exception as error:
            for waiting in load:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
        finally:
            for waiting in load:  # those that nothing was said of
                waiting.answer.cancel()

    async def _ask(self, asked: Sequence[Asked]) -> Sequence[Answers]:
        self._breaker.asked()
        try:
            try:
                answers = await self._send(asked)
            except RayActorError:
                async with asyncio.timeout(_AGAIN_S):
                    answers = await self._send(asked)
        except asyncio.CancelledError:
            self._breaker.unanswered()
            raise
        except BackPressureError:
            self._breaker.unanswered()
            raise OverloadedError from None
        except (RayActorError, DeploymentUnavailableError, TimeoutError):
            self._breaker.failed()
            raise DownError from None
        except Exception:  # it said something, and that is sound
            self._breaker.answered()
            raise
        self._breaker.answered()
        return answers
