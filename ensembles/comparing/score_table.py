"""A table of scores in long form: read, checked, and laid out by request.

One row a candidate of a request, one column of floats a model; see `foreign.py`, which makes
predictions of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penchant.platform.errors import ConfigError, DataError
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block, as_utc
from penchant.platform.times import to_milliseconds

__all__ = ["COLUMNS", "BlockLayout", "ScoreTable", "Table", "read_score_table"]

#: Columns that are no scores; the last two are optional.
COLUMNS = ("request", "user", "time", "candidate", "target", "block", "seen")
_KEYS = COLUMNS[:5]
_IDS = ("request", "user", "candidate")
#: A request's scores may be so many times as large as they are apart before they are moved: float32
#: keeps seven digits.
_FAR_OFF = 1000.0
_LAYOUT = f"{', '.join(_KEYS)}, optionally block and seen, and a column of floats for each model"

Table = str | Path | pl.DataFrame | pl.LazyFrame


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """A checked table; its scores are read a model at a time."""

    models: list[str]
    requests: pl.DataFrame  # a row a request by time: row, request, user, time, block, size
    lines: pl.DataFrame  # a row a candidate by (row, candidate); `line` is its place in the table
    source: pl.LazyFrame  # holds the scores, which are not read yet

    def scores(self, model: str) -> NDArray[np.floating]:
        """One model's column, so that no more than one is in memory beside the matrices.

        Raises:
            DataError: scores are missing.
        """
        column = self.source.select(model).collect().to_series()
        if missing := column.null_count():
            raise DataError(
                f"{model} has no score in {missing} of {len(column)} rows: expected every model to "
                "score the same candidates. Score them, or leave the rows out for all models."
            )
        return column.to_numpy()


def read_score_table(
    table: Table, test: Table | None, task: str, blend_until: date | None
) -> ScoreTable:
    """Read a table of both blocks, or one of blend and one of test; see `read_scores`."""
    parts = [_lazy(table, "table")] + ([] if test is None else [_lazy(test, "test")])
    models = [_models(part) for part in parts]
    if len(models) == 2 and set(models[0]) != set(models[1]):
        raise DataError(
            f"the table of blend has the models {', '.join(models[0])}, that of test "
            f"{', '.join(models[1])}; expected the same in both. Drop the columns of the others."
        )
    source = _joined(parts, models[0], blend_until)
    lines = _lines(source, blend_until)
    requests = _requests(lines, task)
    lines = lines.join(requests.select("request", "row"), on="request").sort("row", "candidate")
    _refuse_twice(lines, requests, task)
    return ScoreTable(models=models[0], requests=requests, lines=lines, source=source)


def _lazy(table: Table, name: str) -> pl.LazyFrame:
    if isinstance(table, pl.DataFrame | pl.LazyFrame):
        return table.lazy()
    if not isinstance(table, str | Path):
        raise DataError(
            f"{name}: got a {type(table).__module__}.{type(table).__qualname__}, expected the path "
            "of a Parquet file or a polars frame. Of a pandas frame: polars.from_pandas(frame)."
        )
    path = Path(table)
    try:
        frame = pl.scan_parquet(path, glob=False)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{name}: {path} cannot be read: {reason}. Expected a Parquet file with {_LAYOUT}."
        ) from error
    return frame


def _models(frame: pl.LazyFrame) -> list[str]:
    """Names of the columns that hold scores."""
    schema = frame.collect_schema()
    received = ", ".join(f"{name} ({dtype})" for name, dtype in schema.items())
    missing = [name for name in _KEYS if name not in schema]
    models = [name for name in schema if name not in COLUMNS]
    fits = {
        **{name: _is_id(schema[name]) for name in _IDS if name in schema},
        "time": _is_time(schema.get("time")),
        "seen": schema.get("seen", pl.Boolean) == pl.Boolean,
        **{name: schema[name].is_float() for name in models},
    }
    odd = [name for name, fit in fits.items() if not fit]
    if missing or odd or not models:
        fault = f"columns of another type: {', '.join(odd)}" if odd else "no column with scores"
        fault = f"no column {', '.join(missing)}" if missing else fault
        raise DataError(
            f"the table has {fault}. Received {received}; expected {_LAYOUT} (seen: booleans). "
            "Rename, cast or drop columns."
        )
    return models


def _is_id(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum)


def _is_time(dtype: pl.DataType | None) -> bool:
    return dtype is None or dtype.is_numeric() or dtype in (pl.String, pl.Date, pl.Datetime)


def _joined(parts: list[pl.LazyFrame], models: list[str], blend_until: date | None) -> pl.LazyFrame:
    """One table with its blocks told in one way."""
    columns = [part.collect_schema().names() for part in parts]
    ways = {
        "a column `block`": "block" in columns[0] or "block" in columns[-1],
        "a second table": len(parts) == 2,
        "blend_until": blend_until is not None,
    }
    told = [way for way, used in ways.items() if used]
    if len(told) != 1:
        raise ConfigError(
            f"blocks are told by {' and '.join(told) or 'nothing'}: expected exactly one of "
            f"{', '.join(ways)}."
        )
    if ("seen" in columns[0]) != ("seen" in columns[-1]):
        raise DataError(
            "one table has the column seen, expected it in both or in neither. Add or drop it."
        )
    extra = [name for name in ("block", "seen") if name in columns[0]]
    for name in ("time", "target"):
        kinds = [str(part.collect_schema()[name]) for part in parts]
        if len(set(kinds)) > 1:
            raise DataError(
                f"column {name} is {' in one table and '.join(kinds)} in the other: expected one "
                "type in both. Cast one of them."
            )
    chosen = [
        *(pl.col(name).cast(pl.String) for name in _IDS),
        *(pl.col(name) for name in ("time", "target", *extra)),
        *(pl.col(name).cast(_width(parts, name)) for name in models),
    ]
    frames = [part.select(chosen) for part in parts]
    if len(frames) == 1:
        return frames[0]
    named = zip(frames, (Block.BLEND, Block.TEST), strict=True)
    return pl.concat([f.with_columns(block=pl.lit(str(b))) for f, b in named], how="vertical")


def _width(parts: list[pl.LazyFrame], model: str) -> type[pl.Float32 | pl.Float64]:
    """What holds a model's scores in all tables."""
    wide = any(part.collect_schema()[model] == pl.Float64 for part in parts)
    return pl.Float64 if wide else pl.Float32


