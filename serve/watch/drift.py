"""Have scores moved? The population stability index, and how much of it is chance.

PSI compares the shares of scores in bins that are tenths of the reference. By custom 0.1 is worth
a look and 0.2 calls for action; with few scores chance alone reaches that, so that a PSI also has
to stand above its noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["ACT", "LEVELS", "LOOK", "Level", "Psi", "psi", "unbroken_since"]

LOOK = 0.1
ACT = 0.2
#: From good to bad.
LEVELS = ("fine", "look", "act")
Level = Literal["fine", "look", "act"]

_BINS = 10
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Psi:
    """How far scores have moved."""

    value: float
    noise: float  # what chance alone stays below in 95% of cases, where nothing has moved

    @property
    def level(self) -> Level:
        """Fine where chance explains it."""
        if self.value < LOOK or self.value <= self.noise:
            return "fine"
        return "act" if self.value >= ACT else "look"


def psi(
    reference: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    independent: tuple[int, int] | None = None,
) -> Psi | None:
    """PSI of scores against a reference; values that are not finite are left out.

    A value that makes up a tenth of the reference or more gets a bin of its own. An empty bin
    counts as half a score. Where nothing has moved, PSI / (1/n + 1/m) is about chi-squared
    distributed with one degree of freedom less than bins (Yurdakul and Naranjo 2020), which gives
    the noise without resampling.

    Args:
        reference: shape (N,).
        scores: shape (M,).
        independent: n and m where scores come in bundles: requests rather than their candidates.
            By default all are independent.

    Returns:
        None where either side is empty.
    """
    before, now = reference[np.isfinite(reference)], scores[np.isfinite(scores)]
    if not len(before) or not len(now):
        return None
    edges = _edges(before)
    p, q = _shares(before, edges), _shares(now, edges)
    n, m = independent or (len(before), len(now))
    spread = (1 / max(n, 1) + 1 / max(m, 1)) if len(edges) else 0.0
    noise = float(stats.chi2.ppf(_LEVEL, max(len(edges), 1))) * spread
    return Psi(value=float((q - p) @ np.log(q / p)), noise=noise)


def unbroken_since(levels: Sequence[Level]) -> int:
    """Position from which all levels, up to the last, are at least as bad as the last one.

    >>> unbroken_since(["fine", "act", "fine", "act", "act"])
    3
    """
    least, at = LEVELS.index(levels[-1]), len(levels) - 1
    while at > 0 and LEVELS.index(levels[at - 1]) >= least:
        at -= 1
    return at


def _edges(reference: NDArray[np.floating]) -> NDArray[np.float64]:
    """Inner edges of the bins, rising; an edge belongs to the bin below."""
    tenths = np.quantile(reference.astype(np.float64), np.linspace(0, 1, _BINS + 1))
    inner, times = np.unique(tenths, return_counts=True)
    own_bin = inner[times > 1]
    edges = np.concatenate([tenths[1:-1], own_bin, np.nextafter(own_bin, -np.inf)])
    return np.unique(edges)


def _shares(scores: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    place = np.searchsorted(edges, scores.astype(np.float64))
    counts = np.bincount(place, minlength=len(edges) + 1)
    return np.asarray(np.maximum(counts, 0.5) / len(scores), dtype=np.float64)
