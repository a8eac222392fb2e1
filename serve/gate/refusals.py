"""Refusals over HTTP: what is wrong and where, in our words alone, never what was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from penchant.serve.gate.gate import REQUEST_ID, trouble
from penchant.serve.wire.schema import Problem, RefusedError, Trouble

__all__ = ["TROUBLES", "TROUBLES_WITHOUT_BODY", "handle_refusals", "unprocessable"]

#: Problems of one body that are told.
_MAX_PROBLEMS = 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")

#: The errors of a route that takes a body, for OpenAPI.
TROUBLES: dict[int | str, dict[str, Any]] = {
    400: {"model": Trouble, "description": "Not JSON, or a request id that is not plain"},
    401: {"model": Trouble, "description": "No valid key"},
    408: {"model": Trouble, "description": "The body took too long"},
    413: {"model": Trouble, "description": "The body is too large"},
    415: {"model": Trouble, "description": "Not application/json, or compressed"},
    422: {"model": Trouble, "description": "A field is not as expected"},
    429: {"model": Trouble, "description": "The key asks too often; see Retry-After"},
    503: {"model": Trouble, "description": "Nobody answered; see Retry-After"},
}

#: The errors of a route without a body.
TROUBLES_WITHOUT_BODY: dict[int | str, dict[str, Any]] = {
    code: TROUBLES[code] for code in (400, 401, 422, 429, 503)
}


def handle_refusals(app: FastAPI) -> None:
    """Let an application answer every refusal with a `Trouble`."""
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(RefusedError, _on_refused)
    app.add_exception_handler(HTTPException, _on_http_error)


def unprocessable(problems: list[Problem], request_id: str) -> Trouble:
    """The body of a 422."""
    return Trouble(error="a field is not as expected", problems=problems, request_id=request_id)


async def _on_invalid(request: Request, error: Exception) -> Response:
    errors: Sequence[Mapping[str, Any]] = (
        error.errors() if isinstance(error, RequestValidationError) else []
    )
    return _respond(request, [_problem(found) for found in errors[:_MAX_PROBLEMS]])


async def _on_refused(request: Request, error: Exception) -> Response:
    found = [(error.place, error.problem)] if isinstance(error, RefusedError) else []
    return _respond(request, [Problem(place=p, problem=what) for p, what in found])


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    return trouble(error.status_code, error.detail, request.scope["state"][REQUEST_ID], headers)


def _respond(request: Request, problems: list[Problem]) -> Response:
    body = unprocessable(problems, request.scope["state"][REQUEST_ID])
    return Response(body.model_dump_json(), 422, media_type="application/json")


def _problem(found: Mapping[str, Any]) -> Problem:
    """Where and what, without what was sent. A field's unknown name is sent text too."""
    places = [str(part) for part in found["loc"]]
    if found["type"] == "extra_forbidden":
        name = places.pop()
        places.append(name if _NAME.fullmatch(name) else "(unknown field)")
    return Problem(place=".".join(places), problem=found["msg"])
