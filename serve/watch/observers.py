"""Several watchers as one: none can spoil an answer, or what another watcher sees."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from penchant.serve.gate.gate import Refusal
from penchant.serve.routes.observe import Observer, Seen

__all__ = ["Observers"]

logger = logging.getLogger(__name__)

_LOG_EVERY_S = 60.0


class Observers:
    """Passes everything on to each watcher in turn (`observe.Observer`).

    An error of a watcher is counted, and logged once a minute by its type alone: its message
    might repeat what a user sent.

    Args:
        watchers: who is told.
        on_error: is called with the class name of a watcher that failed, such as
            `Meters.watcher_failed`.
    """

    def __init__(
        self, watchers: Sequence[Observer], on_error: Callable[[str], None] | None = None
    ) -> None:
        self._watchers, self._on_error = tuple(watchers), on_error
        self._quiet_until = float("-inf")
        self.errors = 0

    def answered(self, seen: Seen) -> None:
        """Tell all watchers of an answer."""
        self._tell(lambda watcher: watcher.answered(seen))

    def refused(self, refusal: Refusal) -> None:
        """Tell all watchers of a refusal."""
        self._tell(lambda watcher: watcher.refused(refusal))

    def passed(self, path: str, status: int, latency_ms: float) -> None:
        """Tell all watchers of an answer that no member was asked for."""
        self._tell(lambda watcher: watcher.passed(path, status, latency_ms))

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for watcher in self._watchers:
            try:
                tell(watcher)
            except Exception as error:
                self._note(watcher, error)

    def _note(self, watcher: Observer, error: Exception) -> None:
        self.errors += 1
        name = type(watcher).__name__
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _LOG_EVERY_S
            logger.warning(
                "%s failed: %s (%d errors so far)", name, type(error).__name__, self.errors
            )
        if self._on_error is not None:
            try:
                self._on_error(name)
            except Exception:  # the counter itself is broken: the count above still stands
                return
