"""A breaker: a place that is dead or stuck is left out at once, and looked after until it is back.

Without it every request would wait for the dead until its own deadline. (The pattern is M. Nygard's
circuit breaker, "Release It!", 2007.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

__all__ = ["Breaker"]

logger = logging.getLogger(__name__)

#: Late answers in a row after which a place counts as stuck; only those of patient callers count.
_MISSES = 3
_PATIENCE_S = 1.0
#: A probe that is not answered by then is put anew.
_PROBE_S = 10.0
_PAUSE_S = 0.1


class Breaker:
    """Whether a place is worth asking.

    Args:
        name: of the place, for the log.
        probe: asks the place something easy; raises where it fails.
    """

    def __init__(self, name: str, probe: Callable[[], Awaitable[object]]) -> None:
        self._name, self._probe = name, probe
        self._misses = 0
        self._watch: asyncio.Task[None] | None = None

    @property
    def down(self) -> bool:
        """Whether requests should do without the place."""
        return self._watch is not None

    def answered(self) -> None:
        """The place has answered."""
        self._misses = 0

    def missed(self, waited_s: float) -> None:
        """The place has not answered by a deadline."""
        if waited_s >= _PATIENCE_S:
            self._misses += 1
        if self._misses >= _MISSES:
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
        self._misses, self._watch = 0, None
        logger.warning("%s is back", self._name)
