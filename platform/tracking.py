"""Tracking of training: the values of each step and epoch, told to one or several trackers.

A run that was cut goes on from its last checkpoint, and what was told of later steps will be told
again. So every tracker begins at a step: what it holds of later ones is dropped, or stands and the
repetition is dropped, and a curve has one value a step.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from penchant.platform.store import RunDirectory

__all__ = [
    "STEPS_FILE",
    "StepsFile",
    "TrackedRun",
    "Tracker",
    "Trackers",
    "read_steps",
    "track",
    "track_at",
]

STEPS_FILE = "steps.jsonl"  # in a member's directory
_ID_FILE = "run_id.txt"  # beside it
_FLUSH_S = 5.0


class Tracker(Protocol):
    """Where the values of a training go."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values after `step` updates, by name; may be kept back until `flush`."""

    def flush(self) -> None:
        """Let nothing that was logged be lost with this process."""

    def close(self) -> None:
        """The training is over, or cut: nothing more will be logged by this process."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A member's training, under one id through all restarts.

    Attributes:
        id: unlike that of any other training, also of one in a directory of the same name.
        name: for people: run directory and member.
        project: what trackers put their runs under, the experiment's name.
        root: the run directory.
        directory: the member's.
        step: updates that are done, from which the training goes on.
        facts: the member's recipe.
    """

    id: str
    name: str
    project: str
    root: Path
    directory: Path
    step: int
    facts: Mapping[str, Any]


def track(
    run: RunDirectory, member_id: str, *, project: str, step: int, facts: Mapping[str, Any]
) -> TrackedRun:
    """The training of a member: a new one, or one that goes on under the id that it has."""
    root = run.root.resolve()
    name = root.name
    if root.parent.name == "origins":  # of an experiment that is repeated at earlier times
        name = f"{root.parents[1].name}-origin-{root.name}"
    return track_at(
        root, run.member(member_id), f"{name}/{member_id}", project=project, step=step, facts=facts
    )


def track_at(
    root: Path, directory: Path, name: str, *, project: str, step: int, facts: Mapping[str, Any]
) -> TrackedRun:
    """A training that belongs to no run; the rest is as for `track`.

    Args:
        root: below it trackers may keep what is theirs.
        directory: of this training, below the root; its id stands there.
        name: for people.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _ID_FILE
    if not path.exists():
        readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:100]
        path.write_text(f"{readable}-{secrets.token_hex(3)}\n")
    return TrackedRun(
        id=path.read_text().strip(),
        name=name,
        project=project,
        root=root,
        directory=directory,
        step=step,
        facts=facts,
    )


class Trackers:
    """Several trackers as one. One that fails is left out from then on: training is worth more.

    Attributes:
        lost: trackers that were left out, by name, and why.
    """

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)
        self._flushed = time.monotonic()
        self.lost: dict[str, str] = {}

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Tell all; values that are no finite numbers are left out."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._each(lambda tracker: tracker.log(step, finite))
        if time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        self._each(lambda tracker: tracker.flush())
        self._flushed = time.monotonic()

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                tell(tracker)
            except Exception as error:  # a server's client may raise anything
                logging.getLogger(__name__).warning("tracking to %s ends here: %s", name, error)
                self.lost[name] = f"{type(error).__name__}: {error}"
                del self._trackers[name]


class StepsFile:
    """One JSON object a line: `step`, and the values that were logged with it."""

    def __init__(self, run: TrackedRun) -> None:
        path = run.directory / STEPS_FILE
        kept = [line for line in read_steps(path) if line["step"] <= run.step]
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text("".join(f"{json.dumps(line)}\n" for line in kept))
        partial.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_steps(path: Path) -> list[dict[str, float]]:
    """All whole lines of a steps file; none where there is no file. A kill may tear the last."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines
