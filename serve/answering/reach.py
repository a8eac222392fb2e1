"""The way from the front to the members of one version, through Serve's handles.

Members that live in one place are asked in one call: questions that are put in the same turn of
the event loop travel together. A replica that dies takes its answers along; since scoring changes
nothing, they are asked once more, and the place is left out when that does not help either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from penchant.serve.answering.breaker import Breaker
from penchant.serve.answering.history import Question
from penchant.serve.answering.panel import DownError, OverloadedError
from penchant.serve.answering.places import Place

__all__ = ["Reach"]

#: How long the second try may take after a replica has died.
_AGAIN_S = 0.5

Scores = NDArray[np.float32]
Answers = Mapping[str, Scores | None]


@dataclass(kw_only=True)
class _Call:
    """Members of one place that are asked the same question together."""

    members: list[str] = field(default_factory=list)
    waiting: int = 0
    task: asyncio.Task[Answers] | None = None


class Reach:
    """Reaches each member where it lives (`panel.AskMember`).

    Args:
        places: where the members live.
        handles: the deployment of each place, by its name.
        trial: a question that every member can answer.
    """

    def __init__(
        self,
        places: Sequence[Place],
        handles: Mapping[str, DeploymentHandle[Any]],
        trial: Question,
    ) -> None:
        self._place_of = {member: place.name for place in places for member in place.members}
        self._handles = handles
        self._calls: dict[tuple[str, int], _Call] = {}
        self._breakers = {
            place.name: Breaker(place.name, self._prober(place, trial)) for place in places
        }

    async def __call__(self, member_id: str, question: Question) -> Scores | None:
        place = self._place_of[member_id]
        if self._breakers[place].is_down():
            raise DownError
        answers = await self._join(place, member_id, question)
        return answers[member_id]

    async def _join(self, place: str, member_id: str, question: Question) -> Answers:
        """Ask along with the others that ask the same place the same in this turn of the loop."""
        key = (place, id(question))
        call = self._calls.setdefault(key, _Call())
        call.members.append(member_id)
        call.waiting += 1
        try:
            await asyncio.sleep(0)  # let the others of this turn come along
            if call.task is None:
                self._calls.pop(key, None)
                call.task = asyncio.create_task(self._ask(place, call.members, question))
            return await asyncio.shield(call.task)
        finally:
            self._calls.pop(key, None)
            call.waiting -= 1
            if not call.waiting and call.task is not None and not call.task.done():
                call.task.cancel()

    async def _ask(self, place: str, members: Sequence[str], question: Question) -> Answers:
        breaker = self._breakers[place]
        asked = breaker.asked()
        try:
            try:
                answers = await self._send(place, members, question)
            except RayActorError:
                async with asyncio.timeout(_AGAIN_S):
                    answers = await self._send(place, members, question)
        except asyncio.CancelledError:
            breaker.missed(asked)
            raise
        except BackPressureError:
            breaker.refused(asked)
            raise OverloadedError from None
        except (RayActorError, DeploymentUnavailableError, TimeoutError):
            breaker.failed(asked)
            raise DownError from None
        except Exception:  # it said something, and that is sound
            breaker.answered(asked)
            raise
        breaker.answered(asked)
        return answers

    async def _send(self, place: str, members: Sequence[str], question: Question) -> Answers:
        response = self._handles[place].score.remote(list(members), question)
        try:
            answers: Answers = await response
        except asyncio.CancelledError:
            response.cancel()  # type: ignore[no-untyped-call]  # Ray's lack
            raise
        return answers

    def _prober(self, place: Place, trial: Question) -> Any:
        async def probe() -> object:
            return await self._send(place.name, place.members, trial)

        return probe
