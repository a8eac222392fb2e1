"""After how long an item comes back: its hazard and survival, by days since it was last had.

Discrete-time life tables (Kaplan and Meier 1958): an item that was not had again by the cut-off
counts as at risk until then. Items with few returns are drawn towards all items'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.platform.timeline import DAY_MS
from penchant.trainers.member import Past

__all__ = ["RETURN_FEATURES", "Returns", "fit_returns"]

RETURN_FEATURES = ("return_hazard", "return_survival")

#: Days between two bins; the last one is open.
_EDGES = np.array([1, 2, 3, 5, 7, 10, 14, 18, 22, 28, 35, 45, 60, 80, 110, 150], dtype=float)
_LAST_DAYS = 250.0  # where the open bin is taken to end, for its width
#: What all items together count against an item's own pairs at risk.
_STRENGTH = 50.0


@dataclass(frozen=True, kw_only=True)
class Returns:
    """Life tables of V items in B bins of days."""

    hazard: NDArray[np.float32]  # (V, B), chance a day of being had again, if not yet
    survival: NDArray[np.float32]  # (V, B), chance of not being had again by the bin's end

    def at(self, item: NDArray[np.int32], since_days: NDArray[Any]) -> NDArray[np.float32]:
        """`RETURN_FEATURES` of K items that were last had so long ago, shape (K, 2)."""
        column = np.searchsorted(_EDGES, since_days, side="right")
        return np.stack([self.hazard[item, column], self.survival[item, column]], axis=1)


def fit_returns(past: Past) -> Returns:
    """Life tables from all events before the cut-off."""
    log, rows = past.log, past.rows()
    item, num_items = log.item[rows], log.num_items
    key = log.user[rows].astype(np.int64) * num_items + item
    order = np.argsort(key, kind="stable")
    item, time_ms = item[order], log.time_ms[rows][order]
    again = np.append(key[order][1:] == key[order][:-1], False)
    until_ms = np.where(again, np.append(time_ms[1:], 0), past.until_ms)
    column = np.searchsorted(_EDGES, (until_ms - time_ms) / DAY_MS, side="right")
    bins = len(_EDGES) + 1
    returned = _table(item[again], column[again], num_items, bins)
    ended = _table(item, column, num_items, bins)
    at_risk = ended[:, ::-1].cumsum(1)[:, ::-1]
    overall = returned.sum(0) / np.maximum(at_risk.sum(0), 1.0)
    chance = (returned + _STRENGTH * overall) / (at_risk + _STRENGTH)
    width_days = np.diff(np.concatenate([[0.0], _EDGES, [_LAST_DAYS]]))
    return Returns(
        hazard=(chance / width_days).astype(np.float32),
        survival=np.cumprod(1.0 - chance, axis=1).astype(np.float32),
    )


def _table(
    item: NDArray[Any], column: NDArray[Any], num_items: int, bins: int
) -> NDArray[np.float64]:
    """How often each item falls into each bin, shape (V, B)."""
    flat = np.bincount(item.astype(np.int64) * bins + column, minlength=num_items * bins)
    return flat.reshape(num_items, bins).astype(np.float64)
