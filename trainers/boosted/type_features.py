"""What a user did, by type of event: how often, how lately, and how one type stands to another.

A candidate that is new to everybody, such as a campaign, is judged by its user's record alone: of a
household that redeemed five of ten offers, the sixth is likely to be redeemed too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.history import history_of
from penchant.platform.requests import Requests
from penchant.platform.timeline import Window

__all__ = ["type_features"]

_HALF_LIFE_DAYS = 30.0


def type_features(
    log: EventLog, requests: Requests, window: Window, types: int
) -> NDArray[np.float32]:
    """Shape (R, 3 x types + types x (types - 1)).

    Of each type: its count, its count with a half-life of 30 days, days since the last one (NaN if
    none); then for each ordered pair of types the ratio of their counts, one added below.
    """
    history, size = history_of(log, requests, window), len(requests)
    kind = log.kind[history.row]
    fade = np.exp2(-history.age_days / _HALF_LIFE_DAYS)
    counts, columns = [], []
    for number in range(types):
        of_kind = kind == number
        request, age = history.request[of_kind], history.age_days[of_kind]
        since = np.full(size, np.nan)
        since[request] = age  # events are in order: the last one stands
        count = np.bincount(request, minlength=size)
        counts.append(count)
        columns += [count, np.bincount(request, weights=fade[of_kind], minlength=size), since]
    pairs = [(a, b) for a in range(types) for b in range(types) if a != b]
    columns += [counts[a] / (counts[b] + 1) for a, b in pairs]
    if not columns:
        return np.zeros((size, 0), dtype=np.float32)
    return np.stack(columns, axis=1).astype(np.float32)
