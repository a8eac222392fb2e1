"""Users are forgotten in turn, by one search for all that wait, and a failure is told to each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from penchant.platform.errors import UnreachableError
from penchant.serve.users.forgetting import Forgetting


class Kept:
    """What is kept: erasing waits until it may."""

    def __init__(self) -> None:
        self.gathered, self.erased = 0, list[list[str]]()
        self.may, self.trouble = threading.Event(), None
        self.may.set()

    async def gather(self) -> None:
        self.gathered += 1

    def erase(self, users: Sequence[str]) -> None:
        self.may.wait(5)
        if self.trouble is not None:
            raise self.trouble
        self.erased.append(sorted(users))


def test_those_who_come_during_a_search_share_the_next_one() -> None:
    async def ask() -> None:
        kept.may.clear()
        first = asyncio.create_task(forgetting.forget("ann"))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(forgetting.forget(name)) for name in ["bob", "eve"] * 20]
        await asyncio.sleep(0.05)
        kept.may.set()
        await asyncio.gather(first, *others)

    kept = Kept()
    forgetting = Forgetting(kept.gather, kept.erase)
    asyncio.run(ask())
    assert kept.erased == [["ann"], ["bob", "eve"]]
    assert kept.gathered == 2


def test_who_waits_too_long_is_told_and_the_next_try_waits_for_the_same_search() -> None:
    """Else a search that takes longer than a call may would never be answered with success."""

    async def ask() -> None:
        kept.may.clear()
        with pytest.raises(UnreachableError, match="TimeoutError"):
            await forgetting.forget("ann")
        again = asyncio.create_task(forgetting.forget("ann"))
        await asyncio.sleep(0.02)
        kept.may.set()
        await again
        assert kept.erased == [["ann"]]
        await forgetting.forget("ann")
        assert kept.erased == [["ann"], ["ann"]]

    kept = Kept()
    forgetting = Forgetting(kept.gather, kept.erase, timeout_s=0.1)
    asyncio.run(ask())


def test_a_trouble_is_told_to_all_who_share_it_and_the_next_try_may_succeed() -> None:
    async def ask() -> None:
        kept.trouble = OSError("disk")
        told = await asyncio.gather(
            *(forgetting.forget(name) for name in ("ann", "bob")), return_exceptions=True
        )
        assert [type(error) for error in told] == [UnreachableError] * 2
        kept.trouble = None
        await forgetting.forget("ann")

    kept = Kept()
    forgetting = Forgetting(kept.gather, kept.erase)
    asyncio.run(ask())
    assert kept.erased == [["ann"]]
