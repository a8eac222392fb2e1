"""Routes of what is kept of users: their events come in, and a user can be forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, Field

from penchant.platform.errors import UnreachableError
from penchant.serve.gate.refusals import TROUBLES, TROUBLES_WITHOUT_BODY
from penchant.serve.routes.door import Door
from penchant.serve.users.asked_users import AskedUsers
from penchant.serve.wire.fields import STRICT, Bounded, Event, UserId
from penchant.serve.wire.schema import MAX_EVENTS, Ask, RefusedError, Trouble
from penchant.serve.wire.strict_json import StrictRoute

__all__ = ["EventsAnswer", "EventsBody", "Forgotten", "recall", "user_router"]

#: Clocks differ: an event may be so much later than now, and is not seen before its time.
_AHEAD_MS = 60_000


class EventsBody(BaseModel):
    """What a user has done."""

    model_config = STRICT

    user: UserId
    events: Annotated[list[Event], Bounded(MAX_EVENTS, least=1)] = Field(
        description="In any order, items that are not known yet included. An event that was sent "
        f"before is kept once; of each user the newest {MAX_EVENTS} are kept."
    )


class EventsAnswer(BaseModel):
    """What became of them."""

    added: int = Field(description="Events that are new.")
    known: int = Field(description="Events of the same item, time, type and group as others.")


class Forgotten(BaseModel):
    """A user is forgotten."""

    deleted: int = Field(description="Events that were kept; zero where there were none.")


def user_router(
    door: Door, users: AskedUsers | None, forget: Callable[[str], Awaitable[None]] | None
) -> APIRouter:
    """The routes.

    Args:
        door: to the version whose data say which events there may be.
        users: where events are kept; None where they are not.
        forget: is told of users who are deleted, so that others forget them too.
    """
    router = APIRouter(route_class=StrictRoute)
    none_here = {"model": Trouble, "description": "This service keeps no events"}

    @router.post("/v1/events", responses=TROUBLES | {404: none_here})
    async def events(body: EventsBody) -> EventsAnswer:
        """Keep what a user has done, for questions that name the user."""
        if users is None:
            raise HTTPException(404, "this service keeps no events of users")
        desk = door.primary()
        desk.reader.check(body.events, desk.now_ms() + _AHEAD_MS)
        with _reached():
            added, known = await users.add(body.user, body.events)
        return EventsAnswer(added=added, known=known)

    @router.delete(
        "/v1/users/{user:path}",
        responses=TROUBLES_WITHOUT_BODY
        | {404: {"model": Trouble, "description": "No user has such an id"}},
    )
    async def delete(user: Annotated[UserId, Path(description="The user's id.")]) -> Forgotten:
        """Forget a user: events, and what else was kept. Saying it again changes nothing."""
        with _reached():
            deleted = 0 if users is None else await users.delete(user)
            if forget is not None:
                await forget(user)
        return Forgotten(deleted=deleted)

    return router


async def recall(users: AskedUsers | None, body: Ask, until: float) -> list[Event] | None:
    """A user's stored events; None where the body has a history of its own.

    Args:
        users: keeps them.
        body: names the user.
        until: when they are of no use any more, on the clock of `time.monotonic`.

    Raises:
        RefusedError: there is neither a history nor a way to know of one.
        HTTPException: 503 where the store does not answer in time.
    """
    if body.history is not None:
        return None
    if body.user is None:
        raise RefusedError("body.history", "expected a history, or a user whose events are kept")
    if users is None:
        raise RefusedError(
            "body.history", "expected a history: this service keeps no events of users"
        )
    with _reached():
        return await users.history(body.user, until)


@contextmanager
def _reached() -> Iterator[None]:
    """What does not reach what is kept of users is a 503."""
    try:
        yield
    except UnreachableError:
        raise HTTPException(
            503, "what is kept of users cannot be reached; try again", {"Retry-After": "1"}
        ) from None
