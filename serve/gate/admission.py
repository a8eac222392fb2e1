"""Admission: a request that would only wait past its deadline is refused at once.

How long a new request would wait follows from Little's law: the requests under way over the rate at
which they have been finished lately. Queues that are bounded by time and not by length keep the
goodput of an overloaded service near its peak (the idea of CoDel, Nichols and Jacobson 2012, and of
deadline-aware admission in Google's "Handling Overload", SRE book, chapter 21).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penchant.serve.gate.gate import Refusal, trouble

__all__ = ["Admission", "Rate"]

#: Requests under way that are always let in: what is fast needs no estimate.
_FLOOR = 16
#: And so many where it is not known yet how fast they are.
_UNKNOWN = 64
#: How long a request that was let in stands in the queue though its body has not come whole. Bodies
#: of a burst are there by then; one that trickles holds nobody up.
_COMING_S = 1.0
#: Rounds of the event loop that a request waits before it is refused: each costs every refusal.
_ROUNDS = 3
_DEADLINE_S, _LONGEST_S = 2.0, 10.0
_PATHS = ("/v1/score", "/v1/recommend", "/v1/explain", "/v1/batch")


class Rate:
    """How many requests a second can be finished, as far as the last seconds show.

    Where few are under way, their rate is that of those who ask, so that only stretches with
    many count. Answers come in bursts, since members answer in batches, and a machine may stand
    still for a second; so the best two seconds in a row say what can be done. And requests may only
    wait for a member that has died, until their deadlines: that is over after three seconds. Until
    there have been five with many under way, what was found before holds.

    Args:
        now: a clock in seconds that never goes back.
    """

    _LATELY_S, _ENOUGH_S, _LEAST_S = 15, 5.0, 0.5

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._under_way, self._since = 0, 0.0
        self._seconds: deque[tuple[int, float, int]] = deque()  # which, busy seconds, finished
        self._known: float | None = None

    @property
    def under_way(self) -> int:
        """Requests that have come whole and not ended."""
        return self._under_way

    def begun(self) -> None:
        """One more is under way."""
        self._count(0)
        self._under_way += 1

    def ended(self, *, good: bool) -> None:
        """One less is; what was refused or failed is no sign of what can be done."""
        self._count(int(good))
        self._under_way -= 1

    def best(self) -> float | None:
        """Requests a second; None where never enough was done to tell."""
        lately = self.lately()
        if sum(busy_s for _, busy_s, _ in self._seconds) >= self._ENOUGH_S:
            self._known = lately
        return self._known

    def lately(self) -> float | None:
        """What half a second with many under way shows already; None where there was none.

        So little may be chance or waiting, and is no reason to let in less. What is fast shows
        at once: it is one to let in more.
        """
        self._count(0)
        seconds = list(self._seconds)
        pairs = zip(seconds, seconds[1:] or [(0, 0.0, 0)], strict=False)
        rates = [
            (one[2] + two[2]) / (one[1] + two[1])
            for one, two in pairs
            if one[1] + two[1] >= self._LEAST_S
        ]
        return max(rates, default=None) or None

    def _count(self, finished: int) -> None:
        """Close the stretch that has passed since the last change."""
        now = self._now()
        many = self._under_way >= _FLOOR
        busy_s = now - self._since if many else 0.0
        self._since = now
        finished = finished if many else 0
        if self._seconds and self._seconds[-1][0] == int(now):
            _, before_s, number = self._seconds.pop()
            busy_s, finished = before_s + busy_s, number + finished
        self._seconds.append((int(now), busy_s, finished))
        while self._seconds[0][0] < now - self._LATELY_S:
            self._seconds.popleft()


class Admission:
    """Lets in what can be answered in time (ASGI). It comes first: not even a body is read before.

    A request that is let in stands in the queue, and once its body has come whole it is under way.
    One whose body does not come leaves the queue after a second, and never was under way.

    Args:
        app: the application behind.
        rate: of what is finished.
        part: of its deadline that a request may spend waiting. In the proxy, which refuses for next
            to nothing, it is less than in the front.
        refused: is told of every refusal.
        now: a clock in seconds that never goes back.
    """

    def __init__(
        self,
        app: ASGIApp,
        rate: Rate | None = None,
        *,
        part: float = 0.9,
        refused: Callable[[Refusal], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._rate, self._part, self._refused = app, rate or Rate(now), part, refused
        self._now = now
        self._coming: list[_Passage] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in _PATHS:
            await self._app(scope, receive, send)
            return
        most_s = self._part * _deadline_s(scope)
        wait_s = await self._settled_wait_s(most_s)
        if wait_s > most_s:
            headers = {"Retry-After": str(max(round(wait_s), 1))}
            error = "too many requests are under way; come back later"
            if self._refused is not None:
                traceparent = Headers(scope=scope).get("traceparent")
                self._refused(Refusal(path=scope["path"], status=503, traceparent=traceparent))
            await trouble(503, error, uuid.uuid4().hex, headers)(scope, receive, send)
            return
        passage = _Passage(receive, send, self._rate, self._now())
        self._coming.append(passage)
        try:
            await self._app(scope, passage.receive, passage.send)
        finally:
            passage.end()

    async def _settled_wait_s(self, most_s: float) -> float:
        """How long one more request would take; if that is too long, of what is left in a moment.

        Where many leave at once, the event loop has not heard all of them when the next one comes.
        """
        for _ in range(_ROUNDS):
            if (wait_s := self._wait_s()) <= most_s:
                return wait_s
            await asyncio.sleep(0)
        return self._wait_s()

    def _wait_s(self) -> float:
        """How long one more request would take."""
        ahead = self._rate.under_way + self._num_coming()
        if ahead < _FLOOR:
            return 0.0
        known = self._rate.best()
        if known is None and ahead < _UNKNOWN:
            return 0.0
        rate = max(known or 0.0, self._rate.lately() or 0.0)
        return ahead / rate if rate else _LONGEST_S

    def _num_coming(self) -> int:
        """Requests whose bodies are on their way, and not for too long."""
        too_long_s = self._now() - _COMING_S
        self._coming = [one for one in self._coming if one.comes and one.since_s > too_long_s]
        return len(self._coming)


class _Passage:
    """A request that was let in: it comes, is under way once its body is whole, and ends."""

    def __init__(self, receive: Receive, send: Send, rate: Rate, since_s: float) -> None:
        self._receive, self._send, self._rate, self.since_s = receive, send, rate, since_s
        self.comes, self._under_way, self._good = True, False, False

    async def send(self, message: Message) -> None:
        """Passes an answer on."""
        if message["type"] == "http.response.start":
            self._good = message["status"] == 200
        await self._send(message)

    async def receive(self) -> Message:
        """The next message; Serve's proxy goes on asking until the client has left.

        From then on the request stands in nobody's way, though it takes a while to be called off
        where a thousand leave at once.
        """
        message = await self._receive()
        if self.comes and not message.get("more_body", False):
            self.comes = False
            self._under_way = message["type"] == "http.request"  # or else the client left
            if self._under_way:
                self._rate.begun()
        if message["type"] == "http.disconnect":  # it comes after an answer, too
            self.end()
        return message

    def end(self) -> None:
        """It was answered, or nobody waits for it any more; once is enough."""
        self.comes = False
        if self._under_way:
            self._under_way = False
            self._rate.ended(good=self._good)


def _deadline_s(scope: Scope) -> float:
    given = Headers(scope=scope).get("x-deadline-ms", "")
    return int(given) / 1000 if given.isdecimal() and len(given) <= 5 else _DEADLINE_S
