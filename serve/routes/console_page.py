"""The console: a page on which people ask the service and see why it answered as it did.

The page is plain HTML, CSS and JavaScript out of this package. It loads nothing from elsewhere, and
its content security policy lets it load and run nothing else, nor turn text into markup: items'
texts come from the data, and data are not trusted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Response

__all__ = ["ConsoleExample", "console_router"]

_FOLDER = Path(__file__).with_name("console")
_PAGE = "index.html"

#: What GET /console/{file} gives, and as what; nothing else of the folder can be reached.
_FILES = {
    "icon.svg": "image/svg+xml",
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "client.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "history.js": "text/javascript; charset=utf-8",
    "editor.js": "text/javascript; charset=utf-8",
    "health.js": "text/javascript; charset=utf-8",
    "answer.js": "text/javascript; charset=utf-8",
    "explanation.js": "text/javascript; charset=utf-8",
    "ensemble.js": "text/javascript; charset=utf-8",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_NEVER_KEPT = _HEADERS | {"Cache-Control": "no-store"}
#: Kept, but asked for again each time: after an upgrade page and scripts must fit each other.
_ASKED_AGAIN = _HEADERS | {"Cache-Control": "no-cache"}


@dataclass(frozen=True, kw_only=True)
class ConsoleExample:
    """A history that the page offers to ask with."""

    title: str
    body: Mapping[str, Any]  # of /v1/recommend or /v1/score: history, perhaps time and candidates


def console_router(examples: Sequence[ConsoleExample]) -> APIRouter:
    """Routes of the page: `/`, its files and its examples.

    Whoever reaches the service reads the examples, with a key or without: give none where the
    histories of users are not for everybody's eyes.

    Args:
        examples: a handful; they are offered in this order.
    """
    router = APIRouter(include_in_schema=False)
    page = (_FOLDER / _PAGE).read_bytes()
    files = {name: (_FOLDER / name).read_bytes() for name in _FILES}
    offered = json.dumps([{"title": e.title, "body": dict(e.body)} for e in examples])

    @router.get("/")
    async def console() -> Response:
        return Response(page, headers=_NEVER_KEPT, media_type="text/html")

    @router.get("/console/examples.json")
    async def console_examples() -> Response:
        return Response(offered, headers=_NEVER_KEPT, media_type="application/json")

    @router.get("/console/{file}")
    async def console_file(file: str) -> Response:
        if file not in files:
            raise HTTPException(404, "the console has no such file")
        return Response(files[file], headers=_ASKED_AGAIN, media_type=_FILES[file])

    return router
