"""HTTP histories as tiny event logs, scored by the code that scored the prediction store.

A body becomes a `Question`: one user's events in the log's own order. Questions that arrive
together are merged into one log, one user each, and scored at once: real batching, same scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from penchant.platform import config
from penchant.platform.events import Catalog, EventLog
from penchant.platform.requests import Requests
from penchant.serve.answering.cold import NO_READER, read_candidates
from penchant.serve.wire.fields import Event
from penchant.serve.wire.schema import Ask, Candidate, RefusedError

__all__ = ["MAX_PAIRS", "Question", "Reader", "merge", "trial_question"]

#: Candidates x events of a binary question: each candidate is asked with the whole history.
MAX_PAIRS = 1_000_000

_NO_GROUPS = "the ensemble's data have no groups: leave them out"


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
    texts: tuple[str, ...] = ()  # (N,), of items that the catalogue does not have
    awaited: bool = True  # nobody waits for a shadow's answer

    @property
    def rows(self) -> int:
        """Requests that the question makes of the catalogue: one, or one a candidate."""
        return 1 if self.candidate is None else len(self.candidate)

    @property
    def cost(self) -> int:
        """Events that are read to answer it, at most."""
        return (self.rows + len(self.texts)) * (len(self.item) + 1)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Turns bodies into questions, as `ingest` turned rows into the log."""

    catalog: Catalog
    types: Sequence[str]
    has_groups: bool
    requests: config.Requests

    def question(
        self,
        body: Ask,
        now_ms: int,
        candidate: NDArray[np.int32] | None = None,
        texts: tuple[str, ...] = (),
    ) -> tuple[Question, int]:
        """The question, and how many events were ignored since their items are unknown.

        Events are sorted as in the log: by time, equal times in the given order, those of one
        group together where the first of them stood.

        Args:
            body: with a history.
            now_ms: the moment asked about where the body names none.
            candidate: shape (C,), `binary` only.
            texts: of items that the catalogue does not have.

        Raises:
            RefusedError: an event is not before the request, or has a group or type that the data
                have not.
        """
        history = body.history or []
        asked_ms = now_ms if body.time is None else body.time
        groups = self._groups(history)
        time_ms = np.array([event["time"] for event in history], dtype=np.int64)
        late = np.flatnonzero(time_ms > self.last_ms(asked_ms))
        if len(late):
            raise RefusedError(
                f"body.history.{late[0]}.time", "expected a time before the request's"
            )
        index = self.catalog.item_index
        item = np.array([index.get(event["item"], -1) for event in history], dtype=np.int32)
        order = _order(time_ms, groups)
        order = order[item[order] >= 0]
        kind = self._kinds(history, order)
        given = (event.get("value") for event in history)
        value = np.array([1.0 if v is None else v for v in given], dtype=np.float32)
        question = Question(
            item=item[order],
            time_ms=time_ms[order],
            kind=kind[order],
            value=value[order],
            group=None if groups is None else _numbered(groups[order]),
            asked_ms=asked_ms,
            candidate=candidate,
            texts=texts,
        )
        asked_about = 0 if candidate is None else len(candidate) + len(texts)
        if asked_about and question.cost > MAX_PAIRS + asked_about:
            raise RefusedError(
                "body.candidates", f"candidates x known events must not exceed {MAX_PAIRS}"
            )
        return question, len(history) - len(order)

    def candidates(self, asked: Sequence[str | Candidate]) -> NDArray[np.int32]:
        """Dense ids of candidates, shape (C,).

        Raises:
            RefusedError: an item is unknown.
        """
        return read_candidates(asked, self.catalog, NO_READER).items

    def last_ms(self, asked_ms: int) -> int:
        """Latest moment that an event of the history may have.

        The history of a group ends before its moment; that of a single event may hold others of
        the same moment, which came in before it.
        """
        return asked_ms - 1 if self.requests.blind_to_its_moment else asked_ms

    def check(self, events: Sequence[Event], latest_ms: int) -> None:
        """Whether the events can be part of a history later.

        Raises:
            RefusedError: one lies after `latest_ms`, or has a group or type that the data have not.
        """
        for at, event in enumerate(events):
            if event["time"] > latest_ms:
                raise RefusedError(f"body.events.{at}.time", "expected a time that is not to come")
            if event.get("group") is not None and not self.has_groups:
                raise RefusedError(f"body.events.{at}.group", _NO_GROUPS)
            if event.get("type") not in self._codes:
                raise RefusedError(f"body.events.{at}.type", self._allowed())

    def fitting(self, stored: Sequence[Event], asked_ms: int) -> list[Event]:
        """What `question` takes of stored events, which may be of other times or other data.

        Those that are not before the request or of another type are left out. An event without a
        group among others that have one stands with those of its moment.
        """
        last_ms, codes = self.last_ms(asked_ms), self._codes
        events = [e for e in stored if e["time"] <= last_ms and e.get("type") in codes]
        named = sum(e.get("group") is not None for e in events)
        if named and not self.has_groups:
            return [e | {"group": None} for e in events]
        if 0 < named < len(events):
            return [e | {"group": e.get("group") or f"at {e['time']}"} for e in events]
        return events

    @cached_property
    def _codes(self) -> Mapping[str | None, int]:
        """Code of each type; None where an event may have none, since there is but one."""
        codes: dict[str | None, int] = {name: at for at, name in enumerate(self.types)}
        return codes | {None: 0} if len(codes) == 1 else codes

    def _kinds(self, history: Sequence[Event], known: NDArray[np.int64]) -> NDArray[np.int8]:
        """Codes of the events' types, shape (E,); -1 for a type that the data have not.

        Raises:
            RefusedError: an event of a known item has one of those.
        """
        codes = self._codes
        kind = np.array([codes.get(event.get("type"), -1) for event in history], dtype=np.int8)
        odd = known[kind[known] < 0]
        if len(odd):
            raise RefusedError(f"body.history.{odd.min()}.type", self._allowed())
        return kind

    def _allowed(self) -> str:
        return f"expected one of: {', '.join(self.types[:20])}"

    def _groups(self, history: Sequence[Event]) -> NDArray[np.int64] | None:
        """A number for each group, shape (E,); None where every event stands alone."""
        names = [event.get("group") for event in history]
        unnamed = names.count(None)
        if not self.has_groups:
            if unnamed < len(names):
                raise RefusedError("body.history", _NO_GROUPS)
            return None
        if unnamed == len(names):
            return np.array([event["time"] for event in history], dtype=np.int64)
        if unnamed:
            raise RefusedError("body.history", "give a group for every event or for none")
        numbers: dict[str | None, int] = {}
        return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def _order(time_ms: NDArray[np.int64], groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Places of the events in the log's order, shape (E,)."""
    if groups is None:
        return np.argsort(time_ms, kind="stable")
    if (np.diff(time_ms) >= 0).all() and (np.diff(groups) >= 0).all():
        return np.arange(len(time_ms))  # as they usually come; groups are numbered as they come
    # Where the first event of the same moment and group stands: lexsort keeps the order of equals.
    place = np.lexsort((groups, time_ms))
    new = np.ones(len(place), dtype=np.bool_)
    by_time, group = time_ms[place], groups[place]
    new[1:] = (by_time[1:] != by_time[:-1]) | (group[1:] != group[:-1])
    stands = np.empty(len(place), dtype=np.int64)
    stands[place] = place[np.flatnonzero(new)][np.cumsum(new) - 1]
    return np.lexsort((stands, time_ms))


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


def _numbered(groups: NDArray[np.int64]) -> NDArray[np.int32]:
    """Runs of equal groups, counted from 0. Shape (E,)."""
    starts = np.zeros(len(groups), dtype=np.int32)
    starts[1:] = groups[1:] != groups[:-1]
    return np.cumsum(starts, dtype=np.int32)


def _joined_groups(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32] | None:
    """Groups of all users under numbers of their own."""
    if not parts:
        return None
    counts = [int(part[-1]) + 1 if len(part) else 0 for part in parts]
    before = np.cumsum([0, *counts[:-1]])
    joined = [part + first for part, first in zip(parts, before, strict=True)]
    return np.concatenate(joined).astype(np.int32)
