"""Habits of a user with an item: how regular, at which hours and weekdays, its rank among others.

Features of (request, own item) pairs beside those of `features`; NaN where the user never had the
item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.history import History, ItemCounts, history_of, item_counts
from penchant.platform.requests import Requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.boosted.features import Pairs
from penchant.trainers.boosted.returns import RETURN_FEATURES, Returns

__all__ = ["HABIT_FEATURES", "habit_features"]

HABIT_FEATURES = (
    "interval_deviation_days",
    "interval_deviation_over_mean",
    "longer_interval_share",
    "like_intervals",
    "same_weekday_share",
    "same_weekday_count",
    "same_hours_share",
    "same_hours_count",
    "rank_21d",
    "share_21d",
    "rank_60d",
    "share_60d",
    "rank_all",
    "share_all",
    "own_items",
    *RETURN_FEATURES,
)
_HALF_LIVES_DAYS = (21.0, 60.0, np.inf)
#: Intervals that differ by no more than this from the time since the last event are like it.
_LIKE_DAYS = 2.0
_SAME_HOURS = 2
_MOMENT_HALF_LIFE_DAYS = 180.0
_HOUR_MS = 3_600_000

Numbers = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class _Own:
    """Events by (request, own item): P pairs of E events, oldest first within a pair."""

    counts: ItemCounts
    pair: NDArray[np.int64]  # (E,)
    last: NDArray[np.int64]  # (P,), place of the latest event of each pair
    age_days: NDArray[np.float64]  # (E,)
    row: NDArray[np.int64]  # (E,), log row
    request: NDArray[np.int64]  # (E,)

    def sum(self, values: Numbers) -> NDArray[np.float64]:
        """Sum of an event's value over each pair, shape (P,)."""
        total = np.bincount(self.pair, weights=values, minlength=len(self.last))
        return total.astype(np.float64)


def habit_features(
    log: EventLog, requests: Requests, window: Window, pairs: Pairs, returns: Returns
) -> NDArray[np.float32]:
    """`HABIT_FEATURES` of K pairs, shape (K, F); all NaN where the user never had the item."""
    own = _own(log, history_of(log, requests, window))
    since_days = own.age_days[own.last]
    columns = [
        *_regularity(own, since_days),
        *_moments(own, log, requests),
        *_ranks(own.counts, len(requests)),
        *returns.at(own.counts.item, since_days).T,
    ]
    table = np.stack(columns, axis=1).astype(np.float32)
    features = np.full((len(pairs.item), len(HABIT_FEATURES)), np.nan, dtype=np.float32)
    key = own.counts.request * np.int64(log.num_items) + own.counts.item
    wanted = pairs.request * np.int64(log.num_items) + pairs.item
    at = np.searchsorted(key, wanted)
    found = np.flatnonzero(np.append(key, -1)[at] == wanted)  # no pair has the key -1
    features[found] = table[at[found]]
    return features


def _own(log: EventLog, history: History) -> _Own:
    counts = item_counts(log, history, _HALF_LIVES_DAYS)
    key = history.request * np.int64(log.num_items) + log.item[history.row]
    order = np.argsort(key, kind="stable")
    number = counts.counts[:, -1].astype(np.int64)
    return _Own(
        counts=counts,
        pair=np.repeat(np.arange(len(number)), number),
        last=np.cumsum(number) - 1,
        age_days=history.age_days[order],
        row=history.row[order],
        request=history.request[order],
    )


def _regularity(own: _Own, since_days: Numbers) -> list[Numbers]:
    """Spread of the intervals between events, and how the time since the last one compares."""
    is_interval = np.ones(len(own.pair), dtype=bool)
    is_interval[own.last] = False
    interval = np.where(is_interval, own.age_days - np.append(own.age_days[1:], 0.0), 0.0)
    number = own.sum(is_interval)
    since = since_days[own.pair]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = own.sum(interval) / number
        deviation = np.sqrt(np.maximum(own.sum(interval**2) / number - mean**2, 0.0))
        return [
            np.where(number > 1, deviation, np.nan),
            np.where(number > 1, deviation / mean, np.nan),
            np.where(number > 0, own.sum(is_interval & (interval > since)) / number, np.nan),
            own.sum(is_interval & (np.abs(interval - since) <= _LIKE_DAYS)),
        ]


def _moments(own: _Own, log: EventLog, requests: Requests) -> list[Numbers]:
    """Events on the weekday of the request, and at about its hour."""
    event_ms, asked_ms = log.time_ms[own.row], requests.time_ms[own.request]
    same_weekday = (event_ms // DAY_MS - asked_ms // DAY_MS) % 7 == 0
    apart = np.abs(event_ms // _HOUR_MS % 24 - asked_ms // _HOUR_MS % 24)
    same_hours = np.minimum(apart, 24 - apart) <= _SAME_HOURS
    weight = np.exp2(-own.age_days / _MOMENT_HALF_LIFE_DAYS)
    whole = own.sum(weight)
    columns: list[Numbers] = []
    for same in (same_weekday, same_hours):
        faded = own.sum(weight * same)
        columns += [faded / whole, faded]
    return columns


def _ranks(counts: ItemCounts, size: int) -> list[Numbers]:
    """Where each item stands among the user's own, by faded counts, and its share of them."""
    columns: list[Numbers] = []
    for column in range(len(_HALF_LIVES_DAYS)):
        count = counts.counts[:, column].astype(np.float64)
        order = np.lexsort((-count, counts.request))
        first = np.searchsorted(counts.request[order], counts.request[order], side="left")
        rank = np.empty(len(count))
        rank[order] = np.arange(len(count)) - first
        whole = np.bincount(counts.request, weights=count, minlength=size)
        columns += [rank, count / whole[counts.request]]
    return [*columns, np.bincount(counts.request, minlength=size)[counts.request]]
