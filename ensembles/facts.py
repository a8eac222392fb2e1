"""Facts of a request that say which members to trust: how much is known of the user, and when.

They are read from events before the request alone, through the code that members read histories
with, so that one question to an endpoint has the facts that it has in the prediction store.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.history import history_of, item_counts
from penchant.platform.requests import Requests
from penchant.platform.timeline import DAY_MS, Window

__all__ = ["FACTS", "request_facts"]

#: Columns of `request_facts`; hour (UTC) and weekday (Monday is 0) are those of the request.
FACTS = ("history_events", "days_since_last", "repeat_share", "hour", "weekday")

_HOUR_MS = 3_600_000
_CHUNK = 2000  # requests whose histories are held at once


def request_facts(log: EventLog, requests: Requests) -> NDArray[np.float32]:
    """Shape (R, 5), columns are `FACTS`.

    A user without history has no events and, as that is no day and no share, NaN for the days
    since the last event and for the share of events whose item the user had had before.
    """
    facts = np.empty((len(requests), len(FACTS)), dtype=np.float32)
    for begin in range(0, len(requests), _CHUNK):
        chunk = np.arange(begin, min(begin + _CHUNK, len(requests)))
        facts[chunk] = _chunk_facts(log, requests.take(chunk))
    return facts


def _chunk_facts(log: EventLog, requests: Requests) -> NDArray[np.float64]:
    size = len(requests)
    history = history_of(log, requests, Window())
    events = np.bincount(history.request, minlength=size)
    distinct = np.bincount(item_counts(log, history, []).request, minlength=size)
    newest = np.full(size, np.nan)
    newest[history.request] = history.age_days  # the last assignment stands: events are in order
    columns = [
        events,
        newest,
        np.where(events > 0, 1 - distinct / np.maximum(events, 1), np.nan),
        requests.time_ms // _HOUR_MS % 24,
        (requests.time_ms // DAY_MS + 3) % 7,  # 1970-01-01 was a Thursday
    ]
    return np.stack(columns, axis=1).astype(np.float64)
