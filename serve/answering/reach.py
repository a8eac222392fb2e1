"""The way from the front to the members of one version, through Serve's handles."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle

from penchant.serve.answering.breaker import Breaker
from penchant.serve.answering.carrier import Answers, Asked, Carrier, Send
from penchant.serve.answering.history import Question
from penchant.serve.answering.places import Place

__all__ = ["Reach"]


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
        self._carriers: dict[str, Carrier] = {}
        for place in places:
            carrier = _carrier(place, handles[place.name], trial)
            self._carriers |= dict.fromkeys(place.members, carrier)

    async def __call__(self, member_id: str, question: Question) -> NDArray[np.float32] | None:
        return await self._carriers[member_id].ask(member_id, question)


def _carrier(place: Place, handle: DeploymentHandle[Any], trial: Question) -> Carrier:
    send = _sender(handle)

    async def probe() -> object:
        return await send([Asked(members=place.members, question=trial)])

    return Carrier(send, Breaker(place.name, probe), place.calls)


def _sender(handle: DeploymentHandle[Any]) -> Send:
    async def send(asked: Sequence[Asked]) -> Sequence[Answers]:
        response = handle.score.remote(asked)
        try:
            answers: Sequence[Answers] = await response
        except asyncio.CancelledError:
            response.cancel()  # type: ignore[no-untyped-call]  # Ray's lack
            raise
        return answers

    return send
