"""The gate: who may ask, and what a body may be, is decided before it is read or repeated."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from penchant.serve.gate import gate as gate_module
from penchant.serve.gate.gate import ARRIVED, CALLER, REQUEST_ID, Gate
from penchant.serve.gate.guard import Guard
from penchant.serve.gate.keys import KeyRing
from penchant.serve.gate.rates import Rates

SECRET = "embarrassing-purchase"
LIMIT = 5_000


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body's size and what the gate passes on; breaks at a body that says so."""
    message = await receive()
    if message["body"] == b"break":
        raise KeyError(SECRET)
    state = scope["state"]
    said = {"id": state[REQUEST_ID], "size": len(message["body"]), "arrived": state[ARRIVED]}
    said |= {"caller": state[CALLER], "headers": [name.decode() for name, _ in scope["headers"]]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if message["body"] == b"break late":
        raise KeyError(SECRET)
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})


def send(
    content: Any = b"{}",
    *,
    method: str = "POST",
    path: str = "/v1/score",
    guard: Guard | None = None,
    **headers: str,
) -> httpx.Response:
    gate = Gate(echo, max_body_bytes=LIMIT, read_timeout_s=0.1, guard=guard)
    given = {"content_type": "application/json"} | headers
    raw = {name.replace("_", "-"): value.encode("latin-1") for name, value in given.items()}

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(gate, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, content=content, headers=raw)

    return asyncio.run(go())


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(tmp_path: Path, clock: Clock) -> Guard:
    return Guard(ring=KeyRing(tmp_path), rates=Rates(clock=clock))


async def never() -> AsyncIterator[bytes]:
    """A body that must not be read."""
    pytest.fail("the body was read")
    yield b""


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


def test_a_request_without_an_id_gets_one() -> None:
    assert re.fullmatch("[0-9a-f]{32}", send().json()["id"])


@pytest.mark.parametrize(
    "given", ["", "x" * 65, "x" * 65_536, "a b", "a/../b", "\x7f", "a\r\nb: c"]
)
def test_a_request_id_that_is_not_plain_is_refused_and_not_repeated(
    given: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = send(never(), x_request_id=given)
    assert response.status_code == 400
    assert "X-Request-Id" in response.json()["error"]
    assert re.fullmatch("[0-9a-f]{32}", response.json()["request_id"])
    assert caplog.text == ""


def test_headers_that_would_lift_ray_serves_limits_go_no_further() -> None:
    response = send(
        x_request_timeout_seconds="0", x_request_disconnect_disabled="?1", x_deadline_ms="50"
    )
    passed = set(response.json()["headers"])
    assert "x-deadline-ms" in passed
    assert not passed & {"x-request-timeout-seconds", "x-request-disconnect-disabled"}


def test_what_breaks_behind_the_gate_is_a_bare_500(caplog: pytest.LogCaptureFixture) -> None:
    response = send(b"break")
    assert response.status_code == 500
    assert response.json()["error"] == "internal error"
    assert re.search(r"KeyError at .*test_serve_gate.py:\d+", caplog.text)
    assert SECRET not in response.text + caplog.text


def test_what_breaks_after_its_answer_began_is_not_answered_twice() -> None:
    assert send(b"break late").content == b""


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_only_a_post_has_a_body(method: str) -> None:
    response = send(never(), method=method, content_type="text/plain")
    assert (response.status_code, response.json()["size"]) == (200, 0)


def test_without_a_guard_nobody_is_asked_for_a_key() -> None:
    assert send().json()["caller"] is None


@pytest.mark.parametrize("as_header", ["Bearer {}", "bearer   {}", None])
def test_a_key_lets_in_and_its_name_is_passed_on_but_not_the_key(
    guard: Guard, as_header: str | None
) -> None:
    guard.ring.add("other")
    key = guard.ring.add("shop")
    headers = {"authorization": as_header.format(key)} if as_header else {"x_api_key": key}
    response = send(guard=guard, **headers)
    assert response.json()["caller"] == "shop"
    assert not {"authorization", "x-api-key"} & set(response.json()["headers"])


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer pk_wrong",
        "Bearer \u00e9",
        "Basic {}",
        "Bearer {}x",
        "Bearer x{}",
        "{}",
    ],
)
def test_without_a_right_key_there_is_401_and_the_body_is_not_read(
    guard: Guard, authorization: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = guard.ring.add("shop")
    header = authorization.format(key)
    response = send(never(), guard=guard, **({"authorization": header} if header else {}))
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert key not in response.text + caplog.text


@pytest.mark.parametrize(
    "query", ["key={}", "x={}", "API_KEY=other", "access_token=", "a=1&%6bey=1", "{}", "a=pk%5f1"]
)
def test_a_key_in_the_address_is_refused_even_beside_a_right_one(guard: Guard, query: str) -> None:
    key = guard.ring.add("shop")
    path = "/v1/score?" + query.format(key)
    response = send(never(), guard=guard, path=path, authorization=f"Bearer {key}")
    assert response.status_code == 401
    assert "address" in response.json()["error"]
    assert key not in response.text


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/openapi.json", "/docs", "/console/a"]
)
def test_some_pages_are_open_to_all(guard: Guard, path: str) -> None:
    response = send(b"", method="GET", path=path, guard=guard)
    assert (response.status_code, response.json()["caller"]) == (200, None)


