"""A service directory that nobody can write to, as where a disk is full or was mounted again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from drills.load import beside
from drills.row import Row, failed, loaded
from drills.served import Served

__all__ = ["lose_disk"]

_FRONT = "ServeReplica:front"
_DROPPED = "penchant_log_dropped_rows"
_PATIENCE_S = 25.0
_SETTLES_S = 8.0  # from a successor's process to its first answers, on a machine that is busy
_LOAD_S = 120.0
#: From a front's first answer until it would write them, and until its metrics are collected.
_TOLD_S = 90.0


def lose_disk(service: Served, bodies: Sequence[bytes], rate: float) -> Row:
    """Both fronts are killed, one after the other: their successors begin without a disk."""
    replaced: list[float] = []
    before_it = service.metric(_DROPPED)
    with (
        unwritable(service.service),
        beside(service.url, bodies, rate=rate, duration_s=_LOAD_S) as load,
    ):
        for victim in service.replicas(_FRONT):
            before = {front.pid for front in service.replicas(_FRONT)}
            victim.kill()
            replaced.append(_successor_s(service, before))
            time.sleep(_SETTLES_S)
        lost = _lost(service, before_it)
    report = load.report()
    return loaded(
        "the service directory cannot be written, and both fronts are killed",
        [report],
        f"fronts that began without a disk were there after "
        f"{', '.join(f'{seconds:.1f}' for seconds in replaced)} s; {lost:.0f} rows of the "
        "prediction log told as lost",
        promise="0 failed, fronts replaced, what is lost is told",
        met=failed(report) == 0 and all(seconds < _PATIENCE_S for seconds in replaced) and lost > 0,
    )


def _lost(service: Served, before: float) -> float:
    """Rows of the prediction log that are told as lost beyond those before; 0 where none are."""
    began = time.monotonic()
    while time.monotonic() - began < _TOLD_S:
        if (lost := service.metric(_DROPPED) - before) > 0:
            return lost
        time.sleep(2)
    return 0.0


@contextmanager
def unwritable(directory: Path) -> Iterator[None]:
    """Nothing below a directory can be written for the length of a `with`.

    Permissions do not bind root, so there the directory is mounted over itself, read-only, which
    needs CAP_SYS_ADMIN.
    """
    if os.geteuid() != 0:
        kept = {path: path.stat().st_mode for path in [directory, *directory.rglob("*")]}
        for path, mode in kept.items():
            path.chmod(mode & ~0o222)
        try:
            yield
        finally:
            for path, mode in kept.items():
                path.chmod(mode)
        return
    _do("mount", "--bind", str(directory), str(directory))
    try:
        _do("mount", "-o", "remount,bind,ro", str(directory))
        yield
    finally:
        _do("umount", "--lazy", str(directory))


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")


def _successor_s(service: Served, before: set[int]) -> float:
    """Seconds until there is a front that was not there before; infinite where there is none."""
    began = time.monotonic()
    while time.monotonic() - began < _PATIENCE_S:
        if {front.pid for front in service.replicas(_FRONT)} - before:
            return time.monotonic() - began
        time.sleep(0.1)
    return float("inf")
