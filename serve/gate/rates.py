"""How often each key may ask: a token bucket a key.

A bucket holds `burst` tokens, a request takes one, and `rate_per_s` of them come back each second.
What is kept is the moment at which the bucket will be full again: one number says how full it is at
any moment (the form that networks call GCRA). Each process counts for itself: behind R replicas of
the front a key may get up to R times its rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Rates"]

#: Seconds that floating-point arithmetic may be off.
_DUST_S = 1e-9


class Rates:
    """Buckets by name; those that are full again need no memory.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at_s: dict[str, float] = {}

    def take(self, name: str, rate_per_s: float, burst: int) -> float:
        """0 if the request may pass, or else how many seconds to wait; waiting costs nothing."""
        now_s = self._clock()
        if name not in self._full_at_s:
            self._forget_full_ones(now_s)
        full_at_s = max(self._full_at_s.get(name, now_s), now_s) + 1 / rate_per_s
        wait_s = full_at_s - now_s - burst / rate_per_s
        if wait_s > _DUST_S:
            return wait_s
        self._full_at_s[name] = full_at_s
        return 0.0

    def owe(self, name: str, rate_per_s: float, number: int) -> None:
        """Take so many tokens more from a request that has passed: the next ones wait for them."""
        now_s = self._clock()
        full_at_s = max(self._full_at_s.get(name, now_s), now_s)
        self._full_at_s[name] = full_at_s + number / rate_per_s

    def _forget_full_ones(self, now_s: float) -> None:
        self._full_at_s = {name: at for name, at in self._full_at_s.items() if at > now_s}
