"""Counts answers, latencies, members that are left out, what waits, and what members do."""

from __future__ import annotations

from penchant.serve.gate.gate import Refusal
from penchant.serve.routes.observe import Seen
from penchant.serve.watch import instruments
from penchant.serve.watch.agreement import disagreement, is_binary, member_scores
from penchant.serve.watch.instruments import Record, ray_record

__all__ = ["MemberMeters", "Meters", "PlaceMeters", "route_of"]

#: Whatever else is asked for counts as `other`: a scanner must not make a label of every path.
_PATHS = frozenset(
    {
        "/v1/score",
        "/v1/recommend",
        "/v1/explain",
        "/v1/batch",
        "/v1/events",
        "/v1/feedback",
        "/v1/users",
        "/v1/ensemble",
        "/healthz",
        "/readyz",
        "/metrics",
    }
)


class Meters:
    """The front's metrics (`observe.Observer`).

    Args:
        record: where numbers go; by default to Ray.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._record = record or ray_record()

    def answered(self, seen: Seen) -> None:
        """Count an answer."""
        record, answer, verdict = self._record, seen.answer, seen.verdict
        asked = {"path": route_of(seen.path), "role": seen.role}
        degraded = "true" if answer.degraded else "false"
        record(instruments.REQUESTS, 1, {**asked, "status": "200", "degraded": degraded})
        record(instruments.LATENCY, seen.latency_ms, asked)
        version = {"version": answer.version, "role": seen.role}
        for name, latency_ms in verdict.latency_ms.items():
            record(instruments.MEMBER_LATENCY, latency_ms, {**version, "member": name})
        for left in answer.left_out:
            labels = {**version, "member": left.member, "reason": left.reason}
            record(instruments.LEFT_OUT, 1, labels)
        if answer.ignored_events:
            record(instruments.IGNORED_EVENTS, answer.ignored_events, version)
        apart = disagreement(member_scores(seen), binary=is_binary(seen))
        if apart is not None:
            record(instruments.DISAGREEMENT, apart, version)

    def refused(self, refusal: Refusal) -> None:
        """Count an answer that is an error."""
        labels = {"path": route_of(refusal.path), "status": str(refusal.status)}
        labels |= {"role": "none", "degraded": "none"}
        self._record(instruments.REQUESTS, 1, labels)

    def passed(self, path: str, status: int, latency_ms: float) -> None:
        """Count an answer that no member was asked for."""
        asked = {"path": route_of(path), "role": "none"}
        self._record(instruments.REQUESTS, 1, {**asked, "status": str(status), "degraded": "none"})
        self._record(instruments.LATENCY, latency_ms, asked)

    def log_dropped(self, rows: int) -> None:
        """Count rows that the prediction log lost."""
        self._record(instruments.LOG_DROPPED, rows, {})

    def watcher_failed(self, watcher: str) -> None:
        """Count an error of a watcher, named by its class."""
        self._record(instruments.WATCHER_ERRORS, 1, {"watcher": watcher})


class PlaceMeters:
    """Metrics of a front's way to one place.

    Args:
        version: of the ensemble.
        place: name of the deployment.
        record: where numbers go; by default to Ray.
    """

    def __init__(self, version: str, place: str, record: Record | None = None) -> None:
        self._record = record or ray_record()
        self._labels = {"version": version, "place": place}

    def gathering(self, questions: int) -> None:
        """So many questions wait in this front for a free call."""
        self._record(instruments.GATHERING, questions, self._labels)


class MemberMeters:
    """Metrics of one member's replica.

    Args:
        version: of the ensemble.
        member: its id.
        record: where numbers go; by default to Ray.
    """

    def __init__(self, version: str, member: str, record: Record | None = None) -> None:
        self._record = record or ray_record()
        self._labels = {"version": version, "member": member}

    def batch(self, *, size: int, cost: int, seconds: float) -> None:
        """A batch was scored.

        Args:
            size: questions in it.
            cost: events that it read.
            seconds: that scoring took.
        """
        self._record(instruments.BATCH_SIZE, size, self._labels)
        self._record(instruments.BATCH_COST, cost, self._labels)
        self._record(instruments.SCORING_SECONDS, seconds, self._labels)

    def queue(self, length: int) -> None:
        """So many questions wait now."""
        self._record(instruments.QUEUE, length, self._labels)

    def cache(self, *, hits: int, misses: int) -> None:
        """So many look-ups were answered, and not answered, since the last call."""
        self._record(instruments.CACHE_HITS, hits, self._labels)
        self._record(instruments.CACHE_MISSES, misses, self._labels)


def route_of(path: str) -> str:
    """A path as others may see it: no user's id, and nothing that somebody made up."""
    if path.startswith("/v1/users/"):
        return "/v1/users"  # the rest is a user's id
    return path if path in _PATHS else "other"
