"""A user store that need not be there yet: a front starts without it and serves all else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from penchant.platform.errors import DataError, UnreachableError
from penchant.serve.users.users import UserStore, open_users
from penchant.serve.wire.fields import Event
from penchant.serve.wire.schema import MAX_EVENTS

__all__ = ["LateUsers"]

logger = logging.getLogger(__name__)

_LOG_EVERY_S = 60.0


class LateUsers:
    """The store at a place (`users.UserStore`); where it cannot be opened, the next call tries.

    Args:
        place: as for `open_users`.

    Raises:
        ConfigError: no store could ever be at this place.
    """

    def __init__(self, place: str | Path) -> None:
        self._place, self._lock = place, threading.Lock()
        self._store: UserStore | None = None
        self._quiet_until = float("-inf")
        self._open()

    def add(self, user: str, events: Sequence[Event]) -> tuple[int, int]:
        return self._opened().add(user, events)

    def history(self, user: str, limit: int = MAX_EVENTS) -> list[Event]:
        return self._opened().history(user, limit)

    def delete(self, user: str) -> int:
        return self._opened().delete(user)

    def close(self) -> None:
        """Let go of the file or connection, if there is one."""
        if self._store is not None:
            self._store.close()

    def _opened(self) -> UserStore:
        with self._lock:
            store = self._store or self._open()
        if store is None:
            raise UnreachableError("the user store cannot be opened: the log says why.")
        return store

    def _open(self) -> UserStore | None:
        try:
            self._store = open_users(self._place)
        except (DataError, UnreachableError) as error:
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + _LOG_EVERY_S
                logger.error("questions that name users cannot be answered: %s", error)
        return self._store
