"""A load against a server whose delays and errors are known."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from aiohttp import web

from penchant.platform.errors import ConfigError, RunError, UnreachableError
from penchant.serve.load.plan import LoadPlan
from penchant.serve.load.probe import probe
from penchant.serve.load.run import run_load
from penchant.serve.load.sender import Tick

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BODIES = [b'{"body": 0}', b'{"body": 1}', b'{"body": 2}']


@contextmanager
def served(handler: Handler, path: str = "/ask") -> Iterator[str]:
    """The address of a server that answers every POST to a path with a handler."""
    loop = asyncio.new_event_loop()
    listener = socket.create_server(("127.0.0.1", 0))

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post(path, handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def waits(delay_s: float, text: str = "{}") -> Handler:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(delay_s)
        return web.Response(text=text)

    return answer


def plan(**settings: object) -> LoadPlan:
    usual = {"path": "/ask", "duration_s": 1.0, "warmup_s": 0.2, "timeout_s": 5.0}
    return LoadPlan(**(usual | settings))


def test_a_closed_load_runs_at_callers_over_delay() -> None:
    with served(waits(0.05)) as url:
        report = run_load(url, BODIES, plan(concurrency=4))
    # 4 callers, an answer each 50 ms: 80 a second, less what sending costs.
    assert 40 <= report.requests_per_s <= 84
    assert report.answered == report.sent == round(report.requests_per_s)
    assert report.latency_ms is not None
    assert 50 <= report.latency_ms.p50 <= report.latency_ms.p99 <= report.latency_ms.max
    assert report.latency_ms.p50 < 100
    assert report.errors == {}
    assert (report.mode, report.offered, report.degraded) == ("closed", 4.0, 0)


def test_an_open_load_arrives_at_its_rate_whatever_the_delay() -> None:
    with served(waits(0.2)) as url:
        report = run_load(url, BODIES, plan(rate=100.0))
    # About 100 are due in a second, give or take 5 standard deviations of 10.
    assert 50 <= report.sent <= 150
    assert report.answered == report.sent
    assert report.latency_ms is not None
    assert 200 <= report.latency_ms.p50 < 300


def test_waiting_in_a_queue_counts_in_an_open_load_and_hides_in_a_closed_one() -> None:
    turn = asyncio.Lock()

    async def one_at_a_time(request: web.Request) -> web.Response:
        async with turn:
            await asyncio.sleep(0.05)
        return web.Response(text="{}")

    with served(one_at_a_time) as url:
        alone = run_load(url, BODIES, plan(concurrency=1))
        queued = run_load(url, BODIES, plan(rate=40.0, warmup_s=0.0, duration_s=1.5))
    assert alone.latency_ms is not None
    assert queued.latency_ms is not None
    assert alone.latency_ms.p50 < 100
    # 40 a second come and 20 go: the n-th of about 60 is due at n/40 s and done at n/20 s, so the
    # last waits 1.5 s and the middle one 0.75 s.
    assert queued.latency_ms.max > 900
    assert queued.latency_ms.p50 > 350
    assert queued.requests_per_s < 21
    assert queued.answered == queued.sent > 40


def test_errors_are_counted_by_kind_and_do_not_count_as_answers() -> None:
    turn = count()

    async def moody(request: web.Request) -> web.StreamResponse:
        match next(turn) % 4:
            case 0:
                return web.Response(text="{}")
            case 1:
                return web.Response(status=503, text='{"error": "overloaded"}')
            case 2:
                if request.transport is not None:
                    request.transport.close()
                return web.Response(text="{}")
        await asyncio.sleep(2.0)
        return web.Response(text="{}")

    with served(moody) as url:
        report = run_load(url, BODIES, plan(rate=80.0, timeout_s=0.5))
    quarter = report.sent / 4
    assert report.errors.keys() == {"503", "broken answer", "timeout"}
    for number in (*report.errors.values(), report.answered):
        assert number == pytest.approx(quarter, abs=3)
    assert report.answered + sum(report.errors.values()) == report.sent
    assert report.refusal_ms is not None
    assert report.refusal_ms.p50 < 200
    assert report.latency_ms is not None
    assert report.latency_ms.max < 500  # those that timed out are no answers


def test_nobody_who_listens_is_a_connection_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    report = run_load(url, BODIES, plan(rate=50.0, duration_s=0.5))
    assert report.errors == {"connection": report.sent}
    assert report.answered == 0
    assert report.latency_ms is None


def test_what_the_caller_sends_is_body_after_body_with_key_and_deadline() -> None:
    seen: list[tuple[bytes, str | None, str | None, str | None]] = []

    async def note(request: web.Request) -> web.Response:
        names = ("Authorization", "X-Deadline-Ms", "Content-Type")
        seen.append((await request.read(), *(request.headers.get(name) for name in names)))
        return web.Response(text="{}")

    wanted = plan(concurrency=1, duration_s=0.2, key="pk_x", deadline_ms=250)
    with served(note) as url:
        run_load(url, BODIES, wanted)
    assert [body for body, *_ in seen[:6]] == BODIES * 2
    assert {tuple(rest) for _, *rest in seen} == {("Bearer pk_x", "250", "application/json")}


def test_degraded_answers_are_counted() -> None:
    bodies = ('{"degraded":true}', '{"degraded":false}', r'{"text":"\"degraded\":true"}')
    turn = count()

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=bodies[next(turn) % 3])

    with served(answer) as url:
        report = run_load(url, BODIES, plan(rate=60.0))
    assert report.degraded == pytest.approx(report.answered / 3, abs=1)


def test_goodput_is_what_was_answered_within_the_deadline() -> None:
    turn = count()

    async def every_second_is_slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.3 if next(turn) % 2 else 0.0)
        return web.Response(text="{}")

    with served(every_second_is_slow) as url:
        report = run_load(url, BODIES, plan(rate=100.0, deadline_ms=150))
    assert report.goodput_per_s == pytest.approx(report.answered / 2, abs=5)


def test_what_waits_for_a_connection_of_ours_was_sent_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """40 a second of 100 ms each on one connection: ten go, the others wait in this process."""
    with served(waits(0.1)) as url:
        free = run_load(url, BODIES, plan(rate=40.0, warmup_s=0.0))
        monkeypatch.setattr(LoadPlan, "connections", lambda *_: 1)
        bound = run_load(url, BODIES, plan(rate=40.0, warmup_s=0.0, timeout_s=1.5))
    assert free.late_ms < 500 < bound.late_ms
    assert bound.errors.get("timeout", 0) > 0  # some were never sent, and count too


def test_several_processes_share_callers_and_their_samples_come_together() -> None:
    ticks: list[Tick] = []
    wanted = plan(concurrency=3, processes=2)
    with served(waits(0.05)) as url:
        report = run_load(url, BODIES, wanted, tell=ticks.append)
    assert 30 <= report.requests_per_s <= 64  # 3 callers, an answer each 50 ms
    assert report.errors == {}
    assert ticks
    assert ticks[-1].sent >= ticks[-1].answered > 0


def test_the_servers_own_cost_is_measured() -> None:
    with served(waits(0.0)) as url:
        report = run_load(url, BODIES, plan(concurrency=4), pid=os.getpid())
    assert report.server is not None
    assert 0 < report.server.cpus < 2 * (os.cpu_count() or 1)
    assert report.server.peak_rss_mb > 10
    assert report.server.processes >= 1


def test_the_share_of_the_machines_arithmetic_is_flops_over_sgemm() -> None:
    with served(waits(0.05)) as url:
        report = run_load(url, BODIES * 40, plan(concurrency=1), flops_per_request=1e6)
        again = run_load(url, BODIES, plan(concurrency=1), flops_per_request=1e6)
    assert (report.repeated, again.repeated) == (0.0, 1.0)
    assert again.flops_share == 0.0  # members may have known all of them
    assert report.sgemm_gflops is not None
    assert report.flops_share is not None
    assert report.sgemm_gflops > 0.5
    expected = 1e6 * report.requests_per_s / (report.sgemm_gflops * 1e9)
    assert report.flops_share == pytest.approx(expected)
    assert json.loads(json.dumps(report.to_json()))["flops_share"] == report.flops_share


def test_a_process_that_is_not_there_is_told() -> None:
    with pytest.raises(UnreachableError, match="there is no process"):
        run_load("http://127.0.0.1:9", BODIES, plan(concurrency=1), pid=2**22 + 1)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "expected exactly one"),
        ({"rate": 1.0, "concurrency": 1}, "expected exactly one"),
        ({"rate": 0.0}, "rate of a load is 0"),
        ({"rate": float("nan")}, "rate of a load is nan"),
        ({"concurrency": -1}, "concurrency of a load is -1"),
        ({"rate": 1.0, "duration_s": 0.0}, "duration_s of a load is 0"),
        ({"rate": 1.0, "warmup_s": -1.0}, "warmup_s of a load is -1"),
        ({"concurrency": 1, "processes": 2}, "2 processes cannot share 1 callers"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        plan(**settings)


def test_the_probe_tells_what_is_wrong_before_the_load() -> None:
    async def by_body(request: web.Request) -> web.Response:
        return web.Response(status=int(await request.read()), text="not today")

    one = plan(concurrency=1)
    with served(by_body) as url:
        probe(url, b"200", one)
        with pytest.raises(RunError, match="--key-file"):
            probe(url, b"401", one)
        with pytest.raises(RunError, match="with 422.*not today"):
            probe(url, b"422", one)
    with pytest.raises(UnreachableError, match="no endpoint answers"):
        probe(url, b"200", one)
