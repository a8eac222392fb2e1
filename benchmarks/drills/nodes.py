"""Drills in which a machine of the cluster goes, or the store of the cluster's own state."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from drills.load import beside
from drills.row import Row, loaded
from drills.served import Served, served

__all__ = ["lose_node", "lose_store"]

_PYTHON = [sys.executable, "-W", "ignore", "-c"]

#: `penchant` on a Ray of two nodes, the second of which is a child process that can be killed.
_TWO_NODES = """
import subprocess, sys, time
import ray
from penchant.platform.cluster import start_ray
from penchant.cli.main import main
with start_ray(num_cpus=4):
    head = ray.get_runtime_context().gcs_address
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=4"]
    second = subprocess.Popen([*start, f"--address={head}"], stdout=subprocess.DEVNULL)
    while len(ray.nodes()) < 2:
        time.sleep(0.2)
    try:
        main()
    finally:
        second.terminate()
        second.wait()
"""

#: `penchant` on a Ray whose store of state is killed at SIGUSR1 and back two seconds later.
_NEW_STORE = """
import os, signal, threading, time
from penchant.platform.cluster import start_ray
from penchant.cli.main import main
def renew():
    from ray._private.worker import _global_node
    _global_node.kill_gcs_server()
    time.sleep(2)
    _global_node.start_gcs_server()
    threading.Event().wait()  # it lives as long as the thread that started it
with start_ray(num_cpus=4):
    on_signal = lambda *_: threading.Thread(target=renew, daemon=True).start()
    signal.signal(signal.SIGUSR1, on_signal)
    main()
"""


def lose_node(directory: Path, service: Path, bodies: Sequence[bytes], rate: float) -> Row:
    """SIGKILL one of two nodes, with the replicas that it has."""
    prefix = [*_PYTHON, _TWO_NODES]
    with served(directory, service, "--placement", "apart", prefix=prefix) as running:

        def kill() -> int:
            raylet = next(p for p in running.processes("raylet") if "--head" not in p.cmdline())
            theirs = [p for p in raylet.children(recursive=True) if p.cmdline()]
            replicas = sum(p.cmdline()[0].startswith("ray::ServeReplica") for p in theirs)
            raylet.kill()
            for process in theirs:  # a machine that is gone runs nothing any more
                if process.is_running():
                    process.kill()
            return replicas

        before = Counter(running.deployments())
        row = _outage(running, bodies, rate, kill, "one of two nodes is gone", 45)
        after = Counter(running.deployments())
        return replace(
            row,
            result=f"{row.result}; {after.total()} replicas of members, {before.total()} before",
            promise="some are hit; whole by itself, with as many replicas of each member as before",
            met=row.figures["hit"] > 0 and row.figures["whole"] > 0 and after >= before,
        )


def lose_store(
    directory: Path, service: Path, bodies: Sequence[bytes], rate: float, *, kept: bool
) -> Row:
    """SIGKILL Ray's global store of state; two seconds later another one starts in its place.

    Args:
        kept: whether it keeps its state on disk, with RocksDB.
    """
    prefix = [*_PYTHON, _NEW_STORE]
    if kept:
        storage = f"RAY_gcs_storage_path={service.parent / 'gcs'}"
        prefix = ["env", "RAY_gcs_storage=rocksdb", storage, *prefix]
    with served(directory, service, "--placement", "apart", prefix=prefix) as running:

        def kill() -> int:
            running.process.send_signal(signal.SIGUSR1)
            return len(running.replicas("ray::ServeReplica"))

        title = f"the cluster's store is killed, {'RocksDB' if kept else 'in memory'}"
        row = _outage(running, bodies, rate, kill, title, 60)
        if not kept:
            return row
        met = row.failed == 0 and row.figures["whole"] > 0
        return replace(row, promise="0 failed, whole by itself", met=met)


def _outage(
    service: Served,
    bodies: Sequence[bytes],
    rate: float,
    hurt: Callable[[], int],
    title: str,
    duration_s: float,
) -> Row:
    """What a steady load sees while something is hurt; `hurt` returns how many replicas it hits."""
    with beside(service.url, bodies, rate=rate, duration_s=duration_s) as load:
        replicas = hurt()
        began = time.monotonic()
        last_bad_s, whole = 0.0, False
        while time.monotonic() - began < duration_s - 5:
            whole = service.whole(bodies[0])
            if not whole:
                last_bad_s = time.monotonic() - began
            time.sleep(0.1)
    state = f"whole after {last_bad_s:.1f} s" if whole else "not whole again"
    return loaded(
        title,
        [load.report()],
        f"{replicas} replicas hit; {state}",
        figures={"hit": float(replicas), "whole": float(whole)},
    )
