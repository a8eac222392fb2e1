"""AUC within groups of requests: who is ranked right among those who were asked the same.

A pooled AUC can be had by knowing which campaign does well, and nothing of its households. Within a
group that level does not count: groups with both answers are put together by their pairs of a yes
and a no, so that the figure is the chance that, of two users who were asked about one item and
answered differently, the yes is scored above the no.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.platform.auc import auc_interval
from penchant.platform.intervals import Interval, Resampler
from penchant.platform.ordered_pairs import OrderedPairs

__all__ = ["auc_within", "within_interval"]


def auc_within(
    scores: NDArray[np.float32], label: NDArray[np.float32], group: NDArray[np.int32]
) -> float:
    """Mean AUC of the groups that have both answers, weighted by pairs; NaN without such a group.

    Args:
        scores: shape (R,).
        label: 0 or 1, shape (R,).
        group: of each request, such as the item that was asked about, shape (R,).
    """
    once, user = np.ones((1, 1), dtype=np.uint8), np.zeros(len(scores), dtype=np.int64)
    ordered = OrderedPairs(scores, label, group, user, 1)
    with np.errstate(invalid="ignore"):
        return float((ordered.won(once) / ordered.pairs(once))[0])


def within_interval(
    scores: NDArray[np.float32],
    label: NDArray[np.float32],
    group: NDArray[np.int32],
    resampler: Resampler,
    other: NDArray[np.float32] | None = None,
) -> Interval:
    """`auc_within` with its interval by user, or its difference to that of other scores, paired."""
    return auc_interval(scores, label, resampler, other, group)
