"""How an event is worded: the one place with the template and everything that can be said.

The item's text, its type, its value in brackets, how long ago it was, a comma:
`whole milk 3 d ago, brie add to cart (4.5) today,`. Each set of words is finite.

Letters: E events.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.platform.text_recipes import HistoryText

__all__ = ["gap_place", "value_place", "words_of"]

_SEPARATOR = ","
#: (first day, words): an event's age is told in the words of the last line that it reaches.
_GAPS = (
    (0, "today"),
    *((days, f"{days} d ago") for days in range(1, 7)),
    *((7 * weeks, f"{weeks} w ago") for weeks in range(1, 5)),
    *((30 * months, f"{months} mo ago") for months in range(1, 13)),
    *((365 * years, f"{years} y ago") for years in range(1, 21)),
)
#: The words for an age of so many whole days.
_GAP_OF_DAY = np.searchsorted(
    [first for first, _ in _GAPS], np.arange(_GAPS[-1][0] + 1), side="right"
).astype(np.int64) - np.int64(1)
#: Values that can be told: halves up to 10, else one digit that counts, up to 900,000.
_SIZES = sorted(
    {half / 2 for half in range(21)}
    | {digit / 10**power for digit in range(1, 10) for power in (1, 2)}
    | {float(digit * 10**power) for digit in range(1, 10) for power in range(1, 6)}
)
_VALUES = np.array([-size for size in _SIZES[:0:-1]] + _SIZES)
_BETWEEN_VALUES = (_VALUES[1:] + _VALUES[:-1]) / 2
_VALUE_WORDS = [f"({value:g})" for value in _VALUES]


def words_of(settings: HistoryText, types: Sequence[str]) -> tuple[list[str], ...]:
    """Words of the types, values (the last, "", for none), gaps and separator; empty if unused."""
    named = [" ".join(name.replace("_", " ").split()) for name in types]
    return (
        named if settings.types and len(types) > 1 else [],
        [*_VALUE_WORDS, ""] if settings.values else [],
        [words for _, words in _GAPS] if settings.gaps else [],
        [_SEPARATOR],
    )


def value_place(value: NDArray[np.float32]) -> NDArray[np.int64]:
    """Place of the nearest value that can be told; the last place for what is not finite."""
    place = np.searchsorted(_BETWEEN_VALUES, value, side="right").astype(np.int64)
    return np.where(np.isfinite(value), place, len(_VALUES))


def gap_place(age_days: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of the words that tell an age, in whole days; twenty years at most. (E,)"""
    days = np.clip(age_days, 0, len(_GAP_OF_DAY) - 1).astype(np.int64)
    return np.asarray(_GAP_OF_DAY[days], dtype=np.int64)
