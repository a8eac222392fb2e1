"""Directories that appear whole or not at all: built beside their place, then swapped in."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["swap_in", "workspace"]


@contextmanager
def workspace(place: Path) -> Iterator[Path]:
    """A scratch directory beside a place; it is removed at the end, whatever happens.

    What processes that were killed left beside the same place is removed too: a live one holds
    a lock on its directory.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{place.name}-building-"
    for left in place.parent.glob(f"{prefix}*"):
        lock = _lock(left)
        if lock is not None:
            shutil.rmtree(left)
            os.close(lock)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=place.parent))
    held = _lock(work)
    try:
        yield work
    finally:
        shutil.rmtree(work)
        if held is not None:
            os.close(held)


def swap_in(new: Path, place: Path, work: Path) -> None:
    """Put a directory in its place; what stood there goes to `work`, to be removed with it."""
    if place.exists():
        place.rename(work / "replaced")
    new.rename(place)


def _lock(directory: Path) -> int | None:
    """Lock a directory for this process; None if another one holds it or has just removed it."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
