"""What users made of each item: whether it is liked more than others, and by whom.

An event's value is read twice: as a yes or no, and as its place among all values, so that its unit
and a few huge values do not matter. Both are explained by the user, by the item, and by what is
left over: D factors an item, so that users who like some items like others with equal factors
(matrix factorisation by alternating least squares; Koren, Bell and Volinsky 2009).

Letters: E events, U users, V items, D factors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from penchant.platform.events import EventLog

__all__ = ["FACTOR_RIDGE", "Taste", "learn_taste", "solve_rows"]

FACTOR_RIDGE = 3.0  # an item's or a user's factors stay near zero for the first few events
_FACTORS = 8
_ROUNDS = 6
_ITEM_STRENGTH, _USER_STRENGTH = 10.0, 5.0  # events that a bias of zero counts for
_LEVELS = 1000  # of the values, at even shares of the events
_MOST_EVENTS = 2_000_000  # the latest ones; more teach little and cost minutes
_CHUNK = 50_000  # events whose products of factors are held at once


@dataclass(frozen=True, kw_only=True)
class Taste:
    """What is kept of the answers of all users up to a moment."""

    levels: NDArray[np.float32]  # (L,), values at even shares of the events, ascending
    above: float  # a value above it is a yes
    overall: NDArray[np.float64]  # (2,), mean yes and mean place
    bias: NDArray[np.float64]  # (2, V), of each item over the mean, users aside
    events: NDArray[np.float64]  # (V,)
    factors: NDArray[np.float64]  # (V, D)

    def readings(self, value: NDArray[np.float32]) -> NDArray[np.float64]:
        """Each value as 0 or 1 and as its place in [0, 1], shape (2, E)."""
        return _readings(value, self.levels, self.above)


def learn_taste(log: EventLog, rows: NDArray[np.int64], above: float) -> Taste:
    """Learn from the events in these rows of the log; none give a taste that knows nothing."""
    if len(rows) > _MOST_EVENTS:
        newest = np.argsort(log.time_ms[rows], kind="stable")[-_MOST_EVENTS:]
        rows = rows[np.sort(newest)]
    value = log.value[rows]
    finite = value[np.isfinite(value)]
    shares = (np.arange(_LEVELS) + 0.5) / _LEVELS
    levels = np.quantile(finite, shares, method="inverted_cdf") if len(finite) else np.zeros(1)
    levels = levels.astype(np.float32)
    users, user = np.unique(log.user[rows], return_inverse=True)
    item, readings = log.item[rows].astype(np.int64), _readings(value, levels, above)
    overall = readings.mean(axis=1) if len(rows) else np.full(2, 0.5)
    events = np.bincount(item, minlength=log.num_items).astype(np.float64)
    bias, rest = np.zeros((2, log.num_items)), np.zeros(len(rows))
    for at, reading in enumerate(readings):
        bias[at], rest = _biases(user, item, reading - overall[at], len(users), events)
    return Taste(
        levels=levels,
        above=above,
        overall=overall,
        bias=bias,
        events=events,
        factors=_factors(user, item, rest, len(users), log.num_items),
    )


def solve_rows(
    owner: NDArray[np.int64],
    factors: NDArray[np.float64],
    rest: NDArray[np.float64],
    number: int,
    ridge: float = FACTOR_RIDGE,
) -> NDArray[np.float64]:
    """Ridge regression of `rest` on `factors` for each of N owners, shape (N, D).

    Args:
        owner: of each event, ascending, shape (E,).
        factors: of each event's other side, shape (E, D).
    """
    width = factors.shape[1]
    gram, moment = np.zeros((number, width * width)), np.zeros((number, width))
    for begin in range(0, len(owner), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        first, last = int(owner[part][0]), int(owner[part][-1]) + 1
        place = np.arange(len(owner[part]))
        ones = np.ones(len(place))
        sums = sparse.csr_array((ones, (owner[part] - first, place)), (last - first, len(place)))
        here = factors[part]
        products = (here[:, :, None] * here[:, None, :]).reshape(len(here), -1)
        gram[first:last] += sums @ products
        moment[first:last] += sums @ (here * rest[part, None])
    square = gram.reshape(number, width, width) + ridge * np.eye(width)
    return np.asarray(np.linalg.solve(square, moment[:, :, None])[:, :, 0], dtype=np.float64)


def _readings(
    value: NDArray[np.float32], levels: NDArray[np.float32], above: float
) -> NDArray[np.float64]:
    """A value that is not a number is a no, in the middle."""
    below = np.searchsorted(levels, value, side="left")
    up_to = np.searchsorted(levels, value, side="right")
    place = (below + up_to) / (2 * len(levels))
    yes = value > np.float32(above)
    return np.stack([yes.astype(np.float64), np.where(np.isnan(value), 0.5, place)])


def _biases(
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    reading: NDArray[np.float64],
    num_users: int,
    events: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bias of each item (V,), and what neither user nor item explains (E,)."""
    of_user, of_item = np.zeros(num_users), np.zeros(len(events))
    own = np.bincount(user, minlength=num_users)
    for _ in range(_ROUNDS):
        left = np.bincount(item, reading - of_user[user], len(events))
        of_item = left / (events + _ITEM_STRENGTH)
        of_user = np.bincount(user, reading - of_item[item], num_users) / (own + _USER_STRENGTH)
    return of_item, reading - of_item[item] - of_user[user]


def _factors(
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    rest: NDArray[np.float64],
    num_users: int,
    num_items: int,
) -> NDArray[np.float64]:
    """Factors of the items, shape (V, D)."""
    of_item = np.random.default_rng(0).normal(scale=0.1, size=(num_items, _FACTORS))
    by_user, by_item = np.argsort(user, kind="stable"), np.argsort(item, kind="stable")
    for _ in range(_ROUNDS):
        of_user = solve_rows(user[by_user], of_item[item[by_user]], rest[by_user], num_users)
        of_item = solve_rows(item[by_item], of_user[user[by_item]], rest[by_item], num_items)
    return of_item
