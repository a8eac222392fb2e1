"""Which member would help a ranking most: each is tried exactly, without looking at everything.

Requests are kept in blocks that fit a core's cache. Whichever `s` members are added next, a
candidate's sum lies between `s` times what the lowest and `s` times what the highest of all members
would make of it. At least k candidates reach the k-th highest of the low ends: one whose high end
lies below is out of the top k, whatever is chosen, and so is such a target; a request whose targets
are all out counts nothing. Both are set aside for the next `s` additions: the further the sum has
grown, the more that is and the longer it can last.

With one target a request, as most have, only what can come out on either side of the target
matters: its distance to the target has such ends, too, and they are closer. What is surely above is
counted and set aside, what is surely below is set aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from penchant.platform.requests import Requests

__all__ = ["RankingSearch"]

_CELLS = 2**16  # sums of one member in a block
_ROUNDING = 1e-5  # of the largest sum of a request: above what 50 additions of float32 can lose


@dataclass(frozen=True, kw_only=True)
class _Block:
    """n requests with p targets, W candidates each that can still matter."""

    parts: Mapping[str, NDArray[np.float32]]  # member -> (n, W)
    total: NDArray[np.float32]  # (n, W), sum of the members that were added
    target: NDArray[np.int64]  # (p,), as columns
    asker: NDArray[np.int64]  # (p,), as rows
    weight: NDArray[np.float64]  # (p,), what a hit is worth
    above: NDArray[np.int64] | None = None  # (n,), set aside above a request's only target
    aside: bool = False  # some candidates were set aside; the sum is its own

    @cached_property
    def single(self) -> bool:
        """Whether each request has one target."""
        size = len(self.total)
        return len(self.asker) == size and bool((self.asker[1:] > self.asker[:-1]).all())

    @cached_property
    def ends(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The lowest and the highest score that any member gives, (n, W) each."""
        first, *others = self.parts.values()
        low, high = first.copy(), first.copy()
        for part in others:
            np.minimum(low, part, out=low)
            np.maximum(high, part, out=high)
        return low, high

    @cached_property
    def distances(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """The lowest and the highest that any member puts above the only target, (n, W) each.

        And the largest score that one gives, (n,): what rounding is relative to.
        """
        low = np.full(self.total.shape, np.inf, dtype=np.float32)
        high, size = -low, np.zeros(len(low), dtype=np.float32)
        with np.errstate(invalid="ignore"):  # targets that are not asked for: NaN
            for part in self.parts.values():
                beside = part - part[self.asker, self.target][:, None]
                np.minimum(low, beside, out=low)
                np.maximum(high, beside, out=high)
                np.maximum(size, _largest(part), out=size)
        return low, high, size


class RankingSearch:
    """A sum of members, and how good the ranking would be with one more.

    Args:
        scores: of M members, (R, C) each; -inf marks candidates that are not asked for.
        requests: R requests with their targets.
        metric: a ranking metric at k.
    """

    def __init__(
        self, scores: Mapping[str, NDArray[np.float32]], requests: Requests, metric: str
    ) -> None:
        self._kind, _, length = metric.partition("@")
        self._k = int(length)
        self._requests = len(requests)
        weight = _weights(requests, self._kind, self._k)
        width = next(iter(scores.values())).shape[1]
        step = max(_CELLS // width, 1)
        self._blocks = []
        for begin in range(0, len(requests), step):
            rows = slice(begin, begin + step)
            offsets = requests.target_offsets[begin : begin + step + 1]
            inside = slice(offsets[0], offsets[-1])
            parts = {name: part[rows] for name, part in scores.items()}
            self._blocks.append(
                _Block(
                    parts=parts,
                    total=np.zeros_like(next(iter(parts.values()))),
                    target=requests.target[inside].astype(np.int64),
                    asker=np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)),
                    weight=weight[inside],
                )
            )
        self._near = self._blocks  # what can matter until the sum has `_until` members
        self._size, self._until = 0, 1
        # Written over by every trial: asking for fresh memory would cost more than the sums.
        self._sums = np.empty(max(step * width, _CELLS), dtype=np.float32)
        self._flags = np.empty(len(self._sums), dtype=np.bool_)

    def values(self, names: Sequence[str]) -> dict[str, float]:
        """The metric of the mean of those that were added and each of `names`."""
        if self._size >= self._until and len(names) > 1:
            single = all(block.single for block in self._blocks)
            steps = 1 + self._size // 8 if single else (self._size + 1) // 2
            near = [_narrowed(block, steps, self._k) for block in self._blocks]
            self._near = _joined([block for block in near if len(block.total)])
            self._until = self._size + steps
        sums = dict.fromkeys(names, 0.0)
        for block in self._near if self._size < self._until else self._blocks:
            for name in names:
                sums[name] += self._value(block, block.parts[name])
        return {name: value / self._requests for name, value in sums.items()}

    def add(self, name: str) -> None:
        """Add a member to the sum."""
        for block in self._blocks:
            np.add(block.total, block.parts[name], out=block.total)
        for block in self._near:
            if block.aside:
                np.add(block.total, block.parts[name], out=block.total)
        self._size += 1

    def _value(self, block: _Block, part: NDArray[np.float32]) -> float:
        """Sum of the metric over the block's requests, were this member added."""
        sums = self._sums[: part.size].reshape(part.shape)
        np.add(block.total, part, out=sums)
        own = sums[block.asker, block.target]
        hit, ranks = _hits(sums, own, block, self._k, self._flags)
        if self._kind == "ndcg":
            return float((block.weight[hit] / np.log2(1 + ranks)).sum())
        if self._kind == "recall":
            return float(block.weight[hit].sum())
        best = np.zeros(len(sums))
        np.maximum.at(best, block.asker[hit], 1.0 if self._kind == "hr" else 1 / ranks)
        return float(best.sum())