def _lines(lazy: pl.LazyFrame, blend_until: date | None) -> pl.DataFrame:
    """All columns but the scores, checked; `line` is a row's place in the table."""
    names = [n for n in COLUMNS if n in lazy.collect_schema()]
    lines = lazy.select(names).collect()
    if not len(lines):
        raise DataError(f"the table has no rows: expected {_LAYOUT}.")
    unit = "ms" if lines["time"].dtype.is_numeric() else "auto"
    time_ms = to_milliseconds(lines["time"], unit)
    lines = lines.with_columns(time=time_ms)
    for name in names:
        if empty := lines[name].null_count():
            raise DataError(
                f"column {name}: {empty} of {len(lines)} values are missing or cannot be read; "
                "expected one in each row. Mend the rows or leave them out."
            )
    target = lines["target"]
    if not (target.dtype == pl.Boolean or target.dtype.is_numeric()) or not (
        target.cast(pl.Float64).is_in([0.0, 1.0]).all()
    ):
        raise DataError(
            f"column target has values such as {target.unique().sort()[-1]!r} ({target.dtype}); "
            "expected 1 where the candidate was chosen and 0 elsewhere."
        )
    if blend_until is not None:
        late = pl.col("time") >= as_utc(blend_until)
        block = pl.when(late).then(pl.lit("test")).otherwise(pl.lit("blend"))
        lines = lines.with_columns(block=block)
    lines = lines.with_columns(pl.col("block").cast(pl.String), target=target.cast(pl.Float32))
    known = [str(Block.BLEND), str(Block.TEST)]
    if others := sorted(set(lines["block"].unique()) - set(known)):
        raise DataError(
            f"column block holds {', '.join(others)}; expected only {' and '.join(known)}. Leave "
            "out the rows of other blocks."
        )
    return lines.with_row_index("line")


