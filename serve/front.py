"""The front in a replica: the HTTP application, and the versions that it sends requests to.

It follows `traffic.json` of the service directory: a change is taken over only when the versions
that it gives requests to can be opened. Until then requests go where they went before; a front that
has never opened one answers 503, at /readyz too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI
from ray import serve

from penchant.serve.gate.guard import Guard
from penchant.serve.gate.keys import KeyRing
from penchant.serve.routes.console_page import console_router
from penchant.serve.routes.examples import console_examples
from penchant.serve.routes.ingress import make_app
from penchant.serve.users.asked_users import AskedUsers
from penchant.serve.users.forgetting import Forgetting
from penchant.serve.users.late_users import LateUsers
from penchant.serve.versions.follower import Follower, Following
from penchant.serve.versions.fronts import FRONT
from penchant.serve.versions.opening import open_live
from penchant.serve.versions.service import Service
from penchant.serve.versions.traffic import LiveDesks
from penchant.serve.watch.watchers import Watchers

__all__ = ["Front"]


class Front:
    """The HTTP application in a replica.

    Args:
        service: the service directory.
        max_body_bytes: larger requests are refused.
        guarded: ask for API keys.
        users: where events of users are kept, as for `open_users`; None where they are not.
    """

    def __init__(
        self, service: str, max_body_bytes: int, guarded: bool, users: str | None = None
    ) -> None:
        self._service = Service(Path(service))
        self._max_body_bytes = max_body_bytes
        self._guard = Guard(ring=KeyRing(self._service.directory)) if guarded else None
        self._users = None if users is None else AskedUsers(LateUsers(users))
        replica = serve.get_replica_context().replica_id.unique_id
        self._watchers = Watchers(self._service.directory, replica)
        self._forgetting = Forgetting(self._gather, self._watchers.forget)
        self._flushing = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._desks = LiveDesks()
        self._follower = Follower(self._service, self._desks, open_live)

    def __serve_build_asgi_app__(self) -> FastAPI:
        examples = console_examples(self._service)
        app = make_app(
            self._desks,
            max_body_bytes=self._max_body_bytes,
            observer=self._watchers.observer,
            parts=[console_router(examples), *self._watchers.routers()],
            users=self._users,
            forget=self._forgetting.forget,
            guard=self._guard,
        )
        app.router.lifespan_context = self._lifespan
        return app

    async def _gather(self) -> None:
        """Every front writes what it has not written yet, every member empties its cache."""
        asked = [serve.get_deployment_handle(FRONT, FRONT).broadcast("flush")]
        loop = asyncio.get_running_loop()
        traffic = await loop.run_in_executor(self._flushing, self._service.traffic)
        for live in traffic.lives() if traffic is not None else []:
            for place in live.places:
                members = serve.get_deployment_handle(place.name, live.app)
                asked.append(members.broadcast("forget"))
        await asyncio.gather(*(answers.results_async() for answers in asked))

    async def flush(self) -> None:
        """Write what this replica has not written yet."""
        await asyncio.get_running_loop().run_in_executor(self._flushing, self._watchers.flush)

    async def following(self) -> Following:
        """What the requests of this replica go by: a verb waits for it."""
        return self._follower.following

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        await self._follower.look()
        follower = asyncio.create_task(self._follower.follow())
        yield
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower
        self._forgetting.close()
        await asyncio.to_thread(self._watchers.close)
        if self._users is not None:
            await asyncio.to_thread(self._users.close)
