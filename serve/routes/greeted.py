"""Whether members answer, for whoever asks how often: they are asked once a second at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from penchant.serve.answering.desk import Desk

__all__ = ["Greeted"]

#: How long a member has for it.
_TIMEOUT_S = 2.0
#: An outcome holds for so long: anybody may ask, and members have others to answer.
_HOLDS_S = 1.0


class Greeted:
    """Remembers whether a desk's members answered; those who ask meanwhile wait for the same.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, asyncio.Lock()
        self._desk: Desk | None = None
        self._ready, self._until = False, 0.0

    async def ready(self, desk: Desk) -> bool:
        """Whether a member of this desk answers."""
        async with self._lock:
            if desk is not self._desk or self._clock() >= self._until:
                self._ready = await desk.greet(timeout_s=_TIMEOUT_S)
                self._desk, self._until = desk, self._clock() + _HOLDS_S
            return self._ready
