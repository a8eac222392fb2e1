"""Which member would help a ranking most: each is tried exactly, without looking at everything.

Requests are kept in blocks that fit a core's cache. Once the sum has some members, most candidates
are decided for the next additions, whichever they are (see `undecided.py`), and trials look at the
others alone: the further the sum has grown, the fewer they are and the longer that lasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combiners.undecided import Block, Undecided, undecided
from penchant.platform.requests import Requests

__all__ = ["RankingSearch"]

_CELLS = 2**16  # sums of one member in a block
_STEP = 8  # a sum of so many members is looked at anew after one addition more


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
                Block(
                    parts=parts,
                    total=np.zeros_like(next(iter(parts.values()))),
                    target=requests.target[inside].astype(np.int64),
                    asker=np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)),
                    weight=weight[inside],
                )
            )
        self._near: list[Block | Undecided] = [*self._blocks]
        self._size, self._until = 0, 1  # the near ones hold while the sum has fewer members
        # Written over by every trial: asking for fresh memory would cost more than the sums.
        self._sums = np.empty(step * width, dtype=np.float32)
        self._flags = np.empty(step * width, dtype=np.bool_)

    def values(self, names: Sequence[str]) -> dict[str, float]:
        """The metric of the mean of those that were added and each of `names`."""
        if self._size >= self._until and len(names) > 1:
            steps = 1 + self._size // _STEP
            self._near = [undecided(block, steps, self._k) or block for block in self._blocks]
            self._until = self._size + steps
        sums = dict.fromkeys(names, 0.0)
        for block in self._near if self._size < self._until else self._blocks:
            if isinstance(block, Undecided):
                for name, value in block.values(self._kind, self._k).items():
                    if name in sums:
                        sums[name] += value
            else:
                for name in names:
                    sums[name] += self._value(block, block.parts[name])
        return {name: value / self._requests for name, value in sums.items()}

    def add(self, name: str) -> None:
        """Add a member to the sum."""
        for block in self._blocks:
            np.add(block.total, block.parts[name], out=block.total)
        for near in self._near:
            if isinstance(near, Undecided):
                near.add(name)
        self._size += 1

    def _value(self, block: Block, part: NDArray[np.float32]) -> float:
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
