"""The gate in Serve's proxy: bodies end at their limit, and strangers take nobody's place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penchant.serve.gate.guard import Guard
from penchant.serve.gate.keys import KeyRing
from penchant.serve.gate.proxy import KEYS_OF, middlewares
from penchant.serve.gate.proxy_gate import ProxyGate

LIMIT = 1_000
Header = tuple[bytes, bytes]


class Serve:
    """Takes in all that comes until the client leaves, as Serve's proxy does, and then answers."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.headers: list[Header] = []
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        message: Message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            self.taken.append(message)
        gone = message["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 499 if gone else 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def part(size: int, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": b" " * size, "more_body": more}


def send(
    messages: Sequence[Message],
    headers: Sequence[Header] = (),
    *,
    app: ASGIApp | None = None,
    path: str = "/v1/score",
    method: str = "POST",
) -> tuple[int, dict[bytes, bytes], int]:
    """Status and headers of the answer, and how many messages were asked for."""
    asked, said = 0, list[Message]()

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        return messages[min(asked, len(messages)) - 1]

    async def note(message: Message) -> None:
        said.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    gate = ProxyGate(app or Serve(), max_body_bytes=LIMIT)
    asyncio.run(asyncio.wait_for(gate(scope, receive, note), 10))
    starts = [message for message in said if message["type"] == "http.response.start"]
    assert len(starts) == 1
    return starts[0]["status"], dict(starts[0]["headers"]), asked


ANY = [("/v1/score", "POST"), ("/v1/feedback", "POST"), ("/nowhere", "GET"), ("/", "PUT")]


@pytest.mark.parametrize(("path", "method"), ANY)
def test_a_length_above_the_limit_is_refused_before_anything_is_read(
    path: str, method: str
) -> None:
    serve = Serve()
    for length in (b"1001", b"9" * 5_000):
        headers = [(b"content-length", length)]
        status, _, asked = send([part(1)], headers, app=serve, path=path, method=method)
        assert (status, asked) == (413, 0)
    assert serve.scopes == []


@pytest.mark.parametrize(("path", "method"), ANY)
@pytest.mark.parametrize("headers", [[], [(b"content-length", b"2")]])
def test_a_body_without_end_is_cut_at_the_limit_and_its_connection_closed(
    path: str, method: str, headers: list[Header]
) -> None:
    serve = Serve()
    status, answered, asked = send([part(300)], headers, app=serve, path=path, method=method)
    assert (status, answered[b"connection"], asked) == (413, b"close", 4)
    assert sum(len(message.get("body", b"")) for message in serve.taken) == 900
    assert serve.taken[-1] == {"type": "http.disconnect"}


def test_a_body_passes_whole_up_to_the_limit() -> None:
    serve = Serve()
    status, _, _ = send([part(600), part(400, more=False)], app=serve)
    assert status == 200
    assert sum(len(message["body"]) for message in serve.taken) == LIMIT


def test_who_leaves_has_left() -> None:
    serve = Serve()
    status, _, _ = send([part(600), {"type": "http.disconnect"}], app=serve)
    assert (status, serve.taken[-1]["type"]) == (499, "http.disconnect")


def test_an_answer_that_began_is_not_answered_twice() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 415, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b""})

    assert send([part(300)], app=early)[0] == 415


@pytest.mark.parametrize(
    "name",
    [
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
        b"Serve-Multiplexed_Model-Id",
    ],
)
def test_headers_with_which_a_client_would_steer_serve_do_not_reach_it(name: bytes) -> None:
    serve = Serve()
    kept = [(b"x-deadline-ms", b"50"), (b"authorization", b"Bearer pk_1")]
    assert send([part(1, more=False)], [(name, b"0"), *kept], app=serve)[0] == 200
    assert serve.scopes[0]["headers"] == kept


def test_the_headers_are_those_that_serve_reads() -> None:
    from ray.serve._private import constants

    for name in (
        constants.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        constants.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
        constants.SERVE_MULTIPLEXED_MODEL_ID,
    ):
        test_headers_with_which_a_client_would_steer_serve_do_not_reach_it(name.encode())


