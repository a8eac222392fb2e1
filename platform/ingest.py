"""From sources to an event log on disk, in two passes and bounded memory.

The first pass streams the rows, refuses the unusable ones, and parts the rest by user; the second
sorts each part and writes it as a shard. The log is built beside its place and swapped in whole.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from penchant.platform.config import Data
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.events import read_log_card
from penchant.platform.log_writer import LogWriter
from penchant.platform.quarantine import Quarantine, Rules, sort_out
from penchant.platform.raw_source import Source
from penchant.platform.schema import ITEM, TEXT, TYPE
from penchant.platform.shards import Spill, build_shard
from penchant.platform.sources import read_items, resolve
from penchant.platform.swap import swap_in, workspace
from penchant.platform.table_files import count_rows, read_batches

__all__ = ["ingest"]

#: Events of a shard; one is sorted in memory at a time, at roughly 150 bytes an event.
EVENTS_PER_SHARD = 4_000_000

#: In the first pass each part is an open file.
_MAX_SHARDS = 512

_MAX_TYPES = 127
_HASH_DIGITS = 32

_Tell = Callable[[str], None]
_NameUsers = Callable[[pl.Series], pl.Series]


def ingest(
    data: Data,
    log_dir: Path,
    quarantine_path: Path,
    *,
    progress: Callable[[str], None] | None = None,
    check: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Write the event log and the quarantine of a source, or keep those that are still right.

    A log is kept if it was built from the same settings and the same files (path, size, time of
    change). While it is built, its directory's disk holds the events twice.

    Args:
        data: the experiment's `data`.
        log_dir: becomes the log; must be absent, empty, or an earlier log.
        quarantine_path: a Parquet file for the refused rows, outside of `log_dir`.
        progress: is told what happens, a line each.
        check: is given the card of a log that was built anew, before it takes its place; it may
            raise, and then nothing has changed.

    Returns:
        The log's card, as in its log.json; `rows_read` is `events + quarantined + merged`.

    Raises:
        ConfigError: settings do not fit the files, or the variable with the key is not set.
        DataError: files are missing or broken, or no row can be used.
    """
    tell = progress or (lambda _: None)
    source = resolve(data)
    key = _key(data.hash_users_with)
    stamp = _stamp(data, source, key)
    kept = _kept(log_dir, stamp)
    if kept is not None and quarantine_path.exists():
        tell(f"kept the log of {kept['events']:,} events: settings and files are the same")
        return kept
    with workspace(log_dir) as work:
        card = _build(work, source, stamp, _namer(key), tell)
        check(card)
        quarantine_path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(work / "quarantine.parquet", quarantine_path)
        swap_in(work / "log", log_dir, work)
    return card


def _build(
    work: Path, source: Source, stamp: dict[str, Any], name_users: _NameUsers, tell: _Tell
) -> dict[str, Any]:
    """Write `log/` and `quarantine.parquet` into a scratch directory; returns the card."""
    (work / "log").mkdir()
    (work / "parts").mkdir()
    known = read_items(source)
    quarantine = Quarantine(work / "quarantine.parquet", name_users)
    with quarantine, Spill(work / "parts", _num_shards(source)) as spill:
        rows_read = _part_by_user(source, spill, quarantine, tell)
    if not spill.paths:
        raise DataError(_nothing_usable(source, rows_read, quarantine.reasons))
    types = _types(spill.paths) if TYPE in source.columns else ["event"]
    items = _chosen_items(spill.paths, known)
    writer = LogWriter(work / "log", items, types)
    codes = items.select("raw", "code").rename({"raw": ITEM})
    for at, part in enumerate(spill.paths, start=1):
        shard = build_shard(
            part,
            codes,
            types,
            merge=source.merge,
            name_users=name_users,
            first_group=writer.num_groups,
        )
        writer.add(shard)
        part.unlink()
        tell(f"sorted shard {at} of {len(spill.paths)}: {writer.num_events:,} events")
    facts = {
        "rows_read": rows_read,
        "quarantined": quarantine.reasons.total(),
        "reasons": dict(quarantine.reasons.most_common()),
        "items_without_text": int((items[TEXT] == "").sum()),
        "items_never_chosen": known.join(items, on=ITEM, how="anti").height,
    }
    return writer.finish(facts, stamp)


