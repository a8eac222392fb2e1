"""Calls that block, made for coroutines: none is waited for longer than it may take.

A disk or a store that hangs would otherwise hold a request past its deadline, and the threads that
everything else in the process shares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

__all__ = ["Blocking", "ClosedError"]

_T = TypeVar("_T")


class ClosedError(Exception):
    """No more calls are made."""


class Blocking:
    """Threads for calls that block.

    What waits for a thread longer than it may is not made at all, and leaves nothing behind: where
    all of them hang, a queue of what was given up would only grow.

    Args:
        threads: calls that are made at a time.
        name: of the threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = asyncio.Semaphore(threads)

    async def within(self, timeout_s: float, call: Callable[[], _T]) -> _T:
        """What a call returns or raises. One that is given up may still be made.

        Raises:
            TimeoutError: it has not ended by then.
            ClosedError: `close` was called.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            await self._free.acquire()
            return await asyncio.wrap_future(self._start(call, loop))

    def close(self) -> None:
        """Finish the calls under way, and make none of those that wait. Blocks."""
        self._threads.shutdown(cancel_futures=True)

    def _start(self, call: Callable[[], _T], loop: asyncio.AbstractEventLoop) -> Future[_T]:
        """Make a call in a thread that is free."""
        try:
            made = self._threads.submit(call)
        except RuntimeError:  # closed: this and the next ones are not made
            self._free.release()
            raise ClosedError from None
        made.add_done_callback(lambda _: self._end(loop))
        return made

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """A thread is free again, perhaps long after its caller has given up."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._free.release)
