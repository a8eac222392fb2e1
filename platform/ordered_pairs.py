"""Pairs of a yes and a no, and how many of them have the yes above: over resamples of users.

The chance that a yes lies above a no is an AUC; with users drawn W times each it is a weighted
count of pairs. Few users who are asked much are counted once, by the users of a pair: `won[u, v]`
says how many yeses of u lie above noes of v, and a resample is a quadratic form, which BLAS is
quick at. With many users that table would be larger than what it is made of, and each resample is a
running sum over the noes, which are sorted once.

Letters: R requests, U users, B resamples.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["OrderedPairs"]

#: Multiply-adds of the table that take as long as a request in a running sum.
_PER_REQUEST = 40
#: Of a table of running sums that is held at once, as 8 bytes each.
_CELLS = 1 << 22
#: Requests up to which 32 bits hold a resample's sums, at half the time of 64: a user is drawn a
#: dozen times at most, and 12 x 2 x 12 x 1,000,000 is a seventh of what fits.
_MANY = 1_000_000


class OrderedPairs:
    """For every yes, which noes of its group lie below it and which lie level.

    Requests are sorted by (group, score): the noes of a group that lie below a score are then a
    run, and so are those that share it.

    Args:
        scores: shape (R,).
        label: 0 or 1, shape (R,).
        group: of each request, shape (R,): only pairs within a group count. None: all pairs do.
        user: of each request, in [0, U), shape (R,).
        num_users: U.
    """

    def __init__(
        self,
        scores: NDArray[np.float32],
        label: NDArray[np.float32],
        group: NDArray[np.int32] | None,
        user: NDArray[np.int64],
        num_users: int,
    ) -> None:
        _, level = np.unique(scores, return_inverse=True)
        place = np.zeros(len(scores), dtype=np.int64)
        if group is not None:
            place[:] = np.unique(group, return_inverse=True)[1]
        width = int(level.max(initial=0)) + 1
        key = place * width + level
        no, yes = np.flatnonzero(label <= 0.5), np.flatnonzero(label > 0.5)
        no = no[np.argsort(key[no], kind="stable")]
        ordered, own = key[no], place[yes] * width
        self._begin = None if group is None else np.searchsorted(ordered, own)
        self._end = np.searchsorted(ordered, own + width)
        self._below = np.searchsorted(ordered, key[yes], side="left")
        self._up_to = np.searchsorted(ordered, key[yes], side="right")
        self._yes_user, self._no_user, self._num_users = user[yes], user[no], num_users
        self._few = num_users * num_users <= _PER_REQUEST * len(user)

    def won(self, counts: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Pairs whose yes lies above, ties counting half, in each of B resamples.

        Args:
            counts: how often each user was drawn, shape (B, U).
        """
        if self._few:
            return _quadratic(counts, self._won_by_users)
        return self._running(counts, self._below, self._up_to)

    def pairs(self, counts: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Pairs in all in each of B resamples."""
        if self._begin is None:
            yes, no = (counts[:, u].sum(axis=1) for u in (self._yes_user, self._no_user))
            return np.asarray(yes * no, dtype=np.float64)
        if self._few:
            return _quadratic(counts, self._pairs_by_users)
        return self._running(counts, self._end, self._end)

    @cached_property
    def _won_by_users(self) -> NDArray[np.float64]:
        return self._by_users(self._below, self._up_to)

    @cached_property
    def _pairs_by_users(self) -> NDArray[np.float64]:
        return self._by_users(self._end, self._end)

    def _running(
        self, counts: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Noes from `begin` to the mean of `low` and `high` of each yes, (B,), by running sums."""
        wide = np.int32 if len(self._yes_user) + len(self._no_user) <= _MANY else np.int64
        noes = np.zeros((len(counts), len(self._no_user) + 1), dtype=wide)
        np.cumsum(counts[:, self._no_user], axis=1, dtype=wide, out=noes[:, 1:])
        found = np.take(noes, low, axis=1) + np.take(noes, high, axis=1)
        if self._begin is not None:
            found -= 2 * np.take(noes, self._begin, axis=1)
        sums = (counts[:, self._yes_user] * found).sum(axis=1, dtype=np.int64)
        return np.asarray(sums / 2, dtype=np.float64)

    def _by_users(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same with everybody drawn once, by the user of the yes and of the no; (U, U)."""
        table = np.zeros((self._num_users, self._num_users))
        order = np.argsort(self._yes_user, kind="stable")
        users, starts = np.unique(self._yes_user[order], return_index=True)
        step = max(1, _CELLS // max(len(self._no_user) + len(order), 1))
        for at in range(0, self._num_users if len(users) else 0, step):
            some = np.arange(at, min(at + step, self._num_users))
            noes = np.zeros((len(self._no_user) + 1, len(some)))
            np.cumsum(self._no_user[:, None] == some, axis=0, out=noes[1:])
            found = (noes[low[order]] + noes[high[order]]) / 2
            if self._begin is not None:
                found -= noes[self._begin[order]]
            table[users, at : at + len(some)] = np.add.reduceat(found, starts, axis=0)
        return table


def _quadratic(counts: NDArray[np.uint8], table: NDArray[np.float64]) -> NDArray[np.float64]:
    drawn = counts.astype(np.float64)
    return np.asarray(((drawn @ table) * drawn).sum(axis=1), dtype=np.float64)
