"""The files of an event log, written shard by shard; the card comes last."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import polars as pl

from penchant.platform.events import LOG_VERSION
from penchant.platform.schema import ITEM, TEXT, TIME, USER
from penchant.platform.shards import Shard, write_arrow

__all__ = ["LogWriter"]


class LogWriter:
    """Writes what EventLog, Catalog and read_log_card read.

    Args:
        directory: an existing, empty one.
        items: `item` and `text` of all items, in the order of their dense ids.
        types: names of the events' types, in the order of their codes.
    """

    def __init__(self, directory: Path, items: pl.DataFrame, types: list[str]) -> None:
        self._directory = directory
        self._types = types
        self._num_items = items.height
        self._users: list[pl.DataFrame] = []
        self._shards: list[str] = []
        self._digests: dict[str, Any] = {}
        self._times: list[int] = []  # first and last of each shard
        self.num_events = self.num_groups = self.merged = 0
        write_arrow(items.select(ITEM, TEXT), directory / "items.arrow")
        for name in (ITEM, TEXT):
            self._digest(f"items.{name}", items[name])

    def add(self, shard: Shard) -> None:
        """Append a shard; its users follow those of the shards before."""
        name = f"events-{len(self._shards):05d}.arrow"
        write_arrow(shard.events, self._directory / name)
        self._shards.append(name)
        self._users.append(shard.users)
        for column in shard.events.iter_columns():
            self._digest(column.name, column)
        self._digest(USER, shard.users[USER])
        self._digest("offsets", shard.users["events"])
        times = shard.events[TIME].to_numpy()
        self._times += [int(times.min()), int(times.max())]
        self.num_events += shard.events.height
        self.num_groups += shard.num_groups
        self.merged += shard.merged

    def finish(self, facts: dict[str, Any], stamp: dict[str, Any]) -> dict[str, Any]:
        """Write the users and then the card, which makes the log whole.

        Args:
            facts: counts that the reader of the source knows, to be kept in the card.
            stamp: what the log was built from.
        """
        users = pl.concat(self._users)
        write_arrow(users, self._directory / "users.arrow")
        card = {
            "version": LOG_VERSION,
            "users": users.height,
            "items": self._num_items,
            "events": self.num_events,
            **facts,
            "merged": self.merged,
            "types": self._types,
            "has_groups": self.num_groups > 0,
            "first_ms": min(self._times),
            "last_ms": max(self._times),
            "shards": self._shards,
            "fingerprint": self._fingerprint(),
            "source": stamp,
        }
        partial = self._directory / "log.json.partial"
        partial.write_text(json.dumps(card, indent=2) + "\n")
        os.replace(partial, self._directory / "log.json")
        return card

    def _digest(self, name: str, column: pl.Series) -> None:
        digest = self._digests.setdefault(name, hashlib.sha256())
        if column.dtype == pl.String:
            digest.update("\0".join(column.to_list()).encode() + b"\0")
        else:
            digest.update(column.to_numpy())

    def _fingerprint(self) -> str:
        """Of the log's content, column by column: where rows came from does not enter."""
        parts = {name: digest.hexdigest() for name, digest in sorted(self._digests.items())}
        return hashlib.sha256(json.dumps([self._types, parts]).encode()).hexdigest()
