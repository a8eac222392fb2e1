"""A load beside a drill: what was asked meanwhile, and how it was answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from penchant.serve.load.plan import LoadPlan
from penchant.serve.load.report import LoadReport
from penchant.serve.load.run import run_load

PATH = "/v1/recommend"


class Beside:
    """A load that runs in a thread until it has lasted as long as it was planned."""

    def __init__(self, url: str, bodies: Sequence[bytes], plan: LoadPlan, pid: int | None) -> None:
        self._report: LoadReport | None = None

        def work() -> None:
            self._report = run_load(url, bodies, plan, pid=pid)

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def report(self) -> LoadReport:
        """What came of it, when it is over."""
        self._thread.join()
        if self._report is None:
            raise RuntimeError("the load failed")
        return self._report


@contextmanager
def beside(
    url: str,
    bodies: Sequence[bytes],
    *,
    rate: float,
    duration_s: float,
    deadline_ms: int = 2000,
    pid: int | None = None,
) -> Iterator[Beside]:
    """Steady requests while the body of a `with` does something to the service."""
    plan = LoadPlan(
        path=PATH, rate=rate, duration_s=duration_s, warmup_s=0.0, deadline_ms=deadline_ms
    )
    load = Beside(url, bodies, plan, pid)
    time.sleep(1.0)
    try:
        yield load
    finally:
        load.report()


def saturation(url: str, bodies: Sequence[bytes], *, callers: int, duration_s: float) -> LoadReport:
    """As much as so many callers can get."""
    plan = LoadPlan(path=PATH, concurrency=callers, duration_s=duration_s, deadline_ms=2000)
    return run_load(url, bodies, plan)


def failed(report: LoadReport) -> int:
    """Requests without a good answer."""
    return report.sent - report.answered
