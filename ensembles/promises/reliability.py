"""Can the probabilities be believed? Reliability diagram, calibration error, Brier score.

Outcomes are 0 or 1, or shares of a basket in between. Bins hold whole ties, so that equal
probabilities always stand in one bin; empty bins are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from penchant.platform.errors import DataError
from penchant.platform.intervals import Interval

__all__ = ["Bin", "Brier", "Reliability", "brier", "calibration_error", "reliability", "wilson"]

Bins = Literal["equal-count", "equal-width"]


@dataclass(frozen=True, slots=True)
class Bin:
    """Forecasts of about the same probability, and what came of them."""

    count: int
    mean: float  # probability that was said, on average
    share: Interval  # of yes, with its Wilson interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Brier:
    """Brier score and its parts (Murphy 1973): `score = reliability - resolution + uncertainty`.

    The sum holds but for the spread of probabilities within a bin, which is `within`.
    """

    score: float
    reliability: float  # smaller is better: distance between said and seen
    resolution: float  # larger is better: how far bins lie from the base rate
    uncertainty: float  # of the outcomes alone
    within: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """All that a page shows about probabilities."""

    bins: list[Bin]  # equal-count
    ece_equal_count: float
    ece_equal_width: float
    brier: Brier


def reliability(
    probability: NDArray[np.float64], outcome: NDArray[np.float32], bins: int = 10
) -> Reliability:
    """Diagram, errors and Brier score of probabilities.

    Args:
        probability: shape (N,), in [0, 1].
        outcome: shape (N,), in [0, 1].
        bins: at most so many.

    Raises:
        DataError: nothing to judge, or a probability outside [0, 1].
    """
    _check(probability, outcome)
    place = _places(probability, bins, "equal-count")
    counts, means, shares = _binned(probability, outcome, place)
    rows = zip(counts, means, shares, strict=True)
    return Reliability(
        bins=[Bin(int(n), float(mean), wilson(share * n, int(n))) for n, mean, share in rows],
        ece_equal_count=calibration_error(probability, outcome, bins, "equal-count"),
        ece_equal_width=calibration_error(probability, outcome, bins, "equal-width"),
        brier=brier(probability, outcome, bins),
    )


def calibration_error(
    probability: NDArray[np.float64], outcome: NDArray[np.float32], bins: int, how: Bins
) -> float:
    """Expected calibration error: mean distance of said and seen, each bin by its count.

    Naeini, Cooper and Hauskrecht (AAAI 2015) with `equal-width` bins; `equal-count` bins do not
    let a few forecasts in empty regions decide (Nixon et al. 2019).
    """
    _check(probability, outcome)
    counts, means, shares = _binned(probability, outcome, _places(probability, bins, how))
    return float(counts @ np.abs(means - shares) / counts.sum())


def brier(probability: NDArray[np.float64], outcome: NDArray[np.float32], bins: int = 10) -> Brier:
    """Mean squared distance of probability and outcome, and its parts over equal-count bins."""
    _check(probability, outcome)
    place = _places(probability, bins, "equal-count")
    counts, means, shares = _binned(probability, outcome, place)
    weight, base = counts / counts.sum(), float(outcome.mean(dtype=np.float64))
    score = float(((probability - outcome) ** 2).mean())
    apart = float(weight @ (means - shares) ** 2)
    resolution = float(weight @ (shares - base) ** 2)
    uncertainty = float(((outcome - base) ** 2).mean(dtype=np.float64))
    return Brier(
        score=score,
        reliability=apart,
        resolution=resolution,
        uncertainty=uncertainty,
        within=score - (apart - resolution + uncertainty),
    )


def wilson(successes: float, count: int, level: float = 0.95) -> Interval:
    """Share and its interval (Wilson 1927), for independent trials.

    Args:
        successes: may be a fraction, where a trial can succeed in part: then it is cautious.
        count: trials, at least one.
    """
    z = float(stats.norm.ppf((1 + level) / 2))
    share = successes / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count)
    half *= math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, max(middle - half, 0.0), min(middle + half, 1.0))


def _check(probability: NDArray[np.float64], outcome: NDArray[np.float32]) -> None:
    if not len(probability) or len(probability) != len(outcome):
        raise DataError(
            f"got {len(probability)} probabilities and {len(outcome)} outcomes: expected one of "
            "each for every forecast, and at least one."
        )
    if not (np.all(probability >= 0) and np.all(probability <= 1)):
        raise DataError(
            f"got probabilities from {probability.min()} to {probability.max()}: expected [0, 1]. "
            "Scores have to pass a calibrator first."
        )


def _places(probability: NDArray[np.float64], bins: int, how: Bins) -> NDArray[np.int64]:
    """Bin of each forecast, shape (N,); edges belong to the bin below, as scikit-learn has it."""
    edges = np.linspace(0, 1, bins + 1)
    if how == "equal-count":
        edges = np.quantile(probability, edges)
    return np.searchsorted(edges[1:-1], probability).astype(np.int64)


def _binned(
    probability: NDArray[np.float64], outcome: NDArray[np.float32], place: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Count, mean probability and mean outcome of the bins that hold something, shape (B,)."""
    counts = np.bincount(place)
    filled = counts > 0
    said = np.bincount(place, weights=probability)[filled]
    seen = np.bincount(place, weights=outcome)[filled]
    number = counts[filled].astype(np.float64)
    # rounding must not push a mean out of [0, 1]: an interval takes its square root
    return number, np.clip(said / number, 0, 1), np.clip(seen / number, 0, 1)
