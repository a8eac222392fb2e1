"""What a load costs: CPU and memory of the server's processes, and what the machine could do."""

from __future__ import annotations

import os
import threading
import time

import psutil

from penchant.platform.errors import UnreachableError
from penchant.serve.load.report import ServerCost

__all__ = ["TreeMeter", "sgemm_gflops"]

_STEP_S = 1.0
_SIDE = 1024  # of the matrices: large enough that nothing but arithmetic counts


class TreeMeter:
    """Measures a process and all its descendants for a span of time, from a thread.

    Args:
        pid: of the server, such as `penchant serve run`.

    Raises:
        UnreachableError: there is no such process.
    """

    def __init__(self, pid: int) -> None:
        try:
            self._root = psutil.Process(pid)
        except psutil.NoSuchProcess as error:
            raise UnreachableError(
                f"there is no process {pid}: expected the server's. Leave --pid out, or give that "
                "of `penchant serve run`."
            ) from error
        self._begin, self._end = 0.0, 0.0
        self._first: dict[psutil.Process, float] = {}  # CPU seconds when first seen
        self._last: dict[psutil.Process, float] = {}  # and when last seen
        self._peak = 0
        self._thread = threading.Thread(target=self._measure, name="meter", daemon=True)

    def start(self, begin: float, duration_s: float) -> None:
        """Measure from a moment on, on the clock of `time.monotonic`; returns at once."""
        self._begin, self._end = begin, begin + duration_s
        self._thread.start()

    def cost(self) -> ServerCost:
        """Wait for the end of the span; what was used in it."""
        self._thread.join()
        used = sum(self._last[process] - self._first[process] for process in self._last)
        return ServerCost(
            cpu_s=used,
            cpus=used / (self._end - self._begin),
            peak_rss_mb=self._peak / 2**20,
            processes=len(self._last),
        )

    def _measure(self) -> None:
        time.sleep(max(self._begin - time.monotonic(), 0.0))
        self._look(new_cpu_s=None)
        while (left_s := self._end - time.monotonic()) > 0:
            time.sleep(min(left_s, _STEP_S))
            self._look(new_cpu_s=0.0)

    def _look(self, new_cpu_s: float | None) -> None:
        """Read all processes once.

        Args:
            new_cpu_s: what a process that is seen for the first time had used when the span began;
                None: what it has used by now.
        """
        held = 0
        for process in self._tree():
            try:
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
            except psutil.NoSuchProcess:
                continue
            cpu_s = times.user + times.system
            self._first.setdefault(process, cpu_s if new_cpu_s is None else new_cpu_s)
            self._last[process] = cpu_s
            held += memory.rss
        self._peak = max(self._peak, held)

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def sgemm_gflops(duration_s: float = 1.0) -> float:
    """What this machine's CPUs do in single precision, in GFLOP/s: the best of many products."""
    import torch  # takes seconds to import, and most loads do not need it

    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        left, right = torch.rand(_SIDE, _SIDE), torch.rand(_SIDE, _SIDE)
        out, best_s = torch.empty(_SIDE, _SIDE), float("inf")
        end = time.perf_counter() + duration_s
        while (began := time.perf_counter()) < end:
            torch.mm(left, right, out=out)
            best_s = min(best_s, time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    return 2 * _SIDE**3 / best_s / 1e9
