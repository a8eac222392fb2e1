"""Who goes first where there are fewer CPUs than there is work.

Serve's proxy turns away what cannot be answered in time. It needs a moment of a CPU for each
refusal, and has to have it at once, while fronts and members keep every CPU busy: so they yield to
it, and to Ray's own processes, whose heartbeats must not come late either. On a machine of two
CPUs, at four times the load that it can answer, refusals came after 12 to 33 ms at the 99th
percentile in most loads, instead of 64 to 73 (docs/lab-notes.md), and no fewer requests were
answered.

They do so from their first instruction: a replica that starts in front of those that answer takes
their CPUs for as long as it loads, and then the answers are late.

A step of niceness is worth 1.25 times as much of a contended CPU (`man 7 sched`).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading

__all__ = ["behind_the_proxy", "yield_to_answers"]

_ANSWERS = 5  # a third of what a proxy gets
_UNAWAITED = 15  # a tenth of what answers get


def behind_the_proxy() -> dict[str, str]:
    """What Ray starts a replica's process with (`runtime_env`), so that it yields to the proxy.

    Nothing where that cannot be said. The step is from where Ray's workers stand, the proxy among
    them.
    """
    nice = shutil.which("nice") if sys.platform == "linux" else None
    if nice is None:
        return {}
    return {"py_executable": shlex.join([nice, "-n", str(_ANSWERS), sys.executable])}


def yield_to_answers() -> None:
    """Put this thread behind those that somebody waits for (on Linux, where threads can differ)."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < _UNAWAITED:
            os.setpriority(os.PRIO_PROCESS, thread, _UNAWAITED)
