"""What trials and tasks do, told to the progress display and written to the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import ray

from penchant.platform.errors import PenchantError
from penchant.platform.progress import Progress
from penchant.platform.store import RunDirectory
from penchant.trainers.ledger import Ledger
from penchant.trainers.note import read_note

__all__ = ["Watch"]


#: What the ledger keeps of a worker's report.
_TOLD = (
    *("member", "state", "epoch", "epochs", "train_loss", "select_loss"),
    *("metric", "select_metric", "seconds"),
)


#: On a terminal a line is renewed, in a log it is a line more.
_NOTES_EVERY_S = 10.0


class Watch:
    """Tells the progress display and the ledger what trials and tasks do."""

    def __init__(self, progress: Progress, run: RunDirectory, tasks: dict[Any, str]) -> None:
        self._progress, self._run, self._tasks = progress, run, tasks
        self._ledger = Ledger(run.ledger)
        self._noted: dict[str, str] = {}  # member -> what its task said last
        self._noted_s = time.monotonic()
        self.failures: dict[str, str] = {}  # member -> what went wrong

    def result(self, result: Mapping[str, Any]) -> None:
        """A worker group reported."""
        self.poll()
        event = {name: result[name] for name in _TOLD if name in result}
        if "member" not in event:
            return
        if event["state"] == "planned":
            self._progress.say(f"{event['member']}: {result['memory']}")
            return
        if event["state"] == "passed":
            self._progress.say(
                f"{event['member']}: {result['checkpoints']} of its checkpoints are not whole, and "
                "are passed over"
            )
            return
        if event["state"] == "kept":
            self._progress.say(
                f"{event['member']}: step {result['step']} of {result['steps']}, train "
                f"{result['loss']:.3f}; goes on from here if it is cut"
            )
            return
        self._ledger.append(event)
        if event["state"] == "epoch":
            note = (
                f"epoch {event['epoch'] + 1}/{event['epochs']}, train {event['train_loss']:.3f}, "
                f"select {event['select_loss']:.3f}, "
                f"{event['metric'].upper()} {event['select_metric']:.4f}"
            )
            self._progress.step(event["member"], event["epoch"] + 1, note)
        else:
            self._progress.finish(event["member"], f"trained in {event['seconds']:.0f} s")
            for tracker, error in result.get("untracked", {}).items():
                self._progress.say(f"{event['member']}: {tracker} was not told all: {error}")

    def poll(self, timeout_s: float = 0.0) -> None:
        """Look after the baselines."""
        ready, _ = (
            ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=timeout_s)
            if self._tasks
            else ([], [])
        )
        for task in ready:
            member = self._tasks.pop(task)
            try:
                seconds = ray.get(task)
            except ray.exceptions.RayError as error:
                self.failed(member, error)
                continue
            self._ledger.append({"member": member, "state": "done", "seconds": seconds})
            self._progress.finish(member, f"fitted in {seconds:.1f} s")
        if time.monotonic() - self._noted_s >= _NOTES_EVERY_S:
            self._tell_notes()

    def _tell_notes(self) -> None:
        """What tasks say that take long."""
        self._noted_s = time.monotonic()
        for member in self._tasks.values():
            note = read_note(self._run.member(member))
            if note is not None and note != self._noted.get(member):
                self._noted[member] = note
                self._progress.note(member, note)

    def failed(self, member: str, error: BaseException) -> None:
        """A member failed: the ledger keeps the whole story, the display its end."""
        self.failures[member] = _cause(error)
        self._ledger.append({"member": member, "state": "failed", "error": str(error)})
        self._progress.say(f"{member}: failed, {self.failures[member]}")

    def wait_for_tasks(self) -> None:
        """Look after the baselines until all are done."""
        while self._tasks:
            self.poll(timeout_s=0.2)


def _cause(error: BaseException) -> str:
    """What went wrong, not where: our own errors whole, of others the last line."""
    if isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause
    if isinstance(error, PenchantError):
        return f"{type(error).__name__}: {error}"
    lines = [line for line in str(error).splitlines() if line.strip()]
    name, colon, message = (lines[-1] if lines else type(error).__name__).strip().partition(": ")
    return f"{name.rpartition('.')[2]}{colon}{message}"
