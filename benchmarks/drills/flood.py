"""One key asks far too often, and another one as ever."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drills.load import PATH, Beside, beside, p99_ms, saturation
from drills.row import Row, failed, loaded
from drills.served import add_key, served

from penchant.serve.load.plan import LoadPlan

__all__ = ["flood"]


def flood(directory: Path, service: Path, bodies: Sequence[bytes], duration_s: float) -> Row:
    """Twice what the service can do comes with a key that may ask for an eighth of it."""
    normal = add_key(service, "normal", 10_000)
    with served(directory, service, "--placement", "apart", key=normal) as running:
        peak = saturation(running.url, bodies, callers=8, duration_s=5, key=normal).requests_per_s
        allowed = peak / 8
        plan = LoadPlan(
            path=PATH,
            rate=2 * peak,
            duration_s=duration_s - 2,
            warmup_s=0.0,
            deadline_ms=2000,
            key=add_key(service, "flood", allowed),
        )
        rate = peak / 4
        with beside(running.url, bodies, rate=rate, duration_s=duration_s, key=normal) as load:
            flooding = Beside(running.url, bodies, plan).report()
    report = load.report()
    return loaded(
        "one key floods, another asks as ever",
        [report],
        f"p99 {p99_ms(report):.0f} ms at {rate:.0f}/s; beside it {flooding.offered:.0f}/s with a "
        f"key for {allowed:.0f}/s in each front, of which {flooding.requests_per_s:.0f}/s were "
        f"answered and {flooding.errors.get('429', 0):,} of {flooding.sent:,} refused with 429",
        promise="0 failed of the other key",
        met=failed(report) == 0 and flooding.errors.get("429", 0) > 0,
    )
