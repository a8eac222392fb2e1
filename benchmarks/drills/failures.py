"""Drills in which processes die, stop or stumble while requests come in."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from drills.load import beside, failed
from drills.served import Served

Row = dict[str, Any]


def kill_member(service: Served, bodies: Sequence[bytes], rate: float) -> Row:
    """SIGKILL a member that does not share a process; the successor's start is told apart."""
    victim = _apart(service)
    before = {process.pid for process in service.members()}
    started: list[float] = []
    with beside(service.url, bodies, rate=rate, duration_s=30) as load:
        began = time.monotonic()
        victim.kill()
        watch = threading.Thread(target=_successor, args=(service, before, began, started))
        watch.start()
        degraded_s = service.until(lambda answer: answer["degraded"], bodies[0], 10)
        whole_s = service.until(lambda answer: not answer["degraded"], bodies[0])
        watch.join()
    report = load.report()
    return {
        "drill": "SIGKILL a member replica",
        "requests": report.sent,
        "failed": failed(report),
        "degraded": report.degraded,
        "result": f"degraded after {degraded_s:.1f} s, its successor's process there after "
        f"{started[0] if started else float('nan'):.1f} s, whole again "
        f"{degraded_s + whole_s:.1f} s after the kill; {report.errors}",
        "met": failed(report) == 0 and report.degraded > 0 and whole_s <= 5,
        "whole_s": whole_s,
    }


def stop_member(service: Served, bodies: Sequence[bytes], rate: float) -> Row:
    """SIGSTOP a member: it is there and does not move, until the health check replaces it."""
    victim = _apart(service)
    with beside(service.url, bodies, rate=rate, duration_s=45) as load:
        victim.suspend()
        whole_s = service.until(
            lambda answer: not answer["degraded"] and not _alive(victim), bodies[0], 60
        )
    report = load.report()
    if _alive(victim):
        victim.resume()
    return {
        "drill": "SIGSTOP a member replica",
        "requests": report.sent,
        "failed": failed(report),
        "degraded": report.degraded,
        "result": f"replaced and whole after {whole_s:.1f} s; "
        f"longest answer {_longest(report):.0f} ms at a deadline of 2,000; {report.errors}",
        "met": failed(report) == 0 and whole_s < 60,
    }


def straggle(service: Served, bodies: Sequence[bytes], rate: float) -> Row:
    """A member that stands still for 500 ms every second, and callers who wait 300 ms."""
    victim = _apart(service)
    with beside(service.url, bodies, rate=rate, duration_s=15, deadline_ms=300) as load:
        until = time.monotonic() + 13
        while time.monotonic() < until:
            victim.send_signal(signal.SIGSTOP)
            time.sleep(0.5)
            victim.send_signal(signal.SIGCONT)
            time.sleep(0.5)
    report = load.report()
    return {
        "drill": "a straggler, +500 ms",
        "requests": report.sent,
        "failed": failed(report),
        "degraded": report.degraded,
        "result": f"longest answer {_longest(report):.0f} ms at a deadline of 300",
        "met": failed(report) == 0 and _longest(report) <= 310,
        "over_deadline_ms": _longest(report) - 300,
    }


def kill_others(service: Served, bodies: Sequence[bytes], rate: float) -> list[Row]:
    """SIGKILL the front, the proxy and the controller: what is lost, and for how long."""
    rows = []
    for name, title in (
        ("the front", "ServeReplica:front"),
        ("the proxy", "ProxyActor"),
        ("the controller", "ServeController"),
    ):
        with beside(service.url, bodies, rate=rate, duration_s=30) as load:
            found = service.replicas(title)
            if not found:
                raise RuntimeError(f"no process is called {title}")
            found[0].kill()
            began = time.monotonic()
            gap_s = _gap(service, bodies[0], began)
        report = load.report()
        rows.append(
            {
                "drill": f"SIGKILL {name}",
                "requests": report.sent,
                "failed": failed(report),
                "degraded": report.degraded,
                "result": f"longest time without an answer {gap_s:.1f} s; {report.errors}",
                "met": None,  # measured, not promised
            }
        )
    return rows


def kill_all(service: Served, bodies: Sequence[bytes]) -> Row:
    """SIGSTOP every member: 503 with Retry-After, at once when that is known."""
    victims = service.members()
    for victim in victims:
        victim.suspend()
    answers = []
    for _ in range(8):
        began = time.monotonic()
        answer = service.ask(bodies[0], deadline_ms=1500)
        answers.append((answer.status_code, time.monotonic() - began, answer.headers))
    for victim in victims:
        if _alive(victim):
            victim.resume()
    whole_s = service.until(lambda answer: not answer["degraded"], bodies[0], 60)
    last = answers[-1]
    return {
        "drill": "all members stand still",
        "requests": len(answers),
        "failed": sum(code != 503 for code, _, _ in answers),
        "degraded": 0,
        "result": f"503 in {1000 * last[1]:.0f} ms once known, Retry-After "
        f"{last[2].get('retry-after')}; whole {whole_s:.1f} s after they go on",
        "met": all(code == 503 for code, _, _ in answers) and last[1] < 0.05,
    }


def leave(service: Served, bodies: Sequence[bytes], clients: int) -> Row:
    """Clients that send their requests all at once and leave; whoever comes next need not wait."""
    before_mb = service.memory_mb()
    asyncio.run(_send_and_leave(service.url, bodies, clients))
    began = time.monotonic()
    good = service.ask(bodies[0]).status_code == 200
    next_ms = 1000 * (time.monotonic() - began)
    time.sleep(3)
    grown_mb = service.memory_mb() - before_mb
    return {
        "drill": f"{clients} clients send at once and leave",
        "requests": clients,
        "failed": 0 if good else 1,
        "degraded": 0,
        "result": f"the next request is answered after {next_ms:.0f} ms; memory {grown_mb:+.0f} MB",
        "met": good and next_ms < 1000 and grown_mb < 50,
    }


async def _send_and_leave(url: str, bodies: Sequence[bytes], clients: int) -> None:
    """Every client has sent its whole request before the first one hangs up."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    gone = asyncio.Event()

    async def one(body: bytes) -> None:
        _, writer = await asyncio.open_connection(host, port)
        head = f"POST /v1/recommend HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        await gone.wait()
        writer.transport.abort()

    asked = [asyncio.create_task(one(bodies[at % len(bodies)])) for at in range(clients)]
    await asyncio.sleep(0.3)
    gone.set()
    await asyncio.gather(*asked)


def _successor(service: Served, before: set[int], began: float, found: list[float]) -> None:
    """When a replica's process appears that was not there before, in seconds."""
    while not found and time.monotonic() - began < 20:
        if {process.pid for process in service.members()} - before:
            found.append(time.monotonic() - began)
        time.sleep(0.1)


def _apart(service: Served) -> psutil.Process:
    """The replica of one member alone, or of several where there is none."""
    alone = service.replicas(":member-")
    if not alone:
        raise RuntimeError("this ensemble has no member in a process of its own: serve it apart")
    return alone[0]


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _longest(report: Any) -> float:
    return float("nan") if report.latency_ms is None else float(report.latency_ms.max)


def _gap(service: Served, body: bytes, began: float) -> float:
    """The longest time without an answer in the 20 s after something was killed."""
    last, longest = began, 0.0
    while time.monotonic() - began < 20:
        try:
            good = service.ask(body).status_code == 200
        except httpx.HTTPError:
            good = False
        if good:
            longest = max(longest, time.monotonic() - last)
            last = time.monotonic()
        time.sleep(0.02)
    return max(longest, time.monotonic() - last)
