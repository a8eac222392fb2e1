"""A breaker: a place that stands still is left out at once, and looked after until it is back.

Without it every request would wait for the dead until its own deadline. (The pattern is M. Nygard's
circuit breaker, "Release It!", 2007.)

A place that says nothing may be dead, or have much to do. So it is asked for a sign of life first,
which costs it nothing. One that gives it is left to its work, however late its answers are: they
prove nothing that the sign does not disprove. What computes without end is not for the breaker:
such callers have their deadlines, and Serve replaces the replica whose health check says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Awaitable, Callable

__all__ = ["Breaker"]

logger = logging.getLogger(__name__)

#: How long a place may say nothing at all after it was asked something.
_PATIENCE_S = 1.0
#: And how long a sign of life may take then.
_SIGN_S = 0.5
#: A probe that is not answered by then is put anew.
_PROBE_S = 10.0
_PAUSE_S = 0.1

Ask = Callable[[], Awaitable[object]]


class Breaker:
    """Whether a place is worth asking.

    It has a task only while something is asked or the place is down, and none outlives it by more
    than a probe.

    Args:
        name: of the place, for the log.
        sign: asks the place for a sign of life; raises where it fails.
        probe: asks the place something easy; raises where it fails.
        now: a clock in seconds that never goes back.
    """

    def __init__(
        self, name: str, sign: Ask, probe: Ask, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._sign, self._probe, self._now = name, sign, probe, now
        self._under_way = 0
        self._unheard: float | None = None  # first question since something was heard
        self._tell: Callable[[], None] = lambda: None
        self._watch: asyncio.Task[None] | None = None
        self._comeback: asyncio.Task[None] | None = None

    def when_down(self, tell: Callable[[], None]) -> None:
        """Call this whenever the place goes down: somebody may be waiting for it."""
        self._tell = tell

    def is_down(self) -> bool:
        """Whether a request should do without the place; not while a sign of life is awaited."""
        return self._comeback is not None

    def asked(self) -> None:
        """A question is being put. One of the methods below must follow."""
        self._under_way += 1
        if self._unheard is None:
            self._unheard = self._now()
        self._look()

    def answered(self) -> None:
        """The place has answered, and so it is up."""
        self._under_way -= 1
        self._works()

    def unanswered(self) -> None:
        """The question was taken back, or there is no room for it: nothing is known by that."""
        self._under_way -= 1

    def failed(self) -> None:
        """The place is not to be reached."""
        self._under_way -= 1
        self._lost()

    def _heard(self) -> None:
        self._unheard = self._now() if self._under_way else None

    def _silent_s(self) -> float:
        return 0.0 if self._unheard is None else self._now() - self._unheard

    def _look(self) -> None:
        if self._watch is None:
            self._watch = asyncio.create_task(self._watch_silence())

    async def _watch_silence(self) -> None:
        """As long as something is unheard and the place is taken to be up."""
        try:
            while self._unheard is not None and not self.is_down():
                left_s = _PATIENCE_S - self._silent_s()
                if left_s > 0:
                    await asyncio.sleep(left_s)
                elif await _gives(self._sign):
                    self._heard()  # which brings nobody back who was lost meanwhile
                elif self._silent_s() >= _PATIENCE_S:  # else it has answered meanwhile
                    self._lost()
        finally:
            self._watch = None

    def _lost(self) -> None:
        """Leave the place out until it answers: a probe, or what is still under way."""
        if self._comeback is None:
            logger.warning("%s is down", self._name)
            self._comeback = asyncio.create_task(_await_back(weakref.ref(self), self._probe))
            self._tell()

    def _works(self) -> None:
        self._heard()
        if self._comeback is not None:
            logger.warning("%s is back", self._name)
            self._comeback.cancel()
            self._comeback = None
            self._look()


async def _gives(sign: Ask) -> bool:
    """Whether a sign of life comes in time; one that fails is asked for anew."""
    try:
        async with asyncio.timeout(_SIGN_S):
            while True:
                try:
                    await sign()
                    return True
                except Exception:  # one of several replicas may just have died
                    await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        return False


async def _await_back(breaker: weakref.ref[Breaker], probe: Ask) -> None:
    """Probe until the place answers, or nobody asks any more: its version may be gone."""
    while breaker() is not None:
        try:
            async with asyncio.timeout(_PROBE_S):
                await probe()
        except Exception:  # not yet
            await asyncio.sleep(_PAUSE_S)
            continue
        place = breaker()
        if place is not None:
            place._works()
        return
