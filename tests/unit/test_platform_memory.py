"""The memory of a run is that of all its processes."""

from __future__ import annotations

import subprocess
import sys

from penchant.platform.memory import PeakMemory

_HOLD = "held = bytearray(b'1') * (150 << 20); print('held', flush=True); input()"


def test_what_a_child_process_holds_is_counted() -> None:
    with PeakMemory() as alone:
        pass
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with PeakMemory() as both:
            pass
        child.communicate("\n")
    assert both.peak_bytes - alone.peak_bytes > 140 << 20
