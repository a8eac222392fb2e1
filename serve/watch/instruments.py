"""Every metric of ours: its name, its meaning, its labels, and how Ray is told.

Replicas are processes of their own, so that each counts through Ray, whose agent on every node
exports the sum of what it hears in Prometheus' format. Labels take few values: versions, members,
places, paths and reasons, never anything that a user sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["INSTRUMENTS", "Instrument", "Record", "exported", "ray_record"]


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """A metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()  # upper edges of a histogram's buckets


#: Tells a number: added to a counter, put into a histogram, or a gauge's new value.
Record = Callable[[Instrument, float, Mapping[str, str]], None]

_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0, 1000.0, 2000.0)
_MEMBER = ("version", "member")
_ANSWER = ("version", "role")  # of the answer: a shadow's concern nobody but who looks at it

REQUESTS = Instrument(
    name="penchant_requests",
    kind="counter",
    meaning="Requests that were answered or refused; copies for a shadow count as its role, what "
    "asks no member as none.",
    labels=("path", "role", "status", "degraded"),
)
LATENCY = Instrument(
    name="penchant_latency_ms",
    kind="histogram",
    meaning="Milliseconds from a request's arrival to its answer.",
    labels=("path", "role"),
    bounds=(*_MS, 5000.0, 10000.0),
)
MEMBER_LATENCY = Instrument(
    name="penchant_member_latency_ms",
    kind="histogram",
    meaning="Milliseconds until a member that was not left out answered, its queue included.",
    labels=(*_ANSWER, "member"),
    bounds=(*_MS, 5000.0, 10000.0),
)
LEFT_OUT = Instrument(
    name="penchant_left_out",
    kind="counter",
    meaning="Answers that were made without a member.",
    labels=(*_ANSWER, "member", "reason"),
)
DISAGREEMENT = Instrument(
    name="penchant_disagreement",
    kind="histogram",
    meaning="How far members lie apart, by answer: 1 - mean Spearman correlation, or the spread "
    "of their probabilities where the answer is a yes or a no.",
    labels=_ANSWER,
    bounds=(0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0),
)
IGNORED_EVENTS = Instrument(
    name="penchant_ignored_events",
    kind="counter",
    meaning="Events of items that the ensemble does not know.",
    labels=_ANSWER,
)
LOG_DROPPED = Instrument(
    name="penchant_log_dropped_rows",
    kind="counter",
    meaning="Rows that the prediction log lost: its queue or its disk was full.",
)
WATCHER_ERRORS = Instrument(
    name="penchant_watcher_errors",
    kind="counter",
    meaning="Errors of those who watch answers; the answers themselves were given.",
    labels=("watcher",),
)
BATCH_SIZE = Instrument(
    name="penchant_batch_size",
    kind="histogram",
    meaning="Questions that a member scored together.",
    labels=_MEMBER,
    bounds=(1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0),
)
BATCH_COST = Instrument(
    name="penchant_batch_cost",
    kind="histogram",
    meaning="Events in a member's batch, of each row that is scored.",
    labels=_MEMBER,
    bounds=(10.0, 100.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6),
)
SCORING_SECONDS = Instrument(
    name="penchant_scoring_seconds",
    kind="counter",
    meaning="Seconds that a member's replicas spent on scoring: their rate is the busy share.",
    labels=_MEMBER,
)
QUEUE = Instrument(
    name="penchant_queue_length",
    kind="gauge",
    meaning="Questions that wait in a member's replica.",
    labels=_MEMBER,
)
GATHERING = Instrument(
    name="penchant_gathering_questions",
    kind="gauge",
    meaning="Questions that wait in a front for a call to a place, which holds one member or more.",
    labels=("version", "place"),
)
CACHE_HITS = Instrument(
    name="penchant_cache_hits",
    kind="counter",
    meaning="Look-ups that a member's cache answered.",
    labels=_MEMBER,
)
CACHE_MISSES = Instrument(
    name="penchant_cache_misses",
    kind="counter",
    meaning="Look-ups that a member's cache could not answer.",
    labels=_MEMBER,
)

INSTRUMENTS = (
    REQUESTS,
    LATENCY,
    MEMBER_LATENCY,
    LEFT_OUT,
    DISAGREEMENT,
    IGNORED_EVENTS,
    LOG_DROPPED,
    WATCHER_ERRORS,
    BATCH_SIZE,
    BATCH_COST,
    SCORING_SECONDS,
    QUEUE,
    GATHERING,
    CACHE_HITS,
    CACHE_MISSES,
)


def exported(instrument: Instrument) -> list[str]:
    """The names under which Prometheus finds it, as Ray 2.60 exports them.

    >>> exported(QUEUE), exported(LOG_DROPPED)
    (['ray_penchant_queue_length'], ['ray_penchant_log_dropped_rows_total'])
    """
    name = f"ray_{instrument.name}"
    if instrument.kind == "counter":
        return [f"{name}_total"]
    if instrument.kind == "histogram":
        return [f"{name}_bucket", f"{name}_count", f"{name}_sum"]
    return [name]


def ray_record() -> Record:
    """Tells Ray; outside a Ray worker the numbers go nowhere.

    A metric is made when it is first used, and takes a few microseconds from then on.
    """
    made: dict[str, Any] = {}

    def record(instrument: Instrument, value: float, labels: Mapping[str, str]) -> None:
        metric = made.get(instrument.name)
        if metric is None:
            metric = made[instrument.name] = _make(instrument)
        if instrument.kind == "counter":
            if value > 0:  # Ray refuses zero
                metric.inc(value, tags=dict(labels))
        elif instrument.kind == "histogram":
            metric.observe(value, tags=dict(labels))
        else:
            metric.set(value, tags=dict(labels))

    return record


def _make(instrument: Instrument) -> Any:
    from ray.util import metrics  # here, since it takes half a second that most importers spare

    name, meaning, labels = instrument.name, instrument.meaning, instrument.labels
    if instrument.kind == "counter":
        return metrics.Counter(name, meaning, labels)
    if instrument.kind == "histogram":
        return metrics.Histogram(name, meaning, list(instrument.bounds), labels)
    return metrics.Gauge(name, meaning, labels)
