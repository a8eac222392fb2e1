"""Bootstrap intervals by user: users are drawn with replacement, all their requests with them.

Requests of one user are not independent, so drawing single requests would make every interval
too narrow (Efron and Tibshirani 1993, chapter 8: resample the independent units).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "Resampler"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95% interval."""

    mean: float
    low: float
    high: float
    p: float | None = None  # two-sided: how often a resample falls on the other side of zero

    def to_json(self) -> dict[str, float | None]:
        """The fields that are set; null stands for a figure that does not exist."""
        return {
            name: value if math.isfinite(value) else None
            for name, value in asdict(self).items()
            if value is not None
        }


class Resampler:
    """The same resamples of users for every figure, so that differences are paired.

    Args:
        user: user of each request, shape (R,).
        resamples: number of bootstrap draws.
        seed: of the draws.
    """

    def __init__(self, user: NDArray[np.int32], resamples: int, seed: int) -> None:
        _, self._user = np.unique(user, return_inverse=True)
        self._num_users = int(self._user.max()) + 1 if len(user) else 0
        random = np.random.default_rng(seed)
        share = np.full(self._num_users, 1 / max(self._num_users, 1))
        self._weights = random.multinomial(self._num_users, share, size=resamples).astype(
            np.float32
        )

    def mean(self, values: NDArray[np.float64]) -> Interval:
        """Mean over requests with its interval; NaN marks requests that do not count."""
        return self._interval(values, with_p=False)

    def difference(self, values: NDArray[np.float64], others: NDArray[np.float64]) -> Interval:
        """Mean of `values - others`, paired by request, with its interval and p-value."""
        return self._interval(values - others, with_p=True)

    def statistic(
        self, value: Callable[[NDArray[np.float64] | None], float], *, with_p: bool
    ) -> Interval:
        """A figure that is no mean, such as AUC, with its interval.

        Args:
            value: the figure, given how often each request counts (None: once).
        """
        drawn = np.array([value(weight[self._user].astype(np.float64)) for weight in self._weights])
        return _summary(value(None), drawn, with_p=with_p)

    def _interval(self, values: NDArray[np.float64], *, with_p: bool) -> Interval:
        counted = ~np.isnan(values)
        if not counted.any():
            return Interval(float("nan"), float("nan"), float("nan"))
        sums = self._by_user(np.where(counted, values, 0.0))
        counts = self._by_user(counted.astype(np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (self._weights @ sums) / (self._weights @ counts)
        return _summary(float(values[counted].mean()), means, with_p=with_p)

    def _by_user(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(self._user, weights=values, minlength=self._num_users)
        return sums.astype(np.float64)


def _summary(mean: float, drawn: NDArray[np.float64], *, with_p: bool) -> Interval:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(mean, float("nan"), float("nan"))
    low, high = np.quantile(drawn, [0.025, 0.975])
    p = None
    if with_p:
        below = (1 + np.count_nonzero(drawn <= 0)) / (1 + len(drawn))
        above = (1 + np.count_nonzero(drawn >= 0)) / (1 + len(drawn))
        p = float(min(1.0, 2 * min(below, above)))
    return Interval(mean, float(low), float(high), p)
