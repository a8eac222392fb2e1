"""The HTTP face of an ensemble: a FastAPI application that knows nothing of Ray."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import APIRouter, FastAPI, Header, HTTPException, Request, Response

from penchant.serve.answering.desk import Answered, Desk, Errand
from penchant.serve.gate.admission import Admission
from penchant.serve.gate.gate import ARRIVED, CALLER, MAX_BODY_BYTES, REQUEST_ID, Gate
from penchant.serve.gate.guard import Guard
from penchant.serve.gate.refusals import TROUBLES, TROUBLES_WITHOUT_BODY, handle_refusals
from penchant.serve.routes.batch import BatchAnswer, BatchBody, Question, answer_batch
from penchant.serve.routes.described import describe_keys
from penchant.serve.routes.door import Act, Door, due
from penchant.serve.routes.explain import ExplainBody, Explanation, explain, variants
from penchant.serve.routes.greeted import Greeted
from penchant.serve.routes.observe import Desks, Observer
from penchant.serve.routes.user_routes import recall, user_router
from penchant.serve.users.asked_users import AskedUsers
from penchant.serve.wire.fields import Event
from penchant.serve.wire.schema import (
    Answer,
    Ask,
    EnsembleCard,
    Health,
    Ready,
    RecommendBody,
    ScoreBody,
)
from penchant.serve.wire.strict_json import StrictRoute

__all__ = ["make_app"]

_Body = TypeVar("_Body", bound=Ask)

Deadline = Annotated[
    int,
    Header(
        alias="X-Deadline-Ms",
        ge=10,
        le=10_000,
        description="Members that have not answered by then are left out.",
    ),
]


def make_app(
    desks: Desks,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    observer: Observer | None = None,
    parts: Sequence[APIRouter] = (),
    users: AskedUsers | None = None,
    forget: Callable[[str], Awaitable[None]] | None = None,
    guard: Guard | None = None,
) -> FastAPI:
    """The application with its routes, its gate and its error bodies.

    Args:
        desks: the versions that answer.
        max_body_bytes: larger bodies are refused.
        observer: is told of answers and of refusals.
        parts: further routes, such as the console's.
        users: keeps events, so that questions need not bring them; None where nothing is kept.
        forget: is told of users who are deleted; it may be told twice, and raise
            UnreachableError.
        guard: who asks for keys; without it, everyone is let in.
    """
    app = FastAPI(
        title="Penchant",
        description="How inclined a user is to each item, from what the user did before.",
        redoc_url=None,
    )
    app.router.route_class = StrictRoute
    refused = None if observer is None else observer.refused
    app.add_middleware(
        Gate,
        max_body_bytes=max_body_bytes,
        guard=guard,
        refused=refused,
        passed=None if observer is None else observer.passed,
    )
    app.add_middleware(Admission, refused=refused)  # the one that is added last comes first
    door, greeted = Door(desks, observer), Greeted()
    app.include_router(_questions(door, users, guard))
    app.include_router(user_router(door, users, forget))

    @app.get("/v1/ensemble", responses=TROUBLES_WITHOUT_BODY)
    async def ensemble() -> EnsembleCard:
        """What is served: members, weights, windows, how good it was on the test block."""
        return door.primary().card

    @app.get("/healthz", responses={400: TROUBLES[400]})
    async def healthz() -> Health:
        """Whether this process answers."""
        return Health()

    @app.get("/readyz", responses={400: TROUBLES[400], 503: TROUBLES[503]})
    async def readyz() -> Ready:
        """Whether questions are answered: a member of the version that is served does."""
        desk = door.primary()
        if not await greeted.ready(desk):
            raise HTTPException(503, "no member answers", {"Retry-After": "1"})
        return Ready(ensemble=desk.card.name, version=desk.card.version)

    for part in parts:
        app.include_router(part)
    handle_refusals(app)
    if guard is not None:
        describe_keys(app)
    return app


def _questions(door: Door, users: AskedUsers | None, guard: Guard | None) -> APIRouter:
    """The routes that ask the members."""
    router = APIRouter(route_class=StrictRoute)

    def charge(request: Request, more: int) -> None:
        """A key's rate counts what the members are asked, and one request has passed already."""
        caller = request.scope["state"].get(CALLER)
        if guard is not None and caller is not None:
            guard.charge(caller, more)

    async def ask(
        body: _Body,
        act: Callable[[Desk, _Body, Errand], Awaitable[Answered]],
        request: Request,
        deadline_ms: int,
        *,
        copied: bool = True,
    ) -> Response:
        stored = await recall(users, body, due(request.scope["state"][ARRIVED], deadline_ms))
        put = _acting(body, stored, act)
        answered = await door.answered(put, request, deadline_ms, body.user, copied=copied)
        return answered.response()

    @router.post("/v1/score", response_model=Answer, responses=TROUBLES)
    async def score(body: ScoreBody, request: Request, deadline_ms: Deadline = 2000) -> Response:
        """How inclined the user is to each of the candidates."""
        return await ask(body, Desk.score, request, deadline_ms)

    @router.post("/v1/recommend", response_model=Answer, responses=TROUBLES)
    async def recommend(
        body: RecommendBody, request: Request, deadline_ms: Deadline = 2000
    ) -> Response:
        """The items to which the user is most inclined."""
        return await ask(body, Desk.recommend, request, deadline_ms)

    @router.post("/v1/explain", response_model=Explanation, responses=TROUBLES)
    async def explanation(
        body: ExplainBody, request: Request, deadline_ms: Deadline = 2000
    ) -> Response:
        """Why a few candidates have their scores: events that moved them, and members' parts."""

        async def act(desk: Desk, body: ExplainBody, errand: Errand) -> Answered:
            charge(request, variants(body))
            return await explain(desk, body, errand)

        return await ask(body, act, request, deadline_ms, copied=False)

    @router.post("/v1/batch", response_model=BatchAnswer, responses=TROUBLES)
    async def batch(body: BatchBody, request: Request, deadline_ms: Deadline = 2000) -> Response:
        """Many questions at once, under one deadline; each has its own answer or trouble."""

        async def one(asked: Question, stored: list[Event] | None, part: str) -> Answered:
            put = (
                _acting(asked, stored, Desk.score)
                if isinstance(asked, ScoreBody)
                else _acting(asked, stored, Desk.recommend)
            )
            return await door.answered(put, request, deadline_ms, asked.user, part=part)

        charge(request, len(body.requests) - 1)
        state = request.scope["state"]
        until = due(state[ARRIVED], deadline_ms)
        # Those that bring their histories wait for the others' too: half of the time is theirs.
        half = (time.monotonic() + until) / 2
        found = await answer_batch(
            body, state[REQUEST_ID], lambda asked: recall(users, asked, half), one, until
        )
        troubles = [(entry.trouble, entry.status) for entry in found.results]
        door.refused(request, [(why.request_id, status) for why, status in troubles if why])
        return Response(found.model_dump_json(exclude_unset=True), media_type="application/json")

    return router


def _acting(
    body: _Body,
    stored: list[Event] | None,
    act: Callable[[Desk, _Body, Errand], Awaitable[Answered]],
) -> Act:
    """A question for whichever version answers: what it reads of stored events is its own."""
    return lambda desk, errand: act(desk, desk.recalled(body, stored), errand)
