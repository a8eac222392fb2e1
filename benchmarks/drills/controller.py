"""What Serve's controller wrote: when it missed a replica, and when the next one was ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil
from drills.served import Served

__all__ = ["lines_since"]


def lines_since(service: Served, since_s: float) -> Iterator[tuple[float, str]]:
    """Lines of the log with their times, in seconds since 1970, from a moment on."""
    for path in sorted(_session(service).glob("logs/serve/controller_*.log")):
        for line in path.read_text(errors="replace").splitlines():
            told_s = _time_s(line)
            if told_s is not None and told_s >= since_s:
                yield told_s, line


def _time_s(line: str) -> float | None:
    """`LEVEL 2026-11-29 05:26:36,123 controller ...`; None of a line that continues another."""
    try:
        return datetime.strptime(
            " ".join(line.split(" ", 3)[1:3]), "%Y-%m-%d %H:%M:%S,%f"
        ).timestamp()
    except ValueError:
        return None


def _session(service: Served) -> Path:
    """The directory of the service's Ray, as the command lines of its processes name it."""
    for process in psutil.Process(service.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            for word in process.cmdline():
                name, _, value = word.partition("=")
                if name == "--session_dir":  # of the raylet
                    return Path(value)
    raise RuntimeError("no process of the service says where its Ray keeps its logs")
