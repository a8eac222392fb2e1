"""Requests: "at time t, how inclined is user u to each of these candidates?"

Everything that is trained, tested and served is a request. The history of a request ends at
`end`, a row of the log: rows from there on are its future, and no member may read them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penchant.platform import config
from penchant.platform.errors import DataError
from penchant.platform.events import EventLog
from penchant.platform.labels import check_answers, labelled_rows, refuse_one_answer
from penchant.platform.swap import whole_file
from penchant.platform.timeline import Block, Blocks, first_at_or_after

__all__ = ["Requests", "all_requests", "block_requests", "latest_requests", "read_requests"]


@dataclass(frozen=True, kw_only=True)
class Requests:
    """R requests in the log's order, with P targets in all.

    `next_item`: the candidates are the whole catalogue and the targets are the items that were
    chosen. `binary`: one candidate a request, with a label of 0 or 1, and no targets. The label is
    that of the event's value, or the event's own `label`.
    """

    row: NDArray[np.int64]  # (R,), first log row of the answer: the request's id
    user: NDArray[np.int32]  # (R,)
    time_ms: NDArray[np.int64]  # (R,)
    end: NDArray[np.int64]  # (R,), row after the last visible event
    target_offsets: NDArray[np.int64]  # (R + 1,)
    target: NDArray[np.int32]  # (P,), distinct items a request
    target_seen: NDArray[np.bool_]  # (P,), the user had the item before
    candidate: NDArray[np.int32] | None = None  # (R,), `binary` only
    label: NDArray[np.float32] | None = None  # (R,), `binary` only

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: NDArray[np.int64]) -> Requests:
        """The requests at these positions, in that order."""
        counts = np.diff(self.target_offsets)[chosen]
        inside = ranges(self.target_offsets[:-1][chosen], counts)
        return Requests(
            row=self.row[chosen],
            user=self.user[chosen],
            time_ms=self.time_ms[chosen],
            end=self.end[chosen],
            target_offsets=_offsets(counts),
            target=self.target[inside],
            target_seen=self.target_seen[inside],
            candidate=None if self.candidate is None else self.candidate[chosen],
            label=None if self.label is None else self.label[chosen],
        )

    def first(self, log: EventLog) -> NDArray[np.int64]:
        """First log row of each request's user, shape (R,)."""
        return log.offsets[self.user]

    def write(self, path: Path) -> None:
        """Keep the requests as Parquet, one row a request."""
        nested = {"target": self.target, "target_seen": self.target_seen}
        columns: dict[str, pl.Series] = {
            field.name: pl.Series(field.name, value)
            for field in fields(self)
            if field.name not in nested
            and field.name != "target_offsets"
            and (value := getattr(self, field.name)) is not None
        }
        frame = pl.DataFrame(columns)
        rows = np.repeat(np.arange(len(self)), np.diff(self.target_offsets))
        lists = (
            pl.DataFrame({"at": rows, **nested}).group_by("at", maintain_order=True).agg(pl.all())
        )
        whole = frame.with_columns(at=pl.Series(np.arange(len(self)))).join(
            lists, on="at", how="left", maintain_order="left"
        )
        with whole_file(path) as partial:
            whole.drop("at").write_parquet(partial)


def read_requests(path: Path) -> Requests:
    """Read what `Requests.write` wrote."""
    if not path.exists():
        raise DataError(
            f"{path} is missing: expected the requests that the run asked. Run it again."
        )
    frame = pl.read_parquet(path)
    counts = frame["target"].list.len().fill_null(0).to_numpy().astype(np.int64)
    binary = "candidate" in frame.columns
    return Requests(
        row=frame["row"].to_numpy(),
        user=frame["user"].to_numpy(),
        time_ms=frame["time_ms"].to_numpy(),
        end=frame["end"].to_numpy(),
        target_offsets=_offsets(counts),
        target=frame["target"].explode().drop_nulls().to_numpy().astype(np.int32),
        target_seen=frame["target_seen"].explode().drop_nulls().to_numpy().astype(np.bool_),
        candidate=frame["candidate"].to_numpy() if binary else None,
        label=frame["label"].to_numpy() if binary else None,
    )


def all_requests(log: EventLog, spec: config.Requests, start_ms: int, end_ms: int) -> Requests:
    """Every request whose time lies in `[start_ms, end_ms)`; its answer ends where the span ends.

    The history of a group, or of an event with a label, ends before the first event of equal time;
    that of another event ends at the event, because rows of equal time are ordered by their place
    in the input. A yes that became known at `end_ms` or later counts as a no: whoever learns at
    `end_ms` does not know better.

    Raises:
        ConfigError: a `binary` task has neither a threshold nor labels, or both.
    """
    if spec.task == "binary":
        check_answers(log, spec)
    if spec.asks_labels:
        begin, yes = labelled_rows(log, start_ms, end_ms)
        user, time_ms = log.user[begin], log.time_ms[begin]
        end = first_at_or_after(log.time_ms, log.offsets[user], begin, time_ms)
        return _one_candidate(log, begin, user, time_ms, end, yes)
    starts = log.group_starts if spec.unit == "group" else np.arange(log.num_events + 1)
    time_ms = log.time_ms[starts[:-1]]
    inside = np.flatnonzero((time_ms >= start_ms) & (time_ms < end_ms))
    begin, after, time_ms = starts[:-1][inside], starts[1:][inside], time_ms[inside]
    after = first_at_or_after(log.time_ms, begin, after, np.full_like(time_ms, end_ms))
    enough = after - begin >= spec.min_items
    begin, after, time_ms = begin[enough], after[enough], time_ms[enough]
    user = log.user[begin]
    end = begin.copy()
    if spec.unit == "group":
        end = first_at_or_after(log.time_ms, log.offsets[user], begin, time_ms)
    if spec.positive_above is not None:
        yes = log.value[begin] > np.float32(spec.positive_above)
        return _one_candidate(log, begin, user, time_ms, end, yes)
    return _next_item(log, spec, begin, after, user, time_ms, end)


