"""The way from the front to the members of one version, through Serve's handles."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle

from penchant.serve.answering.breaker import Breaker
from penchant.serve.answering.carrier import Answers, Asked, Carrier
from penchant.serve.answering.history import Question
from penchant.serve.answering.places import Place
from penchant.serve.watch.meters import PlaceMeters

__all__ = ["Reach"]


class Reach:
    """Reaches each member where it lives (`panel.AskMember`).

    Args:
        version: of the ensemble in its layout, as metrics name it: in two, it runs twice.
        places: where the members live.
        handles: the deployment of each place, by its name.
        trial: a question that every member can answer.
    """

    def __init__(
        self,
        version: str,
        places: Sequence[Place],
        handles: Mapping[str, DeploymentHandle[Any]],
        trial: Question,
    ) -> None:
        self._carriers: dict[str, Carrier] = {}
        for place in places:
            meters = PlaceMeters(version, place.name)
            carrier = _carrier(place, handles[place.name], trial, meters)
            self._carriers |= dict.fromkeys(place.members, carrier)

    async def __call__(self, member_id: str, question: Question) -> NDArray[np.float32] | None:
        return await self._carriers[member_id].ask(member_id, question)


def _carrier(
    place: Place, handle: DeploymentHandle[Any], trial: Question, meters: PlaceMeters
) -> Carrier:
    async def send(asked: Sequence[Asked]) -> Sequence[Answers]:
        answers: Sequence[Answers] = await _outcome(handle.score.remote(asked))
        return answers

    async def sign() -> object:
        return await _outcome(handle.alive.remote())

    async def probe() -> object:
        return await send([Asked(members=place.members, question=trial)])

    return Carrier(send, Breaker(place.name, sign, probe), place.calls, meters.gathering)


async def _outcome(response: Any) -> Any:
    """What a call gives; a caller that is cancelled takes it back."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
