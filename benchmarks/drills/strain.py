"""Drills of too much, of long, and of clients who do not stay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import numpy as np
from drills.load import PATH, Beside, saturation
from drills.row import Row, failed, loaded
from drills.served import Served

from penchant.serve.load.plan import LoadPlan
from penchant.serve.load.run import run_load

__all__ = ["leave", "overload", "soak"]


def overload(service: Served, bodies: Sequence[bytes], duration_s: float) -> Row:
    """Four times as much as the service can do, four times: at first, pools and caches fill."""
    peak = saturation(service.url, bodies, callers=16, duration_s=duration_s / 2)
    plan = LoadPlan(
        path=PATH, rate=4 * peak.requests_per_s, duration_s=duration_s, deadline_ms=2000
    )
    held_mb, loads = [service.memory_mb()], []
    for _ in range(4):
        loads.append(run_load(service.url, bodies, plan))
        held_mb.append(service.memory_mb())
    grown_mb, report = np.diff(held_mb), loads[-1]
    share = (report.goodput_per_s or 0.0) / peak.requests_per_s
    refused_ms = [load.refusal_ms.p99 if load.refusal_ms else float("nan") for load in loads]
    return loaded(
        "overload, 4 times the peak",
        [report],
        f"peak {peak.requests_per_s:.0f}/s, goodput {share:.0%} of it, refusals in "
        f"{refused_ms[-1]:.0f} ms (p99), memory {grown_mb[-1]:+.0f} MB, the fourth time in a row; "
        f"before: {', '.join(f'{ms:.0f}' for ms in refused_ms[:-1])} ms, "
        f"{', '.join(f'{mb:+.0f}' for mb in grown_mb[:-1])} MB",
        promise="goodput 90% of the peak, refusals within 50 ms (p99), memory flat (50 MB)",
        met=share >= 0.9 and refused_ms[-1] < 50 and bool(grown_mb[-1] < 50),
        figures={"goodput_share": share, "refusal_p99_ms": refused_ms[-1]},
    )


def soak(service: Served, bodies: Sequence[bytes], duration_s: float) -> Row:
    """Half of the peak for a long time."""
    peak = saturation(service.url, bodies, callers=8, duration_s=10)
    plan = LoadPlan(
        path=PATH, rate=peak.requests_per_s / 2, duration_s=duration_s, deadline_ms=2000
    )
    load = Beside(service.url, bodies, plan)
    moments, memory = [], []
    began = time.monotonic()
    while not load.over():
        moments.append((time.monotonic() - began) / 60)
        memory.append(service.memory_mb())
        time.sleep(5)
    report = load.report()
    settled = len(moments) // 3  # caches fill first
    slope = float(np.polyfit(moments[settled:], memory[settled:], 1)[0])
    return loaded(
        f"soak, {duration_s / 60:.0f} minutes at half the peak",
        [report],
        f"memory {memory[-1]:.0f} MB, {slope:+.2f} MB a minute in the last two thirds",
        promise="0 failed, less than 1 MB more a minute",
        met=failed(report) == 0 and slope < 1,
        figures={"slope_mb_per_min": slope},
    )


def leave(service: Served, bodies: Sequence[bytes], clients: int) -> Row:
    """Clients send all at once and leave, twice; whoever comes next need not wait."""
    held_mb, next_ms, refused = [service.memory_mb()], 0.0, 0
    for _ in range(2):
        asyncio.run(_send_and_leave(service.url, bodies, clients))
        began = time.monotonic()
        refused += service.ask(bodies[0]).status_code != 200
        next_ms = max(next_ms, 1000 * (time.monotonic() - began))
        time.sleep(3)
        held_mb.append(service.memory_mb())
    first_mb, second_mb = np.diff(held_mb)
    return Row(
        drill=f"{clients:,} clients send at once and leave, twice",
        requests=2 * clients,
        failed=refused,
        degraded=0,
        result=f"the next request is answered after {next_ms:.0f} ms at most; memory "
        f"{second_mb:+.0f} MB the second time; before: {first_mb:+.0f} MB",
        promise="the next one is answered within a second, memory flat (50 MB)",
        met=not refused and next_ms < 1000 and bool(second_mb < 50),
    )


async def _send_and_leave(url: str, bodies: Sequence[bytes], clients: int) -> None:
    """Every client has sent its whole request before the first one hangs up."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    gone = asyncio.Event()

    async def one(body: bytes) -> None:
        _, writer = await asyncio.open_connection(host, port)
        head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        await gone.wait()
        writer.transport.abort()

    asked = [asyncio.create_task(one(bodies[at % len(bodies)])) for at in range(clients)]
    await asyncio.sleep(0.3)
    gone.set()
    await asyncio.gather(*asked)
