"""The gate: what a body may be is decided before it is read, and nothing of it is repeated."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from penchant.serve.gate import ARRIVED, REQUEST_ID, Gate

SECRET = "embarrassing-purchase"
LIMIT = 5_000


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body and the request's id; breaks at a body that says so."""
    message = await receive() if scope["method"] == "POST" else {"body": b""}
    if message["body"] == b"break":
        raise KeyError(SECRET)
    state = scope["state"]
    said = {"id": state[REQUEST_ID], "size": len(message["body"]), "arrived": state[ARRIVED]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if message["body"] == b"break late":
        raise KeyError(SECRET)
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})


def send(content: Any = b"{}", *, method: str = "POST", **headers: str) -> httpx.Response:
    gate = Gate(echo, max_body_bytes=LIMIT, read_timeout_s=0.1)
    given = {name.replace("_", "-"): value for name, value in headers.items()}

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(gate, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            kind = {"content-type": "application/json"}
            return await client.request(method, "/", content=content, headers=kind | given)

    return asyncio.run(go())


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/plain"},
        {"content_type": "multipart/form-data; boundary=x"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": ""},
        {"content_encoding": "gzip"},
        {"content_encoding": "identity, br"},
    ],
)
def test_only_plain_json_is_read(headers: dict[str, str]) -> None:
    assert send(**headers).status_code == 415


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_a_charset_and_capitals_do_no_harm(kind: str) -> None:
    assert send(content_type=kind).json()["size"] == 2


def test_a_body_passes_whole_up_to_the_limit() -> None:
    assert send(b" " * LIMIT).json()["size"] == LIMIT
    assert send(b" " * (LIMIT + 1)).status_code == 413


def test_an_endless_body_is_cut_while_it_streams() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield b" " * 1000

    assert (send(endless()).status_code, sent) == (413, LIMIT + 1000)


def test_a_length_that_lies_is_not_trusted() -> None:
    assert send(b" " * (LIMIT + 1), content_length="2").status_code == 413
    assert send(b"{}", content_length="9" * 5_000).status_code == 413


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    assert send(slow()).status_code == 408


def test_a_plain_request_id_is_kept() -> None:
    assert send(x_request_id="trace-1.A_b").json()["id"] == "trace-1.A_b"


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a/../b", "\x7f", "a\n"])
def test_a_request_id_that_is_not_plain_is_replaced(given: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", send(x_request_id=given).json()["id"])


def test_what_breaks_behind_the_gate_is_a_bare_500(caplog: pytest.LogCaptureFixture) -> None:
    response = send(b"break")
    assert response.status_code == 500
    assert response.json()["error"] == "internal error"
    assert re.search(r"KeyError at .*test_serve_gate.py:\d+", caplog.text)
    assert SECRET not in response.text + caplog.text


def test_what_breaks_after_its_answer_began_is_not_answered_twice() -> None:
    assert send(b"break late").content == b""


def test_questions_without_a_body_need_no_content_type() -> None:
    assert send(b"", method="GET", content_type="text/plain").status_code == 200
