"""Loads an endpoint as a plan says, from one process or several, and reports what came of it."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from penchant.platform.errors import RunError
from penchant.serve.load.cost import TreeMeter, sgemm_gflops
from penchant.serve.load.plan import LoadPlan
from penchant.serve.load.report import LoadReport, make_report
from penchant.serve.load.samples import Samples
from penchant.serve.load.sender import Tell, Tick, send_all

__all__ = ["run_load"]


_SOON_S = 0.05
_READY_S = 120.0  # a sending process imports what it needs, on a machine that is busy perhaps


def run_load(
    url: str,
    bodies: Sequence[bytes],
    plan: LoadPlan,
    *,
    pid: int | None = None,
    flops_per_request: float | None = None,
    tell: Tell = lambda tick: None,
) -> LoadReport:
    """Send a load, wait for its last answer, report.

    Args:
        url: the endpoint, such as http://127.0.0.1:8000.
        bodies: JSON, sent one after the other and then from the first again. At least one.
        pid: of the server, where it runs on this machine and its cost shall be measured.
        flops_per_request: arithmetic that an answer takes; the report then says what share of this
            machine's speed was put to use.
        tell: told about the progress every second.

    Raises:
        UnreachableError: there is no process of that id. An endpoint that does not answer is no
            error: the report counts what failed.
        RunError: a sending process died.
    """
    if not bodies:
        raise ValueError("a load needs at least one body")
    peak = None if flops_per_request is None else sgemm_gflops()
    meter = None if pid is None else TreeMeter(pid)

    def begin() -> float:
        soon = time.monotonic() + _SOON_S
        if meter is not None:
            meter.start(soon + plan.warmup_s, plan.duration_s)
        return soon

    if plan.processes == 1:
        samples = asyncio.run(send_all(url, bodies, plan, begin(), 0, tell))
    else:
        samples = _from_processes(url, bodies, plan, begin, tell)
    report = make_report(samples, plan, len(bodies))
    if meter is not None:
        report = replace(report, server=meter.cost())
    if peak is not None and flops_per_request is not None:
        new_per_s = report.requests_per_s * (1 - report.repeated)  # members may know the others
        share = flops_per_request * new_per_s / (peak * 1e9)
        report = replace(report, sgemm_gflops=peak, flops_share=share)
    return report


def _from_processes(
    url: str,
    bodies: Sequence[bytes],
    plan: LoadPlan,
    begin: Callable[[], float],
    tell: Tell,
) -> Samples:
    # Not forked: the process that asks for a load may have threads.
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(plan.processes)]
    senders = [
        context.Process(target=_send, args=(url, bodies, plan, at, theirs), daemon=True)
        for at, (_, theirs) in enumerate(pipes)
    ]
    try:
        for sender in senders:
            sender.start()
        for _, theirs in pipes:
            theirs.close()  # so that the end of a process is the end of its pipe
        ours = [pipe for pipe, _ in pipes]
        return Samples.join(_gather(ours, begin, tell))
    finally:
        for sender in senders:
            sender.join(1.0)
            sender.terminate()


def _send(url: str, bodies: Sequence[bytes], plan: LoadPlan, at: int, pipe: Connection) -> None:
    """A process of its own: says that it is ready, is told when to begin, sends its samples."""
    pipe.send("ready")
    begin = pipe.recv()
    pipe.send(asyncio.run(send_all(url, bodies, plan, begin, at, pipe.send)))


def _gather(pipes: Sequence[Connection], begin: Callable[[], float], tell: Tell) -> list[Samples]:
    """Samples of all processes, in their order."""
    for at, pipe in enumerate(pipes):
        if not pipe.poll(_READY_S):
            raise RunError(
                f"sending process {at} of the load was not ready within {_READY_S:.0f} s. Is the "
                "machine overloaded? Try fewer --processes."
            )
        _receive(pipe, at)
    moment = begin()
    for pipe in pipes:
        pipe.send(moment)
    ticks: dict[int, Tick] = {}
    found: dict[int, Samples] = {}
    while len(found) < len(pipes):
        open_ones = {pipe: at for at, pipe in enumerate(pipes) if at not in found}
        for at in [at for pipe, at in open_ones.items() if pipe in wait(list(open_ones))]:
            message = _receive(pipes[at], at)
            if isinstance(message, Samples):
                found[at] = message
                continue
            ticks[at] = message
            if at == 0:
                tell(_total(list(ticks.values())))
    return [found[at] for at in range(len(pipes))]


def _receive(pipe: Connection, at: int) -> Any:
    try:
        return pipe.recv()
    except (EOFError, ConnectionError):
        raise RunError(
            f"sending process {at} of the load died, expected its samples. Is there enough memory? "
            "Try fewer --processes, or a shorter --duration-s."
        ) from None


def _total(ticks: Sequence[Tick]) -> Tick:
    return Tick(
        elapsed_s=max(tick.elapsed_s for tick in ticks),
        sent=sum(tick.sent for tick in ticks),
        answered=sum(tick.answered for tick in ticks),
        failed=sum(tick.failed for tick in ticks),
    )
