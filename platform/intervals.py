"""Bootstrap intervals by user: users are drawn with replacement, all their requests with them.

Requests of one user are not independent, so drawing single requests would make every interval
too narrow (Efron and Tibshirani 1993, chapter 8: resample the independent units).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "Resampler", "summary"]

_CELLS = 1 << 20  # of (resample, user) that are worked on at once: 4 MB as float32


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
    """The same S resamples of U users for every figure, so that differences are paired.

    How often each user was drawn is kept as one byte (the number is Poisson(1) but for a trifle):
    10,000 resamples of 20,000 users take 200 MB.

    Args:
        user: user of each request, shape (R,).
        resamples: number of bootstrap draws.
        seed: of the draws.
    """

    def __init__(self, user: NDArray[np.int32], resamples: int, seed: int) -> None:
        _, found = np.unique(user, return_inverse=True)
        self._user: NDArray[np.int64] = found.astype(np.int64)
        self._num_users = int(found.max()) + 1 if len(user) else 0
        self._counts = _draw(self._num_users, resamples, seed)

    @property
    def num_users(self) -> int:
        """Users that are drawn from, U."""
        return self._num_users

    @property
    def user(self) -> NDArray[np.int64]:
        """User of each request, in [0, U), shape (R,)."""
        return self._user

    def take(self, chosen: NDArray[np.int64]) -> Resampler:
        """The same draws for the requests at these positions alone."""
        part = Resampler.__new__(Resampler)
        part._user, part._num_users = self._user[chosen], self._num_users
        part._counts = self._counts
        return part

    def batches(self) -> Iterator[NDArray[np.uint8]]:
        """How often each user was drawn, a few resamples at a time; shapes (B, U)."""
        step = max(1, _CELLS // max(self._num_users, 1))
        for begin in range(0, len(self._counts), step):
            yield self._counts[begin : begin + step]

    def mean(self, values: NDArray[np.float64]) -> Interval:
        """Mean over requests with its interval; NaN marks requests that do not count."""
        return self.means(values[:, None])[0]

    def means(self, values: NDArray[np.float64]) -> list[Interval]:
        """Means of F figures, shape (R, F), each with its interval; one pass over the draws."""
        return self._intervals(values, with_p=False)

    def difference(self, values: NDArray[np.float64], others: NDArray[np.float64]) -> Interval:
        """Mean of `values - others`, paired by request, with its interval and p-value."""
        return self.differences((values - others)[:, None])[0]

    def differences(self, differences: NDArray[np.float64]) -> list[Interval]:
        """Means of F paired differences, shape (R, F), each with its interval and p-value."""
        return self._intervals(differences, with_p=True)

    def _intervals(self, values: NDArray[np.float64], *, with_p: bool) -> list[Interval]:
        counted = ~np.isnan(values)
        width = values.shape[1]
        columns = np.concatenate([np.where(counted, values, 0.0), counted], axis=1)
        by_user = self._by_user(columns).astype(np.float32)
        drawn = np.concatenate(
            [batch.astype(np.float32) @ by_user for batch in self.batches()]
            or [np.zeros((0, 2 * width), dtype=np.float32)]
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            means = drawn[:, :width] / drawn[:, width:]
        return [
            summary(float(column[inside].mean()), means[:, at], with_p=with_p)
            if inside.any()
            else Interval(float("nan"), float("nan"), float("nan"))
            for at, (column, inside) in enumerate(zip(values.T, counted.T, strict=True))
        ]

    def _by_user(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of each column over each user's requests, shape (U, F)."""
        if not len(columns):
            return np.zeros((self._num_users, columns.shape[1]))
        sums = [
            np.bincount(self._user, weights=column, minlength=self._num_users)
            for column in columns.T
        ]
        return np.stack(sums, axis=1).astype(np.float64)


def summary(mean: float, drawn: NDArray[np.floating], *, with_p: bool) -> Interval:
    """A figure with the interval that its resamples give; those that are NaN are left out."""
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


def _draw(num_users: int, resamples: int, seed: int) -> NDArray[np.uint8]:
    """How often each of U users is drawn when U are drawn with replacement; shape (S, U)."""
    random = np.random.default_rng(seed)
    counts = np.zeros((resamples, num_users), dtype=np.uint8)
    step = max(1, _CELLS // max(num_users, 1))
    for begin in range(0, resamples if num_users else 0, step):
        rows = min(step, resamples - begin)
        drawn = random.integers(0, num_users, size=(rows, num_users))
        drawn += np.arange(rows)[:, None] * num_users
        found = np.bincount(drawn.ravel(), minlength=rows * num_users)
        counts[begin : begin + rows] = found.reshape(rows, num_users)
    return counts
