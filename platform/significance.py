"""How likely a difference is chance: a paired permutation test by user, corrected for many.

Under the hypothesis that two systems are equally good, either could have produced either figure
of a user: the sign of a user's summed difference is a coin's (Fisher 1935; for retrieval Smucker,
Allan and Carterette, "A comparison of statistical significance tests for information retrieval
evaluation", CIKM 2007). The user is what is exchanged, because requests of one user are not
independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["family_sign_flip_p", "holm", "sign_flip_p"]

_CELLS = 1 << 20  # signs that are worked on at once: 8 MB as float64
_ROUNDING = 1e-12  # relative: sums of equal terms in another order count as equal


def sign_flip_p(
    differences: NDArray[np.float64], user: NDArray[np.int64], flips: int, seed: int
) -> list[float]:
    """Two-sided p-value of each of F summed differences, with the same flips for all.

    The observed signs count as one of the draws (Phipson and Smyth 2010), so that a p-value is
    never zero and the test keeps its level.

    Args:
        differences: what each request adds to each difference, shape (R, F); NaN adds nothing.
        user: user of each request, in [0, U), shape (R,).
        flips: random draws of all users' signs.
        seed: of the draws.
    """
    width = differences.shape[1]
    if not len(user) or not width:
        return [1.0] * width
    return _chances(_by_user(differences, user), flips, seed, largest=False)


def family_sign_flip_p(
    differences: NDArray[np.float64], user: NDArray[np.int64], flips: int, seed: int
) -> list[float]:
    """The same p-values, corrected for their number by the largest difference of each flip.

    Rejecting what is at most 0.05 here, one or more true hypotheses are rejected with a chance of
    at most 0.05 if all are true (Westfall and Young, "Resampling-based multiple testing", 1993).
    Differences that rise and fall together, as those of similar systems do, cost hardly more than
    one, where Holm's method takes them for as many. Each is counted in its own root of the sum of
    squares, which no flip changes.

    Args:
        differences: as of `sign_flip_p`.
        user: as of `sign_flip_p`.
        flips: random draws of all users' signs.
        seed: of the draws.
    """
    width = differences.shape[1]
    if not len(user) or not width:
        return [1.0] * width
    sums = _by_user(differences, user)
    scale = np.sqrt((sums**2).sum(axis=0))
    return _chances(sums / np.where(scale > 0, scale, 1.0), flips, seed, largest=True)


def _chances(sums: NDArray[np.float64], flips: int, seed: int, *, largest: bool) -> list[float]:
    """How often a flip is as extreme as what was observed, for each column of sums (U, F).

    Args:
        largest: compare with the largest of a flip's F sums, not with each one's own.
    """
    least = np.abs(sums.sum(axis=0)) - _ROUNDING * np.abs(sums).sum(axis=0)
    extreme = np.zeros(sums.shape[1], dtype=np.int64)
    for flipped in _flipped(sums, flips, seed):
        found = np.abs(flipped)
        compared = found.max(axis=1)[:, None] if largest else found
        extreme += np.count_nonzero(compared >= least, axis=0)
    return [float((1 + number) / (1 + flips)) for number in extreme]


def _by_user(differences: NDArray[np.float64], user: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over each user's requests, shape (U, F)."""
    columns = np.nan_to_num(differences).T
    return np.stack([np.bincount(user, weights=column) for column in columns], axis=1)


def _flipped(sums: NDArray[np.float64], flips: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Sums over all users with signs drawn anew, a few draws at a time; shapes (B, F)."""
    whole, random = sums.sum(axis=0), np.random.default_rng(seed)
    step = max(1, _CELLS // len(sums))
    for begin in range(0, flips, step):
        rows = min(step, flips - begin)
        # Sum of s * x with s = 2 b - 1 is 2 (b . x) - sum x: bits need no signs.
        bits = random.integers(0, 2, size=(rows, len(sums)), dtype=np.int8)
        yield 2 * (bits.astype(np.float64) @ sums) - whole


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number, in the order given.

    Holm's step-down method ("A simple sequentially rejective multiple test procedure", 1979): the
    smallest of m is multiplied by m, the next by m - 1 and so on; none is below one before it.
    Rejecting what is at most 0.05 here, one or more true hypotheses are rejected with a chance of
    at most 0.05, however the tests depend on one another.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [1.0] * len(p)
    highest = 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=lambda at: p[at])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[at]))
        corrected[at] = highest
    return corrected
