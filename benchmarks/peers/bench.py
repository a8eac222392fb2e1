"""Cells of a table as they are measured: a server, a load, a row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from peers.servers import Server

from penchant.serve.load.cost import sgemm_gflops
from penchant.serve.load.plan import LoadPlan
from penchant.serve.load.report import LoadReport
from penchant.serve.load.run import run_load

__all__ = [
    "DEADLINE_MS",
    "FRESH",
    "PATH",
    "Bench",
    "median_ms",
    "print_head",
    "whole_per_s",
    "worst_ms",
]

PATH = "/v1/score"
DEADLINE_MS = 10_000  # the longest there is: an answer without some members is less work
FRESH = 2_800  # histories that a cell has to itself: more than any server answers meanwhile


@dataclass
class Bench:
    """Cells of the table as they are measured.

    No server meets a history again, unless a cell is about that: ours remembers what it has read.

    Args:
        bodies: of which each cell takes its own, with as many candidates as any cell wants.
        candidates: of a cell that does not say.
    """

    bodies: Sequence[bytes]
    candidates: int
    duration_s: float
    warmup_s: float
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    used: int = 0

    def fresh(self, candidates: int | None = None) -> list[bytes]:
        """Bodies with histories that no cell had lately."""
        at = self.used % len(self.bodies)
        self.used += FRESH
        chosen = [*self.bodies[at:], *self.bodies[:at]][:FRESH]
        return [_with_candidates(body, candidates or self.candidates) for body in chosen]

    def measure(
        self,
        server: Server,
        cell: str,
        *,
        callers: int | None = None,
        rate: float | None = None,
        bodies: Sequence[bytes] | None = None,
    ) -> LoadReport:
        """Load a server, print the row and keep it under the cell's name."""
        plan = LoadPlan(
            path=PATH,
            duration_s=self.duration_s,
            warmup_s=self.warmup_s,
            timeout_s=60.0,
            deadline_ms=DEADLINE_MS,
            concurrency=callers,
            rate=rate,
        )
        sgemm = round(sgemm_gflops(), 1)
        report = run_load(server.url, bodies or self.fresh(), plan, pid=server.pid)
        self.cells[f"{server.name} {cell}"] = report.to_json() | {"sgemm_gflops": sgemm}
        _print_row(server.name, cell, report, sgemm)
        return report


def print_head() -> None:
    """The names of the columns of `Bench.measure`."""
    head = f"{'server':<10}{'cell':<26}{'per s':>8}{'p50 ms':>9}{'p99 ms':>9}{'CPUs':>7}{'MB':>8}"
    print(f"{head}{'sgemm':>8}", flush=True)


def whole_per_s(report: LoadReport) -> float:
    """Answers per second in which no member is missing."""
    return report.requests_per_s * (1 - report.degraded / max(report.answered, 1))


def median_ms(report: LoadReport) -> float | None:
    return None if report.latency_ms is None else report.latency_ms.p50


def worst_ms(report: LoadReport) -> float | None:
    return None if report.latency_ms is None else report.latency_ms.p99


def _with_candidates(body: bytes, number: int) -> bytes:
    content = json.loads(body)
    return json.dumps(content | {"candidates": content["candidates"][:number]}).encode()


def _print_row(name: str, cell: str, report: LoadReport, sgemm: float) -> None:
    latency, cost = report.latency_ms, report.server
    times = "" if latency is None else f"{latency.p50:>9.1f}{latency.p99:>9.1f}"
    load = "" if cost is None else f"{cost.cpus:>7.2f}{cost.peak_rss_mb:>8.0f}"
    wrong = ", ".join(f"{n} x {kind}" for kind, n in report.errors.items())
    if report.degraded:
        wrong = f"{report.degraded} degraded {wrong}"
    row = f"{name:<10}{cell:<26}{report.requests_per_s:>8.1f}{times:>18}{load:>15}{sgemm:>8}"
    print(f"{row}  {wrong}", flush=True)
