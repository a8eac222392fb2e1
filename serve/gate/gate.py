"""The gate before the application: who may ask, and what a body may be, before it is read.

Pure ASGI, so that strangers and those who ask too often cost nothing, and a body that is too large
is refused while it streams in. Only plain JSON passes: no form, no compressed body. What goes wrong
behind the gate leaves it as a bare 500.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penchant.serve.gate.guard import Guard, TurnedAwayError
from penchant.serve.wire.schema import Trouble

__all__ = [
    "ARRIVED",
    "CALLER",
    "MAX_BODY_BYTES",
    "REQUEST_ID",
    "TOLD",
    "Gate",
    "Refusal",
    "given_request_id",
    "trouble",
]

logger = logging.getLogger(__name__)

#: Keys of a request's state: its id, when it arrived (`time.monotonic`), and the name of its key.
REQUEST_ID = "request_id"
ARRIVED = "arrived"
CALLER = "caller"
#: And whether those who watch were told of it already, with the answer that it got.
TOLD = "told"

MAX_BODY_BYTES = 1_000_000

_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: Headers that go no further. With the first two, Ray Serve lets a client switch off its time limit
#: and the end of work for clients that left: `proxy_gate` keeps them from Serve's proxy, and what
#: holds without it is the deadline that the desk keeps. The other two hold keys, which nobody
#: behind the gate needs.
_KEPT_BACK = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"authorization",
        b"x-api-key",
    }
)

#: Bodies that are read at a time. For one more, the one that has taken longest is given up if it
#: trickles: such bodies keep nobody out, and what waits in memory stays bounded.
_MOST_BODIES = 512
#: A body that is younger does not trickle: many may only have come at once.
_TRICKLES_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A request, or a question of a batch, that got an error instead of an answer."""

    path: str
    status: int
    request_id: str | None = None
    latency_ms: float = 0.0
    traceparent: str | None = None  # of the request, as it came (W3C Trace Context)


def trouble(
    status: int, error: str, request_id: str, headers: dict[str, str] | None = None
) -> Response:
    """An answer that says what is wrong in our words alone."""
    body = Trouble(error=error, request_id=request_id).model_dump_json()
    return Response(body, status, headers, media_type="application/json")


class _GoneError(Exception):
    """The client left before its body was whole."""


class Gate:
    """Lets requests through to an ASGI application.

    Args:
        app: the application behind.
        max_body_bytes: larger bodies are refused with 413.
        read_timeout_s: bodies that take longer to arrive are refused with 408.
        guard: who asks for keys; without it, everyone is let in.
        refused: is told of every answer that is an error.
        passed: is told of path, status and milliseconds of every other, unless somebody was told of
            its answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        read_timeout_s: float = 10.0,
        guard: Guard | None = None,
        refused: Callable[[Refusal], None] | None = None,
        passed: Callable[[str, int, float], None] | None = None,
    ) -> None:
        self._app, self._guard, self._refused, self._passed = app, guard, refused, passed
        self._max_body_bytes, self._read_timeout_s = max_body_bytes, read_timeout_s
        self._being_read: dict[asyncio.Timeout, float] = {}  # since when; the first come first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here speaks it, and no key was asked for
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(raw=scope["headers"])
        request_id = uuid.uuid4().hex
        arrived_s = time.monotonic()
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            request_id = given_request_id(headers) or request_id
            caller = None if self._guard is None else self._guard.caller(scope, headers)
            scope["state"] = {REQUEST_ID: request_id, ARRIVED: arrived_s, CALLER: caller}
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _KEPT_BACK]
            # No other method has a body here: what comes with one is never read.
            body = await self._body(headers, receive) if scope["method"] == "POST" else b""
            await self._app(scope, _replay(body, receive), note_status)
        except _GoneError:
            return
        except TurnedAwayError as no:
            await trouble(no.status, no.error, request_id, no.headers)(scope, receive, note_status)
        except Exception as error:  # its message may hold user text, so it goes no further
            logger.error("request %s: %s at %s", request_id, type(error).__name__, _place(error))
            if status:
                raise RuntimeError("the answer broke off") from None
            await trouble(500, "internal error", request_id)(scope, receive, note_status)
        finally:
            self._tell(scope, headers, status, request_id, (time.monotonic() - arrived_s) * 1000)

    def _tell(
        self, scope: Scope, headers: Headers, status: int, request_id: str, latency_ms: float
    ) -> None:
        """Tell of an answer; a client that left before it has got none, whose status is 0."""
        if status >= 400 and self._refused is not None:
            self._refused(
                Refusal(
                    path=scope["path"],
                    status=status,
                    request_id=request_id,
                    latency_ms=latency_ms,
                    traceparent=headers.get("traceparent"),
                )
            )
        told = scope.get("state", {}).get(TOLD, False)
        if 0 < status < 400 and not told and self._passed is not None:
            self._passed(scope["path"], status, latency_ms)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body, never more than the limit of it."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise TurnedAwayError(415, "expected content-type application/json")
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise TurnedAwayError(415, "expected a body without content-encoding")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:12]) > self._max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._read_timeout_s) as patience:
                with self._room(patience):
                    return await self._read(receive)
        except TimeoutError:
            raise TurnedAwayError(408, "the body took too long to arrive") from None

    @contextmanager
    def _room(self, patience: asyncio.Timeout) -> Iterator[None]:
        """A place among the bodies that are read; without one, one that trickles loses its own."""
        now_s = asyncio.get_running_loop().time()
        if len(self._being_read) >= _MOST_BODIES:
            slowest, since_s = next(iter(self._being_read.items()))
            if now_s - since_s < _TRICKLES_S:
                raise TurnedAwayError(
                    503, "too many bodies are being read; come back later", {"Retry-After": "1"}
                )
            del self._being_read[slowest]
            if not slowest.expired():
                slowest.reschedule(now_s)
        self._being_read[patience] = now_s
        try:
            yield
        finally:
            self._being_read.pop(patience, None)

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

    def _too_large(self) -> TurnedAwayError:
        return TurnedAwayError(413, f"expected a body of at most {self._max_body_bytes} bytes")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body at once, and afterwards what comes (the disconnect)."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def given_request_id(headers: Headers) -> str | None:
    """The id that the client gave; others can follow it through their logs, so it must be plain.

    Raises:
        TurnedAwayError: 400 where it is not.
    """
    given = headers.get("x-request-id")
    if given is not None and not _GOOD_ID.fullmatch(given):
        raise TurnedAwayError(
            400, "header X-Request-Id: expected 1 to 64 letters, digits, dots, _ or -"
        )
    return given


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
