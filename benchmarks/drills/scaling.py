"""Autoscaling under a step of load, on a local cluster with more CPUs than the machine has."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drills.load import Beside, failed
from drills.served import Served, served

from penchant.serve.load.plan import LoadPlan

#: `penchant` on a Ray that believes in sixteen CPUs: replicas are started as on a larger machine.
_LARGE = [
    sys.executable,
    "-W",
    "ignore",
    "-c",
    "from penchant.platform.cluster import start_ray\n"
    "from penchant.cli.main import main\n"
    "with start_ray(num_cpus=16):\n"
    "    main()\n",
]


def scale(
    directory: Path, service: Path, bodies: Sequence[bytes], *, busy_s: float, idle_s: float
) -> dict[str, Any]:
    """Few requests, then many, then few: how many replicas there are, and what fails."""
    with served(directory, service, "--placement", "apart", prefix=_LARGE) as running:
        counts: list[int] = []
        over = threading.Event()
        watch = threading.Thread(target=_count, args=(running, counts, over))
        watch.start()
        quiet = Beside(running.url, bodies, _plan(1, busy_s + idle_s), None)
        time.sleep(3)
        busy = Beside(running.url, bodies, _plan(24, busy_s), None)
        reports = [busy.report(), quiet.report()]
        over.set()
        watch.join()
    steps = [at for at in range(1, len(counts)) if counts[at] != counts[at - 1]]
    turns = _turns(counts)
    return {
        "drill": "autoscaling under a step",
        "requests": sum(report.sent for report in reports),
        "failed": sum(failed(report) for report in reports),
        "degraded": sum(report.degraded for report in reports),
        "result": f"member replicas {counts[0]} -> {max(counts)} -> {counts[-1]}, "
        f"{len(steps)} steps, {turns} turns",
        "met": sum(failed(r) for r in reports) == 0
        and max(counts) > counts[0] == counts[-1]
        and turns <= 1,
    }


def _plan(callers: int, duration_s: float) -> LoadPlan:
    return LoadPlan(
        path="/v1/recommend",
        concurrency=callers,
        duration_s=duration_s,
        warmup_s=0.0,
        deadline_ms=5000,
    )


def _count(running: Served, counts: list[int], over: threading.Event) -> None:
    while not over.wait(1.0):
        counts.append(len(running.members()))


def _turns(counts: Sequence[int]) -> int:
    """How often a rise is followed by a fall or a fall by a rise; once is the step itself."""
    moves = [b - a for a, b in zip(counts, counts[1:], strict=False) if b != a]
    return sum((a > 0) != (b > 0) for a, b in zip(moves, moves[1:], strict=False))
