"""AUC over resamples, and what each request adds to a difference of two AUCs.

With U users drawn W times each, the chance that a yes lies above a no is a weighted count of
pairs. Scores are sorted once; every resample then needs one running sum over the noes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.platform.intervals import Interval, Resampler, summary

__all__ = ["auc_interval", "auc_shares"]

#: Requests up to which 32 bits hold a resample's sums, at half the time of 64: a user is drawn a
#: dozen times at most, and 12 x 2 x 12 x 1,000,000 is a seventh of what fits.
_MANY = 1_000_000


class _Pairs:
    """For every yes, how many noes lie below it and how many at or below it.

    Args:
        scores: shape (R,).
        label: 0 or 1, shape (R,).
    """

    def __init__(self, scores: NDArray[np.float32], label: NDArray[np.float32]) -> None:
        self.yes = np.flatnonzero(label > 0.5)
        no = np.flatnonzero(label <= 0.5)
        self.no = no[np.argsort(scores[no], kind="stable")]
        ordered = scores[self.no]
        self.below = np.searchsorted(ordered, scores[self.yes], side="left")
        self.up_to = np.searchsorted(ordered, scores[self.yes], side="right")

    def aucs(self, counts: NDArray[np.uint8], user: NDArray[np.int64]) -> NDArray[np.float64]:
        """AUC of each of B resamples, ties counting half; NaN without both kinds.

        Args:
            counts: how often each user was drawn, shape (B, U).
            user: user of each request, shape (R,).
        """
        wide = np.int32 if len(user) <= _MANY else np.int64
        noes = np.zeros((len(counts), len(self.no) + 1), dtype=wide)
        np.cumsum(counts[:, user[self.no]], axis=1, dtype=wide, out=noes[:, 1:])
        yes = counts[:, user[self.yes]]
        below = np.take(noes, self.below, axis=1) + np.take(noes, self.up_to, axis=1)
        won = (yes * below).sum(axis=1, dtype=np.int64) / 2
        pairs = yes.sum(axis=1, dtype=np.int64) * noes[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(won / pairs, dtype=np.float64)


def auc_interval(
    scores: NDArray[np.float32],
    label: NDArray[np.float32],
    resampler: Resampler,
    other: NDArray[np.float32] | None = None,
) -> Interval:
    """AUC with its interval by user, or its difference to the AUC of other scores.

    Args:
        scores: shape (R,).
        label: 0 or 1, shape (R,).
        resampler: of the R requests.
        other: scores to compare with, paired by request, shape (R,).
    """
    mine = _Pairs(scores, label)
    theirs = None if other is None else _Pairs(other, label)
    user = resampler.user
    once = np.ones((1, resampler.num_users), dtype=np.uint8)
    drawn = []
    for counts in (once, *resampler.batches()):
        values = mine.aucs(counts, user)
        drawn.append(values if theirs is None else values - theirs.aucs(counts, user))
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
