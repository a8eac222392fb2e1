"""Parquet and CSV files: found, checked, scanned lazily, read in batches of bounded size."""

from __future__ import annotations

import csv
import glob
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from penchant.platform.errors import DataError

__all__ = ["TableFile", "count_rows", "find_files", "is_csv", "read_batches", "scan_file"]

#: Rows of a batch: large enough for vector speed, small enough to be no matter of memory.
BATCH_ROWS = 500_000

_PARQUET = (".parquet",)
_CSV = (".csv", ".csv.gz")
_BAD_BYTE = re.compile("[\\udc80-\\udcff]")  # as surrogateescape decodes it
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """One file and what is wanted of it."""

    path: Path
    frame: pl.LazyFrame  # columns named as ours, rows in the order of the file
    separator: str = ","  # of a CSV file


def is_csv(path: Path) -> bool:
    """Whether a file is read as CSV; anything that is not Parquet is."""
    return not path.name.endswith(_PARQUET)


def find_files(paths: Sequence[str], place: str) -> list[Path]:
    """Files behind paths, globs and directories, in the order given, sorted within each entry.

    Args:
        paths: files, globs, or directories whose *.parquet or *.csv are taken (no sub-directories).
        place: the key of the experiment file, for messages.

    Raises:
        DataError: nothing matches, a file is empty or named twice, or formats are mixed.
    """
    found = [path for entry in paths for path in _expand(entry, place)]
    for path in found:
        if not path.name.endswith(_PARQUET + _CSV):
            raise DataError(
                f"{place}: {path} has the suffix {path.suffix!r}, expected .parquet, .csv or "
                ".csv.gz. Convert or rename the file."
            )
        if path.stat().st_size == 0:
            raise DataError(
                f"{place}: {path} is empty (0 bytes), expected rows. Write it again or drop it."
            )
    if len({path.name.endswith(_PARQUET) for path in found}) > 1:
        raise DataError(
            f"{place}: found Parquet and CSV files together, expected one format. "
            "Narrow the path with a glob, such as `events/*.parquet`."
        )
    if len(set(found)) < len(found):
        twice = next(path for path in found if found.count(path) > 1)
        raise DataError(f"{place}: {twice} is named twice, expected once. Remove one of the paths.")
    return found


def _expand(entry: str, place: str) -> list[Path]:
    path = Path(entry).expanduser()
    if path.is_dir():
        inside = [p for p in sorted(path.iterdir()) if p.name.endswith(_PARQUET + _CSV)]
        if not inside:
            raise DataError(
                f"{place}: the directory {entry} holds neither *.parquet nor *.csv. "
                "Name a directory that does (sub-directories are not searched), or give a glob."
            )
        return [p.resolve() for p in inside]
    if path.is_file():
        return [path.resolve()]
    matches = sorted(Path(name).resolve() for name in glob.glob(str(path), recursive=True))
    if not matches:
        raise DataError(
            f"{place}: {entry} matches no file, seen from {Path.cwd()}. Correct the path; "
            "a relative one starts at the working directory."
        )
    return [match for match in matches if match.is_file()]


def scan_file(path: Path, separator: str = ",", quote: str | None = '"') -> pl.LazyFrame:
    """A file as a lazy frame; all columns of a CSV file are text.

    Raises:
        DataError: it is no Parquet file, or a CSV file without a header or with columns of
            one name.
    """
    try:
        if not is_csv(path):
            frame = pl.scan_parquet(path, glob=False)
        else:
            frame = pl.scan_csv(
                path, infer_schema=False, separator=separator, quote_char=quote, glob=False
            )
        names = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {_first_line(error)}. "
            "Expected a whole Parquet file, or CSV with a header in UTF-8."
        ) from error
    twice = [name for name in names if f"{name}_duplicated_0" in names]
    if is_csv(path) and twice:
        raise DataError(f"{path} has two columns named {twice[0]!r}. Rename one of them.")
    return frame


def count_rows(path: Path) -> int:
    """Rows of a file: exact for Parquet, roughly estimated for CSV."""
    if not is_csv(path):
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1 << 20)
    if head.startswith(_GZIP):
        return size // 8  # logs compress about six times, lines of about 50 bytes
    return size * max(head.count(b"\n"), 1) // len(head)


def read_batches(file: TableFile) -> Iterator[pl.DataFrame]:
    """The rows of a file in order, in batches, by the streaming engine.

    Raises:
        DataError: a row cannot be read; a CSV file's line is named.
    """
    path = file.path
    # A CSV line is parsed whole even if only its first columns are used: a surplus field is a sign
    # that a separator was not quoted, so that the columns after it are not what they seem.
    whole = pl.QueryOptFlags(projection_pushdown=not is_csv(path))
    try:
        yield from file.frame.collect_batches(
            chunk_size=BATCH_ROWS, maintain_order=True, optimizations=whole
        )
    except pl.exceptions.PolarsError as error:
        fault = _csv_fault(path, file.separator) if is_csv(path) else None
        raise DataError(
            f"{path} cannot be read: {fault or _first_line(error)}. "
            "Correct the file (UTF-8, as many fields a line as its header) and start again."
        ) from error


def _csv_fault(path: Path, separator: str) -> str | None:
    """Where a CSV file first breaks its own header, in words; None if it does not.

    The fast reader does not say where it failed, so this reads again, slowly, and only then.
    """
    line = 1
    with _open_text(path) as lines:
        rows = csv.reader((_no_nul(text) for text in lines), delimiter=separator, strict=True)
        try:
            header = next(rows)
            for row in rows:
                line = rows.line_num
                if len(row) > len(header):
                    return f"line {line} has {len(row)} fields, the header has {len(header)}"
                if any(_BAD_BYTE.search(text) for text in row):
                    return f"line {line} is not UTF-8"
        except csv.Error as error:
            return f"after line {line}: {error} (a quote that is never closed?)"
        except (EOFError, OSError, zlib.error) as error:
            return f"after line {line}: {error}"
    return None


def _open_text(path: Path) -> IO[str]:
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
    # Bytes that are not UTF-8 become lone surrogates, which _csv_fault finds.
    opener = gzip.open if zipped else open
    return opener(path, "rt", encoding="utf-8", errors="surrogateescape", newline="")


def _no_nul(text: str) -> str:
    return text.replace("\0", "")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
