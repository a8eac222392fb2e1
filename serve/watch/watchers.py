"""Everybody who watches a front, and what they answer for themselves."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import PlainTextResponse

from penchant.platform.errors import UnreachableError
from penchant.serve.watch.feedback import FeedbackBook, feedback_router
from penchant.serve.watch.meters import Meters
from penchant.serve.watch.observers import Observers
from penchant.serve.watch.prediction_log import PredictionLog
from penchant.serve.watch.scrape import scrape
from penchant.serve.watch.traces import Traces
from penchant.serve.watch.user_hash import hash_user, user_key

__all__ = ["FORGOTTEN", "Watchers"]

#: Inside the service directory: a line for each user who was forgotten.
FORGOTTEN = "forgotten.jsonl"


#: An answer is in a file by then, and what came of it may have been told before.
_WRITTEN_BY_MS = 3_600_000


class Watchers:
    """Metrics, the prediction log, traces and feedback of one replica.

    Nothing is opened yet: a replica may have to start while the directory cannot be written to.

    Args:
        service: the service directory.
        replica: name of the replica, for its files.
    """

    def __init__(self, service: Path, replica: str) -> None:
        meters = Meters()
        self._log = PredictionLog(service, replica, on_dropped=meters.log_dropped)
        self._service, self._traces = service, Traces()
        self._book = FeedbackBook(service, replica)
        self._forgetting = threading.Lock()
        self._owed: set[str] = set()  # requests that are forgotten, but not yet what came of them
        self.observer = Observers([meters, self._log, self._traces], meters.watcher_failed)

    def routers(self) -> list[APIRouter]:
        """`/v1/feedback` and `/metrics`."""
        return [feedback_router(self._book), _metrics()]

    def flush(self) -> None:
        """Write what is not written yet, so that any replica can forget it. Blocks."""
        self._log.flush()

    def forget(self, users: Sequence[str]) -> None:
        """Forget what was answered to users, and what came of it. Blocks.

        It reads all files of the service, whoever wrote them: one replica is enough.

        After an error the next call makes up for it: nothing else would know those requests.

        Raises:
            OSError: files cannot be changed.
            DataError: the key of users' hashes is not as it was made.
            sqlite3.Error: a file of feedback cannot be changed.
        """
        with self._forgetting:
            key = user_key(self._service)
            hashes = [hash_user(key, user) for user in users]
            self._owed |= self._log.forget(hashes)
            self._book.forget(self._owed)
            self._owed.clear()
            since_ms = self._log.kept_since_ms()
            if since_ms is not None:
                self._book.forget_before(since_ms - _WRITTEN_BY_MS)
            self._note_forgotten(hashes)

    def _note_forgotten(self, user_hashes: Sequence[str]) -> None:
        """Say when it was done, for whoever has to show that; the hash names nobody."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines = (json.dumps({"time": now, "user_hash": one}) + "\n" for one in user_hashes)
        with (self._service / FORGOTTEN).open("a") as file:
            file.write("".join(lines))

    def close(self) -> None:
        """Write what is not written yet. Blocks."""
        self._log.close()
        self._traces.close()


def _metrics() -> APIRouter:
    router = APIRouter()

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> str:  # in a thread: it asks the node's agent
        """Metrics of all replicas on this node, in Prometheus' text format."""
        try:
            return scrape()
        except UnreachableError as error:
            raise HTTPException(503, str(error), {"Retry-After": "5"}) from None

    return router
