"""HTTP histories as tiny event logs, scored by the code that scored the prediction store.

A body becomes a `Question`: one user's events in the log's own order. Questions that arrive
together are merged into one log, one user each, and scored at once: real batching, same scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.platform import config
from penchant.platform.events import Catalog, EventLog
from penchant.platform.requests import Requests
from penchant.serve.schema import Ask, Event, RefusedError

__all__ = ["MAX_PAIRS", "Question", "Reader", "merge", "trial_question"]

#: Candidates x events of a binary question: each candidate is asked with the whole history.
MAX_PAIRS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One user asked about at one moment. E events, C candidates."""

    item: NDArray[np.int32]  # (E,)
    time_ms: NDArray[np.int64]  # (E,), never falls
    kind: NDArray[np.int8]  # (E,)
    value: NDArray[np.float32]  # (E,)
    group: NDArray[np.int32] | None  # (E,), 0 for the first group and one more for each next
    asked_ms: int
    candidate: NDArray[np.int32] | None = None  # (C,), `binary` only

    @property
    def rows(self) -> int:
        """Requests that the question makes: one, or one a candidate."""
        return 1 if self.candidate is None else len(self.candidate)

    @property
    def cost(self) -> int:
        """Events that are read to answer it."""
        return self.rows * (len(self.item) + 1)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Turns bodies into questions, as `ingest` turned rows into the log."""

    catalog: Catalog
    types: Sequence[str]
    has_groups: bool
    requests: config.Requests

    def question(
        self, body: Ask, now_ms: int, candidate: NDArray[np.int32] | None = None
    ) -> tuple[Question, int]:
        """The question, and how many events were ignored since their items are unknown.

        Events are sorted as in the log: by time, equal times in the given order, those of one
        group together where the first of them stood.

        Raises:
            RefusedError: an event is not before the request, or has a group or type that the data
                have not.
        """
        asked_ms = now_ms if body.time is None else body.time
        groups = self._groups(body.history)
        place = self._order(body.history, groups, asked_ms)
        known = [at for at in place if body.history[at].item in self.catalog.item_index]
        events = [body.history[at] for at in known]
        question = Question(
            item=np.array([self.catalog.item_index[e.item] for e in events], dtype=np.int32),
            time_ms=np.array([e.time for e in events], dtype=np.int64),
            kind=np.array([self._kind(body.history, at) for at in known], dtype=np.int8),
            value=np.array([1.0 if e.value is None else e.value for e in events], dtype=np.float32),
            group=_numbered([groups[at] for at in known]) if groups is not None else None,
            asked_ms=asked_ms,
            candidate=candidate,
        )
        if candidate is not None and question.cost > MAX_PAIRS + len(candidate):
            raise RefusedError(
                "body.candidates", f"candidates x known events must not exceed {MAX_PAIRS}"
            )
        return question, len(body.history) - len(known)

    def candidates(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """Dense ids of candidates, shape (C,).

        Raises:
            RefusedError: an item is unknown.
        """
        index = self.catalog.item_index
        for at, item in enumerate(ids):
            if item not in index:
                raise RefusedError(f"body.candidates.{at}", "no item of the catalogue has this id")
        return np.array([index[item] for item in ids], dtype=np.int32)

    def _groups(self, history: Sequence[Event]) -> list[str] | list[int] | None:
        """What tells groups apart at each event; None where every event stands alone."""
        named = [event.group for event in history if event.group is not None]
        if not self.has_groups:
            if named:
                raise RefusedError(
                    "body.history", "the ensemble's data have no groups: leave them out"
                )
            return None
        if not named:
            return [event.time for event in history]
        if len(named) < len(history):
            raise RefusedError("body.history", "give a group for every event or for none")
        return named

    def _order(
        self, history: Sequence[Event], groups: list[str] | list[int] | None, asked_ms: int
    ) -> list[int]:
        """Places of the events in the log's order."""
        # The history of a group ends before its moment; that of a single event may hold others of
        # the same moment, which came in before it.
        last_ms = asked_ms - 1 if self.requests.blind_to_its_moment else asked_ms
        first: dict[tuple[int, str | int], int] = {}
        keys = []
        for at, event in enumerate(history):
            if event.time > last_ms:
                raise RefusedError(
                    f"body.history.{at}.time", "expected a time before the request's"
                )
            stands = at if groups is None else first.setdefault((event.time, groups[at]), at)
            keys.append((event.time, stands, at))
        return [at for _, _, at in sorted(keys)]

    def _kind(self, history: Sequence[Event], at: int) -> int:
        name = history[at].type
        if name is None and len(self.types) == 1:
            return 0
        if name is None or name not in self.types:
            allowed = ", ".join(self.types[:20])
            raise RefusedError(f"body.history.{at}.type", f"expected one of: {allowed}")
        return list(self.types).index(name)


def trial_question(spec: config.Requests, num_events: int, *, has_groups: bool) -> Question:
    """A question about a user who has just had the first items, one a basket; none for nobody."""
    item = np.arange(num_events, dtype=np.int32)
    return Question(
        item=item,
        time_ms=np.full(num_events, -1, dtype=np.int64),
        kind=np.zeros(num_events, dtype=np.int8),
        value=np.ones(num_events, dtype=np.float32),
        group=item.copy() if has_groups else None,
        asked_ms=0,
        candidate=np.zeros(1, dtype=np.int32) if spec.task == "binary" else None,
    )


def merge(questions: Sequence[Question], num_items: int) -> tuple[EventLog, Requests]:
    """One log with a user a question, and the requests of all questions one after the other."""
    events = np.array([len(question.item) for question in questions], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(events)]).astype(np.int64)
    rows = np.array([question.rows for question in questions], dtype=np.int64)
    user = np.repeat(np.arange(len(questions), dtype=np.int32), rows)
    log = EventLog(
        item=np.concatenate([q.item for q in questions]),
        time_ms=np.concatenate([q.time_ms for q in questions]),
        kind=np.concatenate([q.kind for q in questions]),
        value=np.concatenate([q.value for q in questions]),
        group=_joined_groups([q.group for q in questions if q.group is not None]),
        offsets=offsets,
        num_items=num_items,
    )
    candidates = [q.candidate for q in questions if q.candidate is not None]
    requests = Requests(
        row=offsets[1:][user],
        user=user,
        time_ms=np.array([q.asked_ms for q in questions], dtype=np.int64)[user],
        end=offsets[1:][user],
        target_offsets=np.zeros(len(user) + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
        candidate=np.concatenate(candidates) if candidates else None,
    )
    return log, requests


def _numbered(groups: Sequence[str | int]) -> NDArray[np.int32]:
    """Runs of equal groups, counted from 0. Shape (E,)."""
    starts = [at > 0 and group != groups[at - 1] for at, group in enumerate(groups)]
    return np.cumsum(np.array(starts, dtype=np.int32), dtype=np.int32)


def _joined_groups(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32] | None:
    """Groups of all users under numbers of their own."""
    if not parts:
        return None
    counts = [int(part[-1]) + 1 if len(part) else 0 for part in parts]
    before = np.cumsum([0, *counts[:-1]])
    joined = [part + first for part, first in zip(parts, before, strict=True)]
    return np.concatenate(joined).astype(np.int32)
