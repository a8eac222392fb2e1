"""Takes a request to the version that answers it, and tells those who watch."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from fastapi import HTTPException, Request, Response

from penchant.serve.answering.desk import Answered, Desk, Errand
from penchant.serve.gate.gate import ARRIVED, CALLER, REQUEST_ID, TOLD, Refusal
from penchant.serve.routes.observe import Desks, Observer, Role, Seen

__all__ = ["Act", "Door", "due"]

#: Kept of each deadline, or a tenth of it: an answer is written, and travels on a busy machine.
_TRAVEL_S = 0.03

#: A question put to whichever version answers it.
Act = Callable[[Desk, Errand], Awaitable[Answered]]


def due(began_s: float, deadline_ms: int) -> float:
    """When the answer has to be there, so that it can be sent by the deadline (`time.monotonic`).

    Args:
        began_s: when the request arrived, on the same clock.
        deadline_ms: after that.
    """
    deadline_s = deadline_ms / 1000
    return began_s + deadline_s - min(_TRAVEL_S, 0.1 * deadline_s)


class Door:
    """Where a request meets a version.

    Args:
        desks: the versions that are live.
        observer: is told of every answer; None where nobody watches.
    """

    def __init__(self, desks: Desks, observer: Observer | None = None) -> None:
        self._desks, self._observer = desks, observer

    def desk(self, sticky: str | None) -> tuple[Role, Desk]:
        """The version that answers.

        Raises:
            HTTPException: 503 where none is ready.
        """
        try:
            return self._desks.choose(sticky)
        except LookupError:
            raise HTTPException(503, "no version is ready", {"Retry-After": "1"}) from None

    def primary(self) -> Desk:
        """The version that answers most requests.

        Raises:
            HTTPException: 503 where none is ready.
        """
        return self.desk(None)[1]

    def refused(self, request: Request, failed: Sequence[tuple[str, int]]) -> None:
        """Tell of questions in a request's body that have no answer, though the request has one.

        Args:
            request: that brought them.
            failed: the id and the status of each.
        """
        if self._observer is None:
            return
        arrived_s = request.scope["state"][ARRIVED]
        request.scope["state"][TOLD] = True
        for request_id, status in failed:
            self._observer.refused(
                Refusal(
                    path=request.url.path,
                    status=status,
                    request_id=request_id,
                    latency_ms=(time.monotonic() - arrived_s) * 1000,
                    traceparent=request.headers.get("traceparent"),
                )
            )

    async def answer(
        self, act: Act, request: Request, deadline_ms: int, user: str | None = None
    ) -> Response:
        """Ask the version that this user, or else this request, belongs to; copy to the shadow."""
        return (await self.answered(act, request, deadline_ms, user)).response()

    async def answered(
        self,
        act: Act,
        request: Request,
        deadline_ms: int,
        user: str | None = None,
        *,
        part: str = "",
        copied: bool = True,
    ) -> Answered:
        """What `answer` sends.

        Args:
            act: the question.
            request: that brought it.
            deadline_ms: after the request arrived.
            user: who is asked about, if anybody.
            part: follows the request's id where it brought several questions.
            copied: whether the shadow is asked too.
        """
        state = request.scope["state"]
        path, caller, request_id = request.url.path, state.get(CALLER), state[REQUEST_ID] + part
        role, desk = self.desk(user if user is not None else state[REQUEST_ID])

        async def ask(desk: Desk, role: Role, began: float) -> Answered:
            errand = Errand(
                request_id=request_id, until=due(began, deadline_ms), awaited=role != "shadow"
            )
            answered = await act(desk, errand)
            if self._observer is not None:
                seen = Seen(
                    path=path,
                    role=role,
                    answer=answered.answer,
                    verdict=answered.verdict,
                    columns=answered.columns,
                    user=user,
                    caller=caller,
                    latency_ms=(time.monotonic() - began) * 1000,
                    whole=answered.whole,
                    traceparent=request.headers.get("traceparent"),
                )
                state[TOLD] = True
                self._observer.answered(seen)
            return answered

        async def copy(shadow: Desk) -> None:
            await ask(shadow, "shadow", time.monotonic())

        answered = await ask(desk, role, state[ARRIVED])
        if copied:
            self._desks.mirror(copy)
        return answered