def _requests(lines: pl.DataFrame, task: str) -> pl.DataFrame:
    """One row a request, in the order of time: request, row, user, time, block, size."""
    fixed = ("user", "time", "block")
    found = lines.group_by("request").agg(
        *(pl.col(name).first() for name in fixed),
        *(pl.col(name).n_unique().alias(f"{name}s") for name in fixed),
        size=pl.len(),
    )
    mixed = found.filter(pl.any_horizontal(pl.col(f"{n}s") > 1 for n in fixed)).sort("request")
    if len(mixed):
        raise DataError(
            f"{len(mixed)} request id(s) stand for several users, times or blocks (first: "
            f"{mixed['request'][0]}): expected an id of its own for each request. Rename them."
        )
    if task == "next_item" and found["size"].max() == 1:
        raise DataError(
            "every request has one candidate, so that there is nothing to rank: expected several "
            'each, or read_scores(..., task="binary").'
        )
    return found.sort("time", "request").with_row_index("row")


def _refuse_twice(lines: pl.DataFrame, requests: pl.DataFrame, task: str) -> None:
    twice = lines.filter(pl.struct("row", "candidate").is_duplicated())
    if len(twice):
        raise DataError(
            f"{len(twice)} rows share request and candidate with another row (first: request "
            f"{twice['request'][0]}, candidate {twice['candidate'][0]}): expected one row each."
        )
    several = requests.filter(pl.col("size") > 1)
    if task == "binary" and len(several):
        raise DataError(
            f"{len(several)} request id(s) have more than one row (first: "
            f"{several['request'][0]}): expected one candidate a request for `binary`."
        )


class BlockLayout:
    """The requests of one block, and where the table's lines stand in its matrices."""

    def __init__(self, table: ScoreTable, block: Block, task: str) -> None:
        requests, lines = table.requests, table.lines
        users = requests.select(pl.col("user").rank("dense") - 1).to_series().cast(pl.Int32)
        items = lines.select(pl.col("candidate").rank("dense") - 1).to_series().cast(pl.Int32)
        mine = requests.with_columns(user=users).filter(pl.col("block") == str(block))
        inside = lines.with_columns(candidate=items).filter(pl.col("block") == str(block))
        size = mine["size"].to_numpy().astype(np.int64)
        self.ids = mine["request"].to_list()
        self._line = inside["line"].to_numpy()
        self._row = np.repeat(np.arange(len(size)), size)
        self._column = np.arange(len(self._row)) - np.repeat(np.cumsum(size) - size, size)
        self._shape = (len(size), int(size.max(initial=0)))
        target = inside["target"].to_numpy()
        seen = inside["seen"].to_numpy() if "seen" in inside.columns else None
        hit = np.flatnonzero(target > 0) if task == "next_item" else np.zeros(0, dtype=np.int64)
        counts = np.bincount(self._row[hit], minlength=len(size))
        self.requests = Requests(
            row=mine["row"].to_numpy().astype(np.int64),
            user=mine["user"].to_numpy(),
            time_ms=mine["time"].to_numpy(),
            end=np.zeros(len(size), dtype=np.int64),
            target_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            target=self._column[hit].astype(np.int32),
            target_seen=np.zeros(len(hit), dtype=bool) if seen is None else seen[hit],
            candidate=inside["candidate"].to_numpy() if task == "binary" else None,
            label=target if task == "binary" else None,
        )
        self.seen = None
        if seen is not None and task == "next_item":
            self.seen = np.zeros(self._shape, dtype=bool)
            self.seen[self._row, self._column] = seen

    def matrix(self, column: NDArray[np.floating]) -> NDArray[np.float32]:
        """A model's scores as (R, C), candidates of a request in the order of their ids.

        Rows of requests with fewer candidates end in -inf, which is not asked for. Of a ranking,
        rows whose scores lie far from zero and close together, such as moments in seconds, are
        moved to end at zero: only what lies between them says anything, and 32 bits lose it.
        """
        made = np.full(self._shape, -np.inf, dtype=column.dtype)
        made[self._row, self._column] = column[self._line]
        if self.requests.label is None and made.dtype == np.float64:
            known = np.isfinite(made)
            most = np.max(made, axis=1, where=known, initial=-np.inf)
            least = np.min(made, axis=1, where=known, initial=np.inf)
            size = np.maximum(np.abs(most), np.abs(least))
            far = (most > least) & (size > _FAR_OFF * (most - least))
            made[far] -= most[far, None]
        with np.errstate(over="ignore"):  # what is too large is infinite, and refused as that
            return made.astype(np.float32, copy=False)
