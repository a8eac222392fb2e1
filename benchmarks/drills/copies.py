"""Drills of versions that stand beside the one that answers: a shadow, then a canary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from drills.load import beside, p99_ms
from drills.row import Row, failed, loaded
from drills.served import Served

__all__ = ["shadow_and_canary"]

#: How much longer the slowest hundredth may take while a shadow computes on the same CPUs.
MOST = 1.5


def shadow_and_canary(
    service: Served, other: Path, bodies: Sequence[bytes], rate: float, measured_s: float
) -> list[Row]:
    """The same load without a shadow and with one; then half of it goes to a canary.

    What starts a version computes too, and is no part of what a shadow costs: the load with the
    shadow begins when that has begun to copy.
    """
    with beside(service.url, bodies, rate=rate, duration_s=measured_s) as load:
        pass
    alone = load.report()
    with beside(service.url, bodies, rate=rate, duration_s=90) as load:
        service.verb("deploy", str(other), "--shadow")
        started = load.over()
    starting = load.report()
    with beside(service.url, bodies, rate=rate, duration_s=measured_s) as load:
        pass
    shadowed = load.report()
    with beside(service.url, bodies, rate=rate, duration_s=60) as load:
        service.verb("deploy", str(other), "--canary", "0.5")
        time.sleep(10)
        service.verb("rollback")
        ended = load.over()
    canary = load.report()
    times = p99_ms(shadowed) / p99_ms(alone)
    return [
        loaded(
            "a shadow gets a copy of every request",
            [shadowed],
            f"p99 {p99_ms(shadowed):.0f} ms, {p99_ms(alone):.0f} ms without it",
            promise=f"0 failed, p99 at most {MOST} times that without",
            met=failed(shadowed) == 0 and times <= MOST,
            figures={"p99_times": times},
        ),
        loaded(
            "a shadow starts; it becomes a canary of half and is rolled back",
            [starting, canary],
            f"p99 {p99_ms(starting):.0f} and {p99_ms(canary):.0f} ms"
            + ("; the verbs took longer than the load" if started or ended else ""),
            promise="0 failed",
            met=failed(starting) + failed(canary) == 0 and not (started or ended),
        ),
    ]
