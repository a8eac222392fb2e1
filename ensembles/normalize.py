"""Scores of different members made comparable, each request by itself.

Members speak in counts, log-odds or logits; only how they order and space the candidates of one
request is taken from them. Items that are not asked for (-inf) stay out of every statistic.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import special

__all__ = ["Normalization", "normalize", "normalize_beside", "softmax_at"]

_Scores = NDArray[np.float32] | NDArray[np.float64]
_CELLS = 2**15  # scores that are looked at together: their float64 fits a core's cache

_ABOVE_ZERO = r"([0-9]*[1-9][0-9]*(\.[0-9]+)?|[0-9]+\.[0-9]*[1-9][0-9]*)(e[+-]?[0-9]+)?"
#: `softmax@0.5` divides scores by a temperature of 0.5; plain `softmax` stands for one of 1.
Normalization = Annotated[str, Field(pattern=rf"^(zscore|rank|none|softmax(@{_ABOVE_ZERO})?)$")]


def softmax_at(temperature: float) -> Normalization:
    """The name of softmax with a temperature, to four digits."""
    return f"softmax@{temperature:.4g}"


def normalize(scores: NDArray[np.float32], how: Normalization) -> NDArray[np.float32]:
    """Scores of one member, shape (R, C), normalised within each row; -inf stays -inf.

    `zscore` subtracts the row's mean and divides by its standard deviation, `softmax` gives
    probabilities, `rank` gives 1 for the best and 0 for the worst, ties at their mean.

    Raises:
        TypeError: there is no such normalisation.
    """
    if how == "none":
        return scores  # log-odds of one candidate are comparable as they are
    kind, temperature = _parsed(how)
    rows = {"zscore": _zscore, "softmax": _softmax, "rank": _rank}[kind]
    normalised = np.empty(scores.shape, dtype=np.float32)
    step = max(_CELLS // max(scores.shape[1], 1), 1)
    for begin in range(0, len(scores), step):
        part: _Scores = scores[begin : begin + step]
        if temperature != 1:
            part = part / np.float64(temperature)  # float32 overflows
        normalised[begin : begin + step] = rows(part, np.isfinite(part))
    return normalised


def _parsed(how: Normalization) -> tuple[str, float]:
    """Which normalisation, and its temperature."""
    kind, _, temperature = how.partition("@")
    if kind not in ("zscore", "softmax", "rank", "none"):
        raise TypeError(f"got the normalisation {how!r}, expected zscore, softmax, rank or none")
    return kind, float(temperature or 1)


def normalize_beside(
    scores: NDArray[np.float32], known: NDArray[np.float32], how: Normalization
) -> NDArray[np.float32]:
    """Scores of N more items, shape (R, N), on the scale to which `known` is normalised.

    The items change nothing of each other's values, nor of the known ones'. `zscore` takes mean and
    standard deviation of the known ones. The other two insert each item by itself: `softmax` gives
    the share that it would have as one item more; `rank` gives the value of the known items that it
    ties with, else that midway between its neighbours, and half a step beyond the ends.

    Args:
        scores: finite, shape (R, N).
        known: of the same member and requests, shape (R, V); -inf where not asked for.
    """
    if how == "none":
        return scores
    kind, temperature = _parsed(how)
    more, asked = scores.astype(np.float64), np.isfinite(known)
    if kind == "zscore":
        mean, _, spread = _moments(known, asked)
        return np.asarray((more - mean) / spread, dtype=np.float32)
    if kind == "softmax":
        there = np.where(asked, known, -np.inf).astype(np.float64) / temperature
        others = special.logsumexp(there, axis=1)
        return np.asarray(special.expit(more / temperature - others[:, None]), dtype=np.float32)
    number = np.count_nonzero(asked, axis=1)[:, None]
    ordered = np.sort(np.where(asked, known, -np.inf), axis=1)  # -inf stands first
    rows = list(zip(ordered, scores, strict=True))
    after = np.array([np.searchsorted(row, own, side="right") for row, own in rows])
    before = np.array([np.searchsorted(row, own, side="left") for row, own in rows])
    place = known.shape[1] - after + (after - before - 1) / 2  # 0 for the best
    return np.asarray(1.0 - place / np.maximum(number - 1, 1), dtype=np.float32)


def _zscore(scores: _Scores, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    _, centred, spread = _moments(scores, asked)
    centred /= spread
    centred[~asked] = -np.inf
    return centred


def _moments(
    scores: _Scores, asked: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Each row's mean (R, 1), its scores less that (R, C), and their spread, 1 for none (R, 1)."""
    values = np.where(asked, scores, 0.0).astype(np.float64)
    number = np.maximum(np.count_nonzero(asked, axis=1, keepdims=True), 1)
    mean = values.sum(1, keepdims=True) / number
    centred = np.where(asked, values - mean, 0.0)
    spread = np.sqrt((centred**2).sum(1, keepdims=True) / number)
    return mean, centred, np.where(spread > 0, spread, 1.0)


def _softmax(scores: _Scores, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    highest = np.max(np.where(asked, scores, -np.inf), axis=1, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    values = np.where(asked, scores, -np.inf).astype(np.float64)  # float32 overflows
    powers = np.exp(values - highest)
    shares = powers / np.maximum(powers.sum(1, keepdims=True), 1e-300)
    return np.where(asked, shares, -np.inf)


def _rank(scores: _Scores, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    from scipy import stats  # here, since replicas that never rank start sooner without

    ranks = stats.rankdata(np.where(asked, -scores, np.inf), method="average", axis=1)
    number = asked.sum(1, keepdims=True)
    share = 1.0 - (ranks - 1.0) / np.maximum(number - 1, 1)
    return np.where(asked, share, -np.inf)
