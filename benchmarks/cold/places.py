"""Where targets stand among all candidates, with ties, and what that is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from cold.shop import Asked, Floats
from numpy.typing import NDArray

LIST, SHORT_LIST = 50, 10
CHUNK = 100  # baskets that a member scores at once: 27 MB
Ranks = NDArray[np.float64]  # (2, P): candidates better than a target, and as good, itself included


def places(
    scores: Floats, row: NDArray[np.int64], target: NDArray[np.int64], size: NDArray[Any] | None
) -> Ranks:
    """Where targets stand.

    Args:
        scores: shape (R, G).
        row: of each target, shape (P,).
        target: column of each target, shape (P,).
        size: candidates of each column, shape (G,); None where each is one.
    """
    number = np.ones(scores.shape[1]) if size is None else size.astype(np.float64)
    found = np.empty((2, len(target)))
    for begin in range(0, len(target), CHUNK):
        at = slice(begin, begin + CHUNK)
        rows, own = scores[row[at]], scores[row[at], target[at]][:, None]
        found[:, at] = (rows > own) @ number, (rows == own) @ number
    return found


def judge(ranks: Ranks, asked: Asked) -> dict[str, NDArray[np.float64]]:
    """Expected metrics of each basket, shape (R,); NaN where it has no target that counts."""
    above, equal = ranks
    gains = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, SHORT_LIST + 2)))])
    first, last = (np.minimum(at, SHORT_LIST).astype(int) for at in (above, above + equal))
    hit = np.clip((LIST - above) / equal, 0, 1)

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(asked.request, weights=values, minlength=len(asked.requests))

    number = total(np.ones(len(hit)))
    best = gains[np.minimum(number, SHORT_LIST).astype(int)]
    with np.errstate(invalid="ignore"):
        new = total(hit * asked.new) / total(asked.new)
    gained = total((gains[last] - gains[first]) / equal)
    return {"recall@50": total(hit) / number, "new": new, "ndcg@10": gained / best}
