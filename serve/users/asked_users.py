"""A user store as routes ask it: never for longer than they may wait, and in threads of its own.

A store that hangs (Redis that does not answer, a file that others hold) would otherwise hold a
request past its deadline, and the threads that everything else in the process shares.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from penchant.platform.errors import UnreachableError
from penchant.serve.users.users import UserStore
from penchant.serve.wire.fields import Event

__all__ = ["AskedUsers"]

#: Calls that are made at a time. What waits for a thread longer than it may is not made at all, and
#: leaves nothing behind: where all of them hang, a queue of what was given up would only grow.
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
        self._store = store
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="users")
        self._free = asyncio.Semaphore(_THREADS)

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
        self._threads.shutdown(cancel_futures=True)
        self._store.close()

    async def _within(self, timeout_s: float, call: Callable[[], _T]) -> _T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                await self._free.acquire()
                return await asyncio.wrap_future(self._start(call, loop))
        except TimeoutError:
            raise UnreachableError(
                f"The user store did not answer within {max(timeout_s, 0):.2f} s: expected a store "
                "that is up and not locked."
            ) from None

    def _start(self, call: Callable[[], _T], loop: asyncio.AbstractEventLoop) -> Future[_T]:
        """Make a call in a thread that is free."""
        try:
            made = self._threads.submit(call)
        except RuntimeError:  # closed: this and the next ones are not made
            self._free.release()
            raise UnreachableError("The user store is closed: expected one that is open.") from None
        made.add_done_callback(lambda _: self._end(loop))
        return made

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """A thread is free again, perhaps long after its caller has given up."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._free.release)
