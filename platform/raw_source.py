"""What ingest reads: the files of a source and what is wanted of them, before any row is read."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import polars as pl

from penchant.platform.errors import DataError
from penchant.platform.schema import EVENT_COLUMNS, GROUP, ITEM, USER
from penchant.platform.table_files import TableFile

__all__ = ["Source", "installed"]

_INSTALL = "pip install --no-deps --require-hashes -r requirements-demo.txt"
_TOO_LARGE = (pl.UInt64, pl.Int128, pl.UInt128)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Everything that ingest reads, not read yet."""

    events: tuple[TableFile, ...]  # columns named as in EVENT_COLUMNS, types as they came
    items: tuple[TableFile, ...]  # item, text: both text; empty where there are no texts
    inputs: tuple[Path, ...]  # every file that is read
    time_unit: str  # "auto", "s", "ms", "us" or "ns"
    merge: bool
    item_missing: str = "item missing"  # the quarantine's reason for a row without an item

    @property
    def columns(self) -> tuple[str, ...]:
        """Our names of the columns that the events have, in the order of EVENT_COLUMNS."""
        given = self.events[0].frame.collect_schema().names()
        return tuple(name for name in EVENT_COLUMNS if name in given)

    @property
    def integer_ids(self) -> frozenset[str]:
        """Id columns that are integers in every file, and can stay so while they are sorted."""
        schemas = [file.frame.collect_schema() for file in self.events]
        return frozenset(
            name
            for name in (USER, ITEM, GROUP)
            if all(
                name in schema and schema[name].is_integer() and schema[name] not in _TOO_LARGE
                for schema in schemas
            )
        )


def installed(distribution: str, *names: str) -> list[Path]:
    """Files of an installed distribution, which is never imported.

    Raises:
        DataError: the distribution is not installed, or lacks a file.
    """
    try:
        files = metadata.distribution(distribution).files or []
    except metadata.PackageNotFoundError as error:
        raise DataError(
            f"The package {distribution} is not installed; this source reads its data from there. "
            f"Install it: {_INSTALL}"
        ) from error
    located = {name: Path(str(f.locate())) for f in files for name in names if str(f) == name}
    missing = [name for name in names if name not in located or not located[name].is_file()]
    if missing:
        raise DataError(
            f"The package {distribution} lacks {', '.join(missing)}, expected the version of "
            f"requirements-demo.txt. Install that: {_INSTALL}"
        )
    return [located[name] for name in names]
