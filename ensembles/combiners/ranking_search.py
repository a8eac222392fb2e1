"""Which member would help a ranking most: each is tried exactly, without looking at everything.

Requests are kept in blocks that fit a core's cache. Whichever `s` members are added next, a
candidate's sum lies between `s` times what the lowest and `s` times what the highest of all members
would make of it. At least k candidates reach the k-th highest of the low ends: one whose high end
lies below is out of the top k, whatever is chosen, and so is such a target; a request whose targets
are all out counts nothing. Both are set aside for the next `s` additions: the further the sum has
grown, the more that is and the longer it can last.
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
    aside: bool = False  # some candidates were set aside; the sum is its own

    @cached_property
    def ends(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The lowest and the highest score that any member gives, (n, W) each."""
        first, *others = self.parts.values()
        low, high = first.copy(), first.copy()
        for part in others:
            np.minimum(low, part, out=low)
            np.maximum(high, part, out=high)
        return low, high


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
        self._sums = np.empty(step * width, dtype=np.float32)
        self._flags = np.empty(step * width, dtype=np.bool_)

    def values(self, names: Sequence[str]) -> dict[str, float]:
        """The metric of the mean of those that were added and each of `names`."""
        if self._size >= self._until and len(names) > 1:
            steps = (self._size + 1) // 2
            near = (_narrowed(block, steps, self._k) for block in self._blocks)
            self._near = [block for block in near if len(block.total)]
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
        hit, ranks = _hits(sums, own, block.asker, self._k, self._flags)
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
    asker: NDArray[np.int64],
    k: int,
    room: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Targets in the top `k` and their ranks, ties at their mean.

    Args:
        sums: shape (n, W).
        own: sums of the targets, shape (p,).
        asker: the request of each target, shape (p,).
        room: at least n * W flags, written over.
    """
    size, width = sums.shape
    if len(own) == size and bool((asker[1:] > asker[:-1]).all()):  # one target each
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
    low, high = block.ends
    keep = np.zeros((size, width), dtype=bool)
    for step in range(1, steps + 1):
        reach = block.total + np.float32(step) * high
        floor = np.partition(block.total + np.float32(step) * low, width - k, axis=1)[:, width - k]
        finite = np.where(np.isfinite(reach), np.abs(reach), 0.0)
        keep |= reach >= (floor - _ROUNDING * finite.max(1))[:, None]
        if 2 * np.count_nonzero(keep) > size * width:
            return block
    stays = keep[block.asker, block.target]
    live = np.unique(block.asker[stays])
    wide = int(np.count_nonzero(keep[live], axis=1).max(initial=1))
    if 2 * wide * len(live) > size * width:
        return block
    columns = np.argsort(~keep[live], axis=1, kind="stable")[:, :wide]
    place = np.full(size, -1)
    place[live] = np.arange(len(live))
    asker = place[block.asker[stays]]
    target = np.argmax(columns[asker] == block.target[stays, None], axis=1)
    at = live[:, None] * width + columns
    return _Block(
        parts={name: part.reshape(-1).take(at) for name, part in block.parts.items()},
        total=block.total.reshape(-1).take(at),
        target=target,
        asker=asker,
        weight=block.weight[stays],
        aside=True,
    )
