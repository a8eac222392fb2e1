"""Time: windows of history and blocks of the calendar.

A window is a view on the log, found by two binary searches, never a copy. Blocks are cut at
global instants, the same for all users, so that nothing later informs anything earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from penchant.platform.errors import ConfigError

__all__ = [
    "DAY_MS",
    "Block",
    "Blocks",
    "Window",
    "as_utc",
    "blocks_from_dates",
    "blocks_from_quantiles",
    "first_at_or_after",
]

DAY_MS = 86_400_000


class Window(BaseModel):
    """How much history a model may see before a request; without limits it sees everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: float | None = Field(default=None, gt=0, description="Only the last so many days.")
    events: int | None = Field(default=None, ge=1, description="Only the last so many events.")
    half_life_days: float | None = Field(
        default=None, gt=0, description="An event this old counts half (members that count)."
    )

    @property
    def label(self) -> str:
        """Short name for ids and plots: `60d`, `100e`, `60d100e`, `all`; `-h30` for decay."""
        days = "" if self.days is None else f"{self.days:g}d"
        events = "" if self.events is None else f"{self.events}e"
        fade = "" if self.half_life_days is None else f"-h{self.half_life_days:g}"
        return (days + events or "all") + fade

    def starts(
        self,
        time_ms: NDArray[np.int64],
        first: NDArray[np.int64],
        end: NDArray[np.int64],
        at_ms: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """First log row that each request may see.

        Args:
            time_ms: times of the log's rows, sorted within every user. Shape (N,).
            first: first row of each request's user. Shape (R,).
            end: row after the last visible one, the request itself excluded. Shape (R,).
            at_ms: the request's time. Shape (R,).

        Returns:
            Rows in `[first, end]`, shape (R,).
        """
        start = first.copy()
        if self.days is not None:
            oldest = at_ms - np.int64(round(self.days * DAY_MS))
            start = first_at_or_after(time_ms, first, end, oldest)
        if self.events is not None:
            start = np.maximum(start, end - self.events)
        return start


def first_at_or_after(
    time_ms: NDArray[np.int64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    instant_ms: NDArray[np.int64],
) -> NDArray[np.int64]:
    """First row in `[first, end)` at or after the instant, else `end`; all shapes (R,).

    A binary search that runs for all requests at once.
    """
    low, high = first.copy(), end.copy()
    while True:
        open_ = low < high
        if not open_.any():
            return low
        middle = (low + high) // 2
        earlier = open_ & (time_ms[np.minimum(middle, len(time_ms) - 1)] < instant_ms)
        low = np.where(earlier, middle + 1, low)
        high = np.where(open_ & ~earlier, middle, high)


class Block(StrEnum):
    """A slice of calendar time with one job."""

    TRAIN = "train"  # fits members
    SELECT = "select"  # stops training and picks variants
    BLEND = "blend"  # fits ensembles and calibration
    TEST = "test"  # is read once


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """Where each block starts, in milliseconds UTC; each ends where the next one starts."""

    train_ms: int
    select_ms: int
    blend_ms: int
    test_ms: int
    end_ms: int

    def span_ms(self, block: Block) -> tuple[int, int]:
        """Start (inclusive) and end (exclusive) of a block."""
        edges = (self.train_ms, self.select_ms, self.blend_ms, self.test_ms, self.end_ms)
        at = list(Block).index(block)
        return edges[at], edges[at + 1]

    def to_json(self) -> dict[str, str]:
        """ISO dates, for manifests and reports."""
        names = [*(str(block) for block in Block), "end"]
        edges = (self.train_ms, self.select_ms, self.blend_ms, self.test_ms, self.end_ms)
        return {
            name: datetime.fromtimestamp(edge / 1000, UTC).isoformat(timespec="seconds")
            for name, edge in zip(names, edges, strict=True)
        }


def as_utc(moment: date) -> int:
    """Milliseconds since 1970; a moment without a zone is taken as UTC, a day as its midnight."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def blocks_from_dates(starts: Mapping[str, datetime], first_ms: int, last_ms: int) -> Blocks:
    """Blocks at given dates.

    Args:
        starts: moments for `select`, `blend`, `test`, and optionally `end`.
        first_ms: time of the log's first event.
        last_ms: time of the log's last event.

    Raises:
        ConfigError: a date is out of order, or a block lies outside the log.
    """
    edges = {name: as_utc(moment) for name, moment in starts.items()}
    return _checked(
        first_ms,
        edges["select"],
        edges["blend"],
        edges["test"],
        edges.get("end", last_ms + 1),
    )


def blocks_from_quantiles(shares: Mapping[str, float], time_ms: NDArray[np.int64]) -> Blocks:
    """Blocks at quantiles of the events' times: a share of .9 puts 90% of the events before it."""
    ordered = np.sort(time_ms)

    def at(share: float) -> int:
        return int(ordered[min(int(share * len(ordered)), len(ordered) - 1)])

    return _checked(
        int(ordered[0]),
        at(shares["select"]),
        at(shares["blend"]),
        at(shares["test"]),
        at(shares["end"]) if shares.get("end", 1.0) < 1 else int(ordered[-1]) + 1,
    )


def _checked(train: int, select: int, blend: int, test: int, end: int) -> Blocks:
    blocks = Blocks(train_ms=train, select_ms=select, blend_ms=blend, test_ms=test, end_ms=end)
    if not train < select < blend < test < end:
        received = ", ".join(f"{name} {moment}" for name, moment in blocks.to_json().items())
        raise ConfigError(
            f"time.blocks: expected train < select < blend < test < end, got {received}. "
            "Move the dates inside the log's time span (see `penchant data describe`), or use "
            "quantiles."
        )
    return blocks
