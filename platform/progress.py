"""Progress of long work: what runs, what is left, and for about how long.

On a terminal a live display; elsewhere plain lines, one for each thing that happened. Talk goes to
standard error, so that results on standard output stay clean.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Live

from penchant.platform.time_left import TimeLeft, clock_text

__all__ = ["Progress"]


class Progress:
    """Steps of named parts, and a whole made of them.

    Use as a context manager; `quiet` keeps everything but errors to itself.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._live = Live(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._began = time.monotonic()
        self._whole: TaskID | None = None
        self._parts: dict[str, TaskID] = {}
        self._steps: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._time_left = TimeLeft()

    def __enter__(self) -> Progress:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        elapsed = time.monotonic() - self._began
        self._console.print(f"[{clock_text(elapsed)}] {text}", markup=False, soft_wrap=True)

    def expect(self, what: str, steps: dict[str, int]) -> None:
        """Announce the parts of a whole with the number of steps that each will take."""
        self._steps, self._done = dict(steps), {}
        self._time_left.expect(steps)
        self._whole = self._live.add_task(what, total=sum(steps.values()), note="")
        self.say(f"{what}: {len(steps)} to do")

    def step(self, part: str, done: int, note: str) -> None:
        """A part has `done` steps behind it."""
        self._done[part] = done
        self._time_left.step(part, self._steps.get(part, done) - done)
        self._live.update(self._line(part), completed=done, note=note)
        self._update_whole()
        if not self._console.is_terminal:
            self.say(f"{part}: {note} ({self._time_left.words()})")

    def note(self, part: str, note: str) -> None:
        """What a part does within its step."""
        self._live.update(self._line(part), note=note)
        if not self._console.is_terminal:
            self.say(f"{part}: {note}")

    def _line(self, part: str) -> TaskID:
        if part not in self._parts:
            self._parts[part] = self._live.add_task(part, total=self._steps.get(part), note="")
        return self._parts[part]

    def finish(self, part: str, note: str) -> None:
        """A part is done, in fewer steps than announced perhaps."""
        self._done[part] = self._steps.get(part, 0)
        self._time_left.finish(part)
        if part in self._parts:
            self._live.remove_task(self._parts.pop(part))
        self._update_whole()
        finished = sum(self._done.get(p) == n for p, n in self._steps.items())
        left = self._time_left.words()
        self.say(f"{part}: {note} ({finished} of {len(self._steps)} done, {left})")

    def _update_whole(self) -> None:
        if self._whole is not None:
            self._live.update(self._whole, completed=sum(self._done.values()))
