"""An answer as rows of the prediction log: one for each item that was answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    return pa.concat_tables([SCHEMA.empty_table(), *(_table(one, hashed) for one in entries)])


def _table(one: Entry, hashed: Callable[[str], str]) -> pa.Table:
    """The K rows of an answer."""
    answer, results = one.answer, one.answer.results
    left_out = [{"member": left.member, "reason": left.reason} for left in answer.left_out]
    same: dict[str, Any] = {
        "request_id": answer.request_id,
        "role": one.role,
        "ensemble": answer.ensemble,
        "version": answer.version,
        "path": one.path,
        "binary": one.binary,
        "time_ms": answer.time_ms,
        "answered_ms": one.answered_ms,
        "disagreement": disagreement(one.members, binary=one.binary),
        "degraded": answer.degraded,
        "left_out": left_out,
        "latency_ms": one.latency_ms,
        "caller": one.caller,
        "user_hash": None if one.user is None else hashed(one.user),
    }
    own = {
        "item": [result.item for result in results],
        "rank": range(1, len(results) + 1),
        "score": [result.score for result in results],
        "probability": [result.probability for result in results],
    }
    arrays = {name: pa.array(values, SCHEMA.field(name).type) for name, values in own.items()}
    arrays["members"] = _nested(one.members, len(results))
    for name, value in same.items():
        arrays[name] = pa.repeat(pa.scalar(value, SCHEMA.field(name).type), len(results))
    return pa.table([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _nested(members: Mapping[str, NDArray[np.float32]], length: int) -> pa.Array:
    """A list of every member's name and score for each of K results."""
    names = pa.array(list(members) * length, pa.string())
    scores = np.stack(list(members.values()), axis=1) if members else np.zeros((length, 0))
    flat = pa.array(scores.reshape(-1).astype(np.float32))
    ends = pa.array(np.arange(length + 1, dtype=np.int32) * len(members))
    return pa.ListArray.from_arrays(
        ends, pa.StructArray.from_arrays([names, flat], fields=list(_MEMBER))
    )
