"""The prediction log read back: checked, and cut into windows."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from penchant.platform.errors import DataError
from penchant.serve.watch.prediction_files import files_of
from penchant.serve.watch.prediction_log import PREDICTIONS
from penchant.serve.watch.prediction_rows import SCHEMA

__all__ = ["WINDOW", "read_predictions"]

#: What makes a window: answers of one version in one role within one week (from Monday, UTC).
WINDOW = ("week", "version", "role")

#: A column that files of earlier versions do not have.
_LATER = "whole"


def read_predictions(service: Path, since_ms: int | None = None) -> pl.LazyFrame:
    """Rows of a service's prediction log, with the `week` they were answered in.

    Args:
        service: the service directory.
        since_ms: leave out what was answered before.

    Raises:
        DataError: there are none, or a file cannot be read.
        FileNotFoundError: a file has gone meanwhile: list them again. Reading the rows may raise it
            as well.
    """
    paths = files_of(service / PREDICTIONS)
    if not paths:
        raise DataError(
            f"{service} holds no predictions: expected {PREDICTIONS}/*.parquet, which a service "
            "writes a minute after its first answer. Name the directory that `penchant serve run "
            "--service` was given."
        )
    old = [path for path in paths if _LATER not in _columns(path)]
    new = sorted(set(paths).difference(old))
    parts = [pl.scan_parquet(new)] if new else []
    if old:  # it was not told then: nothing follows from these
        parts.append(pl.scan_parquet(old).with_columns(pl.lit(False).alias(_LATER)))
    frame = pl.concat(parts, how="diagonal")
    if since_ms is not None:
        frame = frame.filter(pl.col("answered_ms") >= since_ms)
    answered = pl.from_epoch("answered_ms", time_unit="ms")
    return frame.with_columns(week=answered.dt.truncate("1w").dt.date())


def _columns(path: Path) -> list[str]:
    """What a file holds, after a look at whether it is all there."""
    try:
        names = pl.read_parquet_schema(path)
    except FileNotFoundError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}): expected a whole Parquet file. "
            "Restore it, or move it away."
        ) from error
    missing = [name for name in SCHEMA.names if name not in (*names, _LATER)]
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing)}: expected a prediction log's file. Move it away."
        )
    return list(names)
