"""Events parted by user on disk, then each part sorted and written as one shard of the log.

The first pass appends every event to the part of its user, in input order; the second holds one
part at a time. Memory is bounded by a batch and a part, whatever the size of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
import pyarrow as pa

from penchant.platform.schema import (
    GROUP,
    ITEM,
    LABEL,
    LABEL_TIME,
    LOG_SCHEMA,
    TIME,
    TYPE,
    USER,
    VALUE,
)

__all__ = ["Shard", "Spill", "build_shard", "write_arrow"]

_ROW = "row"
_CODE = "code"
_FIRST = "first"


class Spill:
    """Parts of the events on disk; all events of a user are in one part, in input order.

    Args:
        directory: an existing one, for the parts.
        num_parts: users are spread over so many by a hash of their ids.
    """

    def __init__(self, directory: Path, num_parts: int) -> None:
        self._directory = directory
        self._num_parts = num_parts
        self._writers: dict[int, pa.RecordBatchFileWriter] = {}

    @property
    def paths(self) -> list[Path]:
        """Parts that hold events."""
        return [self._path(part) for part in sorted(self._writers)]

    def add(self, events: pl.DataFrame) -> None:
        """Append events, whose columns are the same in each call."""
        if self._num_parts == 1:
            self._append(0, events)
            return
        part = (pl.col(USER).hash(seed=0) % self._num_parts).cast(pl.Int32).alias(_CODE)
        parted = events.with_columns(part).partition_by(
            _CODE, as_dict=True, include_key=False, maintain_order=True
        )
        for (number,), rows in parted.items():
            self._append(int(number), rows)

    def _append(self, part: int, events: pl.DataFrame) -> None:
        if events.is_empty():
            return
        table = _arrow(events)
        if part not in self._writers:
            self._writers[part] = pa.ipc.new_file(str(self._path(part)), table.schema)
        self._writers[part].write_table(table)

    def _path(self, part: int) -> Path:
        return self._directory / f"part-{part:05d}.arrow"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._writers.values():
            writer.close()


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A part in the log's order and types."""

    events: pl.DataFrame  # columns of LOG_SCHEMA; `group` and labels only where events have them
    users: pl.DataFrame  # user (text), events (how many), in the order of the events
    num_groups: int
    merged: int  # rows that were added to an earlier one


def build_shard(
    path: Path,
    items: pl.DataFrame,
    types: list[str],
    *,
    merge: bool,
    name_users: Callable[[pl.Series], pl.Series],
    first_group: int,
) -> Shard:
    """Sort a part by user, time and input order; ids become dense.

    Rows of one user and group with equal times stand together, where the first of them stood, so
    that baskets of the same moment do not interleave. A group is a run of rows of one user with
    the same key; a row without a key is a group of its own.

    Args:
        path: a part of a Spill.
        items: `item` as in the part, `code` dense.
        types: an event's type is its place in here.
        merge: add up the values of rows with equal user, time, group, item, type and label.
        name_users: ids of users, as text, to what is written.
        first_group: the number of the shard's first group.
    """
    events = pl.read_ipc(path)
    users = _dense_users(events[USER], name_users)
    events = (
        events.lazy()
        .join(users.lazy(), on=USER, how="left", maintain_order="left")
        .drop(USER)
        .rename({_CODE: USER})
        .join(items.lazy(), on=ITEM, how="left", maintain_order="left")
        .drop(ITEM)
        .rename({_CODE: ITEM})
        .collect()
    )
    rows_before = events.height
    if merge:
        events = _merge(events)
    if GROUP in events.columns:
        events = _number_groups(_sort_with_groups(events), first_group)
    else:
        events = _sort(events, TIME)
    counts = events.group_by(USER, maintain_order=True).len("events")["events"].cast(pl.Int64)
    return Shard(
        events=_as_log(events, types),
        users=users.select(pl.col("name").alias(USER), counts.alias("events")),
        num_groups=events[GROUP].n_unique() if GROUP in events.columns else 0,
        merged=rows_before - events.height,
    )


def _dense_users(ids: pl.Series, name_users: Callable[[pl.Series], pl.Series]) -> pl.DataFrame:
    """Columns user (as it came), name (as it is written) and code, in the order of names."""
    unique = ids.unique()
    names = name_users(unique.cast(pl.String))
    return (
        pl.DataFrame({USER: unique, "name": names})
        .sort("name")
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias(_CODE))
    )


def _merge(events: pl.DataFrame) -> pl.DataFrame:
    """One row for rows that differ in value alone; it stands where the first of them stood."""
    value = (
        pl.col(VALUE).cast(pl.Float64).sum()
        if VALUE in events.columns
        else pl.len().cast(pl.Float32)
    )
    keys = [name for name in events.columns if name != VALUE]
    return events.group_by(keys, maintain_order=True).agg(value.alias(VALUE))


def _sort_with_groups(events: pl.DataFrame) -> pl.DataFrame:
    rows = events.with_row_index(_ROW)
    first = pl.col(_ROW).min().over(USER, TIME, GROUP)
    alone = pl.col(GROUP).is_null()
    ordered = rows.with_columns(pl.when(alone).then(_ROW).otherwise(first).alias(_FIRST))
    return _sort(ordered, _FIRST, TIME).drop(_FIRST, _ROW)


def _sort(events: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Sort by user, then by the last of the columns, and so on; equal rows keep their order.

    Stable sorts by one column each take a quarter of the time of one by several.
    """
    for name in (*columns, USER):
        events = events.sort(name, maintain_order=True)
    return events


def _number_groups(events: pl.DataFrame, first_group: int) -> pl.DataFrame:
    """Number the runs of equal user and group; a null is a run of its own."""
    starts = (
        (pl.col(USER) != pl.col(USER).shift())
        | pl.col(GROUP).ne_missing(pl.col(GROUP).shift())
        | pl.col(GROUP).is_null()
    )
    number = starts.fill_null(True).cum_sum().cast(pl.Int64) + (first_group - 1)
    return events.with_columns(number.cast(pl.Int32).alias(GROUP))


def _as_log(events: pl.DataFrame, types: list[str]) -> pl.DataFrame:
    """Columns of LOG_SCHEMA; an event without a type or a value has type 0 and value 1.

    No column has nulls, so that it maps as it lies: a label is NaN, its time is the event's.
    """
    if TYPE in events.columns:
        events = events.with_columns(pl.col(TYPE).replace_strict(types, list(range(len(types)))))
    absent = {TYPE: pl.lit(0), VALUE: pl.lit(1.0)}
    filled = events.with_columns(
        value.alias(name) for name, value in absent.items() if name not in events.columns
    )
    if LABEL in filled.columns:
        filled = filled.with_columns(pl.col(LABEL).fill_null(float("nan")))
    if LABEL_TIME in filled.columns:
        filled = filled.with_columns(pl.col(LABEL_TIME).fill_null(pl.col(TIME)))
    columns = [name for name in LOG_SCHEMA if name in filled.columns]
    return filled.select(pl.col(name).cast(LOG_SCHEMA[name]) for name in columns)


def write_arrow(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame as uncompressed Arrow IPC in one record batch, so that it maps as it lies."""
    table = _arrow(frame).combine_chunks()
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def _arrow(frame: pl.DataFrame) -> pa.Table:
    # The oldest level has plain large strings; views would drag the buffers of other rows along.
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
