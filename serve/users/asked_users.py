"""A user store as routes ask it: never for longer than they may wait, and in threads of its own.

A store may hang: Redis that does not answer, a file that others hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from penchant.platform.errors import UnreachableError
from penchant.serve.users.users import UserStore
from penchant.serve.wire.blocking import Blocking, ClosedError
from penchant.serve.wire.fields import Event

__all__ = ["AskedUsers"]

_THREADS = 8
#: For calls that no deadline comes with: the longest deadline that others may have.
_PATIENCE_S = 10.0

_T = TypeVar("_T")


class AskedUsers:
    """Events of users, for coroutines.

    A call that is given up may still be made: events are kept once, however often they are sent.

    Args:
        store: whose calls block.
    """

    def __init__(self, store: UserStore) -> None:
        self._store, self._calls = store, Blocking(_THREADS, "users")

    async def history(self, user: str, until: float) -> list[Event]:
        """A user's newest events, oldest first.

        Args:
            user: who is asked about.
            until: when they are of no use any more, on the clock of `time.monotonic`.

        Raises:
            UnreachableError: the store does not answer, or not in time.
        """
        return await self._within(until - time.monotonic(), lambda: self._store.history(user))

    async def add(self, user: str, events: Sequence[Event]) -> tuple[int, int]:
        """Keep events; returns how many were new, and how many were known already.

        Raises:
            UnreachableError: the store does not answer, or not in time.
        """
        return await self._within(_PATIENCE_S, lambda: self._store.add(user, events))

    async def delete(self, user: str) -> int:
        """Forget a user; returns how many events were forgotten.

        Raises:
            UnreachableError: the store does not answer, or not in time.
        """
        return await self._within(_PATIENCE_S, lambda: self._store.delete(user))

    def close(self) -> None:
        """Finish the calls under way, make none of those that wait, and close the store. Blocks."""
        self._calls.close()
        self._store.close()

    async def _within(self, timeout_s: float, call: Callable[[], _T]) -> _T:
        try:
            return await self._calls.within(timeout_s, call)
        except TimeoutError:
            raise UnreachableError(
                f"The user store did not answer within {max(timeout_s, 0):.2f} s: expected a store "
                "that is up and not locked."
            ) from None
        except ClosedError:
            raise UnreachableError("The user store is closed: expected one that is open.") from None
