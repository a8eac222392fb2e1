"""Autoscaling under a step of load, on a local cluster with more CPUs than the machine has.

Members live where `penchant serve run` puts them. No deployment may go up more than once, and all
come back.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from drills.controller import lines_since
from drills.load import PATH, Beside
from drills.row import Row, failed, loaded
from drills.served import Served, served

from penchant.serve.load.plan import LoadPlan

__all__ = ["scale"]

#: `penchant` on a Ray that believes in sixteen CPUs: replicas are started as on a larger machine.
_LARGE = [
    sys.executable,
    "-W",
    "ignore",
    "-c",
    "import os\n"
    "from penchant.platform.cluster import start_ray\n"
    "from penchant.cli.main import main\n"
    "from penchant.serve.gate.proxy import SERVE_VARIABLES\n"
    "os.environ.update(SERVE_VARIABLES)\n"  # `serve run` would set them, too late for this Ray
    "with start_ray(num_cpus=16):\n"
    "    main()\n",
]


_FIRST_S = 10.0  # from the step until one more replica is ready
_QUIET_PER_S = 5.0  # requests that come all the time, while replicas go too


def scale(
    directory: Path, service: Path, bodies: Sequence[bytes], *, busy_s: float, idle_s: float
) -> Row:
    """Few requests, then many, then few: how many replicas there are, and what fails."""
    with served(directory, service, prefix=_LARGE) as running:
        counts: list[Counter[str]] = []
        over = threading.Event()
        watch = threading.Thread(target=_count, args=(running, counts, over), daemon=True)
        watch.start()
        quiet = Beside(running.url, bodies, _plan(busy_s + idle_s, rate=_QUIET_PER_S))
        time.sleep(3)
        step_s = time.time()
        busy = Beside(running.url, bodies, _plan(busy_s, concurrency=24))
        reports = [busy.report(), quiet.report()]
        over.set()
        watch.join()
        ordered_s, ready_s = _ordered_and_ready_s(running, step_s)
    paths = {name: [count[name] for count in counts] for name in sorted(set().union(*counts))}
    told = "; ".join(
        f"{name} {' -> '.join(str(number) for number, _ in groupby(path))}"
        for name, path in paths.items()
    )
    turns = max(_turns(path) for path in paths.values())
    return loaded(
        "autoscaling under a step",
        reports,
        f"members where they live by default, replicas of {told}; the first one more was ordered "
        f"{ordered_s:.1f} s after the step and ready after {ready_s:.1f} s",
        promise=f"0 failed, up and back once, one more ready within {_FIRST_S:.0f} s",
        met=sum(failed(report) for report in reports) == 0
        and counts[0] == counts[-1]
        and any(max(path) > path[0] for path in paths.values())
        and turns <= 1
        and ready_s <= _FIRST_S,
        figures={"first_ordered_s": ordered_s, "first_ready_s": ready_s},
    )


def _ordered_and_ready_s(running: Served, step_s: float) -> tuple[float, float]:
    """Seconds from the step until a member's deployment ordered replicas, and until it had one.

    Infinite where it did not.
    """
    ordered_s, of = float("inf"), ""
    for told_s, line in lines_since(running, step_s):
        if not of and "Upscaling" in line and "version-" in line:
            ordered_s, of = told_s - step_s, line.partition("name='")[2].partition("'")[0]
        elif of and "started successfully" in line and f"deployment='{of}'" in line:
            return ordered_s, told_s - step_s
    return ordered_s, float("inf")


def _plan(
    duration_s: float, *, rate: float | None = None, concurrency: int | None = None
) -> LoadPlan:
    return LoadPlan(
        path=PATH,
        rate=rate,
        concurrency=concurrency,
        duration_s=duration_s,
        warmup_s=0.0,
        deadline_ms=5000,
    )


def _count(running: Served, counts: list[Counter[str]], over: threading.Event) -> None:
    while not over.wait(1.0):
        counts.append(Counter(running.deployments()))


def _turns(counts: Sequence[int]) -> int:
    """How often a rise is followed by a fall or a fall by a rise; once is the step itself."""
    moves = [b - a for a, b in zip(counts, counts[1:], strict=False) if b != a]
    return sum((a > 0) != (b > 0) for a, b in zip(moves, moves[1:], strict=False))
