"""How long the rest will take, by what parts of the same kind took.

An epoch of a language model takes minutes and one of a small network a second, so steps are only
worth what others of their kind took. Several parts may run at a time: the time since the last step
of any part belongs to the kind of the next one, so that what runs beside is shared among them.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

__all__ = ["TimeLeft", "clock_text"]


class TimeLeft:
    """Steps of named parts; the kind of a part is its name up to the first hyphen.

    What kinds took is remembered when other parts are expected, such as a refit of the same ones.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_s = clock()
        self._spent_s: defaultdict[str, float] = defaultdict(float)
        self._made: Counter[str] = Counter()
        self._left: dict[str, int] = {}

    def expect(self, steps: Mapping[str, int]) -> None:
        """Parts with their steps; to finish is one step more, since members score after them."""
        self._left = {part: number + 1 for part, number in steps.items()}
        self._last_s = self._clock()

    def step(self, part: str, left: int) -> None:
        """A part has made a step, and so many are left beside finishing."""
        self._note(part, left + 1)

    def finish(self, part: str) -> None:
        """A part is done, perhaps in fewer steps."""
        self._note(part, 0)

    def _note(self, part: str, left: int) -> None:
        now_s, kind = self._clock(), _kind(part)
        self._spent_s[kind] += now_s - self._last_s
        self._made[kind] += max(self._left.get(part, 0) - left, 0)
        self._last_s, self._left[part] = now_s, left

    def words(self) -> str:
        """For people: how long, and for which kinds nobody knows yet."""
        left: Counter[str] = Counter()
        for part, number in self._left.items():
            left[_kind(part)] += number
        known = {kind for kind in left if self._made[kind]}
        unknown = ", ".join(sorted(kind for kind in left if left[kind] and kind not in known))
        seconds = sum(left[kind] * self._spent_s[kind] / self._made[kind] for kind in known)
        if not left.total():
            return "nothing left"
        if not any(left[kind] for kind in known):
            return f"time left not known yet: no {unknown} has ended a step"
        return f"about {clock_text(seconds)} left" + (f", and {unknown}" if unknown else "")


def clock_text(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _kind(part: str) -> str:
    return part.partition("-")[0]
