"""(request, candidate) pairs, and a user's events by the items that they are of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.history import History, ItemCounts, history_of, item_counts
from penchant.platform.requests import Requests
from penchant.platform.timeline import Window

__all__ = ["HALF_LIVES_DAYS", "OwnItems", "Pairs", "candidate_pairs", "own_items"]

HALF_LIVES_DAYS = (7.0, 21.0, 60.0, 180.0, math.inf)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """K (request, candidate) pairs, sorted by (request, item)."""

    request: NDArray[np.int64]  # (K,)
    item: NDArray[np.int32]  # (K,)

    def key(self, num_items: int) -> NDArray[np.int64]:
        """One number a pair, rising. Shape (K,)."""
        return self.request * np.int64(num_items) + self.item


@dataclass(frozen=True, kw_only=True)
class OwnItems:
    """The E visible events of R requests by (request, own item): P pairs, each oldest first."""

    history: History
    counts: ItemCounts  # of the P pairs, by HALF_LIVES_DAYS
    event: NDArray[np.int64]  # (E,), places in `history`
    number: NDArray[np.int64]  # (P,), events of each pair

    @cached_property
    def last(self) -> NDArray[np.int64]:
        """Place in `event` of the latest event of each pair, shape (P,)."""
        return np.cumsum(self.number) - 1

    @cached_property
    def pair(self) -> NDArray[np.int64]:
        """Pair of each event, shape (E,)."""
        return np.repeat(np.arange(len(self.number)), self.number)

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum of a value of the events, in the order of `event`, over each pair. Shape (P,)."""
        total = np.bincount(self.pair, weights=values, minlength=len(self.number))
        return total.astype(np.float64)

    def spread(
        self, table: NDArray[np.float32], pairs: Pairs, num_items: int
    ) -> NDArray[np.float32]:
        """A table of the P own pairs, (P, F), laid out by K others, (K, F); NaN where never had."""
        own = Pairs(request=self.counts.request, item=self.counts.item).key(num_items)
        wanted = pairs.key(num_items)
        at = np.searchsorted(own, wanted)
        found = np.flatnonzero(np.append(own, -1)[at] == wanted)  # no pair has the key -1
        features = np.full((len(wanted), table.shape[1]), np.nan, dtype=np.float32)
        features[found] = table[at[found]]
        return features


def own_items(log: EventLog, requests: Requests, window: Window) -> OwnItems:
    """What each request sees through the window, by item."""
    history = history_of(log, requests, window)
    counts = item_counts(log, history, HALF_LIVES_DAYS)
    return OwnItems(
        history=history,
        counts=counts,
        event=np.argsort(_own_key(log, history), kind="stable"),
        number=counts.counts[:, -1].astype(np.int64),
    )


def candidate_pairs(
    log: EventLog, requests: Requests, history: History, popular: NDArray[np.int32]
) -> Pairs:
    """Each user's own items and the popular ones; for `binary`, the one candidate."""
    if requests.candidate is not None:
        return Pairs(request=np.arange(len(requests)), item=requests.candidate)
    everywhere = np.arange(len(requests))[:, None] * np.int64(log.num_items) + popular[None, :]
    key = np.unique(np.concatenate([_own_key(log, history), everywhere.ravel()]))
    return Pairs(request=key // log.num_items, item=(key % log.num_items).astype(np.int32))


def _own_key(log: EventLog, history: History) -> NDArray[Any]:
    """Request and item of each event as one number, shape (E,)."""
    return history.request * np.int64(log.num_items) + log.item[history.row]
