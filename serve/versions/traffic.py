"""Which version answers which request: primary, canary by a sticky share, shadow by copies.

A share is decided by a hash of the user, so that a user stays with a version, and no state is kept
that several replicas of the front would have to agree on.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from penchant.serve.answering.desk import Desk
from penchant.serve.routes.observe import Role

__all__ = ["LiveDesks", "Split", "share_of"]

logger = logging.getLogger(__name__)

#: Copies under way at a time; more are dropped, so that a slow shadow never holds memory.
_MAX_COPIES = 16


def share_of(sticky: str) -> float:
    """A number in [0, 1) that is the same for the same text, everywhere and always."""
    digest = hashlib.blake2b(sticky.encode("utf-8", "replace"), digest_size=8, person=b"canary")
    return int.from_bytes(digest.digest()) / 2**64


@dataclass(frozen=True, kw_only=True)
class Split:
    """The desks that are live and what each of them gets."""

    primary: Desk
    canary: Desk | None = None
    canary_share: float = 0.0
    shadow: Desk | None = None


class LiveDesks:
    """Desks that can be exchanged while requests are answered (`observe.Desks`)."""

    def __init__(self, split: Split | None = None) -> None:
        self._split = split
        self._copies: set[asyncio.Task[None]] = set()

    def switch(self, split: Split) -> None:
        """Let new requests go by this split; what is under way is finished as it began."""
        self._split = split

    def choose(self, sticky: str | None) -> tuple[Role, Desk]:
        split = self._split
        if split is None:
            raise LookupError("no version is live")
        if split.canary is None or sticky is None or share_of(sticky) >= split.canary_share:
            return "primary", split.primary
        return "canary", split.canary

    def mirror(self, ask: Callable[[Desk], Awaitable[None]]) -> None:
        shadow = self._split.shadow if self._split is not None else None
        if shadow is None or len(self._copies) >= _MAX_COPIES:
            return
        copy = asyncio.create_task(_quietly(ask, shadow))
        self._copies.add(copy)
        copy.add_done_callback(self._copies.discard)


async def _quietly(ask: Callable[[Desk], Awaitable[None]], shadow: Desk) -> None:
    try:
        await ask(shadow)
    except Exception as error:  # whatever a shadow does is its own affair
        logger.warning("the shadow failed: %s", type(error).__name__)