@pytest.mark.parametrize(
    "path",
    ["/v1/ensemble", "/metrics", "/console", "/%2f", "/healthz/", "/Healthz", "/v1/%2e%2e/healthz"],
)
def test_all_other_paths_are_closed(guard: Guard, path: str) -> None:
    assert send(b"", method="GET", path=path, guard=guard).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/console/a"])
def test_nobody_sends_a_body_to_an_open_page(guard: Guard, path: str) -> None:
    """512 of them would be all that are read at a time, and customers would find no place."""
    assert send(never(), guard=guard, path=path).status_code == 401


def test_a_key_over_its_rate_waits_and_others_do_not(guard: Guard, clock: Clock) -> None:
    slow = {"authorization": "Bearer " + guard.ring.add("slow", rate_per_s=0.25, burst=2)}
    other = {"authorization": "Bearer " + guard.ring.add("other")}
    assert [send(guard=guard, **slow).status_code for _ in range(2)] == [200, 200]
    refused = send(never(), guard=guard, **slow)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "4")
    assert send(guard=guard, **other).status_code == 200
    clock.now_s += 3.5
    assert send(guard=guard, **slow).headers["retry-after"] == "1"
    clock.now_s += 0.5
    assert send(guard=guard, **slow).status_code == 200


def test_a_wrong_key_spends_nothing_of_a_right_one(guard: Guard) -> None:
    key = guard.ring.add("shop", rate_per_s=0.01, burst=1)
    assert [send(guard=guard, x_api_key="pk_wrong").status_code for _ in range(3)] == [401] * 3
    assert send(guard=guard, x_api_key=key).status_code == 200


def test_a_websocket_is_closed_before_it_is_one(guard: Guard) -> None:
    said: list[Message] = []

    async def note(message: Message) -> None:
        said.append(message)

    async def nothing() -> Message:
        raise AssertionError("nothing is read")

    scope = {"type": "websocket", "path": "/", "headers": []}
    asyncio.run(Gate(echo, guard=guard)(scope, nothing, note))
    assert said == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("trickles_s", [0.0, 60.0])
def test_for_one_body_more_the_slowest_is_given_up_if_it_trickles(
    monkeypatch: pytest.MonkeyPatch, trickles_s: float
) -> None:
    """Where all have only just come, it is the new one that has to wait."""
    monkeypatch.setattr(gate_module, "_MOST_BODIES", 3)
    monkeypatch.setattr(gate_module, "_TRICKLES_S", trickles_s)

    async def go() -> None:
        rest = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await rest.wait()
            yield b"}"

        transport = httpx.ASGITransport(Gate(echo, read_timeout_s=60))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            def post(content: Any) -> asyncio.Task[httpx.Response]:
                headers = {"content-type": "application/json"}
                return asyncio.create_task(client.post("/", content=content, headers=headers))

            slow_ones = [post(slow()) for _ in range(3)]
            await asyncio.sleep(0)
            more = await post(b"{}")
            if trickles_s:
                assert (more.status_code, more.headers["retry-after"]) == (503, "1")
            else:
                assert more.json()["size"] == 2
                assert (await slow_ones.pop(0)).status_code == 408
            rest.set()
            assert {(await one).json()["size"] for one in slow_ones} == {2}
            assert (await post(b"{}")).json()["size"] == 2

    asyncio.run(go())
