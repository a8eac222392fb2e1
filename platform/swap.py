"""Directories and files that appear whole or not at all: made beside their place, then moved in."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["lock_directory", "swap_in", "whole_file", "workspace"]


@contextmanager
def workspace(place: Path) -> Iterator[Path]:
    """A scratch directory beside a place; it is removed at the end, whatever happens.

    What processes that were killed left beside the same place is removed too: a live one holds
    a lock on its directory.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{place.name}-building-"
    for left in place.parent.glob(f"{prefix}*"):
        lock = lock_directory(left)
        if lock is not None:
            shutil.rmtree(left)
            os.close(lock)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=place.parent))
    held = lock_directory(work)
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


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write in its stead, which takes its place at the end; a hidden one if it fails."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    yield partial
    partial.replace(path)


def lock_directory(directory: Path) -> int | None:
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
