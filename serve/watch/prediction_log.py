"""Every answer is kept, without the history and without the user's id, and never in its way.

What a request pays is a look at its own scores; a thread makes rows and writes files. Whatever
cannot be kept (the queue is full, the disk is full or read-only) is dropped and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from penchant.serve.gate.gate import Refusal
from penchant.serve.routes.observe import Seen
from penchant.serve.watch.prediction_files import PredictionFiles
from penchant.serve.watch.prediction_rows import Entry, as_table, entry
from penchant.serve.watch.user_hash import hash_user, user_key

__all__ = ["PREDICTIONS", "PredictionLog"]

logger = logging.getLogger(__name__)

#: Directory of the files inside the service directory.
PREDICTIONS = "predictions"

#: Rows that may wait for the thread: some tens of megabytes.
_MAX_WAITING_ROWS = 50_000
#: Answers that become rows at a time: few, so that the thread never holds the interpreter long, but
#: not one by one, which costs seven times as much for each.
_STEP = 16
#: How long the first of them waits for others.
_GATHER_S = 0.25
_LOG_EVERY_S = 60.0


class PredictionLog:
    """Keeps answers as Parquet (`observe.Observer`).

    A process that is killed loses what it has not written yet: at most `max_file_age_s`.

    Args:
        directory: of the service; files go to its `predictions`.
        replica: a name that no other replica has.
        max_rows: of a file; then the next one begins.
        max_file_age_s: a file is written at the latest when its first row is so old.
        max_bytes: of all files together; then the oldest are deleted.
        on_dropped: is told how many rows were lost, such as `Meters.log_dropped`.
    """

    def __init__(
        self,
        directory: Path,
        replica: str,
        *,
        max_rows: int = 100_000,
        max_file_age_s: float = 60.0,
        max_bytes: int = 2 << 30,
        on_dropped: Callable[[int], None] | None = None,
    ) -> None:
        self._service, self._on_dropped = directory, on_dropped
        self._files = PredictionFiles(directory / PREDICTIONS, replica, max_bytes)
        self._max_rows, self._max_file_age_s = max_rows, max_file_age_s
        self._condition = threading.Condition()
        self._writing = threading.Lock()
        self._waiting: list[Entry] = []  # guarded by the condition
        self._waiting_rows = 0
        self._closed = False
        self._tables: list[pa.Table] = []  # rows of the next file, guarded by _writing
        self._first_row_at = 0.0
        self._quiet_until = float("-inf")
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
        self._thread.start()

    def answered(self, seen: Seen) -> None:
        """Keep an answer, or drop it where too many wait."""
        made = entry(seen, time.time_ns() // 1_000_000)
        with self._condition:
            full = self._closed or self._waiting_rows + len(made) > _MAX_WAITING_ROWS
            if not full:
                self._waiting.append(made)
                self._waiting_rows += len(made)
                if len(self._waiting) in (1, _STEP):  # the thread waits for the one or the other
                    self._condition.notify()
        if full:
            self._drop(len(made), "too many rows wait to be written")

    def refused(self, refusal: Refusal) -> None:
        """A refusal holds no prediction."""

    def passed(self, path: str, status: int, latency_ms: float) -> None:
        """Nor does what asks no member."""

    def forget(self, user_hashes: Sequence[str]) -> set[str]:
        """Remove users' rows; blocks while files are rewritten.

        Other replicas hold rows that they have not written yet: let each of them `flush` before.

        Args:
            user_hashes: from `hash_user`.

        Returns:
            Ids of the requests whose rows were removed, for the feedback book to forget too.

        Raises:
            OSError: a file cannot be read or rewritten.
        """
        self.flush()
        return self._files.forget(user_hashes)

    def kept_since_ms(self) -> int | None:
        """When the oldest file was written, in Unix milliseconds; None where there is none."""
        return self._files.since_ms()

    def flush(self) -> None:
        """Write what waits, or drop it."""
        with self._writing:
            while taken := self._take():
                self._add(taken)
            self._write()

    def close(self) -> None:
        """Write what waits and stop; later answers are dropped."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()
        self.flush()

    def _work(self) -> None:
        while self._wait():
            with self._writing:
                if taken := self._take():
                    self._add(taken)
                old = time.monotonic() - self._first_row_at >= self._max_file_age_s
                if self._tables and (old or self._rows() >= self._max_rows):
                    self._write()

    def _wait(self) -> bool:
        """Until there is work, or the file's time has come; False when closed."""
        with self._condition:
            if not self._waiting and not self._closed:
                left = self._first_row_at + self._max_file_age_s - time.monotonic()
                self._condition.wait(max(left, 0.01) if self._tables else None)
            if self._waiting:
                self._condition.wait_for(self._enough, _GATHER_S)
            return not self._closed

    def _enough(self) -> bool:
        return self._closed or len(self._waiting) >= _STEP

    def _take(self) -> list[Entry]:
        with self._condition:
            taken, self._waiting = self._waiting[:_STEP], self._waiting[_STEP:]
            self._waiting_rows -= sum(map(len, taken))
            return taken

    def _rows(self) -> int:
        return sum(table.num_rows for table in self._tables)

    def _add(self, entries: list[Entry]) -> None:
        try:
            key = user_key(self._service) if any(one.user is not None for one in entries) else b""
            table = as_table(entries, lambda user: hash_user(key, user))
        except Exception as error:  # whatever it is, the thread has to live on
            self._drop(sum(map(len, entries)), type(error).__name__)
            return
        if table.num_rows and not self._tables:
            self._first_row_at = time.monotonic()
        if table.num_rows:
            self._tables.append(table)

    def _write(self) -> None:
        tables, self._tables = self._tables, []
        if not tables:
            return
        table = pa.concat_tables(tables)
        try:
            self._files.write(table)
        except Exception as error:  # as above
            self._drop(table.num_rows, type(error).__name__)
            return
        try:
            self._files.make_room()
        except Exception as error:  # as above
            logger.warning("prediction log: old files stay (%s)", type(error).__name__)

    def _drop(self, rows: int, why: str) -> None:
        self.dropped += rows
        if self._on_dropped is not None:
            self._on_dropped(rows)
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _LOG_EVERY_S
            logger.warning("prediction log: %d rows lost so far (%s)", self.dropped, why)
