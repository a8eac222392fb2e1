"""The prediction log's Parquet files: written whole, bounded in total, rewritten to forget.

    predictions/20260314T091500123-<replica>-000001.parquet

Names begin with the time, so that the oldest come first. Several replicas write to one directory;
only what changes other files (deleting the oldest, forgetting a user) takes a lock.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

__all__ = ["PredictionFiles"]

_UNSAFE = re.compile(r"[^A-Za-z0-9._]+")
#: A file that is still called partial by then belongs to a process that is gone.
_ABANDONED_S = 3600.0


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

    def make_room(self) -> None:
        """Delete the oldest files where all together take too much, and what nobody finishes.

        Raises:
            OSError: the directory may not be changed.
        """
        with self._locked():
            for path in self._directory.glob("*.partial"):
                _drop_if_abandoned(path)
            kept = sorted(self._directory.glob("*.parquet"))
            sizes = {path: path.stat().st_size for path in kept}
            total = sum(sizes.values())
            for path in kept[:-1]:  # the newest stays, however large
                if total <= self._max_bytes:
                    return
                path.unlink(missing_ok=True)
                total -= sizes[path]

    def forget(self, user_hash: str) -> set[str]:
        """Rewrite the files that hold rows of a user; returns the ids of that user's requests.

        Raises:
            OSError: a file cannot be read or rewritten; those before it are.
        """
        found: set[str] = set()
        if not self._directory.is_dir():
            return found
        with self._locked():
            for path in sorted(self._directory.glob("*.parquet")):
                users = pq.read_table(path, columns=["user_hash", "request_id"])
                theirs = pc.fill_null(pc.equal(users["user_hash"], user_hash), False)
                if not pc.any(theirs).as_py():
                    continue
                found.update(users["request_id"].filter(theirs).to_pylist())
                rest = pq.read_table(path).filter(pc.invert(theirs))
                if rest.num_rows:
                    self._put(rest, path)
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
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield  # closing the file releases the lock


def _drop_if_abandoned(path: Path) -> None:
    try:
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            path.unlink()
    except FileNotFoundError:  # renamed by now: it was not abandoned
        return
