"""Scores of different members made comparable, each request by itself.

Members speak in counts, log-odds or logits; only how they order and space the candidates of one
request is taken from them. Items that are not asked for (-inf) stay out of every statistic.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["Normalization", "normalize"]

_CELLS = 2**15  # scores that are looked at together: their float64 fits a core's cache

Normalization = Literal["zscore", "softmax", "rank", "none"]


def normalize(scores: NDArray[np.float32], how: Normalization) -> NDArray[np.float32]:
    """Scores of one member, shape (R, C), normalised within each row; -inf stays -inf.

    `zscore` subtracts the row's mean and divides by its standard deviation, `softmax` gives
    probabilities, `rank` gives 1 for the best and 0 for the worst, ties at their mean.
    """
    if how == "none":
        return scores  # log-odds of one candidate are comparable as they are
    rows = {"zscore": _zscore, "softmax": _softmax, "rank": _rank}[how]
    normalised = np.empty(scores.shape, dtype=np.float32)
    step = max(_CELLS // max(scores.shape[1], 1), 1)
    for begin in range(0, len(scores), step):
        part = scores[begin : begin + step]
        normalised[begin : begin + step] = rows(part, np.isfinite(part))
    return normalised


def _zscore(scores: NDArray[np.float32], asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    values = np.where(asked, scores, 0.0).astype(np.float64)
    number = np.maximum(np.count_nonzero(asked, axis=1, keepdims=True), 1)
    mean = values.sum(1, keepdims=True) / number
    centred = np.where(asked, values - mean, 0.0)
    spread = np.sqrt((centred**2).sum(1, keepdims=True) / number)
    centred /= np.where(spread > 0, spread, 1.0)
    centred[~asked] = -np.inf
    return centred


def _softmax(scores: NDArray[np.float32], asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    highest = np.max(np.where(asked, scores, -np.inf), axis=1, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    values = np.where(asked, scores, -np.inf).astype(np.float64)  # float32 overflows
    powers = np.exp(values - highest)
    shares = powers / np.maximum(powers.sum(1, keepdims=True), 1e-300)
    return np.where(asked, shares, -np.inf)


def _rank(scores: NDArray[np.float32], asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    ranks = stats.rankdata(np.where(asked, -scores, np.inf), method="average", axis=1)
    number = asked.sum(1, keepdims=True)
    share = 1.0 - (ranks - 1.0) / np.maximum(number - 1, 1)
    return np.where(asked, share, -np.inf)
