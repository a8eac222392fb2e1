"""Admission: a request that would only wait past its deadline is refused at once.

How long a new request would wait follows from Little's law: the requests under way over the rate at
which they have been finished lately. Queues that are bounded by time and not by length keep the
goodput of an overloaded service near its peak (the idea of CoDel, Nichols and Jacobson 2012, and of
deadline-aware admission in Google's "Handling Overload", SRE book, chapter 21).
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penchant.serve.gate.gate import trouble

__all__ = ["Admission", "Rate"]

#: Requests under way that are always let in: what is fast needs no estimate.
_FLOOR = 16
#: Part of its deadline that a request may spend waiting.
_PART = 0.6
_DEADLINE_S = 2.0
_PATHS = ("/v1/score", "/v1/recommend", "/v1/explain", "/v1/batch")


class Rate:
    """The most requests a second that were finished in any half second of the last ten.

    Args:
        now: a clock in seconds that never goes back.
    """

    _BUCKET_S, _BUCKETS = 0.5, 20

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counts: deque[tuple[int, int]] = deque(maxlen=self._BUCKETS)

    def finished(self) -> None:
        """One more."""
        bucket = int(self._now() / self._BUCKET_S)
        if self._counts and self._counts[-1][0] == bucket:
            bucket, count = self._counts.pop()
            self._counts.append((bucket, count + 1))
        else:
            self._counts.append((bucket, 1))

    def peak(self) -> float | None:
        """Requests a second; None where nothing was finished lately."""
        oldest = int(self._now() / self._BUCKET_S) - self._BUCKETS
        counts = [count for bucket, count in self._counts if bucket > oldest]
        return max(counts) / self._BUCKET_S if counts else None


class Admission:
    """Lets in what can be answered in time (ASGI). It comes first: not even a body is read before.

    Args:
        app: the application behind.
        rate: of what is finished.
        refused: is told the path and the status of every refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        rate: Rate | None = None,
        refused: Callable[[str, int], None] | None = None,
    ) -> None:
        self._app, self._rate, self._refused = app, rate or Rate(), refused
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in _PATHS:
            await self._app(scope, receive, send)
            return
        wait_s = self._wait_s()
        if wait_s > _PART * _deadline_s(scope):
            headers = {"Retry-After": str(max(round(wait_s), 1))}
            error = "too many requests are under way; come back later"
            if self._refused is not None:
                self._refused(scope["path"], 503)
            await trouble(503, error, uuid.uuid4().hex, headers)(scope, receive, send)
            return
        good = False

        async def note(message: Message) -> None:
            nonlocal good
            if message["type"] == "http.response.start":
                good = message["status"] == 200
            await send(message)

        self._under_way += 1
        try:
            await self._app(scope, receive, note)
        finally:
            self._under_way -= 1
            if good:
                self._rate.finished()

    def _wait_s(self) -> float:
        """How long one more request would take."""
        peak = self._rate.peak()
        if self._under_way < _FLOOR:
            return 0.0
        return self._under_way / peak if peak is not None else _DEADLINE_S


def _deadline_s(scope: Scope) -> float:
    given = Headers(scope=scope).get("x-deadline-ms", "")
    return int(given) / 1000 if given.isdecimal() and len(given) <= 5 else _DEADLINE_S
