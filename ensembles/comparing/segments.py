"""Results by segment of the test block: for whom, for what and when a combination helps.

Segments are of requests (users new since the members' cut-off, length of the history, time since
the last event, calendar week), and of targets (items new since the cut-off). All are told apart by
what was known when the request was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.comparing.judge import Judge, Sheet
from penchant.platform.events import EventLog
from penchant.platform.intervals import Interval
from penchant.platform.metrics import ranking_metrics
from penchant.platform.requests import Requests
from penchant.platform.timeline import DAY_MS

__all__ = [
    "FEW_USERS",
    "Segment",
    "SegmentResult",
    "cold_parts",
    "judge_segments",
    "segments_of",
    "segments_of_requests",
]

#: A segment of fewer users is shown, and marked: its interval is not to be trusted.
FEW_USERS = 50
_MONDAY = 3  # days from a Monday to 1 January 1970, a Thursday


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Some of the requests, or some of the targets, of a block."""

    by: str  # users, items, history, recency or week
    name: str
    requests: NDArray[np.int64]  # positions, shape (r,)
    targets: NDArray[np.bool_] | None = None  # (P,), those that count; None: all


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """The target metric on one segment."""

    by: str
    name: str
    users: int
    requests: int
    single: Interval  # of the best single member
    combinations: Mapping[str, Interval]
    differences: Mapping[str, Interval]  # to the best single member

    @property
    def few(self) -> bool:
        """Whether there are too few users to say anything."""
        return self.users < FEW_USERS


def segments_of(log: EventLog, requests: Requests, until_ms: int) -> list[Segment]:
    """Segments that hold at least one request.

    Args:
        until_ms: the members' cut-off: what had no event before it is cold.
    """
    first = requests.first(log)
    length = requests.end - first
    days = (requests.time_ms - log.time_ms[np.maximum(requests.end - 1, 0)]) / DAY_MS
    days = np.where(length > 0, days, np.nan)
    found = [
        *cold_parts(log, requests, until_ms),
        *_tertiles("history", length.astype(np.float64), "events"),
        *_tertiles("recency", *_readable(days)),
    ]
    if (length == 0).any():
        found.append(Segment(by="recency", name="no event", requests=np.flatnonzero(length == 0)))
    return [segment for segment in [*found, *_weeks(requests)] if len(segment.requests)]


def cold_parts(log: EventLog, requests: Requests, until_ms: int) -> list[Segment]:
    """Warm and cold users, warm and cold items: four segments, also where they are empty.

    Args:
        until_ms: the members' cut-off: what had no event before it is cold.
    """
    first_ms = log.time_ms[np.minimum(requests.first(log), len(log.time_ms) - 1)]
    known = np.bincount(log.item[log.time_ms < until_ms], minlength=log.num_items) > 0
    return [*_split("users", first_ms < until_ms), *_items(requests, known)]


def segments_of_requests(requests: Requests, known: NDArray[np.bool_]) -> list[Segment]:
    """Those segments that need no event log, of requests by users that are known or not.

    Args:
        known: whether the user of each request was asked before, shape (R,).
    """
    parts = {"asked before": known, "new": ~known}
    found = [
        Segment(by="users", name=name, requests=np.flatnonzero(part))
        for name, part in parts.items()
    ]
    return [segment for segment in [*found, *_weeks(requests)] if len(segment.requests)]


def judge_segments(
    judge: Judge,
    segments: list[Segment],
    metric: str,
    single: Sheet,
    combinations: Mapping[str, Sheet],
) -> list[SegmentResult]:
    """The best single member, each combination and their difference, segment by segment.

    Args:
        judge: of all the block's requests; its resamples are used for every segment.
        single: what the best single member's scores were worth.
        combinations: the same of each combination.
    """
    everyone = {"": single, **combinations}
    results = []
    for segment in segments:
        sheets = {
            name: _counted(sheet, segment, judge.requests, metric)
            for name, sheet in everyone.items()
        }
        chosen = segment.requests
        results.append(
            SegmentResult(
                by=segment.by,
                name=segment.name,
                users=len(np.unique(judge.requests.user[chosen])),
                requests=len(chosen),
                single=judge.target(sheets[""], chosen),
                combinations={name: judge.target(sheets[name], chosen) for name in combinations},
                differences={
                    name: judge.target_difference(sheets[name], sheets[""], chosen)
                    for name in combinations
                },
            )
        )
    return results


def _counted(sheet: Sheet, segment: Segment, requests: Requests, metric: str) -> Sheet:
    """The sheet, or that of the segment's targets alone, ranked among all candidates."""
    if segment.targets is None or sheet.ranks is None:
        return sheet
    k = int(metric.partition("@")[2])
    return Sheet(ranking_metrics(sheet.ranks, requests, k, segment.targets))


def _split(by: str, warm: NDArray[np.bool_]) -> list[Segment]:
    return [
        Segment(by=by, name="warm", requests=np.flatnonzero(warm)),
        Segment(by=by, name="cold", requests=np.flatnonzero(~warm)),
    ]


def _items(requests: Requests, known: NDArray[np.bool_]) -> list[Segment]:
    """By what is asked for: the candidate of a `binary` request, or each target by itself."""
    if requests.candidate is not None:
        return _split("items", known[requests.candidate])
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    warm = known[requests.target]
    return [
        Segment(by="items", name=name, requests=np.unique(request[inside]), targets=inside)
        for name, inside in (("warm", warm), ("cold", ~warm))
    ]


def _readable(days: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Times in the largest unit that a third of them exceed, or in seconds."""
    counted = days[~np.isnan(days)]
    usual = float(np.quantile(counted, 2 / 3)) if len(counted) else 1.0
    for unit, in_a_day in (("days", 1), ("hours", 24), ("minutes", 24 * 60)):
        if usual * in_a_day >= 1:
            return days * in_a_day, unit
    return days * 86_400, "seconds"


def _tertiles(by: str, values: NDArray[np.float64], unit: str) -> list[Segment]:
    """Three parts of about equal size; equal values stay together, NaN is in none."""
    counted = values[~np.isnan(values)]
    if not len(counted):
        return []
    low, high = np.quantile(counted, [1 / 3, 2 / 3])
    if unit == "events":
        low, high = np.floor(low), np.floor(high)  # whole events: the names say the edges exactly
    parts = {
        f"up to {low:,.3g} {unit}": values <= low,
        f"{low:,.3g} to {high:,.3g} {unit}": (values > low) & (values <= high),
        f"over {high:,.3g} {unit}": values > high,
    }
    return [Segment(by=by, name=n, requests=np.flatnonzero(p)) for n, p in parts.items()]


def _weeks(requests: Requests) -> list[Segment]:
    week = (requests.time_ms // DAY_MS + _MONDAY) // 7
    return [
        Segment(by="week", name=_monday(int(number)), requests=np.flatnonzero(week == number))
        for number in np.unique(week)
    ]


def _monday(week: int) -> str:
    """The day that a week begins on, in UTC."""
    return datetime.fromtimestamp((week * 7 - _MONDAY) * 86_400, UTC).date().isoformat()
