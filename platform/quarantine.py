"""Rows that can be used, and rows that cannot: each of these is kept with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
import pyarrow.parquet as pq

from penchant.platform.schema import (
    EVENT_COLUMNS,
    GROUP,
    ITEM,
    LABEL,
    LABEL_TIME,
    TIME,
    TYPE,
    USER,
    VALUE,
)
from penchant.platform.times import FIRST_MS, LAST_MS, to_milliseconds

__all__ = ["Quarantine", "Rules", "sort_out"]

_SCHEMA = {
    "file": pl.String(),
    "row": pl.Int64(),  # of the file's rows, from 1, a CSV file's header not counted
    "reason": pl.String(),
    **dict.fromkeys(EVENT_COLUMNS, pl.String()),  # as they came, null where not mapped
}

_OUT_OF_RANGE = "out of range (before 1900 or after 2200)"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a source's rows are checked against."""

    time_unit: str  # "auto", "s", "ms", "us" or "ns"
    integer_ids: frozenset[str]  # id columns kept as integers; all others become text
    item_missing: str  # the reason of a row without an item


def sort_out(batch: pl.DataFrame, rules: Rules) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part a batch of raw rows into events and refused rows, both in the order of the batch.

    Args:
        batch: columns named as in EVENT_COLUMNS, and `row`.
        rules: of the source.

    Returns:
        Events: ids as integers or text, times in ms since 1970, `value` and `label` as float32.
        Refused: the batch's columns as text, `row`, and `reason`, the first that applied.
    """
    given = [name for name in EVENT_COLUMNS if name in batch.columns]
    read = batch.select(
        *(_identifier(name, rules) for name in given if name in (USER, ITEM, TYPE, GROUP)),
        *(
            to_milliseconds(batch[name], rules.time_unit).alias(name)
            for name in given
            if name in (TIME, LABEL_TIME)
        ),
        *(_number(name, batch.schema[name]) for name in given if name in (VALUE, LABEL)),
    ).select(given)
    reason = _reason(read, batch, rules)
    refused = reason.is_not_null()
    if not refused.any():
        return read, batch.clear().with_columns(reason=pl.lit(None, pl.String))
    bad = batch.with_columns(reason=reason).filter(refused)
    return read.filter(~refused), bad.with_columns(pl.col(given).cast(pl.String))


def _identifier(name: str, rules: Rules) -> pl.Expr:
    if name in rules.integer_ids:
        return pl.col(name).cast(pl.Int64)
    text = pl.col(name).cast(pl.String)
    return pl.when(text.str.strip_chars() != "").then(text).alias(name)


def _number(name: str, dtype: pl.DataType) -> pl.Expr:
    raw = pl.col(name)
    if dtype == pl.String:
        raw = raw.str.strip_chars()
    number = raw.cast(pl.Float32, strict=False)
    return pl.when(number.is_finite()).then(number).alias(name)


def _reason(read: pl.DataFrame, batch: pl.DataFrame, rules: Rules) -> pl.Series:
    """The first reason to refuse each row, null for good ones."""
    time = read[TIME]
    reasons = [
        (read[USER].is_null(), "user missing"),
        (read[ITEM].is_null(), rules.item_missing),
        (_missing(batch[TIME]), "time missing"),
        (time.is_null(), "time cannot be read"),
        (~time.is_between(FIRST_MS, LAST_MS), f"time {_OUT_OF_RANGE}"),
    ]
    if TYPE in read.columns:
        reasons.append((read[TYPE].is_null(), "type missing"))
    if VALUE in read.columns:
        reasons.append((_missing(batch[VALUE]), "value missing"))
        reasons.append((read[VALUE].is_null(), "value not a number"))
    if LABEL in read.columns:
        odd = ~read[LABEL].is_in([0.0, 1.0]).fill_null(False)
        reasons.append((odd & ~_missing(batch[LABEL]), "label neither 0 nor 1"))
    if LABEL_TIME in read.columns:
        known = read[LABEL_TIME]
        unread = known.is_null() & ~_missing(batch[LABEL_TIME])
        reasons.append((unread, "label_time cannot be read"))
        reasons.append((~known.is_between(FIRST_MS, LAST_MS), f"label_time {_OUT_OF_RANGE}"))
    found = pl.lit(None, pl.String)
    for mask, text in reversed(reasons):
        if mask.any():
            found = pl.when(mask).then(pl.lit(text)).otherwise(found)
    return read.with_columns(found.alias("reason"))["reason"]


def _missing(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return column.str.strip_chars().fill_null("") == ""
    if column.dtype.is_float():
        return column.is_null() | column.is_nan().fill_null(False)
    return column.is_null()


class Quarantine:
    """A Parquet file of refused rows, written as they come; it exists even if none do.

    Args:
        path: of the Parquet file.
        name_users: what a user's id becomes on disk, the same as in the log.
    """

    def __init__(self, path: Path, name_users: Callable[[pl.Series], pl.Series]) -> None:
        self.reasons: Counter[str] = Counter()
        self._name_users = name_users
        self._schema = pl.DataFrame(schema=_SCHEMA).to_arrow().schema
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, refused: pl.DataFrame, file: str) -> None:
        """Keep the refused rows of a file."""
        if refused.is_empty():
            return
        absent = [name for name in EVENT_COLUMNS if name not in refused.columns]
        rows = refused.with_columns(
            self._name_users(refused[USER]),
            pl.lit(file).alias("file"),
            *(pl.lit(None, pl.String).alias(name) for name in absent),
        )
        self.reasons.update(rows["reason"].to_list())
        self._writer.write_table(rows.select(list(_SCHEMA)).to_arrow().cast(self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
