"""What came of an answer, told later: kept once, whatever the order and number of tellings."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, StringConstraints

from penchant.platform.errors import DataError
from penchant.serve.gate.refusals import TROUBLES
from penchant.serve.wire.fields import STRICT, Bounded, ItemId, Moment, OneProblem
from penchant.serve.wire.schema import RefusedError
from penchant.serve.wire.strict_json import StrictRoute

__all__ = [
    "FEEDBACK",
    "MAX_OUTCOMES",
    "FeedbackAnswer",
    "FeedbackBody",
    "FeedbackBook",
    "Outcome",
    "feedback_router",
    "read_feedback",
]

#: Name of the file inside the service directory.
FEEDBACK = "feedback.sqlite"
MAX_OUTCOMES = 1_000

_BUSY_S = 5.0
#: Clocks differ; what claims to be later than this would win over all that really comes later.
_AHEAD_MS = 300_000
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

    accepted: int = Field(description="Outcomes that were new, or later than what was known.")
    unchanged: int = Field(description="Outcomes that were known already, or overtaken.")


class FeedbackBook:
    """Feedback in SQLite, which several replicas of the front can write to.

    Args:
        service: the service directory.
        now_ms: the clock.
    """

    def __init__(
        self, service: Path, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._now_ms, self._lock = now_ms, threading.Lock()
        service.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(
            service / FEEDBACK, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(_SETUP)

    def add(self, outcomes: Sequence[Outcome]) -> FeedbackAnswer:
        """Keep outcomes, all of them or none.

        Raises:
            RefusedError: one happened in the future.
            sqlite3.OperationalError: the disk is full, or others hold the file for too long.
        """
        now = self._now_ms()
        for at, outcome in enumerate(outcomes):
            if outcome.time > now + _AHEAD_MS:
                raise RefusedError(f"body.outcomes.{at}.time", "lies in the future")
        rows = [(o.request_id, o.item, str(o.label), o.time, now) for o in outcomes]
        changed = self._change(_ADD, rows)
        return FeedbackAnswer(accepted=changed, unchanged=len(rows) - changed)

    def forget(self, request_ids: Iterable[str]) -> int:
        """Remove what came of these requests; returns how many outcomes that were."""
        rows = [(request_id,) for request_id in request_ids]
        return self._change("DELETE FROM feedback WHERE request_id = ?", rows)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def _change(self, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
        """In one transaction; returns how many rows it changed."""
        if not rows:
            return 0
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                changed = self._database.executemany(statement, rows).rowcount
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
            return changed


def feedback_router(book: FeedbackBook) -> APIRouter:
    """`POST /v1/feedback`."""
    router = APIRouter(route_class=StrictRoute)

    @router.post("/v1/feedback", responses=TROUBLES)
    def feedback(body: FeedbackBody) -> FeedbackAnswer:  # no coroutine: SQLite may block
        """Tell what came of answers, once or several times, in any order."""
        try:
            return book.add(body.outcomes)
        except sqlite3.OperationalError:  # a full disk, or others that write for too long
            problem = "feedback cannot be kept at the moment; send the same again later"
            raise HTTPException(503, problem, {"Retry-After": "1"}) from None

    return router


def read_feedback(service: Path) -> pl.DataFrame:
    """All feedback: `request_id`, `item`, `label` ("0", "1", "chosen"), `time_ms`.

    Raises:
        DataError: the file is no feedback book.
    """
    schema = {"request_id": pl.String, "item": pl.String, "label": pl.String, "time_ms": pl.Int64}
    path = service / FEEDBACK
    if not path.exists():
        return pl.DataFrame(schema=schema)
    try:
        database = sqlite3.connect(path, timeout=_BUSY_S)
        try:
            found = database.execute("SELECT request_id, item, label, time_ms FROM feedback")
            return pl.DataFrame(found.fetchall(), schema=schema, orient="row")
        finally:
            database.close()
    except sqlite3.Error as error:
        raise DataError(
            f"{path} cannot be read: {error}. Expected the feedback of a service; restore or "
            "remove it."
        ) from error
