"""A load beside a drill: what was asked meanwhile, and how it was answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from penchant.serve.load.plan import LoadPlan
from penchant.serve.load.report import LoadReport
from penchant.serve.load.run import run_load

__all__ = ["PATH", "Beside", "beside", "longest_ms", "p99_ms", "saturation"]

PATH = "/v1/recommend"


class Beside:
    """A load that runs in a thread until it has lasted as long as it was planned."""

    def __init__(self, url: str, bodies: Sequence[bytes], plan: LoadPlan) -> None:
        self._report: LoadReport | None = None

        def work() -> None:
            self._report = run_load(url, bodies, plan)

        # Whoever interrupts the drills does not wait for a load of many minutes.
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def over(self) -> bool:
        """Whether it has lasted as long as it was planned."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Until it is over."""
        self._thread.join()

    def report(self) -> LoadReport:
        """What came of it, when it is over."""
        self.wait()
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
    path: str = PATH,
    key: str | None = None,
) -> Iterator[Beside]:
    """Steady requests while the body of a `with` does something to the service."""
    plan = LoadPlan(
        path=path, rate=rate, duration_s=duration_s, warmup_s=0.0, deadline_ms=deadline_ms, key=key
    )
    load = Beside(url, bodies, plan)
    time.sleep(1.0)
    try:
        yield load
    except Exception:
        load.wait()
        raise
    load.wait()


def saturation(
    url: str, bodies: Sequence[bytes], *, callers: int, duration_s: float, key: str | None = None
) -> LoadReport:
    """As much as so many callers can get."""
    plan = LoadPlan(
        path=PATH, concurrency=callers, duration_s=duration_s, deadline_ms=2000, key=key
    )
    return run_load(url, bodies, plan)


def longest_ms(report: LoadReport) -> float:
    return float("nan") if report.latency_ms is None else report.latency_ms.max


def p99_ms(report: LoadReport) -> float:
    return float("nan") if report.latency_ms is None else report.latency_ms.p99
