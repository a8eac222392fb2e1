"""What a load found: exact percentiles of all samples, rates, errors, what it cost the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.serve.load.plan import LoadPlan
from penchant.serve.load.samples import BROKEN, Samples, outcome_name

__all__ = ["GRACE_MS", "Latency", "LoadReport", "ServerCost", "make_report"]

#: An answer made at the deadline still has its way to the caller before it.
GRACE_MS = 10.0


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds: percentiles of all samples, without histograms or interpolation."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float


@dataclass(frozen=True, kw_only=True)
class ServerCost:
    """What the server's process and its descendants used while it was measured."""

    cpu_s: float
    cpus: float  # CPUs that were busy, on average
    peak_rss_mb: float  # memory that processes share counts for each of them
    processes: int


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Figures of the measured time, without the warm-up.

    Open: of requests that were due in it. Closed: of requests that came to an end in it.
    Rates count what was answered within it, so that a queue left behind raises none.
    """

    mode: str  # closed or open
    offered: float  # callers, or requests per second
    duration_s: float
    sent: int
    answered: int  # with 200
    degraded: int  # of those
    requests_per_s: float  # answered
    latency_ms: Latency | None  # of answers; None where there was none
    refusal_ms: Latency | None  # of answers with other codes
    goodput_per_s: float | None  # answered within the deadline; None where the plan names none
    errors: dict[str, int]  # by status code, timeout, connection, broken answer
    late_ms: float  # 99th percentile of how late requests were sent: the load generator's own fault
    repeated: float = 0.0  # share of those whose body had been sent before
    server: ServerCost | None = None
    sgemm_gflops: float | None = None  # measured on this machine before the load
    flops_share: float | None = None  # of it, that arithmetic of answers to new bodies came to

    def to_json(self) -> dict[str, Any]:
        """The report as JSON."""
        return asdict(self)


def make_report(samples: Samples, plan: LoadPlan, bodies: int) -> LoadReport:
    """Figures of all samples of a load that sent so many bodies, and then from the first again."""
    begin_s, end_s = plan.warmup_s, plan.total_s
    ended = (samples.done_s >= begin_s) & (samples.done_s < end_s)
    due = (samples.due_s >= begin_s) & (samples.due_s < end_s)
    closed = plan.concurrency is not None
    asked = samples.take(ended if closed else due)
    good = asked.outcome == 200
    waited_ms = 1000 * (asked.done_s - asked.due_s)
    in_time = samples.take(ended & (samples.outcome == 200))
    late_ms = 1000 * (asked.sent_s - asked.due_s)
    again = max(len(samples.outcome) - bodies, 0)  # the last ones
    return LoadReport(
        mode="closed" if closed else "open",
        offered=float(plan.concurrency or plan.rate or 0),
        duration_s=plan.duration_s,
        sent=len(asked.outcome),
        answered=int(good.sum()),
        degraded=int(asked.degraded[good].sum()),
        requests_per_s=len(in_time.outcome) / plan.duration_s,
        latency_ms=_latency(waited_ms[good]),
        refusal_ms=_latency(waited_ms[~good & (asked.outcome > BROKEN)]),
        goodput_per_s=_goodput(in_time, plan),
        errors=_errors(asked.outcome[~good].tolist()),
        late_ms=_percentile(np.sort(late_ms), 0.99) if len(late_ms) else 0.0,
        repeated=min(again / len(asked.outcome), 1.0) if len(asked.outcome) else 0.0,
    )


def _goodput(answers: Samples, plan: LoadPlan) -> float | None:
    if plan.deadline_ms is None:
        return None
    waited_ms = 1000 * (answers.done_s - answers.due_s)
    return int((waited_ms <= plan.deadline_ms + GRACE_MS).sum()) / plan.duration_s


def _errors(outcomes: Sequence[int]) -> dict[str, int]:
    return {outcome_name(kind): outcomes.count(kind) for kind in sorted(set(outcomes))}


def _latency(waited_ms: NDArray[np.float64]) -> Latency | None:
    if not len(waited_ms):
        return None
    ordered = np.sort(waited_ms)
    return Latency(
        p50=_percentile(ordered, 0.5),
        p90=_percentile(ordered, 0.9),
        p99=_percentile(ordered, 0.99),
        p999=_percentile(ordered, 0.999),
        max=float(ordered[-1]),
    )


def _percentile(ordered: NDArray[np.float64], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    return float(np.quantile(ordered, share, method="inverted_cdf"))