def _part_by_user(source: Source, spill: Spill, quarantine: Quarantine, tell: _Tell) -> int:
    """The first pass; returns the number of rows read."""
    rules = Rules(
        time_unit=source.time_unit,
        integer_ids=source.integer_ids,
        item_missing=source.item_missing,
    )
    rows_read = 0
    for at, file in enumerate(source.events, start=1):
        row = 1
        for batch in read_batches(file):
            numbered = batch.with_row_index("row", offset=row)
            events, refused = sort_out(numbered, rules)
            spill.add(events)
            quarantine.add(refused, str(file.path))
            row += batch.height
            rows_read += batch.height
        tell(f"read file {at} of {len(source.events)}: {rows_read:,} rows")
    return rows_read


def _types(parts: list[Path]) -> list[str]:
    types: list[str] = _distinct(parts, TYPE).sort().to_list()
    if len(types) > _MAX_TYPES:
        raise DataError(
            f"The events have {len(types)} types, such as {', '.join(types[:5])}; expected at most "
            f"{_MAX_TYPES}. Map `type` to a coarser column, or leave it out."
        )
    return types


def _chosen_items(parts: list[Path], known: pl.DataFrame) -> pl.DataFrame:
    """Items that have events, sorted by id: raw (as in the parts), item, text, code."""
    raw = _distinct(parts, ITEM)
    chosen = pl.DataFrame({"raw": raw, ITEM: raw.cast(pl.String)}).sort(ITEM)
    return chosen.join(known, on=ITEM, how="left", maintain_order="left").with_columns(
        pl.col(TEXT).fill_null(""), pl.int_range(pl.len(), dtype=pl.Int32).alias("code")
    )


def _distinct(parts: list[Path], name: str) -> pl.Series:
    column = pl.scan_ipc(parts).select(name).unique()
    return column.collect(engine="streaming").to_series()


def _num_shards(source: Source) -> int:
    rows = sum(count_rows(file.path) for file in source.events)
    return min(max(1, -(-rows // EVENTS_PER_SHARD)), _MAX_SHARDS)


def _nothing_usable(source: Source, rows_read: int, reasons: Counter[str]) -> str:
    files = ", ".join(str(file.path) for file in source.events[:3])
    if not rows_read:
        return f"{files}: found no rows, expected events. Check the paths and the files."
    found = "; ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
    words = f"{files}: none of {rows_read:,} rows can be used ({found}). Check the column mapping"
    if any("time" in reason for reason in reasons):
        words += (
            ", and `time_unit` where times are numbers; other times must be dates or ISO 8601 texts"
        )
    if any(reason.startswith("label neither") for reason in reasons):
        words += ", and write a yes as 1 and a no as 0"
    return words + "."


def _stamp(data: Data, source: Source, key: bytes | None) -> dict[str, Any]:
    """What a log was built from; a log with the same stamp need not be built again."""
    files = [(path, path.stat()) for path in source.inputs]
    return {
        "data": data.model_dump(mode="json"),
        "files": [
            {"path": str(path), "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
            for path, stat in files
        ],
        "key_check": None if key is None else _hashed(key, "which key was this?")[:8],
    }


def _kept(log_dir: Path, stamp: dict[str, Any]) -> dict[str, Any] | None:
    """The card of the log that lies there, if it has this stamp."""
    if (log_dir / "log.json").exists():
        try:
            card = read_log_card(log_dir)
        except DataError:  # another version: it is built again
            return None
        return card if card.get("source") == stamp else None
    if log_dir.is_dir() and any(log_dir.iterdir()):
        raise DataError(
            f"{log_dir} holds files but no event log, expected an empty place or an earlier log. "
            "Name another directory, or empty this one."
        )
    return None


def _key(variable: str | None) -> bytes | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    if not key:
        raise ConfigError(
            f"data.hash_users_with names the environment variable {variable}, which is not set; "
            f"expected the key of the hashes. Set it, such as `export {variable}=...`."
        )
    return key.encode()


def _namer(key: bytes | None) -> _NameUsers:
    """How user ids (text, null allowed) are written: as they are, or as keyed hashes."""
    if key is None:
        return lambda ids: ids
    return lambda ids: pl.Series(
        ids.name, [_hashed(key, user) if user else user for user in ids], pl.String
    )


def _hashed(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), hashlib.sha256).hex()[:_HASH_DIGITS]
