"""What drills share: a running service, and how much it can do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from drills.load import saturation
from drills.served import Served, served

__all__ = ["Ground"]

_PATIENCE_S = 60.0


class Ground:
    """A service that drills share. One that a drill has left broken is replaced by a new one.

    Args:
        directory: the artefact that is served.
        temp: for service directories.
        bodies: to ask with.
        quick: measure its peak for a shorter time.
    """

    def __init__(self, directory: Path, temp: Path, bodies: Sequence[bytes], quick: bool) -> None:
        self._directory, self._temp, self._bodies = directory, temp, bodies
        self._quick, self._number = quick, 0
        self._running: Served | None = None
        self._stack = ExitStack()

    def service(self) -> Served:
        """It runs, and answers with all members."""
        if self._running is None or not self._whole(self._running):
            self.close()
            self._number += 1
            place = self._temp / f"service-{self._number}"
            made = served(self._directory, place, "--placement", "apart")
            self._running = self._stack.enter_context(made)
        return self._running

    def close(self) -> None:
        """Stop it; the next drill gets another one."""
        self._running = None
        self._stack.close()

    @cached_property
    def peak(self) -> float:
        """Requests that it answers in a second to callers who wait."""
        duration_s = 4 if self._quick else 10
        url = self.service().url
        return saturation(url, self._bodies, callers=8, duration_s=duration_s).requests_per_s

    def _whole(self, running: Served) -> bool:
        until = time.monotonic() + _PATIENCE_S
        while running.process.poll() is None and time.monotonic() < until:
            if running.whole(self._bodies[0]):
                return True
            time.sleep(0.5)
        return False
