"""What stands first in Serve's proxy, for what can no longer be mended behind it.

The proxy takes in bodies as fast as they come, whatever is read of them behind: its queue has no
bound. It believes headers with which a client switches off its limits. And a request takes a place
in admission until a front has answered it, so that strangers, and keys that ask too often, would
take those of all others: their keys are looked at here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penchant.serve.gate.gate import MAX_BODY_BYTES, Refusal, given_request_id, trouble
from penchant.serve.gate.guard import Guard, TurnedAwayError

__all__ = ["ProxyGate"]

#: With these, as Serve spells them, a client sets its own time limit, keeps work for it going after
#: it has left, and asks for a replica with a model or a session of its own.
_SERVES_OWN = frozenset(
    {
        b"x_request_timeout_seconds",
        b"x_request_disconnect_disabled",
        b"serve_multiplexed_model_id",
        b"x_session_id",
    }
)


class ProxyGate:
    """Lets requests through to Serve's proxy (ASGI).

    Args:
        app: the application behind.
        max_body_bytes: larger bodies are refused with 413, on all paths.
        guard: who asks for keys; without it, only fronts do.
        refused: is told of every refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        guard: Guard | None = None,
        refused: Callable[[Refusal], None] | None = None,
    ) -> None:
        self._app, self._guard, self._refused = app, guard, refused
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here speaks it, and its messages have no bound
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope, Headers(raw=scope["headers"]))
            scope["headers"] = [
                (name, value)
                for name, value in scope["headers"]
                if name.lower().replace(b"-", b"_") not in _SERVES_OWN
            ]
            bounded = _Bounded(receive, send, self._max_body_bytes)
            await self._app(scope, bounded.receive, bounded.send)
            if bounded.cut and not bounded.answered:
                raise self._too_large({"Connection": "close"})  # who knows when it would end
        except TurnedAwayError as no:
            if self._refused is not None:
                self._refused(Refusal(path=scope["path"], status=no.status))
            answer = trouble(no.status, no.error, uuid.uuid4().hex, no.headers)
            await answer(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Look at what can be judged before anything is read."""
        if self._guard is not None:
            self._guard.caller(scope, headers)
        given_request_id(headers)  # Serve's proxy reads it as UTF-8, whatever it is
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:12]) > self._max_body_bytes:
            raise self._too_large()

    def _too_large(self, headers: dict[str, str] | None = None) -> TurnedAwayError:
        error = f"expected a body of at most {self._max_body_bytes} bytes"
        return TurnedAwayError(413, error, headers)


class _Bounded:
    """A body that is cut at its limit: for the application behind, the client has left then."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive, self._send, self._most = receive, send, most
        self._size = 0
        self.cut = self.answered = False

    async def receive(self) -> Message:
        """The next message, never more than the limit of all."""
        if not self.cut:
            message = await self._receive()
            self._size += len(message.get("body", b""))
            self.cut = self._size > self._most
        return {"type": "http.disconnect"} if self.cut else message

    async def send(self, message: Message) -> None:
        """Pass an answer on, unless it began after the cut: nobody is told that it left."""
        if self.cut and not self.answered:
            return
        self.answered = True
        await self._send(message)