def _weights(requests: Requests, kind: str, k: int) -> NDArray[np.float64]:
    """What a hit of each target is worth, shape (P,), as `ranking_metrics` has it."""
    number = np.diff(requests.target_offsets)
    each = np.ones(len(number))
    if kind == "ndcg":
        ideal = np.concatenate([[1.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
        each = 1 / ideal[np.minimum(number, k)]
    if kind == "recall":
        each = 1 / np.maximum(number, 1)
    return np.repeat(each, number)


def _hits(
    sums: NDArray[np.float32],
    own: NDArray[np.float32],
    block: _Block,
    k: int,
    room: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Targets in the top `k` and their ranks, ties at their mean.

    Args:
        sums: shape (n, W).
        own: sums of the targets, shape (p,).
        block: what they are the sums of.
        room: at least n * W flags, written over.
    """
    (size, width), asker = sums.shape, block.asker
    if block.single:
        looked_at = np.arange(size)
        rows = sums
    else:
        if width > 2 * k:  # of a tie that passes 2k places, 2k are enough to put it beyond k
            sums = np.partition(sums, width - 2 * k, axis=1)[:, width - 2 * k :]
        looked_at = np.flatnonzero(own >= sums.min(axis=1)[asker])
        rows, own = sums[asker[looked_at]], own[looked_at]
    flags = room[: rows.size].reshape(rows.shape) if rows.size <= room.size else None
    flags = np.greater(rows, own[:, None], out=flags)
    above = _counts(flags)
    np.equal(rows, own[:, None], out=flags)
    # Nearly always only the target has the target's sum, which is quickly seen.
    alike = np.ones(len(own)) if np.count_nonzero(flags) == len(own) else _counts(flags)
    ranks = above + (alike + 1) / 2
    if block.above is not None:
        ranks += block.above
    hit = (ranks <= k) & np.isfinite(own)
    return looked_at[hit], ranks[hit]


def _counts(flags: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Flags that are set in each row, shape (n,)."""
    kind = np.uint16 if flags.shape[1] < 2**16 else np.uint32  # narrow sums are faster
    counts = np.add.reduce(flags.view(np.uint8), axis=1, dtype=kind)
    return np.asarray(counts, dtype=np.float64)


def _narrowed(block: _Block, steps: int, k: int) -> _Block:
    """What can matter in the next `steps` additions; the block as it is if that is most of it."""
    size, width = block.total.shape
    if width <= k:
        return block
    keep, above = _beside(block, steps) if block.single else (_reaching(block, steps, k), None)
    stays = keep[block.asker, block.target]
    if above is not None:
        stays &= above < k
    live = np.unique(block.asker[stays])
    counts = np.count_nonzero(keep[live], axis=1)
    wide = int(counts.max(initial=1))
    if 2 * wide * len(live) > size * width:
        return block
    columns = np.argsort(~keep[live], axis=1, kind="stable")[:, :wide]
    place = np.full(size, -1)
    place[live] = np.arange(len(live))
    asker = place[block.asker[stays]]
    target = np.argmax(columns[asker] == block.target[stays, None], axis=1)
    at = live[:, None] * width + columns
    total = block.total.reshape(-1).take(at)
    if above is not None:
        total[np.arange(wide) >= counts[:, None]] = -np.inf  # it may be counted as above
    return _Block(
        parts={name: part.reshape(-1).take(at) for name, part in block.parts.items()},
        total=total,
        target=target,
        asker=asker,
        weight=block.weight[stays],
        above=None if above is None else above[live],
        aside=True,
    )


def _reaching(block: _Block, steps: int, k: int) -> NDArray[np.bool_]:
    """Candidates that can be in the top `k` after one to `steps` additions, (n, W)."""
    width = block.total.shape[1]
    low, high = block.ends
    keep = np.zeros(block.total.shape, dtype=bool)
    for step in range(1, steps + 1):
        reach = block.total + np.float32(step) * high
        floor = np.partition(block.total + np.float32(step) * low, width - k, axis=1)[:, width - k]
        keep |= reach >= (floor - _ROUNDING * _largest(reach))[:, None]
        if 2 * np.count_nonzero(keep) > keep.size:
            return np.ones_like(keep)
    return keep


def _beside(block: _Block, steps: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Candidates that can stand on either side of the target, (n, W), and how many are above.

    The ends are lines in the number of additions: the first and the last say all.
    """
    low, high, size = block.distances
    own = block.total[block.asker, block.target][:, None]
    with np.errstate(invalid="ignore"):
        beside = block.total - own
        lowest = np.minimum(beside + low, beside + np.float32(steps) * low)
        highest = np.maximum(beside + high, beside + np.float32(steps) * high)
    margin = (_ROUNDING * (_largest(block.total) + steps * size))[:, None]
    surely = lowest > margin
    return (highest >= -margin) & ~surely, np.count_nonzero(surely, axis=1)


def _largest(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest finite size in each row, (n,)."""
    sizes: NDArray[np.float32] = np.where(np.isfinite(values), np.abs(values), 0.0).max(axis=1)
    return sizes


def _joined(blocks: list[_Block]) -> list[_Block]:
    """Narrow blocks put together, as many as fit a core's cache: each costs calls of its own."""
    found: list[_Block] = []
    group: list[_Block] = []
    rows = wide = 0
    for block in blocks:
        if block.above is None:
            found.append(block)
            continue
        size, width = block.total.shape
        if group and (rows + size) * max(wide, width) > _CELLS:
            found.append(_stacked(group, wide))
            group, rows, wide = [], 0, 0
        group.append(block)
        rows, wide = rows + size, max(wide, width)
    return [*found, _stacked(group, wide)] if group else found


def _stacked(blocks: list[_Block], wide: int) -> _Block:
    """Blocks with one target each as one; shorter rows end in -inf."""
    starts = np.cumsum([0, *(len(block.total) for block in blocks)])

    def padded(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        made = np.full((starts[-1], wide), -np.inf, dtype=np.float32)
        for begin, part in zip(starts, parts, strict=False):
            made[begin : begin + len(part), : part.shape[1]] = part
        return made

    return _Block(
        parts={name: padded([b.parts[name] for b in blocks]) for name in blocks[0].parts},
        total=padded([block.total for block in blocks]),
        target=np.concatenate([block.target for block in blocks]),
        asker=np.arange(starts[-1]),
        weight=np.concatenate([block.weight for block in blocks]),
        above=np.concatenate([block.above for block in blocks if block.above is not None]),
        aside=True,
    )
