"""One process's part of a load: sends requests, closed or open, and notes what became of each.

aiohttp sends them, since a client that costs a millisecond a call would measure itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
import numpy as np

from penchant.serve.load.plan import LoadPlan
from penchant.serve.load.samples import BROKEN, TIMEOUT, UNCONNECTED, Samples, Taken

__all__ = ["Tell", "Tick", "send_all"]

_TICK_S = 1.0
_UNCONNECTED_S = 0.05  # a caller's pause where nobody listens: it would fail without end
_KEEP_ALIVE_S = 4.0  # less than servers keep idle connections: nothing is sent on one that closes
# No user text can look like it: a quotation mark inside a JSON text stands behind a backslash.
_DEGRADED = b'"degraded":true'


@dataclass(frozen=True, kw_only=True)
class Tick:
    """How far a load is."""

    elapsed_s: float
    sent: int
    answered: int  # with 200
    failed: int


Tell = Callable[[Tick], None]


async def send_all(
    url: str, bodies: Sequence[bytes], plan: LoadPlan, begin: float, process: int, tell: Tell
) -> Samples:
    """Send this process's part of a load.

    Args:
        begin: when all processes begin, on the clock of `time.monotonic`.
        process: number of this one, from 0.
        tell: told every second.
    """
    connector = aiohttp.TCPConnector(
        limit=plan.connections(process), keepalive_timeout=_KEEP_ALIVE_S
    )
    async with aiohttp.ClientSession(
        connector=connector,
        headers=plan.headers,
        timeout=aiohttp.ClientTimeout(total=plan.timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[_traced()],
    ) as session:
        sender = _Sender(session, url.rstrip("/") + plan.path, bodies, plan, begin, process)
        reporter = asyncio.create_task(sender.report(tell))
        try:
            await (sender.closed() if plan.concurrency is not None else sender.open())
        finally:
            reporter.cancel()
        return sender.taken.samples()


class _Way:
    """When a request was sent, as far as this process goes: it may wait for one of its connections.

    Args:
        now: the load's clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._sent_s: float | None = now()

    @property
    def sent_s(self) -> float:
        """When; by now at the latest, where it still waits."""
        return self._now() if self._sent_s is None else self._sent_s

    def wait(self) -> None:
        """All connections are in use."""
        self._sent_s = None

    def go(self) -> None:
        """One is free."""
        self._sent_s = self._now()


def _traced() -> aiohttp.TraceConfig:
    """Tells each request's `_Way` of its connection."""
    found = aiohttp.TraceConfig()

    async def wait(_: object, context: Any, __: object) -> None:
        context.trace_request_ctx.wait()

    async def go(_: object, context: Any, __: object) -> None:
        context.trace_request_ctx.go()

    found.on_connection_queued_start.append(wait)
    found.on_connection_queued_end.append(go)
    return found


class _Sender:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: str,
        bodies: Sequence[bytes],
        plan: LoadPlan,
        begin: float,
        process: int,
    ) -> None:
        self._session, self._address, self._bodies = session, address, bodies
        self._plan, self._begin, self._process = plan, begin, process
        # Each process begins elsewhere, so that they do not ask the same at the same time.
        self._next = count(process * len(bodies) // plan.processes)
        self.taken = Taken()

    async def closed(self) -> None:
        """Callers that wait for their answers."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._plan.callers(self._process)):
                group.create_task(self._caller())

    async def open(self) -> None:
        """Arrivals at random moments, as many a second as the plan says."""
        await self._sleep_until(0.0)
        async with asyncio.TaskGroup() as group:
            for due_s in _arrivals(self._plan, self._process):
                await self._sleep_until(due_s)
                group.create_task(self._ask(due_s))

    async def report(self, tell: Tell) -> None:
        """Tell every second how far it is."""
        while True:
            await asyncio.sleep(_TICK_S)
            taken = self.taken
            tell(
                Tick(
                    elapsed_s=self._now(),
                    sent=taken.sent,
                    answered=len(taken.rows) - taken.failed,
                    failed=taken.failed,
                )
            )

    async def _caller(self) -> None:
        await self._sleep_until(0.0)
        while (now_s := self._now()) < self._plan.total_s:
            if await self._ask(now_s) == UNCONNECTED:
                await asyncio.sleep(_UNCONNECTED_S)

    async def _ask(self, due_s: float) -> int:
        """Send one request; returns its outcome."""
        body = self._bodies[next(self._next) % len(self._bodies)]
        self.taken.sent += 1
        way, degraded = _Way(self._now), False
        try:
            async with self._session.post(
                self._address, data=body, allow_redirects=False, trace_request_ctx=way
            ) as response:
                degraded = _DEGRADED in await response.read()
                outcome = response.status
        except TimeoutError:
            outcome = TIMEOUT
        except aiohttp.ClientConnectorError:
            outcome = UNCONNECTED
        except (aiohttp.ClientError, OSError):
            outcome = BROKEN
        self.taken.add(due_s, way.sent_s, self._now(), outcome, degraded)
        return outcome

    def _now(self) -> float:
        return time.monotonic() - self._begin

    async def _sleep_until(self, moment_s: float) -> None:
        left_s = moment_s - self._now()
        if left_s > 0:
            await asyncio.sleep(left_s)


def _arrivals(plan: LoadPlan, process: int) -> list[float]:
    """Seconds at which requests of this process are due; gaps are exponential."""
    if plan.rate is None:
        return []
    rate = plan.rate / plan.processes
    random = np.random.default_rng((plan.seed, process))
    expected = rate * plan.total_s
    gaps = random.exponential(1 / rate, size=int(expected + 10 * expected**0.5 + 50))
    due_s = np.cumsum(gaps)
    found: list[float] = due_s[due_s < plan.total_s].tolist()
    return found
