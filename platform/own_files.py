"""Files of one's own: columns mapped to ours, their types checked before any row is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from penchant.platform.config import Files
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.schema import ITEM, LABEL, LABEL_TIME, TEXT, TIME, VALUE
from penchant.platform.table_files import TableFile, find_files, is_csv, scan_file

__all__ = ["joined_text", "own_events", "own_items"]


def own_events(files: Files) -> list[TableFile]:
    """Event files whose columns exist and have types that fit their meaning.

    Raises:
        ConfigError: a setting does not fit the files' types.
        DataError: a file or a column is missing, or has a type that cannot be used.
    """
    paths = find_files(files.paths, "data.events.paths")
    _separator_fits(files, paths, "data.events")
    events = []
    for path in paths:
        frame = scan_file(path, files.separator)
        _require(frame, list(files.columns.values()), path, "data.events.columns")
        # A column without any value may come without a type.
        renamed = frame.select(
            pl.col(theirs).alias(ours) for ours, theirs in files.columns.items()
        ).cast({pl.Null: pl.String})
        _check_types(renamed.collect_schema(), path, files)
        events.append(TableFile(path=path, frame=renamed, separator=files.separator))
    return events


def own_items(files: Files) -> list[TableFile]:
    """Files of the item table, as `item` and `text`, both text; raises as `own_events` does."""
    paths = find_files(files.paths, "data.items.paths")
    _separator_fits(files, paths, "data.items")
    return [
        TableFile(path=path, frame=_item_frame(files, path), separator=files.separator)
        for path in paths
    ]


def _separator_fits(files: Files, paths: Sequence[Path], place: str) -> None:
    if files.separator != "," and not is_csv(paths[0]):
        raise ConfigError(
            f"{place}.separator is {files.separator!r}, but Parquet files have none. Remove it."
        )


def _require(frame: pl.LazyFrame, names: Sequence[str], path: Path, place: str) -> None:
    existing = frame.collect_schema().names()
    missing = [name for name in names if name not in existing]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}, which {place} names; "
            f"its columns are {', '.join(existing)}. Correct the mapping."
        )


def _check_types(schema: pl.Schema, path: Path, files: Files) -> None:
    for name, dtype in schema.items():
        known, wanted = _is_id(dtype), "integers or texts"
        if name in (TIME, LABEL_TIME):
            known = dtype.is_numeric() or dtype == pl.String or dtype in (pl.Date, pl.Datetime)
            wanted = "a time, a number or a text"
        elif name in (VALUE, LABEL):
            known = dtype.is_numeric() or dtype in (pl.String, pl.Boolean)
            wanted = "a number or a text"
        if not known:
            raise DataError(
                f"{path}: column {files.columns[name]!r} ({name}) has the type {dtype}, expected "
                f"{wanted}. Cast the column before."
            )
    times = {name: schema[name] for name in (TIME, LABEL_TIME) if name in schema}
    for name, dtype in times.items():
        if dtype.is_numeric() and files.time_unit == "auto":
            raise ConfigError(
                f"{path}: column {files.columns[name]!r} holds numbers ({dtype}), expected their "
                "unit. Set data.events.time_unit to s, ms, us or ns."
            )
    if all(dtype.is_temporal() for dtype in times.values()) and files.time_unit != "auto":
        raise ConfigError(
            f"data.events.time_unit is {files.time_unit!r}, but column {files.columns[TIME]!r} of "
            f"{path} already holds times ({schema[TIME]}). Remove time_unit."
        )


def _is_id(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)


def _item_frame(files: Files, path: Path) -> pl.LazyFrame:
    frame = scan_file(path, files.separator)
    schema = frame.collect_schema()
    text = files.columns[TEXT]
    parts = [text] if text in schema else [part.strip() for part in text.split("+")]
    _require(frame, [files.columns[ITEM], *parts], path, "data.items.columns")
    for name in (files.columns[ITEM], *parts):
        if not (_is_id(schema[name]) or (name in parts and schema[name].is_numeric())):
            raise DataError(
                f"{path}: column {name!r} has the type {schema[name]}, expected integers or texts. "
                "Cast the column before."
            )
    return frame.select(pl.col(files.columns[ITEM]).cast(pl.String).alias(ITEM), joined_text(parts))


def joined_text(parts: Sequence[str]) -> pl.Expr:
    """Texts of several columns, "a, b, c", without the empty ones."""
    texts = [pl.col(part).cast(pl.String).str.strip_chars() for part in parts]
    filled = [pl.when(text != "").then(text) for text in texts]
    return pl.concat_str(filled, separator=", ", ignore_nulls=True).alias(TEXT)
