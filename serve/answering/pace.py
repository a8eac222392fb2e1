"""How long something took lately, and so how much of it is done in a given time."""

from __future__ import annotations

__all__ = ["Pace"]

_NEWEST = 0.3  # weight of what was seen last


class Pace:
    """Seconds that each of several things takes, as far as the last ones show."""

    def __init__(self) -> None:
        self._each_s = 0.0

    def note(self, took_s: float, size: int) -> None:
        """So many took so long together."""
        each_s = took_s / size
        before_s = self._each_s or each_s
        self._each_s = (1 - _NEWEST) * before_s + _NEWEST * each_s

    def affordable(self, within_s: float, most: int) -> int:
        """How many are done within a time: one at least, and `most` where nothing is known yet."""
        if not self._each_s:
            return most
        return min(max(int(within_s / self._each_s), 1), most)
