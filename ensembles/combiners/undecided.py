"""What can still change in a ranking, whichever few members are added next.

Of a target and another candidate, a member gives a difference of scores. With `s` more members the
difference of the sums moves by at most `s` times the largest, and at least `s` times the lowest,
that any member gives. Where even that leaves the candidate above the target, or below it, the two
are decided, and no trial needs to look. A target that k candidates are surely above is out of the
top k, whatever is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "Undecided", "undecided"]

_ROUNDING = 1e-5  # of the largest sum of a request: above what 50 additions of float32 can lose
_MOST = 0.4  # share of the cells above which it is quicker to look at all of them


@dataclass(frozen=True, kw_only=True)
class Block:
    """n requests with p targets, W candidates each; M members."""

    parts: Mapping[str, NDArray[np.float32]]  # member -> (n, W)
    total: NDArray[np.float32]  # (n, W), sum of the members that were added
    target: NDArray[np.int64]  # (p,), as columns
    asker: NDArray[np.int64]  # (p,), as rows
    weight: NDArray[np.float64]  # (p,), what a hit is worth

    @cached_property
    def ends(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The lowest and the highest difference to each target by any member, (p, W) each."""
        first, *others = (self.to_target(part) for part in self.parts.values())
        low, high = first, first.copy()
        for difference in others:
            np.minimum(low, difference, out=low)
            np.maximum(high, difference, out=high)
        return low, high

    @cached_property
    def own(self) -> NDArray[np.float32]:
        """What each member gives each target, (M, p)."""
        return np.stack([part[self.asker, self.target] for part in self.parts.values()])

    def to_target(self, sums: NDArray[np.float32]) -> NDArray[np.float32]:
        """What each candidate has more than each target, (n, W) -> (p, W); NaN is unknown."""
        with np.errstate(invalid="ignore"):  # -inf, where a candidate is not asked for
            return sums[self.asker] - sums[self.asker, self.target][:, None]


@dataclass(frozen=True, kw_only=True)
class Undecided:
    """q targets with L candidates in all that may be on either side of theirs."""

    parts: NDArray[np.float32]  # (M, L)
    own_parts: NDArray[np.float32]  # (M, q), of the targets
    total: NDArray[np.float32]  # (L,), sum of the members that were added
    own_total: NDArray[np.float32]  # (q,)
    row: NDArray[np.int64]  # (L,), the target of each candidate; each is a candidate of its own
    above: NDArray[np.int64]  # (q,), candidates that are surely above
    asker: NDArray[np.int64]  # (q,), not decreasing
    weight: NDArray[np.float64]  # (q,)
    place: Mapping[str, int]  # member -> its row

    def values(self, kind: str, k: int) -> dict[str, float]:
        """Sum of the metric over the requests, were each member added."""
        if not len(self.weight):
            return dict.fromkeys(self.place, 0.0)
        own = self.own_total + self.own_parts
        sums, mine = self.total + self.parts, own[:, self.row]
        first = np.flatnonzero(np.diff(self.row, prepend=-1))
        above = np.add.reduceat(sums > mine, first, axis=1, dtype=np.int32)
        alike = np.add.reduceat(sums == mine, first, axis=1, dtype=np.int32)
        ranks = self.above + above + (alike + 1) / 2
        hit = (ranks <= k) & np.isfinite(own)
        if kind == "ndcg":
            worth = self.weight / np.log2(1 + ranks)
        elif kind == "recall":
            worth = np.broadcast_to(self.weight, ranks.shape)
        else:  # of a request's targets, the best one counts
            worth = np.ones(ranks.shape) if kind == "hr" else 1 / ranks
        worth = np.where(hit, worth, 0.0)
        if kind in ("hr", "mrr"):
            request = np.flatnonzero(np.diff(self.asker, prepend=-1))
            worth = np.maximum.reduceat(worth, request, axis=1)
        found = worth.sum(axis=1)
        return {name: float(found[at]) for name, at in self.place.items()}

    def add(self, name: str) -> None:
        """Add a member to the sum."""
        at = self.place[name]
        np.add(self.total, self.parts[at], out=self.total)
        np.add(self.own_total, self.own_parts[at], out=self.own_total)


def undecided(block: Block, steps: int, k: int) -> Undecided | None:
    """What the next `steps` additions can change; none if that is much of the block."""
    low, high = block.ends
    now = block.to_target(block.total)
    finite = np.where(np.isfinite(block.total), np.abs(block.total), 0.0)
    slack = _ROUNDING * finite.max(axis=1)[block.asker, None]
    with np.errstate(invalid="ignore"):
        above = np.minimum(now + low, now + np.float32(steps) * low) > slack
        below = np.maximum(now + high, now + np.float32(steps) * high) < -slack
    number = np.count_nonzero(above, axis=1)
    live = np.flatnonzero(number < k)
    row, column = np.nonzero(~(above | below)[live])
    if len(row) > _MOST * block.total.size:
        return None
    asker, width = block.asker[live], block.total.shape[1]
    cells, own = asker[row] * width + column, asker * width + block.target[live]
    parts = np.empty((len(block.parts), len(cells)), dtype=np.float32)
    for at, part in enumerate(block.parts.values()):
        np.take(part.reshape(-1), cells, out=parts[at], mode="clip")  # others copy once more
    return Undecided(
        parts=parts,
        own_parts=block.own[:, live],
        total=block.total.reshape(-1).take(cells),
        own_total=block.total.reshape(-1).take(own),
        row=row,
        above=number[live],
        asker=asker,
        weight=block.weight[live],
        place={name: at for at, name in enumerate(block.parts)},
    )
