"""What a member's task is doing just now: one line, for whoever waits for it on another machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

from penchant.platform.store import write_json

__all__ = ["Note", "read_note"]

_EVERY_S = 2.0


class Note:
    """Keeps a line beside a member's directory up to date, not too often; a `with` removes it.

    Args:
        directory: of the member, on a disk that all nodes see.
    """

    def __init__(self, directory: Path) -> None:
        self._path, self._told = _file(directory), time.monotonic()
        self.remove()  # what an earlier task said that did not come to its end

    def __call__(self, text: str) -> None:
        """Say something new; what comes too soon after the last line is dropped."""
        if time.monotonic() - self._told < _EVERY_S:
            return
        write_json(self._path, {"note": text})
        self._told = time.monotonic()

    def remove(self) -> None:
        """There is nothing to say any more."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Note:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def read_note(directory: Path) -> str | None:
    """What the member's task said last; None where it has said nothing, or has ended."""
    try:
        text: str = json.loads(_file(directory).read_text())["note"]
    except OSError:
        return None
    return text


def _file(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.note")
