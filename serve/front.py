"""The front in a replica: the HTTP application, and the versions that it sends requests to.

It follows `traffic.json` of the service directory. A change is taken over only when every version
that it names can be opened and answers; until then, and when it never does, things stay as they
are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI
from ray import serve

from penchant.ensembles.artefacts.artefact import load_ensemble
from penchant.platform.events import read_log_card
from penchant.serve.answering.card import open_desk
from penchant.serve.answering.desk import Desk
from penchant.serve.answering.history import trial_question
from penchant.serve.answering.reach import Reach
from penchant.serve.gate.gate import Guard
from penchant.serve.gate.keys import KeyRing
from penchant.serve.routes.console_page import console_router
from penchant.serve.routes.examples import console_examples
from penchant.serve.routes.ingress import make_app
from penchant.serve.users.users import open_users
from penchant.serve.versions.service import Live, Service, Traffic
from penchant.serve.versions.traffic import LiveDesks, Split
from penchant.serve.watch.watchers import Watchers

__all__ = ["Front"]

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.2
_FORGET_S = 10.0


class Front:
    """The HTTP application in a replica.

    Args:
        service: the service directory.
        max_body_bytes: larger requests are refused.
        guarded: ask for API keys.
        users: where events of users are kept; by default in the service directory.
    """

    def __init__(
        self, service: str, max_body_bytes: int, guarded: bool, users: str | None = None
    ) -> None:
        self._service = Service(Path(service))
        self._max_body_bytes = max_body_bytes
        self._guard = Guard(ring=KeyRing(self._service.directory)) if guarded else None
        self._users = open_users(users or self._service.users)
        replica = serve.get_replica_context().replica_id.unique_id
        self._watchers = Watchers(self._service.directory, replica)
        self._desks, self._opened = LiveDesks(), dict[str, Desk]()
        self._seen: tuple[int, int] | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        examples = console_examples(self._service)
        app = make_app(
            self._desks,
            max_body_bytes=self._max_body_bytes,
            observer=self._watchers.observer,
            parts=[console_router(examples), *self._watchers.routers()],
            users=self._users,
            forget=self._forget_everywhere,
            guard=self._guard,
        )
        app.router.lifespan_context = self._lifespan
        return app

    def _forget_everywhere(self, user: str) -> None:
        """Forget a user in every front and every cache. Blocks: it runs in a thread."""
        fronts = serve.get_deployment_handle("front", "front")
        fronts.broadcast("forget", user).results(timeout_s=_FORGET_S)
        traffic = self._service.traffic()
        for live in traffic.lives() if traffic is not None else []:
            for place in live.places:
                members = serve.get_deployment_handle(place.name, live.app)
                members.broadcast("forget").results(timeout_s=_FORGET_S)

    async def forget(self, user: str) -> None:
        """Forget a user in this replica."""
        await asyncio.to_thread(self._watchers.forget, user)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        await self._look()
        follower = asyncio.create_task(self._follow())
        yield
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower
        await asyncio.to_thread(self._watchers.close)
        await asyncio.to_thread(self._users.close)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        """Take over what the file says, if it has changed."""
        try:
            stat = await asyncio.to_thread(self._service.traffic_file.stat)
        except OSError:
            return
        seen = (stat.st_mtime_ns, stat.st_ino)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            await self._take_over()
        except Exception as error:  # what is live stays live
            logger.error("%s is not taken over: %s", self._service.traffic_file, error)

    async def _take_over(self) -> None:
        traffic = await asyncio.to_thread(self._service.traffic)
        if traffic is None:
            return
        for live in traffic.lives():
            if live.version not in self._opened:
                self._opened[live.version] = await _open(live)
        self._desks.switch(_split(traffic, self._opened))
        kept = {live.version for live in traffic.lives()}
        self._opened = {name: desk for name, desk in self._opened.items() if name in kept}


async def _open(live: Live) -> Desk:
    """A desk whose members have answered once."""
    directory = Path(live.directory)
    ensemble = await asyncio.to_thread(load_ensemble, directory, [])
    groups = read_log_card(directory)["has_groups"]
    trial = trial_question(ensemble.requests, 0, has_groups=groups)
    handles = {
        place.name: serve.get_deployment_handle(place.name, live.app) for place in live.places
    }
    desk = await asyncio.to_thread(open_desk, directory, Reach(live.places, handles, trial))
    await desk.greet()
    return desk


def _split(traffic: Traffic, opened: dict[str, Desk]) -> Split:
    canary, shadow = traffic.canary, traffic.shadow
    return Split(
        primary=opened[traffic.primary.version],
        canary=None if canary is None else opened[canary.version],
        canary_share=traffic.canary_share,
        shadow=None if shadow is None else opened[shadow.version],
    )
