"""What a user did before a request: the one place where histories are counted.

Training, offline scoring and serving all read histories through this module, so that a score
offline and a score online come from the same code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.requests import Requests, ranges
from penchant.platform.timeline import DAY_MS, Window

__all__ = ["History", "ItemCounts", "history_of", "item_counts"]


@dataclass(frozen=True, kw_only=True)
class History:
    """The visible events of R requests, E in all, one request after the other."""

    start: NDArray[np.int64]  # (R,), first visible log row
    request: NDArray[np.int64]  # (E,), position of the request
    row: NDArray[np.int64]  # (E,), log row
    age_days: NDArray[np.float64]  # (E,), from the event to its request


@dataclass(frozen=True, kw_only=True)
class ItemCounts:
    """Decayed counts of the distinct items in each history: K (request, item) pairs, H half-lives.

    Pairs are sorted by (request, item).
    """

    request: NDArray[np.int64]  # (K,)
    item: NDArray[np.int32]  # (K,)
    counts: NDArray[np.float32]  # (K, H)

    def dense(self, num_requests: int, num_items: int, half_life: int = 0) -> NDArray[np.float32]:
        """Counts as a matrix, shape (R, V)."""
        table = np.zeros((num_requests, num_items), dtype=np.float32)
        table[self.request, self.item] = self.counts[:, half_life]
        return table


def history_of(log: EventLog, requests: Requests, window: Window) -> History:
    """The events that each request may see through the window."""
    start = window.starts(log.time_ms, requests.first(log), requests.end, requests.time_ms)
    counts = requests.end - start
    row = ranges(start, counts)
    request = np.repeat(np.arange(len(requests)), counts)
    age_days = (requests.time_ms[request] - log.time_ms[row]) / DAY_MS
    return History(start=start, request=request, row=row, age_days=age_days)


def item_counts(log: EventLog, history: History, half_lives_days: Sequence[float]) -> ItemCounts:
    """Count each item of each history once for every half-life (`inf` counts plainly)."""
    key = history.request * np.int64(log.num_items) + log.item[history.row]
    pairs, pair = np.unique(key, return_inverse=True)
    counts = np.empty((len(pairs), len(half_lives_days)), dtype=np.float32)
    for at, days in enumerate(half_lives_days):
        weight = None if math.isinf(days) else np.exp2(-history.age_days / days)
        counts[:, at] = np.bincount(pair, weights=weight, minlength=len(pairs))
    return ItemCounts(
        request=pairs // log.num_items,
        item=(pairs % log.num_items).astype(np.int32),
        counts=counts,
    )
