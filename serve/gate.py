"""The gate before the application: what a body may be is decided before it is read.

Pure ASGI, so that a body that is too large is refused while it streams in. Only plain JSON passes:
no form, no compressed body. What goes wrong behind the gate leaves it as a bare 500.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
import uuid

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penchant.serve.schema import Trouble

__all__ = ["ARRIVED", "REQUEST_ID", "Gate", "trouble"]

logger = logging.getLogger(__name__)

#: Keys of a request's state: its id, and when it arrived (`time.monotonic`).
REQUEST_ID = "request_id"
ARRIVED = "arrived"

_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def trouble(
    status: int, error: str, request_id: str, headers: dict[str, str] | None = None
) -> Response:
    """An answer that says what is wrong in our words alone."""
    body = Trouble(error=error, request_id=request_id).model_dump_json()
    return Response(body, status, headers, media_type="application/json")


class _RefusedError(Exception):
    def __init__(self, status: int, error: str) -> None:
        super().__init__(status, error)
        self.status, self.error = status, error


class _GoneError(Exception):
    """The client left before its body was whole."""


class Gate:
    """Lets requests through to an ASGI application.

    Args:
        app: the application behind.
        max_body_bytes: larger bodies are refused with 413.
        read_timeout_s: bodies that take longer to arrive are refused with 408.
    """

    def __init__(
        self, app: ASGIApp, *, max_body_bytes: int = 1_000_000, read_timeout_s: float = 10.0
    ) -> None:
        self._app = app
        self._max_body_bytes, self._read_timeout_s = max_body_bytes, read_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        scope["state"] = {REQUEST_ID: request_id, ARRIVED: time.monotonic()}
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if scope["method"] == "POST":
                receive = _replay(await self._body(headers, receive), receive)
            await self._app(scope, receive, note_start)
        except _GoneError:
            return
        except _RefusedError as refusal:
            await trouble(refusal.status, refusal.error, request_id)(scope, receive, send)
        except Exception as error:  # its message may hold user text, so it goes no further
            logger.error("request %s: %s at %s", request_id, type(error).__name__, _place(error))
            if started:
                raise RuntimeError("the answer broke off") from None
            await trouble(500, "internal error", request_id)(scope, receive, send)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body, never more than the limit of it."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise _RefusedError(415, "expected content-type application/json")
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise _RefusedError(415, "expected a body without content-encoding")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:12]) > self._max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._read_timeout_s):
                return await self._read(receive)
        except TimeoutError:
            raise _RefusedError(408, "the body took too long to arrive") from None

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> _RefusedError:
        return _RefusedError(413, f"expected a body of at most {self._max_body_bytes} bytes")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body at once, and afterwards what comes (the disconnect)."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _GOOD_ID.fullmatch(given) else uuid.uuid4().hex


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
