"""Drills in which versions, load or size change while requests come in."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from drills.load import Beside, beside, failed, saturation
from drills.served import Served
from safetensors.numpy import load_file, save_file

from penchant.ensembles.artefacts.self_test import SELF_TEST_FILE
from penchant.serve.load.plan import LoadPlan
from penchant.serve.load.run import run_load

Row = dict[str, Any]


def spoiled(directory: Path, into: Path, how: str) -> Path:
    """A copy of an artefact that must never take traffic."""
    shutil.copytree(directory, into)
    card = json.loads((into / "ensemble.json").read_text())
    if how == "wrong hash":
        with (into / "items.arrow").open("ab") as file:
            file.write(b" ")
        return into
    path = into / SELF_TEST_FILE
    if how == "fails its self-test":
        arrays = load_file(path)
        for name in arrays:
            if name.startswith("scores."):
                arrays[name] = arrays[name] + np.float32(1)
        save_file(arrays, path)
    else:  # crashes at start: a member's card that no recipe fits
        path = into / "members" / next(iter(card["weights"])) / "member.json"
        path.write_text(path.read_text().replace('"kind"', '"kin"'))
    name = str(path.relative_to(into))
    card["sha256"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (into / "ensemble.json").write_text(json.dumps(card))
    return into


def update(
    service: Served,
    other: Path,
    bad: Sequence[Path],
    bodies: Sequence[bytes],
    rate: float,
    duration_s: float,
) -> Row:
    """Good, bad, rollback while requests come in."""
    with beside(service.url, bodies, rate=rate, duration_s=duration_s) as load:
        service.verb("deploy", str(other))
        for spoilt in bad:
            service.verb("deploy", str(spoilt), good=False)
        service.verb("rollback")
    report = load.report()
    return {
        "drill": f"update: good, {len(bad)} bad ones, rollback",
        "requests": report.sent,
        "failed": failed(report),
        "degraded": report.degraded,
        "result": f"every bad version was refused; p99 {report.latency_ms.p99:.0f} ms; "
        f"{report.errors}"
        if report.latency_ms
        else "no answer",
        "met": failed(report) == 0,
    }


def canary(service: Served, other: Path, bodies: Sequence[bytes], rate: float) -> Row:
    """A shadow that becomes a canary and goes again, while requests come in."""
    with beside(service.url, bodies, rate=rate, duration_s=20) as load:
        pass
    alone = load.report()
    with beside(service.url, bodies, rate=rate, duration_s=90) as load:
        service.verb("deploy", str(other), "--shadow")
        time.sleep(15)
        service.verb("deploy", str(other), "--canary", "0.5")
        time.sleep(10)
        service.verb("rollback")
    report = load.report()
    alone_ms, with_ms = (
        float("nan") if one.latency_ms is None else one.latency_ms.p50 for one in (alone, report)
    )
    return {
        "drill": "a shadow, then a canary of half, then rolled back",
        "requests": report.sent,
        "failed": failed(report),
        "degraded": report.degraded,
        "result": f"median {with_ms:.0f} ms, {alone_ms:.0f} ms before; {report.errors}",
        "met": failed(report) == 0,
    }


def overload(service: Served, bodies: Sequence[bytes], duration_s: float) -> Row:
    """Four times as much as the service can do, four times: at first, pools and caches fill."""
    peak = saturation(service.url, bodies, callers=16, duration_s=duration_s / 2)
    plan = LoadPlan(
        path="/v1/recommend",
        rate=4 * peak.requests_per_s,
        duration_s=duration_s,
        deadline_ms=2000,
        processes=1,
    )
    held_mb, loads = [service.memory_mb()], []
    for _ in range(4):
        loads.append(run_load(service.url, bodies, plan))
        held_mb.append(service.memory_mb())
    grown_mb, report = np.diff(held_mb), loads[-1]
    share = (report.goodput_per_s or 0.0) / peak.requests_per_s
    refused_ms = [load.refusal_ms.p99 if load.refusal_ms else float("nan") for load in loads]
    return {
        "drill": "overload, 4 times the peak",
        "requests": report.sent,
        "failed": failed(report),
        "degraded": report.degraded,
        "result": f"peak {peak.requests_per_s:.0f}/s, goodput {share:.0%} of it, refusals in "
        f"{refused_ms[-1]:.0f} ms (p99), memory {grown_mb[-1]:+.0f} MB; {report.errors}. The "
        f"fourth in a row; those before: {', '.join(f'{ms:.0f}' for ms in refused_ms[:-1])} ms, "
        f"{', '.join(f'{mb:+.0f}' for mb in grown_mb[:-1])} MB",
        "met": share >= 0.9 and refused_ms[-1] < 50 and grown_mb[-1] < 50,
        "goodput_share": share,
        "refusal_p99_ms": refused_ms,
    }


def soak(service: Served, bodies: Sequence[bytes], duration_s: float) -> Row:
    """Half of the peak for a long time."""
    peak = saturation(service.url, bodies, callers=8, duration_s=10)
    plan = LoadPlan(
        path="/v1/recommend", rate=peak.requests_per_s / 2, duration_s=duration_s, deadline_ms=2000
    )
    load = Beside(service.url, bodies, plan, None)
    moments, memory = [], []
    began = time.monotonic()
    while time.monotonic() - began < duration_s:
        moments.append((time.monotonic() - began) / 60)
        memory.append(service.memory_mb())
        time.sleep(5)
    report = load.report()
    settled = len(moments) // 3  # caches fill first
    slope = float(np.polyfit(moments[settled:], memory[settled:], 1)[0])
    return {
        "drill": f"soak, {duration_s / 60:.0f} minutes at half the peak",
        "requests": report.sent,
        "failed": failed(report),
        "degraded": report.degraded,
        "result": f"memory {memory[-1]:.0f} MB, {slope:+.2f} MB a minute in the last two thirds",
        "met": failed(report) == 0 and abs(slope) < 1,
        "slope_mb_per_min": slope,
    }


def same_user_at_once(service: Served, body: bytes) -> Row:
    """One user's question ten times at once."""
    import asyncio

    import httpx

    async def go() -> list[Any]:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            headers = {"content-type": "application/json"}
            asked = (client.post("/v1/recommend", content=body, headers=headers) for _ in range(10))
            return [answer.json()["results"] for answer in await asyncio.gather(*asked)]

    answers = asyncio.run(go())
    return {
        "drill": "one user ten times at once",
        "requests": 10,
        "failed": sum(answer != answers[0] for answer in answers),
        "degraded": 0,
        "result": "the same answer ten times" if answers == answers[:1] * 10 else "answers differ",
        "met": answers == answers[:1] * 10,
    }
