"""`penchant serve bench`: what an endpoint can do, and how long users wait for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penchant.cli.options import Json

if TYPE_CHECKING:
    from penchant.serve.load.report import Latency, LoadReport
    from penchant.serve.load.sender import Tick

__all__ = ["bench"]

_CALLERS = 8


def bench(
    url: Annotated[str, typer.Argument(metavar="URL", help="The endpoint.", show_default=False)],
    run: Annotated[
        Path,
        typer.Option("--run", metavar="RUN_DIR", help="Whose test requests are asked."),
    ],
    rate: Annotated[
        float | None,
        typer.Option(help="Open: so many requests arrive a second, at random moments."),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            help="Closed: so many callers, each waiting for its answer.",
            show_default=f"{_CALLERS}, without --rate",
        ),
    ] = None,
    duration_s: Annotated[float, typer.Option(help="Seconds that are measured.")] = 30.0,
    warmup_s: Annotated[float, typer.Option(help="Seconds before them that are not.")] = 3.0,
    path: Annotated[
        Literal["score", "recommend"] | None,
        typer.Option(
            help="What is asked.", show_default="recommend; score where requests are binary"
        ),
    ] = None,
    candidates: Annotated[int, typer.Option(help="Items of a score request.")] = 16,
    deadline_ms: Annotated[
        int | None, typer.Option(help="Told to the endpoint; answers within it are counted.")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the API key.", show_default="the key in PENCHANT_API_KEY, if any"
        ),
    ] = None,
    processes: Annotated[int, typer.Option(help="Processes that send.")] = 1,
    pid: Annotated[
        int | None,
        typer.Option(help="Of the server on this machine: measure its CPU and memory too."),
    ] = None,
    flops_per_request: Annotated[
        float | None,
        typer.Option(help="Arithmetic of an answer: tell its share of this machine's speed."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Load a running endpoint with recorded requests, and measure it.

    Latency of an open load counts from when a request was due, so waiting is not left out. The
    first request is sent alone: an endpoint that refuses it is not loaded.

    \b
    Examples:
      penchant serve bench http://127.0.0.1:8080 --run runs/demo --concurrency 32
      penchant serve bench http://127.0.0.1:8080 --run runs/demo --rate 50 --deadline-ms 200
    """
    from penchant.serve.load.bodies import recorded_bodies
    from penchant.serve.load.key import api_key
    from penchant.serve.load.plan import LoadPlan
    from penchant.serve.load.probe import probe
    from penchant.serve.load.run import run_load
    from penchant.serve.routes.stored import StoredRequests

    stored = StoredRequests.open(run)
    if path is None:
        path = "recommend" if stored.requests.candidate is None else "score"
    plan = LoadPlan(
        path=f"/v1/{path}",
        rate=rate,
        concurrency=_CALLERS if rate is None and concurrency is None else concurrency,
        duration_s=duration_s,
        warmup_s=warmup_s,
        deadline_ms=deadline_ms,
        key=api_key(key_file),
        processes=processes,
    )
    bodies = recorded_bodies(stored, plan.path, candidates=candidates)
    probe(url, bodies[0], plan)
    tell = _Line(plan.total_s) if sys.stderr.isatty() else lambda tick: None
    report = run_load(url, bodies, plan, pid=pid, flops_per_request=flops_per_request, tell=tell)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(json.dumps(report.to_json()) if as_json else _told(report))


class _Line:
    """One line on the terminal, written over every second."""

    def __init__(self, total_s: float) -> None:
        self._total_s, self._before = total_s, 0

    def __call__(self, tick: Tick) -> None:
        now = tick.answered - self._before
        self._before = tick.answered
        left = f"{min(tick.elapsed_s, self._total_s):4.0f} of {self._total_s:.0f} s"
        line = f"{left}  {tick.answered} answered, {now} in the last second, {tick.failed} failed"
        print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)


def _told(report: LoadReport) -> str:
    load = (
        f"{report.offered:g} callers" if report.mode == "closed" else f"{report.offered:g} a second"
    )
    lines = [
        f"{report.mode} load of {load} for {report.duration_s:g} s",
        f"  sent        {report.sent}",
        f"  answered    {report.answered}   {report.requests_per_s:.1f} a second",
        f"  latency     {_latency(report.latency_ms)}",
        f"  degraded    {report.degraded}",
        f"  errors      {_errors(report.errors)}",
    ]
    if report.refusal_ms is not None:
        lines.append(f"  refusals    {_latency(report.refusal_ms)}")
    if report.goodput_per_s is not None:
        lines.append(f"  in time     {report.goodput_per_s:.1f} a second")
    lines.append(f"  sent late   p99 {report.late_ms:.1f} ms (by this load generator)")
    if report.repeated:
        lines.append(
            f"  repeated    {report.repeated:.0%} of the histories had been sent before: members "
            "may know them"
        )
    if report.server is not None:
        cost = report.server
        lines.append(
            f"  server      {cost.cpu_s:.1f} CPU s ({cost.cpus:.2f} CPUs), peak "
            f"{cost.peak_rss_mb:.0f} MB in {cost.processes} processes"
        )
    if report.flops_share is not None and report.sgemm_gflops is not None:
        lines.append(
            f"  arithmetic  {report.flops_share:.1%} of {report.sgemm_gflops:.0f} GFLOP/s (sgemm)"
        )
    return "\n".join(lines)


def _latency(found: Latency | None) -> str:
    if found is None:
        return "nothing was answered"
    return (
        f"p50 {found.p50:.1f}  p90 {found.p90:.1f}  p99 {found.p99:.1f}  p99.9 {found.p999:.1f}  "
        f"max {found.max:.1f} ms"
    )


def _errors(errors: dict[str, int]) -> str:
    return ", ".join(f"{count} x {kind}" for kind, count in errors.items()) or "none"
