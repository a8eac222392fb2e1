"""Features of (request, candidate) pairs: recency, frequency, interval, and what the item is like.

Counting features of a user's own items, then of the item itself, then of the moment. All are read
through the window and before the request, with numpy over all pairs at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.history import History
from penchant.platform.requests import Requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.boosted.pairs import (
    HALF_LIVES_DAYS,
    OwnItems,
    Pairs,
    candidate_pairs,
    own_items,
)

__all__ = ["PAIR_FEATURES", "counting_features", "pair_features"]

_HOUR_MS = 3_600_000

PAIR_FEATURES = (
    *(f"count_{days:g}d" for days in HALF_LIVES_DAYS),
    "since_last_days",
    "since_first_days",
    "mean_interval_days",
    "last_interval_days",
    "since_last_over_interval",
    "share_of_groups",
    "faded_share_of_groups",
    "groups_since_last",
    "user_groups",
    "user_group_size",
    "user_since_last_days",
    "user_gap_days",
    "hour",
    "weekday",
)


def pair_features(
    log: EventLog, requests: Requests, window: Window, popular: NDArray[np.int32]
) -> tuple[Pairs, NDArray[np.float32]]:
    """The pairs of each request and their `PAIR_FEATURES`, shape (K, F); NaN where never had."""
    own = own_items(log, requests, window)
    pairs = candidate_pairs(log, requests, own.history, popular)
    return pairs, counting_features(log, requests, own, pairs)


def counting_features(
    log: EventLog, requests: Requests, own: OwnItems, pairs: Pairs
) -> NDArray[np.float32]:
    """`PAIR_FEATURES` of K pairs, shape (K, F); NaN where the user never had the item."""
    table = _own_item_features(log, requests, own)
    moment = _moment_features(log, requests, own.history)
    return np.concatenate([own.spread(table, pairs, log.num_items), moment[pairs.request]], axis=1)


def _own_item_features(log: EventLog, requests: Requests, own: OwnItems) -> NDArray[np.float32]:
    """Features of the (request, own item) pairs, shape (own pairs, 13)."""
    history, counts, number, last = own.history, own.counts, own.number, own.last
    first = last - number + 1
    age = history.age_days[own.event]
    since_last, since_first = age[last], age[first]
    repeated = number > 1
    interval = np.where(repeated, (since_first - since_last) / np.maximum(number - 1, 1), np.nan)
    last_interval = np.where(repeated, age[np.maximum(last - 1, first)] - since_last, np.nan)
    group, newest, groups, faded_groups = _group_counts(log, history, len(requests))
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [
            *counts.counts.T,
            since_last,
            since_first,
            interval,
            last_interval,
            since_last / interval,
            number / groups[counts.request],
            counts.counts[:, 2] / faded_groups[counts.request],
            newest[counts.request] - group[own.event][last],
        ]
    return np.stack(columns, axis=1).astype(np.float32)


def _group_counts(
    log: EventLog, history: History, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Group of each visible event (E,), newest group (R,), groups and faded groups (R,)."""
    starts = log.group_starts
    of_row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    group = of_row[history.row]
    is_new = np.ones(len(group), dtype=bool)
    is_new[1:] = (group[1:] != group[:-1]) | (history.request[1:] != history.request[:-1])
    newest = np.zeros(size, dtype=np.int64)
    newest[history.request] = group  # the last assignment stands: events are in order
    weight = np.exp2(-history.age_days[is_new] / HALF_LIVES_DAYS[2])
    groups = np.bincount(history.request[is_new], minlength=size).astype(np.float64)
    faded = np.bincount(history.request[is_new], weights=weight, minlength=size).astype(np.float64)
    return group, newest, groups, faded


def _moment_features(log: EventLog, requests: Requests, history: History) -> NDArray[np.float32]:
    """What does not depend on the candidate: pace of the user, hour, weekday. Shape (R, 6)."""
    size = len(requests)
    _, _, groups, _ = _group_counts(log, history, size)
    events = np.bincount(history.request, minlength=size)
    oldest = np.full(size, np.nan)
    newest = np.full(size, np.nan)
    oldest[history.request[::-1]] = history.age_days[::-1]
    newest[history.request] = history.age_days
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [
            groups,
            events / groups,
            newest,
            np.where(groups > 1, (oldest - newest) / (groups - 1), np.nan),
            requests.time_ms // _HOUR_MS % 24,
            (requests.time_ms // DAY_MS + 3) % 7,  # 1970-01-01 was a Thursday; Monday is 0
        ]
    return np.stack(columns, axis=1).astype(np.float32)
