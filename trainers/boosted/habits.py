"""Habits of a user with an item: how regular, at which hours and weekdays, its rank among others.

Features of (request, own item) pairs beside those of `features`; NaN where the user never had the
item.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.history import ItemCounts
from penchant.platform.requests import Requests
from penchant.platform.timeline import DAY_MS
from penchant.trainers.boosted.pairs import HALF_LIVES_DAYS, OwnItems, Pairs
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
_RANKED_BY_DAYS = (21.0, 60.0, math.inf)  # half-lives
#: Intervals that differ by no more than this from the time since the last event are like it.
_LIKE_DAYS = 2.0
_SAME_HOURS = 2
_MOMENT_HALF_LIFE_DAYS = 180.0
_HOUR_MS = 3_600_000

Numbers = NDArray[Any]


def habit_features(
    log: EventLog, requests: Requests, own: OwnItems, pairs: Pairs, returns: Returns
) -> NDArray[np.float32]:
    """`HABIT_FEATURES` of K pairs, shape (K, F); all NaN where the user never had the item."""
    age_days = own.history.age_days[own.event]
    columns = [
        *_regularity(own, age_days),
        *_moments(own, age_days, log, requests),
        *_ranks(own.counts, len(requests)),
        *returns.at(own.counts.item, age_days[own.last]).T,
    ]
    return own.spread(np.stack(columns, axis=1).astype(np.float32), pairs, log.num_items)


def _regularity(own: OwnItems, age_days: Numbers) -> list[Numbers]:
    """Spread of the intervals between events, and how the time since the last one compares."""
    pair, last = own.pair, own.last
    is_interval = np.ones(len(pair), dtype=bool)
    is_interval[last] = False
    interval = np.where(is_interval, age_days - np.append(age_days[1:], 0.0), 0.0)
    number = own.sums(is_interval)
    since = age_days[last][pair]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = own.sums(interval) / number
        deviation = np.sqrt(np.maximum(own.sums(interval**2) / number - mean**2, 0.0))
        longer = own.sums(is_interval & (interval > since))
        return [
            np.where(number > 1, deviation, np.nan),
            np.where(number > 1, deviation / mean, np.nan),
            np.where(number > 0, longer / number, np.nan),
            own.sums(is_interval & (np.abs(interval - since) <= _LIKE_DAYS)),
        ]


def _moments(own: OwnItems, age_days: Numbers, log: EventLog, requests: Requests) -> list[Numbers]:
    """Events on the weekday of the request, and at about its hour."""
    event_ms = log.time_ms[own.history.row[own.event]]
    asked_ms = requests.time_ms[own.history.request[own.event]]
    same_weekday = (event_ms // DAY_MS - asked_ms // DAY_MS) % 7 == 0
    apart = np.abs(event_ms // _HOUR_MS % 24 - asked_ms // _HOUR_MS % 24)
    same_hours = np.minimum(apart, 24 - apart) <= _SAME_HOURS
    weight = np.exp2(-age_days / _MOMENT_HALF_LIFE_DAYS)
    whole = own.sums(weight)
    columns: list[Numbers] = []
    for same in (same_weekday, same_hours):
        faded = own.sums(weight * same)
        columns += [faded / whole, faded]
    return columns


def _ranks(counts: ItemCounts, size: int) -> list[Numbers]:
    """Where each item stands among the user's own, by faded counts, and its share of them."""
    columns: list[Numbers] = []
    for half_life in _RANKED_BY_DAYS:
        count = counts.counts[:, HALF_LIVES_DAYS.index(half_life)].astype(np.float64)
        order = np.lexsort((-count, counts.request))
        first = np.searchsorted(counts.request[order], counts.request[order], side="left")
        rank = np.empty(len(count))
        rank[order] = np.arange(len(count)) - first
        whole = np.bincount(counts.request, weights=count, minlength=size)
        columns += [rank, count / whole[counts.request]]
    return [*columns, np.bincount(counts.request, minlength=size)[counts.request]]
