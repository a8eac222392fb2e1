"""Bodies read as JSON to the letter: UTF-8, no key twice, no NaN, bounded depth."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json, to_json

__all__ = ["StrictRoute", "strict_json"]


class StrictRoute(APIRoute):
    """A route that refuses bodies which are no strict JSON with 400."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict


class _StrictRequest(Request):
    async def json(self) -> Any:
        return strict_json(await self.body())


def strict_json(body: bytes) -> Any:
    """What a body says.

    Raises:
        HTTPException: 400, it is not strict JSON.
    """
    try:
        # pydantic's parser is fast and lets the last of equal keys win; written out again, what it
        # found then has fewer colons. An escape may hide one, so bodies with any are read slowly.
        if b"\\" not in body:
            found = from_json(body, allow_inf_nan=False, cache_strings="keys")
            if to_json(found).count(b":") == body.count(b":"):
                return found
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
