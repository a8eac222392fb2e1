"""Precision, recall and F1 at a chance of one half, with intervals by user.

They are ratios of counts and no means over requests: each resample of users has counts of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from penchant.platform.intervals import Interval, Resampler, summary

__all__ = ["yes_metrics"]


def yes_metrics(
    odds: NDArray[np.float32],
    label: NDArray[np.float32],
    resampler: Resampler,
    other: NDArray[np.float32] | None = None,
) -> Mapping[str, Interval]:
    """How well the yeses are found, or the differences to how other scores find them.

    A figure whose denominator is zero, such as the precision of who never says yes, is NaN.

    Args:
        odds: log-odds, shape (R,); above 0 is a yes.
        label: 0 or 1, shape (R,).
        resampler: of the R requests.
        other: log-odds to compare with, paired by request, shape (R,).
    """
    mine = _counts(odds, label, resampler)
    theirs = None if other is None else _counts(other, label, resampler)
    once = np.ones((1, resampler.num_users), dtype=np.uint8)
    drawn: list[NDArray[np.float64]] = []  # (B, 3) each
    for counts in (once, *resampler.batches()):
        values = _ratios(counts @ mine)
        drawn.append(values if theirs is None else values - _ratios(counts @ theirs))
    samples = np.concatenate([np.zeros((0, 3)), *drawn[1:]])
    return {
        name: summary(float(drawn[0][0, at]), samples[:, at], with_p=other is not None)
        for at, name in enumerate(("precision", "recall", "f1"))
    }


def _counts(
    odds: NDArray[np.float32], label: NDArray[np.float32], resampler: Resampler
) -> NDArray[np.float64]:
    """Yeses found, said and there, of each user; shape (U, 3)."""
    said, there = odds > 0, label > 0.5
    sums = [
        np.bincount(resampler.user, weights=what, minlength=resampler.num_users)
        for what in (said & there, said, there)
    ]
    return np.stack(sums, axis=1).astype(np.float64)


def _ratios(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Precision, recall and F1, shape (B, 3), of counts (B, 3)."""
    found, said, there = counts.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([found / said, found / there, 2 * found / (said + there)], axis=1)