def test_a_websocket_goes_no_further() -> None:
    serve, said = Serve(), list[Message]()

    async def never() -> Message:
        raise AssertionError("nothing is read")

    async def note(message: Message) -> None:
        said.append(message)

    scope = {"type": "websocket", "path": "/", "headers": []}
    asyncio.run(ProxyGate(serve)(scope, never, note))
    assert (said, serve.scopes) == ([{"type": "websocket.close", "code": 1008}], [])


class Hop:
    """A proxy with its middlewares before fronts that do not answer until they may."""

    def __init__(self) -> None:
        self.let_go, self.under_way = asyncio.Event(), 0
        self.app: ASGIApp = self.hop
        for one in middlewares():
            self.app = one.cls(self.app, *one.args, **one.kwargs)

    async def hop(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self.under_way += 1
        await self.let_go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def ask_with(keys: Sequence[str], then: str) -> tuple[list[int], int]:
    """Statuses of those who ask with these keys, and of who asks with another one after them."""

    async def go() -> tuple[list[int], int]:
        hop = Hop()
        transport = httpx.ASGITransport(hop.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            def ask(key: str) -> asyncio.Task[httpx.Response]:
                headers = {"authorization": f"Bearer {key}"}
                return asyncio.create_task(client.post("/v1/score", headers=headers))

            before = [ask(key) for key in keys]
            while sum(one.done() for one in before) + hop.under_way < len(before):
                await asyncio.sleep(0)
            there, after = hop.under_way, ask(then)
            while not after.done() and hop.under_way == there:
                await asyncio.sleep(0)
            hop.let_go.set()
            answers = await asyncio.gather(*before)
            return [answer.status_code for answer in answers], (await after).status_code

    return asyncio.run(asyncio.wait_for(go(), 30))


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyRing:
    monkeypatch.setenv(KEYS_OF, str(tmp_path))
    return KeyRing(tmp_path)


def test_strangers_take_the_place_of_nobody(ring: KeyRing) -> None:
    """Of those whose rate is not known yet 64 are let in."""
    key = ring.add("shop")
    before, then = ask_with(["pk_wrong"] * 100, key)
    assert (set(before), then) == ({401}, 200)


def test_a_key_that_asks_too_often_takes_the_place_of_nobody(ring: KeyRing) -> None:
    key, other = ring.add("often", rate_per_s=0.01, burst=40), ring.add("shop")
    before, then = ask_with([key] * 100, other)
    assert (before.count(200), before.count(429), then) == (40, 60, 200)


def test_serve_itself_may_be_asked_whether_it_runs_without_a_key(ring: KeyRing) -> None:
    guard, serve = Guard(ring=ring), Serve()
    gate = ProxyGate(serve, guard=guard)

    def status(path: str) -> Any:
        async def go() -> int:
            transport = httpx.ASGITransport(gate)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return (await client.get(path)).status_code

        return asyncio.run(go())

    ring.add("shop")
    assert [status(path) for path in ("/-/healthz", "/-/routes", "/healthz")] == [200] * 3
    assert [status(path) for path in ("/-/other", "/v1/ensemble", "/metrics")] == [401] * 3


def test_without_keys_the_proxy_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS_OF, raising=False)
    assert ask_with([], "none")[1] == 200


@pytest.mark.parametrize("given", [b"caf\xe9", b"a b", b"", b"x" * 65])
def test_a_request_id_that_serve_could_not_read_is_a_400(given: bytes) -> None:
    serve = Serve()
    assert send([part(1, more=False)], [(b"x-request-id", given)], app=serve)[0] == 400
    assert serve.scopes == []


def test_a_session_of_its_own_does_not_reach_serve() -> None:
    serve = Serve()
    assert send([part(1, more=False)], [(b"x-session-id", b"caf\xe9")], app=serve)[0] == 200
    assert serve.scopes[0]["headers"] == []
