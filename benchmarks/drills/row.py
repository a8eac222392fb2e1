"""What a drill found: a row of the table, with what was promised and whether that was kept."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from penchant.serve.load.report import LoadReport

__all__ = ["Row", "failed", "line", "loaded", "not_run", "table"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A drill, and what came of it."""

    drill: str
    requests: int
    failed: int
    degraded: int
    result: str
    promise: str | None = None  # None: measured only
    met: bool | None = None  # whether the promise was kept; None where there is none
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The row as JSON."""
        return asdict(self)


def loaded(
    drill: str,
    reports: Sequence[LoadReport],
    result: str,
    *,
    promise: str | None = None,
    met: bool | None = None,
    figures: Mapping[str, float] | None = None,
) -> Row:
    """The row of a drill under load: its counts are those of the loads, errors are told by kind."""
    errors: dict[str, int] = {}
    for report in reports:
        for kind, number in report.errors.items():
            errors[kind] = errors.get(kind, 0) + number
    told = ", ".join(f"{number} x {kind}" for kind, number in sorted(errors.items()))
    return Row(
        drill=drill,
        requests=sum(report.sent for report in reports),
        failed=sum(failed(report) for report in reports),
        degraded=sum(report.degraded for report in reports),
        result=f"{result}; {told}" if told else result,
        promise=promise,
        met=met,
        figures=figures or {},
    )


def not_run(drill: str, error: Exception) -> Row:
    """The row of a drill that could not be done, which keeps no promise."""
    why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Row(
        drill=drill,
        requests=0,
        failed=0,
        degraded=0,
        result=f"did not run: {why}".replace("|", "/"),
        promise="it runs",
        met=False,
    )


def failed(report: LoadReport) -> int:
    """Requests without a good answer."""
    return report.sent - report.answered


def line(row: Row) -> str:
    """A row for people."""
    kept = {True: "kept", False: "BROKEN", None: "measured"}[row.met]
    return (
        f"{kept:8}  {row.drill}: {row.requests} requests, {row.failed} failed, "
        f"{row.degraded} degraded; {row.result}"
    )


def table(rows: Sequence[Row], served: str, note: str) -> list[str]:
    """The rows as Markdown.

    Args:
        served: what was served, in a few words.
        note: what else the reader has to know, or nothing.
    """
    lines = [
        f"{served}, each in a process of its own; {os.cpu_count()} CPUs shared with the load "
        f"generator; {time.strftime('%Y-%m-%d')}{note}.",
        "",
        "| drill | requests | failed | degraded | what happened | promise |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        kept = "kept" if row.met else "**broken**"
        promise = "none: measured" if row.promise is None else f"{row.promise}: {kept}"
        lines.append(
            f"| {row.drill} | {row.requests:,} | {row.failed:,} | {row.degraded:,} | "
            f"{row.result} | {promise} |"
        )
    return lines
