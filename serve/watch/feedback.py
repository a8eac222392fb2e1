"""What came of an answer, told later: kept once, whatever the order and number of tellings."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, StringConstraints

from penchant.platform.errors import DataError
from penchant.serve.gate.refusals import TROUBLES
from penchant.serve.wire.blocking import Blocking
from penchant.serve.wire.fields import STRICT, Bounded, ItemId, Moment, OneProblem
from penchant.serve.wire.schema import RefusedError
from penchant.serve.wire.strict_json import StrictRoute

__all__ = [
    "MAX_OUTCOMES",
    "FeedbackAnswer",
    "FeedbackBody",
    "FeedbackBook",
    "Outcome",
    "feedback_router",
    "read_feedback",
]

MAX_OUTCOMES = 1_000

#: Files inside the service directory: `feedback-NAME.sqlite` of each process that has written, and
#: `feedback.sqlite` of those before each had its own.
_FILES = "feedback*.sqlite"
_BUSY_S = 5.0
#: How long a client waits for its turn and the disk: with a file that is held, others wait before.
_PATIENCE_S = 10.0
#: Clocks differ; what claims to be later than this would win over all that really comes later.
_AHEAD_MS = 300_000
_SCHEMA = {
    "request_id": pl.String,
    "item": pl.String,
    "label": pl.String,
    "time_ms": pl.Int64,
    "received_ms": pl.Int64,
}
_SETUP = """
CREATE TABLE IF NOT EXISTS feedback (
    request_id TEXT NOT NULL,
    item TEXT NOT NULL,
    label TEXT NOT NULL CHECK (label IN ('0', '1', 'chosen')),
    time_ms INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (request_id, item)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO feedback VALUES (?, ?, ?, ?, ?)
ON CONFLICT (request_id, item) DO UPDATE
SET label = excluded.label, time_ms = excluded.time_ms, received_ms = excluded.received_ms
WHERE excluded.time_ms > feedback.time_ms
"""

#: A tenth of what is kept, that which came first.
_DROP = """
DELETE FROM feedback WHERE received_ms <= (
    SELECT received_ms FROM feedback ORDER BY received_ms
    LIMIT 1 OFFSET (SELECT count(*) / 10 FROM feedback)
)
"""

RequestId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,68}$")]
Label = Annotated[
    Annotated[int, Field(ge=0, le=1)] | Literal["chosen"],
    OneProblem("outcome", "expected 0, 1 or 'chosen'"),
]


class Outcome(BaseModel):
    """What came of one item of an answer."""

    model_config = STRICT

    request_id: RequestId = Field(description="Of the answer; of a batch, of the one question.")
    item: ItemId = Field(description="An item's id; for a ranking it need not have been shown.")
    label: Label = Field(description="1 yes, 0 no; `chosen` for the item that was picked.")
    time: Moment = Field(
        description="When it happened. Of two tellings about one item the later one stands; the "
        "same one twice changes nothing."
    )


class FeedbackBody(BaseModel):
    """Outcomes, in any order, as late as need be."""

    model_config = STRICT

    outcomes: Annotated[list[Outcome], Bounded(MAX_OUTCOMES, least=1)]


class FeedbackAnswer(BaseModel):
    """What was done with a body."""

    accepted: int = Field(description="Outcomes new to who took them, or later than was known.")
    unchanged: int = Field(description="Outcomes that were known already, or overtaken.")


class FeedbackBook:
    """Feedback in SQLite, a file for each process that writes.

    Processes of several machines may share the directory: there SQLite's write-ahead log does not
    work, and locks of a file that all write to would be the disk's to keep (sqlite.org/wal.html).
    A file is opened for each call: a directory that cannot be written to now may be again later.
    What a client tells of requests that never were is kept as well, so that a file is bounded: then
    what came first is dropped.

    Args:
        service: the service directory.
        writer: a name that no other process has.
        max_bytes: of the file.
        now_ms: the clock.
    """

    def __init__(
        self,
        service: Path,
        writer: str,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        *,
        max_bytes: int = 256 << 20,
    ) -> None:
        self._max_bytes, self._room = max_bytes, 0
        self._service, self._path = service, service / f"feedback-{writer}.sqlite"
        self._now_ms, self._lock = now_ms, threading.Lock()

    def add(self, outcomes: Sequence[Outcome]) -> FeedbackAnswer:
        """Keep outcomes, all of them or none.

        Raises:
            RefusedError: one happened in the future.
            sqlite3.Error: the disk is full or read-only, or others hold the file for too long.
            OSError: the service directory cannot be made.
        """
        now = self._now_ms()
        for at, outcome in enumerate(outcomes):
            if outcome.time > now + _AHEAD_MS:
                raise RefusedError(f"body.outcomes.{at}.time", "lies in the future")
        rows = [(o.request_id, o.item, str(o.label), o.time, now) for o in outcomes]
        self._service.mkdir(parents=True, exist_ok=True)
        changed = self._change(self._path, _ADD, rows, bounded=True)
        return FeedbackAnswer(accepted=changed, unchanged=len(rows) - changed)

    def forget(self, request_ids: Iterable[str]) -> int:
        """Remove what came of these requests, whoever kept it; returns how many outcomes.

        Raises:
            sqlite3.Error: a file cannot be changed; those before it are.
        """
        rows = [(request_id,) for request_id in request_ids]
        return self._change_all("DELETE FROM feedback WHERE request_id = ?", rows)

    def forget_before(self, moment_ms: int) -> int:
        """Remove what was told before, whoever kept it; returns how many outcomes.

        Nobody knows any more whose answers they were, where the prediction log begins later.

        Raises:
            sqlite3.Error: as for `forget`.
        """
        return self._change_all("DELETE FROM feedback WHERE received_ms < ?", [(moment_ms,)])

    def _change_all(self, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
        paths = sorted(self._service.glob(_FILES)) if rows else []
        return sum(self._change(path, statement, rows) for path in paths)

    def _change(
        self,
        path: Path,
        statement: str,
        rows: Sequence[tuple[object, ...]],
        *,
        bounded: bool = False,
    ) -> int:
        """In one transaction; returns how many rows it changed."""
        opened = sqlite3.connect(path, timeout=_BUSY_S, isolation_level="IMMEDIATE")
        with self._lock, closing(opened) as database, database:
            database.execute(_SETUP)
            changed = database.executemany(statement, rows).rowcount
            if bounded:
                self._make_room(database, changed)
            return changed

    def _make_room(self, database: sqlite3.Connection, added: int) -> None:
        """Drop what came first, and not again until as much has come.

        Ids are random, so that what is dropped thins all pages out and frees few of them.
        """
        self._room -= added
        if self._room <= 0 and _used_bytes(database) > self._max_bytes:
            self._room = database.execute(_DROP).rowcount


def _used_bytes(database: sqlite3.Connection) -> int:
    """Without pages that are free: a file never shrinks by itself."""
    size, pages, free = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count")
    )
    return size * (pages - free)


def feedback_router(book: FeedbackBook) -> APIRouter:
    """`POST /v1/feedback`."""
    router = APIRouter(route_class=StrictRoute)
    calls = Blocking(1, "feedback")  # a book makes one change at a time

    @router.post("/v1/feedback", responses=TROUBLES)
    async def feedback(body: FeedbackBody) -> FeedbackAnswer:
        """Tell what came of answers, once or several times, in any order."""
        try:
            return await calls.within(_PATIENCE_S, lambda: book.add(body.outcomes))
        # a disk that is full, read-only or slow, a file that is held
        except (sqlite3.Error, OSError, TimeoutError):
            problem = "feedback cannot be kept at the moment; send the same again later"
            raise HTTPException(503, problem, {"Retry-After": "1"}) from None

    return router


def read_feedback(service: Path) -> pl.DataFrame:
    """All feedback: `request_id`, `item`, `label` ("0", "1", "chosen"), `time_ms`.

    Of what several processes were told about one item the latest stands, and of two that happened
    at once the one that came first.

    Raises:
        DataError: a file is no feedback book.
    """
    files = [_read(path) for path in sorted(service.glob(_FILES)) if path.stat().st_size]
    told = pl.concat([pl.DataFrame(schema=_SCHEMA), *files])
    latest = told.sort(-pl.col("time_ms"), "received_ms")
    return latest.unique(["request_id", "item"], keep="first", maintain_order=True).drop(
        "received_ms"
    )


def _read(path: Path) -> pl.DataFrame:
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
            found = database.execute(f"SELECT {', '.join(_SCHEMA)} FROM feedback").fetchall()
    except sqlite3.Error as error:
        raise DataError(
            f"{path} cannot be read: {error}. Expected the feedback of a service; restore or "
            "remove it."
        ) from error
    return pl.DataFrame(found, schema=_SCHEMA, orient="row")
