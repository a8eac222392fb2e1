"""AUC within groups of requests: who is ranked right among those who were asked the same.

A pooled AUC can be had by knowing which campaign does well, and nothing of its households. Within a
group that level does not count: groups with both answers are put together by their pairs of a yes
and a no, so that the figure is the chance that, of two users who were asked about one item and
answered differently, the yes is scored above the no.

Letters: R requests, U users, B resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.platform.intervals import Interval, Resampler, summary

__all__ = ["auc_within", "within_interval"]


class _GroupPairs:
    """For every yes, which noes of its group lie below it and which lie level.

    Requests are sorted by (group, score): the noes of a group that lie below a score are then a
    run, and so are those that share it.
    """

    def __init__(
        self, scores: NDArray[np.float32], label: NDArray[np.float32], group: NDArray[np.int32]
    ) -> None:
        _, level = np.unique(scores, return_inverse=True)
        _, place = np.unique(group, return_inverse=True)
        width = int(level.max(initial=0)) + 1
        key = place.astype(np.int64) * width + level
        no = np.flatnonzero(label <= 0.5)
        self.yes = np.flatnonzero(label > 0.5)
        self.no = no[np.argsort(key[no], kind="stable")]
        ordered, wanted = key[self.no], key[self.yes]
        own = place[self.yes].astype(np.int64) * width
        self.begin = np.searchsorted(ordered, own)
        self.end = np.searchsorted(ordered, own + width)
        self.below = np.searchsorted(ordered, wanted, side="left")
        self.up_to = np.searchsorted(ordered, wanted, side="right")

    def values(self, counts: NDArray[np.uint8], user: NDArray[np.int64]) -> NDArray[np.float64]:
        """The figure of each of B resamples, ties counting half; NaN where no group has both.

        Args:
            counts: how often each user was drawn, shape (B, U).
            user: user of each request, shape (R,).
        """
        noes = np.zeros((len(counts), len(self.no) + 1), dtype=np.int64)
        np.cumsum(counts[:, user[self.no]], axis=1, dtype=np.int64, out=noes[:, 1:])
        yes = counts[:, user[self.yes]].astype(np.int64)
        first = noes[:, self.begin]
        won = (yes * (noes[:, self.below] + noes[:, self.up_to] - 2 * first)).sum(axis=1) / 2
        pairs = (yes * (noes[:, self.end] - first)).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(won / pairs, dtype=np.float64)


def auc_within(
    scores: NDArray[np.float32], label: NDArray[np.float32], group: NDArray[np.int32]
) -> float:
    """Mean AUC of the groups that have both answers, weighted by pairs; NaN without such a group.

    Args:
        scores: shape (R,).
        label: 0 or 1, shape (R,).
        group: of each request, such as the item that was asked about, shape (R,).
    """
    once = np.ones((1, 1), dtype=np.uint8)
    user = np.zeros(len(scores), dtype=np.int64)
    return float(_GroupPairs(scores, label, group).values(once, user)[0])


def within_interval(
    scores: NDArray[np.float32],
    label: NDArray[np.float32],
    group: NDArray[np.int32],
    resampler: Resampler,
    other: NDArray[np.float32] | None = None,
) -> Interval:
    """`auc_within` with its interval by user, or its difference to that of other scores, paired."""
    mine = _GroupPairs(scores, label, group)
    theirs = None if other is None else _GroupPairs(other, label, group)
    user = resampler.user
    once = np.ones((1, resampler.num_users), dtype=np.uint8)
    drawn = []
    for counts in (once, *resampler.batches()):
        values = mine.values(counts, user)
        drawn.append(values if theirs is None else values - theirs.values(counts, user))
    return summary(float(drawn[0][0]), np.concatenate(drawn[1:]), with_p=other is not None)
