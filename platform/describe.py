"""What an event log holds, in figures: the dictionary behind `penchant data describe`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penchant.platform.events import Catalog, EventLog
from penchant.platform.timeline import DAY_MS

__all__ = ["describe"]

_TOP_ITEMS = 20
_QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


def describe(log: EventLog, catalog: Catalog, card: dict[str, Any]) -> dict[str, Any]:
    """Figures of a log, ready for JSON.

    Args:
        log: the events.
        catalog: the items' ids and texts.
        card: the log's card, for what happened to the rows that were read.

    Returns:
        Counts; `first` and `last` (ISO 8601, UTC); `repeat_share`, the share of events whose item
        the same user had before; quantiles of `history_events` a user and of `gap_days` between
        a user's consecutive groups (None where no user has two); `per_week` (from Mondays) and
        `per_month` series; `top_items`; `types`; `quarantine`.
    """
    starts = log.group_starts
    return {
        "users": log.num_users,
        "items": log.num_items,
        "events": log.num_events,
        "groups": len(starts) - 1,
        "has_groups": log.group is not None,
        "first": _iso(int(log.time_ms.min())),
        "last": _iso(int(log.time_ms.max())),
        "repeat_share": _repeat_share(log),
        "history_events": _quantiles(np.diff(log.offsets)),
        "gap_days": _quantiles(_gap_days(log, starts[:-1])),
        **_series(log.time_ms),
        "top_items": _top_items(log, catalog),
        "types": _types(log, card["types"]),
        "items_without_text": card["items_without_text"],
        "items_never_chosen": card["items_never_chosen"],
        "quarantine": {
            name: card[name] for name in ("rows_read", "quarantined", "merged", "reasons")
        },
        "fingerprint": card["fingerprint"],
    }


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


def _repeat_share(log: EventLog) -> float:
    """All events but the first of each (user, item) are repeats."""
    pairs = log.user.astype(np.int64) * log.num_items + log.item
    return 1.0 - pl.Series(pairs).n_unique() / log.num_events


def _gap_days(log: EventLog, first_rows: NDArray[np.int64]) -> NDArray[np.float64]:
    same_user = np.diff(log.user[first_rows]) == 0
    gaps: NDArray[np.float64] = np.diff(log.time_ms[first_rows])[same_user] / DAY_MS
    return gaps


def _quantiles(values: NDArray[Any]) -> dict[str, float] | None:
    if not len(values):
        return None
    at = np.quantile(values, list(_QUANTILES.values()))
    found = {name: float(value) for name, value in zip(_QUANTILES, at, strict=True)}
    extremes = {"min": float(values.min()), "max": float(values.max())}
    return {**extremes, **found, "mean": float(values.mean())}


def _series(time_ms: NDArray[np.int64]) -> dict[str, list[dict[str, Any]]]:
    """Events a week and a month, empty ones included, from counts a day."""
    day = time_ms // DAY_MS
    first = int(day.min())
    counts = np.bincount(day - first)
    days = pl.select(pl.from_epoch(pl.int_range(first, first + len(counts)), "d").alias("day"))
    table = days.with_columns(events=pl.Series(counts, dtype=pl.Int64)).sort("day")
    return {
        name: [
            {"start": start.isoformat(), "events": events}
            for start, events in table.group_by_dynamic("day", every=every)
            .agg(pl.col("events").sum())
            .iter_rows()
        ]
        for name, every in (("per_week", "1w"), ("per_month", "1mo"))
    }


def _top_items(log: EventLog, catalog: Catalog) -> list[dict[str, Any]]:
    counts = np.bincount(log.item, minlength=log.num_items)
    top = np.argsort(-counts, kind="stable")[:_TOP_ITEMS]
    return [
        {
            "item": catalog.item_ids[item],
            "text": catalog.item_texts[item],
            "events": int(counts[item]),
            "share": float(counts[item] / log.num_events),
        }
        for item in top
    ]


def _types(log: EventLog, names: list[str]) -> dict[str, int]:
    counts = np.bincount(log.kind, minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}
