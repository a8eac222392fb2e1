"""Headers that trickle or never end are not waited for, and nobody else is cut off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from penchant.serve.gate import patient_protocol

_WHOLE = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
_HEADERS_S = 0.3

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(2 * _HEADERS_S if scope["path"] == "/slow" else 0)
    await PlainTextResponse("here")(scope, receive, send)


@asynccontextmanager
async def _server() -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    patient_protocol.take_over()
    config = uvicorn.Config(_application, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running


def _after(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a client got by the end of its talk with a server of little patience."""
    monkeypatch.setattr(patient_protocol, "_HEADERS_S", _HEADERS_S)
    protocols = dict(patient_protocol.HTTP_PROTOCOLS)

    async def run() -> bytes:
        async with _server() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                async with asyncio.timeout(20):
                    return await talk(reader, writer)
            finally:
                writer.close()

    try:
        return asyncio.run(run())
    finally:
        patient_protocol.HTTP_PROTOCOLS.update(protocols)


def test_headers_that_trickle_are_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.1\r\n")
        answer = asyncio.create_task(reader.read())
        while not answer.done():
            writer.write(b"X-More: and more\r\n")
            await asyncio.sleep(0.05)
        return await answer

    assert _after(talk, monkeypatch).startswith(b"HTTP/1.1 408 ")


def test_who_connects_and_says_nothing_is_let_go_without_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return await reader.read()

    assert _after(talk, monkeypatch) == b""


@pytest.mark.parametrize("part", [b"X-More: " + b"x" * 8_000 + b"\r\n", b"x" * 8_000])
def test_headers_without_end_are_a_431(monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nX-First: ")
        for _ in range(9):
            writer.write(part)
        return await reader.read()

    assert _after(talk, monkeypatch).startswith(b"HTTP/1.1 431 ")


def test_a_connection_that_is_kept_is_held_to_it_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(_WHOLE)
        first = await reader.readuntil(b"here")
        await asyncio.sleep(2 * _HEADERS_S)  # idle, which the keep-alive timeout allows
        writer.write(_WHOLE)
        second = await reader.readuntil(b"here")
        writer.write(_WHOLE[:10])
        return first[:12] + second[:12] + (await reader.read())[:12]

    assert _after(talk, monkeypatch) == b"HTTP/1.1 200HTTP/1.1 200HTTP/1.1 408"


def test_answers_may_take_longer_than_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(_WHOLE.replace(b"/", b"/slow", 1))
        return await reader.readuntil(b"here")

    assert _after(talk, monkeypatch).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_comes_after_its_answer_is_not_taken_for_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n")
        first = await reader.readuntil(b"here")  # an answer that waits for no body
        for _ in range(20):
            writer.write(b"x" * 10_000)
            await writer.drain()
            await asyncio.sleep(0.03)  # twice the patience with headers, all of it
        writer.write(_WHOLE)
        return first[:12] + (await reader.readuntil(b"here"))[:12]

    assert _after(talk, monkeypatch) == b"HTTP/1.1 200HTTP/1.1 200"


def test_a_connection_is_not_kept_for_ever_by_such_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n")
        await reader.readuntil(b"here")
        writer.write(b"x" * 10)
        return await reader.read()

    assert _after(talk, monkeypatch) == b""


def test_who_is_answered_before_the_body_is_whole_and_then_stops_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest of the body is not read: one more byte of it ends uvicorn's own timeout."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nsome")
        answer = await reader.readuntil(b"here")
        writer.write(b"x" * 70_000)  # more than headers may have, and no headers
        return answer + await reader.read()

    answer = _after(talk, monkeypatch)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"here")


def test_a_body_that_comes_late_but_whole_leaves_the_connection_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nsome")
        await reader.readuntil(b"here")
        writer.write(b" more")
        await asyncio.sleep(0.05)
        writer.write(_WHOLE)
        return await reader.readuntil(b"here")

    assert _after(talk, monkeypatch).startswith(b"HTTP/1.1 200 ")
