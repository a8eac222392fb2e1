"""AUC over resamples, and what each request adds to a difference of two AUCs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.platform.intervals import Interval, Resampler, summary
from penchant.platform.ordered_pairs import OrderedPairs

__all__ = ["auc_interval", "auc_shares"]


def auc_interval(
    scores: NDArray[np.float32],
    label: NDArray[np.float32],
    resampler: Resampler,
    other: NDArray[np.float32] | None = None,
    group: NDArray[np.int32] | None = None,
) -> Interval:
    """AUC with its interval by user, or its difference to the AUC of other scores.

    Args:
        scores: shape (R,).
        label: 0 or 1, shape (R,).
        resampler: of the R requests.
        other: scores to compare with, paired by request, shape (R,).
        group: of each request, shape (R,): only pairs within a group count. None: all pairs do.
    """
    mine, *theirs = (
        OrderedPairs(each, label, group, resampler.user, resampler.num_users)
        for each in (scores, other)
        if each is not None
    )
    once = np.ones((1, resampler.num_users), dtype=np.uint8)
    drawn = []
    for counts in (once, *resampler.batches()):
        won = mine.won(counts) - sum(each.won(counts) for each in theirs)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append(won / mine.pairs(counts))
    return summary(float(drawn[0][0]), np.concatenate(drawn[1:]), with_p=other is not None)


def auc_shares(
    scores: NDArray[np.float32], other: NDArray[np.float32], label: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What each request adds to AUC(scores) - AUC(other), shape (R,); the sum is the difference.

    An AUC is no mean over requests, but nearly one of its structural components (DeLong, DeLong
    and Clarke-Pearson 1988): for a yes the share of the noes below it, for a no the share of the
    yeses above it. Each request gets its component's distance from the mean, over the number of
    its kind, and an equal part of the difference itself: Tukey's pseudo-values, over R.
    """
    yes, no = np.flatnonzero(label > 0.5), np.flatnonzero(label <= 0.5)
    if not len(yes) or not len(no):
        return np.zeros(len(label))
    return _shares(scores, yes, no) - _shares(other, yes, no)  # equal scores: exactly zero


def _shares(
    scores: NDArray[np.float32], yes: NDArray[np.int64], no: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What each request adds to an AUC, shape (R,)."""
    noes, yeses = np.sort(scores[no]), np.sort(scores[yes])
    below = [np.searchsorted(noes, scores[yes], side=side) for side in ("left", "right")]
    under = [np.searchsorted(yeses, scores[no], side=side) for side in ("left", "right")]
    won = (below[0] + below[1]) / (2 * len(no))
    lost = 1 - (under[0] + under[1]) / (2 * len(yes))
    area = won.mean()
    parts = np.full(len(scores), area / len(scores))
    parts[yes] += (won - area) / len(yes)
    parts[no] += (lost - area) / len(no)
    return parts
