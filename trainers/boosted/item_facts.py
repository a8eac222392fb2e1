"""What the trees know of each item: how common it is, how often and after how long it returns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.counting.popularity import item_log_odds, item_shares
from penchant.trainers.member import Past

__all__ = ["ITEM_FACTS", "item_facts"]

ITEM_FACTS = (
    "item_share",
    "item_repeat_rate",
    "item_interval_days",
    "item_alone_share",
    "item_log_odds",
)
#: An item's own record counts as much as the mean of all items after so many events.
_STRENGTH = 20.0


def item_facts(past: Past) -> NDArray[np.float32]:
    """Shape (V, 5), from all events before the cut-off; columns are `ITEM_FACTS`.

    The log-odds of a yes are zero for `next_item`, which has no labels.
    """
    log, rows = past.log, past.rows()
    item, num_items = log.item[rows], log.num_items
    key = log.user[rows].astype(np.int64) * num_items + item
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    time_ms = log.time_ms[rows][order]
    gap_days = (np.diff(time_ms) / DAY_MS)[same]
    again = item[order][1:][same]
    events = np.bincount(item, minlength=num_items)
    pairs = np.bincount(item[order][np.concatenate([[True], ~same])], minlength=num_items)
    repeats = events - pairs
    group = np.searchsorted(log.group_starts, rows, side="right")
    sizes = np.bincount(group)[group]  # of what is known before the cut-off
    alone = np.bincount(item, weights=sizes <= 2, minlength=num_items)
    interval = np.bincount(again, weights=gap_days, minlength=num_items)
    binary = past.spec.task == "binary"
    odds = item_log_odds(past, Window()) if binary else np.zeros(num_items)
    columns: list[NDArray[Any]] = [
        item_shares(past, Window(days=60)),
        _shrunk(repeats, events),
        _shrunk(interval, repeats),
        _shrunk(alone, events),
        odds,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _shrunk(total: NDArray[Any], number: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of each item, drawn towards the mean of all items where there is little to go by."""
    overall = float(total.sum()) / max(float(number.sum()), 1.0)
    return np.asarray((total + _STRENGTH * overall) / (number + _STRENGTH), dtype=np.float64)
