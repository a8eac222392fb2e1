"""The event log: user-major, sorted by (time, input order), memory-mapped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from penchant.platform.errors import DataError
from penchant.platform.schema import GROUP, ITEM, LABEL, LABEL_TIME, TEXT, TIME, TYPE, USER, VALUE

__all__ = ["LOG_VERSION", "Catalog", "EventLog", "read_log_card", "read_user_ids"]

#: Version of the files in a log directory; another version is refused.
LOG_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class EventLog:
    """Events of all users. N events, U users, V items.

    The rows of user u are `offsets[u]` to `offsets[u + 1]`, in order of (time, input order).
    Labels are answers, not history: only `requests` reads them, members never do.
    """

    item: NDArray[np.int32]  # (N,), in [0, V)
    time_ms: NDArray[np.int64]  # (N,), UTC
    kind: NDArray[np.int8]  # (N,), index into the log card's `types`
    value: NDArray[np.float32]  # (N,)
    group: NDArray[np.int32] | None  # (N,), never falls; None where every event stands alone
    offsets: NDArray[np.int64]  # (U + 1,)
    num_items: int
    label: NDArray[np.float32] | None = None  # (N,), 0 or 1, NaN where nothing is asked
    label_ms: NDArray[np.int64] | None = None  # (N,), when a yes became known; None: at the event

    @property
    def num_events(self) -> int:
        return len(self.item)

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def user(self) -> NDArray[np.int32]:
        """User of each row, shape (N,)."""
        return np.repeat(np.arange(self.num_users, dtype=np.int32), np.diff(self.offsets))

    @cached_property
    def group_starts(self) -> NDArray[np.int64]:
        """First row of each group, and N at the end. Shape (G + 1,)."""
        if self.group is None:
            return np.arange(self.num_events + 1, dtype=np.int64)
        if not self.num_events:
            return np.zeros(1, dtype=np.int64)
        edges = np.flatnonzero(np.diff(self.group)) + 1
        return np.concatenate([[0], edges, [self.num_events]]).astype(np.int64)

    @classmethod
    def open(cls, directory: Path) -> EventLog:
        """Map a log that `ingest` wrote; one shard is mapped without a copy.

        Raises:
            DataError: no log lies there, or one of another version.
        """
        card = read_log_card(directory)
        shards = [_columns(directory / name) for name in card["shards"]]
        joined = {name: _join([shard[name] for shard in shards]) for name in shards[0]}
        sizes = _columns(directory / "users.arrow")["events"]
        return cls(
            item=joined[ITEM],
            time_ms=joined[TIME],
            kind=joined[TYPE],
            value=joined[VALUE],
            group=joined.get(GROUP),
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            num_items=int(card["items"]),
            label=joined.get(LABEL),
            label_ms=joined.get(LABEL_TIME),
        )


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Ids and texts of items, ids of users: strings outside, dense integers inside."""

    item_ids: list[str]  # (V,)
    item_texts: list[str]  # (V,), "" where an item has no text

    @classmethod
    def open(cls, directory: Path) -> Catalog:
        """Read the items of a log directory."""
        read_log_card(directory)
        items = pl.read_ipc(directory / "items.arrow")
        return cls(item_ids=items[ITEM].to_list(), item_texts=items[TEXT].to_list())

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Dense index of each item id."""
        return {item: at for at, item in enumerate(self.item_ids)}


def read_user_ids(directory: Path) -> list[str]:
    """User ids of a log directory in the log's order, shape (U,)."""
    read_log_card(directory)
    ids: list[str] = pl.read_ipc(directory / "users.arrow")[USER].to_list()
    return ids


def read_log_card(directory: Path) -> dict[str, Any]:
    """The log's card: version, counts, shards, types, source, fingerprint.

    The card is written last, so a log without one was never finished.
    """
    path = directory / "log.json"
    if not path.exists():
        raise DataError(
            f"{directory} holds no event log: expected a log.json, which is written last. "
            "Run `penchant data prepare EXPERIMENT.yaml` to build it."
        )
    card: dict[str, Any] = json.loads(path.read_text())
    if card.get("version") != LOG_VERSION:
        raise DataError(
            f"{path} has version {card.get('version')!r}, expected {LOG_VERSION}. "
            "Prepare the events again into a new run directory."
        )
    return card


def _columns(path: Path) -> dict[str, NDArray[Any]]:
    """Numeric columns of an Arrow IPC file as views on the mapped file."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    numeric = [
        name
        for name in table.column_names
        if pa.types.is_integer(table[name].type) or pa.types.is_floating(table[name].type)
    ]
    return {name: _join([c.to_numpy() for c in table[name].chunks]) for name in numeric}


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
