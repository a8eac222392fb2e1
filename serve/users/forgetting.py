"""A user is forgotten everywhere: what other replicas hold is written or dropped, then one erases.

Files of the prediction log are the whole service's, so that one replica reads them all, once for
all users that are waiting meanwhile. A client that asks again while its user is being searched for
waits for that search, and starts no second one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from penchant.platform.errors import UnreachableError

__all__ = ["Forgetting"]


class Forgetting:
    """Forgets users in the order they come, in a thread of its own.

    Ray gives a replica's other work few threads, and those who wait here would take them all.

    Args:
        gather: lets every replica write what it holds, and drop what it remembers.
        erase: removes users from what is kept; it blocks.
        timeout_s: of one call of `forget`.
    """

    def __init__(
        self,
        gather: Callable[[], Awaitable[object]],
        erase: Callable[[Sequence[str]], None],
        timeout_s: float = 10.0,
    ) -> None:
        self._gather, self._erase, self._timeout_s = gather, erase, timeout_s
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._work: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forget")

    async def forget(self, user: str) -> None:
        """Forget a user.

        Raises:
            UnreachableError: not everybody did, or not in time; what is under way goes on.
        """
        done = self._under_way.get(user) or self._waiting.get(user)
        if done is None:
            done = self._waiting[user] = asyncio.get_running_loop().create_future()
            done.add_done_callback(_seen)
        if self._work is None:
            self._work = asyncio.create_task(self._forget_all())
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(done)
        except Exception as error:  # what Ray, replicas and disks raise has no class in common
            raise UnreachableError(
                f"a replica of the service did not forget a user ({type(error).__name__}): "
                "expected all of them to. Ask again once they answer."
            ) from error

    async def _forget_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            now, self._waiting = self._waiting, {}
            self._under_way = now
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._gather()
                await loop.run_in_executor(self._thread, self._erase, list(now))
            except Exception as error:
                for done in now.values():
                    done.set_exception(error)
            else:
                for done in now.values():
                    done.set_result(None)
            self._under_way = {}
        self._work = None

    def close(self) -> None:
        """Take no more users."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _seen(done: asyncio.Future[None]) -> None:
    """Whoever has asked may have left: then nobody else looks at the error."""
    if not done.cancelled():
        done.exception()
