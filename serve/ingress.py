"""The HTTP face of an ensemble: a FastAPI application that knows nothing of Ray."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, NoReturn

from fastapi import FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException

from penchant.serve.desk import Desk
from penchant.serve.gate import REQUEST_ID, Gate, trouble
from penchant.serve.schema import (
    Answer,
    EnsembleCard,
    Health,
    Problem,
    RecommendBody,
    RefusedError,
    ScoreBody,
    Trouble,
)

__all__ = ["make_app"]

#: Problems of one body that are told.
_MAX_PROBLEMS = 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")

Deadline = Annotated[
    int,
    Header(
        alias="X-Deadline-Ms",
        ge=10,
        le=10_000,
        description="Members that have not answered by then are left out.",
    ),
]
_TROUBLES: dict[int | str, dict[str, Any]] = {
    400: {"model": Trouble, "description": "Not JSON"},
    408: {"model": Trouble, "description": "The body took too long"},
    413: {"model": Trouble, "description": "The body is too large"},
    415: {"model": Trouble, "description": "Not application/json, or compressed"},
    422: {"model": Trouble, "description": "A field is not as expected"},
    503: {"model": Trouble, "description": "No member answered; see Retry-After"},
}


def make_app(desk: Desk, *, max_body_bytes: int = 1_000_000) -> FastAPI:
    """The application with its routes, its gate and its error bodies."""

    @asynccontextmanager
    async def greet(_: FastAPI) -> AsyncIterator[None]:
        await desk.greet()
        yield

    app = FastAPI(
        title=f"Penchant: {desk.card.name}",
        version=desk.card.version,
        description="How inclined a user is to each item, from what the user did before.",
        redoc_url=None,
        lifespan=greet,
    )
    app.router.route_class = _StrictRoute
    app.add_middleware(Gate, max_body_bytes=max_body_bytes)

    @app.post("/v1/score", response_model=Answer, responses=_TROUBLES)
    async def score(body: ScoreBody, request: Request, deadline_ms: Deadline = 2000) -> Response:
        """How inclined the user is to each of the candidates."""
        return await desk.score(body, request, deadline_ms)

    @app.post("/v1/recommend", response_model=Answer, responses=_TROUBLES)
    async def recommend(
        body: RecommendBody, request: Request, deadline_ms: Deadline = 2000
    ) -> Response:
        """The items to which the user is most inclined."""
        return await desk.recommend(body, request, deadline_ms)

    @app.get("/v1/ensemble")
    async def ensemble() -> EnsembleCard:
        """What is served: members, weights, windows, how good it was on the test block."""
        return desk.card

    @app.get("/healthz")
    async def healthz() -> Health:
        """Whether answers are given."""
        return Health(ensemble=desk.card.name, version=desk.card.version)

    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(RefusedError, _on_refused)
    app.add_exception_handler(StarletteHTTPException, _on_http_error)
    return app


class _StrictRequest(Request):
    async def json(self) -> Any:
        return _strict_json(await self.body())


class _StrictRoute(APIRoute):
    """Reads bodies as JSON to the letter: no duplicate keys, no NaN."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict


def _strict_json(body: bytes) -> Any:
    try:
        return json.loads(
            body.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):  # bad UTF-8 and bad JSON are ValueErrors
        raise HTTPException(
            400, "expected JSON in UTF-8, without duplicate keys, NaN or deep nesting"
        ) from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError("NaN or Infinity")


async def _on_invalid(request: Request, error: Exception) -> Response:
    errors: Sequence[Mapping[str, Any]] = (
        error.errors() if isinstance(error, RequestValidationError) else []
    )
    return _unprocessable(request, [_problem(found) for found in errors[:_MAX_PROBLEMS]])


async def _on_refused(request: Request, error: Exception) -> Response:
    found = [(error.place, error.problem)] if isinstance(error, RefusedError) else []
    return _unprocessable(request, [Problem(place=p, problem=what) for p, what in found])


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, StarletteHTTPException):
        raise error
    headers = dict(error.headers or {})
    return trouble(error.status_code, error.detail, request.scope["state"][REQUEST_ID], headers)


def _unprocessable(request: Request, problems: list[Problem]) -> Response:
    body = Trouble(
        error="a field is not as expected",
        problems=problems,
        request_id=request.scope["state"][REQUEST_ID],
    )
    return Response(body.model_dump_json(), 422, media_type="application/json")


def _problem(found: Mapping[str, Any]) -> Problem:
    """Where and what, without what was sent. A field's unknown name is sent text too."""
    places = [str(part) for part in found["loc"]]
    if found["type"] == "extra_forbidden":
        name = places.pop()
        places.append(name if _NAME.fullmatch(name) else "(unknown field)")
    return Problem(place=".".join(places), problem=found["msg"])