def block_requests(log: EventLog, spec: config.Requests, blocks: Blocks, block: Block) -> Requests:
    """The requests of a block, sampled down to `per_block` with the seed.

    Raises:
        ConfigError: as `all_requests`.
        DataError: the block holds no request, or all of its labels are the same.
    """
    start_ms, end_ms = blocks.span_ms(block)
    found = all_requests(log, spec, start_ms, end_ms)
    place = f"block {block} ({blocks.to_json()[block]} on)"
    if not len(found) and not spec.asks_labels:
        raise DataError(
            f"{place} holds no request: expected at least one {spec.unit} of {spec.min_items} "
            "item(s) or more there. Move the blocks, or lower requests.min_items."
        )
    if len(found) > spec.per_block:
        random = np.random.default_rng([spec.seed, list(Block).index(block)])
        found = found.take(np.sort(random.choice(len(found), spec.per_block, replace=False)))
    if spec.asks_labels and found.label is not None:
        refuse_one_answer(found.label, place)
    return found


def latest_requests(
    log: EventLog, spec: config.Requests, until_ms: int, count: int, seed: int
) -> Requests:
    """About `count` requests from the time just before a cut-off, for fitting.

    Taken at random from the latest `2 * count`, so that they cover more days than the last ones.
    """
    found = all_requests(log, spec, np.iinfo(np.int64).min, until_ms)
    newest = np.argsort(found.time_ms, kind="stable")[-2 * count :]
    random = np.random.default_rng(seed)
    if len(newest) > count:
        newest = random.choice(newest, count, replace=False)
    return found.take(np.sort(newest))


def _next_item(
    log: EventLog,
    spec: config.Requests,
    begin: NDArray[np.int64],
    after: NDArray[np.int64],
    user: NDArray[np.int32],
    time_ms: NDArray[np.int64],
    end: NDArray[np.int64],
) -> Requests:
    """Targets are the distinct items of each group; requests left with too few are dropped."""
    counts = after - begin
    request = np.repeat(np.arange(len(begin)), counts)
    item = log.item[ranges(begin, counts)]
    pairs = np.unique(request * np.int64(log.num_items) + item)
    request, item = pairs // log.num_items, (pairs % log.num_items).astype(np.int32)
    seen = was_seen(log, user[request], item, end[request])
    if spec.exclude_seen:
        request, item, seen = request[~seen], item[~seen], seen[~seen]
    counts = np.bincount(request, minlength=len(begin))
    enough = counts >= spec.min_items
    keep = enough[request]
    return Requests(
        row=begin[enough],
        user=user[enough],
        time_ms=time_ms[enough],
        end=end[enough],
        target_offsets=_offsets(counts[enough]),
        target=item[keep],
        target_seen=seen[keep],
    )


def _one_candidate(
    log: EventLog,
    begin: NDArray[np.int64],
    user: NDArray[np.int32],
    time_ms: NDArray[np.int64],
    end: NDArray[np.int64],
    yes: NDArray[np.bool_],
) -> Requests:
    return Requests(
        row=begin,
        user=user,
        time_ms=time_ms,
        end=end,
        target_offsets=np.zeros(len(begin) + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
        candidate=log.item[begin],
        label=yes.astype(np.float32),
    )


def was_seen(
    log: EventLog, user: NDArray[np.int32], item: NDArray[np.int32], end: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each user had the item in a row before `end`. All shapes (P,)."""
    key = log.user.astype(np.int64) * log.num_items + log.item
    order = np.argsort(key, kind="stable")  # the first row of each pair comes first
    ordered = key[order]
    wanted = user.astype(np.int64) * log.num_items + item
    at = np.searchsorted(ordered, wanted)
    found = (at < len(ordered)) & (ordered[np.minimum(at, len(ordered) - 1)] == wanted)
    first_row = order[np.minimum(at, len(ordered) - 1)]
    return np.asarray(found & (first_row < end))


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """All of `start, start + 1, ..` for each start, one after the other."""
    total = int(counts.sum())
    before = np.cumsum(counts) - counts
    shifts: NDArray[np.int64] = np.repeat(starts - before, counts)
    return shifts + np.arange(total, dtype=np.int64)


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
