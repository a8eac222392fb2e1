"""The prediction log's Parquet files: written whole, bounded in total, rewritten to forget.

    predictions/20260314T091500123-<replica>-000001.parquet

Names begin with the time, so that the oldest come first. Several replicas write to one directory;
only what changes other files (deleting the oldest, merging small ones, forgetting a user) takes a
lock. A file that is there is never written again: readers open it more than once, and must find the
same or nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

__all__ = ["PredictionFiles", "files_of"]

_LOCK = ".lock"
_UNSAFE = re.compile(r"[^A-Za-z0-9._]+")
#: A file that is still called partial by then belongs to a process that is gone.
_ABANDONED_S = 3600.0
#: Files that are so old and smaller are put together, so many and so much at a time: one a minute
#: and replica would be a hundred thousand, and whoever forgets a user opens all of them.
_MERGED_AFTER_S = 3600.0
_SMALL_BYTES, _MERGED_BYTES = 1 << 20, 4 << 20
_FEWEST, _MOST = 30, 60
#: In a file's metadata: names of those whose rows it holds.
_REPLACES = b"penchant.replaces"


class PredictionFiles:
    """Files of one directory, as one replica writes them.

    Args:
        directory: made when it is first written to.
        replica: a name that no other replica has.
        max_bytes: the oldest files are deleted where all together take more.
    """

    def __init__(self, directory: Path, replica: str, max_bytes: int) -> None:
        self._directory, self._max_bytes = directory, max_bytes
        self._replica = _UNSAFE.sub("_", replica)[-64:] or "replica"
        self._written = 0
        self._cleared = False  # whether no file is left that another one has replaced

    def write(self, table: pa.Table) -> None:
        """Add a file.

        Raises:
            OSError: the disk is full, or may not be written to.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC)
        stamp = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}"
        self._written += 1
        name = f"{stamp}-{self._replica}-{self._written:06d}.parquet"
        self._put(table, self._directory / name)

    def since_ms(self) -> int | None:
        """When the oldest file was written, in Unix milliseconds; None where there is none."""
        names = (path.name for path in self._directory.glob("*.parquet"))
        oldest = min(names, default=None)
        return None if oldest is None else _written_ms(oldest)

    def make_room(self) -> None:
        """Delete the oldest files where all together take too much, and what nobody finishes.

        Raises:
            OSError: the directory may not be changed.
        """
        with self._locked():
            for path in self._directory.glob("*.partial"):
                _drop_if_abandoned(path)
            kept = sorted(self._directory.glob("*.parquet"))
            facts = {path: path.stat() for path in kept}
            total = sum(fact.st_size for fact in facts.values())
            for path in kept[:-1]:  # the newest stays, however large
                if total <= self._max_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= facts.pop(path).st_size
            self._merge(facts)

    def _merge(self, facts: Mapping[Path, os.stat_result]) -> None:
        """Put the oldest small files into one that stands where the first of them stood."""
        if not self._cleared:
            self._clear_replaced()
        before_s = time.time() - _MERGED_AFTER_S
        small: list[Path] = []
        size = 0
        for path, fact in facts.items():
            if fact.st_mtime < before_s and fact.st_size < _SMALL_BYTES and path.exists():
                small.append(path)
                size += fact.st_size
            if len(small) >= _MOST or size >= _MERGED_BYTES:
                break
        if len(small) < _FEWEST and size < _MERGED_BYTES:
            return
        alike: dict[str, dict[Path, pa.Table]] = {}  # another version's files have other columns
        for path in small:
            if (table := _readable(path)) is not None:
                columns = table.schema.to_string(show_schema_metadata=False)
                alike.setdefault(columns, {})[path] = table
        parts = max(alike.values(), key=len, default={})
        if len(parts) > 1:
            self._replace(list(parts), pa.concat_tables(parts.values()))

    def _replace(self, paths: Sequence[Path], rows: pa.Table) -> None:
        """Write rows in the place of some files; the new one names them, in case they are left."""
        names = json.dumps([path.name for path in paths])
        self._cleared = False  # until all of them are gone
        self._put(rows.replace_schema_metadata({_REPLACES: names}), _again(paths[0]))
        for path in paths:
            path.unlink(missing_ok=True)
        self._cleared = True

    def _clear_replaced(self) -> None:
        """Delete what a process that died had replaced already: its rows are in another file."""
        for path in self._directory.glob("*~*.parquet"):
            with suppress(OSError, pa.ArrowException):
                names = (pq.read_schema(path).metadata or {}).get(_REPLACES, b"[]")
                for name in json.loads(names):
                    (self._directory / Path(name).name).unlink(missing_ok=True)
        self._cleared = True

    def forget(self, user_hashes: Sequence[str]) -> set[str]:
        """Replace the files that hold rows of some users; returns the ids of these requests.

        Raises:
            OSError: a file cannot be read or replaced; those before it are.
        """
        found: set[str] = set()
        if not self._directory.is_dir():
            return found
        wanted = pa.array(user_hashes, pa.string())
        with self._locked():
            if not self._cleared:
                self._clear_replaced()
            for path in sorted(self._directory.glob("*.parquet")):
                users = pq.read_table(path, columns=["user_hash"])["user_hash"]
                theirs = pc.is_in(users.cast(pa.string()), value_set=wanted)
                if not pc.any(theirs).as_py():
                    continue
                whole = pq.read_table(path)
                found.update(whole["request_id"].filter(theirs).to_pylist())
                rest = whole.filter(pc.invert(theirs))
                if rest.num_rows:
                    self._replace([path], rest)
                else:
                    path.unlink()
        return found

    def _put(self, table: pa.Table, path: Path) -> None:
        partial = path.with_name(f"{path.name}.{self._replica}.partial")
        try:
            pq.write_table(table, partial, compression="zstd")
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._directory / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield  # closing the file releases the lock


def files_of(directory: Path) -> list[Path]:
    """All files that are there, the oldest first: no row is missing, and none in two of them unless
    a process has died between, and nobody has written since.

    Any of them may go later, when it is merged, or a user is forgotten.
    """
    with ExitStack() as stack:
        with suppress(FileNotFoundError):  # then nobody has changed another's file so far
            fcntl.flock(stack.enter_context((directory / _LOCK).open()), fcntl.LOCK_SH)
        return sorted(directory.glob("*.parquet"))


def _written_ms(name: str) -> int | None:
    """What `write` has named a file by; None where it was somebody else."""
    try:
        written = datetime.strptime(name.partition("-")[0] + "000", "%Y%m%dT%H%M%S%f")
    except ValueError:
        return None
    return round(written.replace(tzinfo=UTC).timestamp() * 1000)


def _again(path: Path) -> Path:
    """A name that nobody has, at the same place in the order."""
    stem, _, number = path.stem.partition("~")
    at = int(number or 0) + 1
    while (found := path.with_name(f"{stem}~{at}.parquet")).exists():
        at += 1
    return found


def _readable(path: Path) -> pa.Table | None:
    """A file's rows; None where it is none that can be read, which is then left as it is."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException):
        return None


def _drop_if_abandoned(path: Path) -> None:
    try:
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            path.unlink()
    except FileNotFoundError:  # renamed by now: it was not abandoned
        return
