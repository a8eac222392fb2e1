"""A front follows `traffic.json`: what it names is opened, and only then are requests sent there.

What cannot be opened is tried again, at growing intervals, for as long as the file asks for it: a
controller may be down for a moment, or an application not registered yet. Until then requests go
where they went before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from penchant.serve.answering.desk import Desk
from penchant.serve.versions.service import Live, Service, Traffic
from penchant.serve.versions.traffic import LiveDesks, Split

__all__ = ["Follower", "Following"]

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.2
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Following:
    """What the requests of a front go by, and why that is not all of what the file says."""

    traffic: Traffic | None = None
    trouble: Mapping[str, str] = field(default_factory=dict)  # of an application, or of the file


class Follower:
    """Takes over what the file of a service says.

    The primary version and the canary are taken over together or not at all. A front that starts
    has nothing else to go by: where only the canary cannot be opened, the primary answers its users
    too, and the front does not say that it follows. A shadow answers nobody, so it keeps nothing
    from being taken over, and what a rollback would return to is only opened when there is one.

    Args:
        service: the service directory.
        desks: send requests to what was taken over.
        open_live: a desk for a version, whose members have answered.
        clock: seconds.
    """

    def __init__(
        self,
        service: Service,
        desks: LiveDesks,
        open_live: Callable[[Live], Awaitable[Desk]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service, self._desks, self._open_live = service, desks, open_live
        self._clock = clock
        self._opened = dict[str, Desk]()
        self._seen: tuple[int, int] | None = None
        self._pause_s, self._again = _LOOK_EVERY_S, 0.0
        self.following = Following()

    async def follow(self) -> None:
        """Look again and again, without end."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Take over what the file says, if that is new or was not possible yet."""
        # More than once where the file has changed meanwhile: a front that starts takes no request
        # by what was written before it could answer.
        while (seen := await asyncio.to_thread(self._stamp)) is not None and self._due(seen):
            if seen != self._seen:
                self._seen, self._pause_s = seen, _LOOK_EVERY_S
            before = self.following
            self.following = await self._take_over()
            self._tell(before.trouble)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            self._again = self._clock() + self._pause_s

    def _due(self, seen: tuple[int, int]) -> bool:
        if seen != self._seen:
            return True
        return bool(self.following.trouble) and self._clock() >= self._again

    def _stamp(self) -> tuple[int, int] | None:
        """Differs whenever the file was written."""
        try:
            stat = self._service.traffic_file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino

    async def _take_over(self) -> Following:
        live = self.following.traffic
        try:
            traffic = await asyncio.to_thread(self._service.traffic)
        except Exception as error:  # what is live stays live
            return Following(traffic=live, trouble={self._service.traffic_file.name: _why(error)})
        if traffic is None:
            return Following(traffic=live)
        trouble = await self._open(traffic)
        needed = [traffic.primary] if traffic.canary is None else [traffic.primary, traffic.canary]
        if any(one.app in trouble for one in needed):
            if live is None and traffic.primary.app not in trouble:
                alone = traffic.model_copy(update={"canary": None})
                self._desks.switch(_split(alone, self._opened))
            return Following(traffic=live, trouble=trouble)
        self._desks.switch(_split(traffic, self._opened))
        kept = {one.app for one in traffic.lives()}
        self._opened = {app: desk for app, desk in self._opened.items() if app in kept}
        return Following(traffic=traffic, trouble=trouble)

    async def _open(self, traffic: Traffic) -> dict[str, str]:
        """Open what is to get requests, at once; why that failed, by application."""
        asked = [traffic.primary, traffic.canary, traffic.shadow]
        wanted = {
            live.app: live for live in asked if live is not None and live.app not in self._opened
        }
        opening = (self._open_live(live) for live in wanted.values())
        found = await asyncio.gather(*opening, return_exceptions=True)
        trouble = {}
        for app, desk in zip(wanted, found, strict=True):
            if isinstance(desk, BaseException):
                trouble[app] = _why(desk)
            else:
                self._opened[app] = desk
        return trouble

    def _tell(self, before: Mapping[str, str]) -> None:
        """Log what is new, and not every try."""
        trouble = self.following.trouble
        for name, why in trouble.items():
            if before.get(name) != why:
                logger.error("%s: %s is not taken over: %s", self._service.directory, name, why)
        for name in before:
            if name not in trouble:
                logger.warning("%s: %s is in trouble no more", self._service.directory, name)


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _split(traffic: Traffic, opened: Mapping[str, Desk]) -> Split:
    canary, shadow = traffic.canary, traffic.shadow
    return Split(
        primary=opened[traffic.primary.app],
        canary=None if canary is None else opened[canary.app],
        canary_share=traffic.canary_share,
        shadow=None if shadow is None else opened.get(shadow.app),
    )
