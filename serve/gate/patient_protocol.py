"""Connections whose headers trickle or never end are closed: uvicorn alone waits for ever.

Serve's proxy lets nobody choose its HTTP protocol, but uvicorn looks it up by name when the proxy
starts: `take_over` puts this one in its place.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["PatientProtocol", "take_over"]

_HEADERS_S = 10.0
_MOST_HEADER_BYTES = 65_536
_REST = 6  # times as long may the rest of a body take that is answered already

_TOO_SLOW = b"408 Request Timeout"
_TOO_LARGE = b"431 Request Header Fields Too Large"


def take_over() -> None:
    """Let uvicorn servers that start in this process from now on speak this protocol."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{PatientProtocol.__name__}"


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with an end to its patience before the headers are whole.

    The clock starts with the connection, and anew with each request after the first. Between an
    answer and the next request the server's own keep-alive timeout holds, which any byte ends:
    where that byte begins no request, the clock stands in for it. The rest of a body that nobody
    waited for has a minute.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock: asyncio.TimerHandle | None = None  # None: headers are not awaited
        self._begun = False  # a request whose headers are not whole
        self._header_bytes = 0
        self._body_ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        before = self._clock
        super().data_received(data)
        answered = self.cycle is not None and self.cycle.response_complete
        if self._clock is None and (self._body_ended or answered):
            self._await_headers()
        elif self._clock is not None and self._clock is before and self._awaited:
            self._header_bytes += len(data)
            if self._header_bytes > _MOST_HEADER_BYTES:
                self._refuse(_TOO_LARGE)

    @property
    def _awaited(self) -> bool:
        """Whether what comes are headers, and not the rest of a body that was answered already."""
        return self._begun or self._body_ended or self.cycle is None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True
        if self._clock is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        self._stop_clock()
        self._begun = self._body_ended = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_clock()
        self._body_ended = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            return
        self._header_bytes = 0
        patience_s = _HEADERS_S if self._awaited else _REST * _HEADERS_S
        self._clock = self.loop.call_later(patience_s, self._refuse, _TOO_SLOW)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _refuse(self, status: bytes) -> None:
        self._stop_clock()
        if self._begun and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status
            )
        self.transport.close()
