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


def judged(scores: Floats, asked: Asked) -> dict[str, NDArray[np.float64]]:
    """Metrics of each basket for scores of the cold products, shape (R, C); see `judge`."""
    ranks = places(scores, asked.request, asked.place, None)
    others = np.where(asked.had, np.float32(-np.inf), scores)
    return judge(ranks, places(others, asked.request, asked.place, None), asked)


def judge(ranks: Ranks, among_new: Ranks, asked: Asked) -> dict[str, NDArray[np.float64]]:
    """Expected metrics of each basket, shape (R,); NaN where it has no target that counts.

    Args:
        among_new: where targets that the household has not had stand among such products alone.
    """
    above, equal = ranks
    gains = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, SHORT_LIST + 2)))])
    first, last = (np.minimum(at, SHORT_LIST).astype(int) for at in (above, above + equal))
    hit, hit_new = (np.clip((LIST - at) / tied, 0, 1) for at, tied in (ranks, among_new))

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(asked.request, weights=values, minlength=len(asked.requests))

    number = total(np.ones(len(hit)))
    best = gains[np.minimum(number, SHORT_LIST).astype(int)]
    with np.errstate(invalid="ignore"):
        new = total(hit_new * asked.new) / total(asked.new)
    gained = total((gains[last] - gains[first]) / equal)
    return {"recall@50": total(hit) / number, "new": new, "ndcg@10": gained / best}
