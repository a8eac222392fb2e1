"""Memory of a whole run: this process and all that it started, Ray's processes among them."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

__all__ = ["PeakMemory"]

_INTERVAL_S = 1.0


class PeakMemory:
    """Samples the process tree while a `with` lasts.

    A process counts with its private pages (resident minus shared); the largest shared part counts
    once, since the processes share the mapped log and Ray's object store.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        me = psutil.Process()
        while True:
            self.peak_bytes = max(self.peak_bytes, _tree_bytes(me))
            if self._done.wait(_INTERVAL_S):
                return


def _tree_bytes(root: psutil.Process) -> int:
    private, shared = 0, 0
    for process in [root, *root.children(recursive=True)]:
        try:
            memory = process.memory_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended between two looks
        part = getattr(memory, "shared", 0)  # Linux tells; elsewhere all counts as private
        private += memory.rss - part
        shared = max(shared, part)
    return private + shared
