"""Traffic is split by a hash of the user; a shadow is never in the way."""

from __future__ import annotations

import asyncio
from typing import Any

from penchant.serve.answering.desk import Desk
from penchant.serve.versions.traffic import LiveDesks, Split, share_of

PRIMARY: Any = "primary desk"
CANARY: Any = "canary desk"
SHADOW: Any = "shadow desk"


def test_shares_are_even_and_the_same_for_a_user() -> None:
    shares = [share_of(f"user {n}") for n in range(4000)]
    assert shares[:5] == [share_of(f"user {n}") for n in range(5)]
    # 400 are expected below a tenth; the deviation of a binomial count is 19.
    assert 340 < sum(share < 0.1 for share in shares) < 460


def test_a_canary_has_its_share_of_the_users_and_no_primary_question() -> None:
    desks = LiveDesks(Split(primary=PRIMARY, canary=CANARY, canary_share=0.25))
    users = [f"user {n}" for n in range(400)]
    chosen = {user: desks.choose(user)[0] for user in users}
    assert chosen == {u: "canary" if share_of(u) < 0.25 else "primary" for u in users}
    assert set(chosen.values()) == {"primary", "canary"}
    assert desks.choose(None) == ("primary", PRIMARY)
    desks.switch(Split(primary=CANARY))
    assert {desks.choose(user) for user in users} == {("primary", CANARY)}


def test_before_the_first_version_nobody_answers() -> None:
    try:
        LiveDesks().choose("somebody")
    except LookupError:
        return
    raise AssertionError("somebody answered")


def test_copies_are_not_waited_for_bounded_and_may_fail() -> None:
    seen: list[Desk] = []

    async def copy(desk: Desk) -> None:
        seen.append(desk)
        await asyncio.sleep(0.05)
        raise RuntimeError

    async def go() -> float:
        desks = LiveDesks(Split(primary=PRIMARY, shadow=SHADOW))
        began = asyncio.get_running_loop().time()
        for _ in range(100):
            desks.mirror(copy)
        took_s = asyncio.get_running_loop().time() - began
        await asyncio.sleep(0.1)
        desks.mirror(copy)
        await asyncio.sleep(0.01)
        return took_s

    assert asyncio.run(go()) < 0.04
    assert seen == [SHADOW] * 17
