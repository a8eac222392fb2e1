"""An answer as rows of the prediction log: one for each item that was answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penchant.serve.routes.observe import Seen
from penchant.serve.watch.agreement import disagreement, is_binary, member_scores
from penchant.serve.wire.schema import Answer

__all__ = ["SCHEMA", "Entry", "as_table", "entry"]

_MEMBER = pa.struct([("member", pa.string()), ("score", pa.float32())])
_LEFT_OUT = pa.struct([("member", pa.string()), ("reason", pa.string())])

#: Columns of a file. Neither a history nor a user's id is among them.
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("role", pa.string()),
        ("ensemble", pa.string()),
        ("version", pa.string()),
        ("path", pa.string()),
        ("binary", pa.bool_()),  # each candidate a yes or a no, otherwise a ranking
        ("time_ms", pa.int64()),  # the moment that was asked about
        ("answered_ms", pa.int64()),
        ("item", pa.string()),
        ("rank", pa.int32()),  # place in the answer, from 1
        ("whole", pa.bool_()),  # the best of all that the ensemble ranks, as on the test block
        ("score", pa.float64()),  # null: not asked for
        ("probability", pa.float64()),
        ("members", pa.list_(_MEMBER)),  # scores before they were made comparable
        ("disagreement", pa.float64()),  # of the whole answer
        ("degraded", pa.bool_()),
        ("left_out", pa.list_(_LEFT_OUT)),
        ("latency_ms", pa.float64()),
        ("caller", pa.string()),
        ("user_hash", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An answer that waits to be written, without the members' other scores."""

    answer: Answer
    path: str
    role: str
    binary: bool
    whole: bool
    members: dict[str, NDArray[np.float32]]  # member -> shape (K,)
    answered_ms: int
    latency_ms: float
    caller: str | None
    user: str | None

    def __len__(self) -> int:
        return len(self.answer.results)


def entry(seen: Seen, answered_ms: int) -> Entry:
    """What is kept of an answer; quick, since the caller is answering requests."""
    return Entry(
        answer=seen.answer,
        path=seen.path,
        role=seen.role,
        binary=is_binary(seen),
        whole=seen.whole,
        members=member_scores(seen),
        answered_ms=answered_ms,
        latency_ms=seen.latency_ms,
        caller=seen.caller,
        user=seen.user,
    )


def as_table(entries: Sequence[Entry], hashed: Callable[[str], str]) -> pa.Table:
    """Rows of answers.

    Args:
        entries: in the order in which they were answered.
        hashed: a user's keyed hash.
    """
    if not entries:
        return SCHEMA.empty_table()
    rows = np.repeat(np.arange(len(entries)), [len(one) for one in entries])
    results = [result for one in entries for result in one.answer.results]
    columns = {
        name: pa.array(values, SCHEMA.field(name).type).take(rows)
        for name, values in _of_answers(entries, hashed).items()
    }
    own: dict[str, Iterable[Any]] = {
        "item": (result.item for result in results),
        "rank": (place for one in entries for place in range(1, len(one) + 1)),
        "score": (result.score for result in results),
        "probability": (result.probability for result in results),
    }
    columns |= {name: pa.array(values, SCHEMA.field(name).type) for name, values in own.items()}
    columns["members"] = _nested(entries)
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _of_answers(entries: Sequence[Entry], hashed: Callable[[str], str]) -> dict[str, list[Any]]:
    """Columns that are the same for all rows of an answer: a value for each answer."""
    answers = [one.answer for one in entries]
    return {
        "request_id": [answer.request_id for answer in answers],
        "role": [one.role for one in entries],
        "ensemble": [answer.ensemble for answer in answers],
        "version": [answer.version for answer in answers],
        "path": [one.path for one in entries],
        "binary": [one.binary for one in entries],
        "whole": [one.whole for one in entries],
        "time_ms": [answer.time_ms for answer in answers],
        "answered_ms": [one.answered_ms for one in entries],
        "disagreement": [disagreement(one.members, binary=one.binary) for one in entries],
        "degraded": [answer.degraded for answer in answers],
        "left_out": [
            [{"member": left.member, "reason": left.reason} for left in answer.left_out]
            for answer in answers
        ],
        "latency_ms": [one.latency_ms for one in entries],
        "caller": [one.caller for one in entries],
        "user_hash": [None if one.user is None else hashed(one.user) for one in entries],
    }


def _nested(entries: Sequence[Entry]) -> pa.Array:
    """For each row of each answer, a list of every member's name and score."""
    names: list[str] = []
    scores = [np.zeros(0, dtype=np.float32)]
    for one in entries:
        names += list(one.members) * len(one)
        if one.members:
            scores.append(np.stack(list(one.members.values()), axis=1).reshape(-1))
    each = np.repeat([len(one.members) for one in entries], [len(one) for one in entries])
    ends = np.concatenate([[0], np.cumsum(each)]).astype(np.int32)
    flat = pa.array(np.concatenate(scores).astype(np.float32))
    return pa.ListArray.from_arrays(
        pa.array(ends),
        pa.StructArray.from_arrays([pa.array(names, pa.string()), flat], fields=list(_MEMBER)),
    )
