"""A breaker: a place that is dead or stuck is left out at once, and looked after until it is back.

Without it every request would wait for the dead until its own deadline. (The pattern is M. Nygard's
circuit breaker, "Release It!", 2007.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

__all__ = ["Breaker"]

logger = logging.getLogger(__name__)

#: Late answers in a row after which a place counts as stuck; only those of patient callers count.
_MISSES = 3
#: How long a place may say nothing at all while it is asked something.
_PATIENCE_S = 1.0
#: A probe that is not answered by then is put anew.
_PROBE_S = 10.0
_PAUSE_S = 0.1


class Breaker:
    """Whether a place is worth asking.

    Args:
        name: of the place, for the log.
        probe: asks the place something easy; raises where it fails.
        now: a clock in seconds that never goes back.
    """

    def __init__(
        self,
        name: str,
        probe: Callable[[], Awaitable[object]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._probe, self._now = name, probe, now
        self._misses = 0
        self._asked: list[float] = []  # when the questions that are under way were put
        self._heard = now()
        self._watch: asyncio.Task[None] | None = None

    def is_down(self) -> bool:
        """Whether a request should do without the place.

        One that has said nothing since an old question was put to it is stuck: whoever comes now
        need not find that out by waiting.
        """
        if self._asked and self._now() - max(self._asked[0], self._heard) >= _PATIENCE_S:
            self.died()
        return self._watch is not None

    def asked(self) -> float:
        """A question is being put; returns when. One of the methods below must follow."""
        self._asked.append(self._now())
        return self._asked[-1]

    def answered(self, asked: float) -> None:
        """The place has answered."""
        self._asked.remove(asked)
        self._heard, self._misses = self._now(), 0

    def missed(self, asked: float) -> None:
        """The place has not answered by a deadline."""
        self._asked.remove(asked)
        if self._now() - asked >= _PATIENCE_S:
            self._misses += 1
        if self._misses >= _MISSES:
            self.died()

    def refused(self, asked: float) -> None:
        """The place takes no more questions; whether it moves is not known."""
        self._asked.remove(asked)

    def failed(self, asked: float) -> None:
        """The place is not to be reached."""
        self._asked.remove(asked)
        self.died()

    def died(self) -> None:
        """The place is gone: leave it out until it answers a probe."""
        if self._watch is None:
            logger.warning("%s is down", self._name)
            self._watch = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_PROBE_S):
                    await self._probe()
                break
            except Exception:  # not yet
                await asyncio.sleep(_PAUSE_S)
        self._heard, self._misses, self._watch = self._now(), 0, None
        logger.warning("%s is back", self._name)
