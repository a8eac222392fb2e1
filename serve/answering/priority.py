"""Who goes first where there are fewer CPUs than there is work.

Serve's proxy turns away what cannot be answered in time. It needs a moment of a CPU for each
refusal, and has to have it at once, while fronts and members keep every CPU busy: so they yield to
it, and to Ray's own processes, whose heartbeats must not come late either. On a machine of two
CPUs, at four times the load that it can answer, refusals came after 25 to 33 ms at the 99th
percentile instead of 65 to 120 (from the second load on, docs/lab-notes.md), and no fewer requests
were answered.

A step of niceness is worth 1.25 times as much of a contended CPU (`man 7 sched`).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

__all__ = ["yield_to_answers", "yield_to_proxy"]

logger = logging.getLogger(__name__)

_ANSWERS = 5  # a third of what a proxy gets
_UNAWAITED = 15  # a tenth of what answers get


def yield_to_proxy() -> None:
    """Put this process behind the proxy; threads that it starts later stand there too.

    Elsewhere than on Linux, where threads have no niceness of their own, nothing changes; nor where
    Ray's workers are further behind already, the proxy among them (RAY_worker_niceness).
    """
    if sys.platform == "linux":
        for thread in Path("/proc/self/task").iterdir():
            _step_back(int(thread.name), _ANSWERS)


def yield_to_answers() -> None:
    """Put this thread behind those that somebody waits for."""
    if sys.platform == "linux":
        _step_back(threading.get_native_id(), _UNAWAITED)


def _step_back(thread: int, niceness: int) -> None:
    """Never forward: that is for privileged users alone."""
    try:
        if os.getpriority(os.PRIO_PROCESS, thread) < niceness:
            os.setpriority(os.PRIO_PROCESS, thread, niceness)
    except ProcessLookupError:
        return  # it has just ended
    except OSError as error:  # some sandboxes allow nobody to step back
        logger.warning("niceness stays as it is: %s", error.strerror)
