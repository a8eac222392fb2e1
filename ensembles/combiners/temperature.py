"""The temperature of `softmax`: how much the distances between scores are to count.

Members speak on scales of their own. One number for all of them is fitted on `blend`: what was
chosen is most likely under the plain mean of the members' softmax(score / temperature). Only the
softmax of the blend block is looked at, no weight and no other block; on users that a combination's
weights were not fitted on, its one temperature was.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from penchant.ensembles.combiners.combiner import refuse_other_blocks
from penchant.ensembles.normalize import Normalization, normalize, softmax_at
from penchant.ensembles.predictions import Blend, Predictions

__all__ = ["fit_normalization"]

#: Tried first, since several temperatures may be better than their neighbours.
_TRIED = 2.0 ** np.arange(-8, 9, 2)
_CELLS, _FEWEST = 2**24, 250  # scores that are looked at, in at least so many requests
_LEAST = 1e-30  # probability of what no member asks for


def fit_normalization(
    predictions: Predictions[Blend], how: Normalization, tell: Callable[[str], None]
) -> Normalization:
    """The normalisation with what has to be fitted for it; only `softmax` needs something.

    Args:
        predictions: scores on `blend`, as members gave them.
        how: as the experiment names it.
        tell: is told where only some requests are looked at.

    Raises:
        TypeError: the predictions are of another block.
    """
    if how != "softmax":
        return how
    refuse_other_blocks(predictions)
    few = _every_nth(predictions)
    if few is not predictions:
        tell(
            f"blend: the temperature of softmax is fitted on {len(few.requests)} of "
            f"{len(predictions.requests)} requests"
        )

    def loss(exponent: float) -> float:
        return _loss(few, softmax_at(2.0**exponent))

    tried = np.log2(_TRIED)
    best = float(tried[int(np.argmin([loss(float(exponent)) for exponent in tried]))])
    found = optimize.minimize_scalar(
        loss, bounds=(best - 2, best + 2), method="bounded", options={"xatol": 0.02}
    )
    return softmax_at(2.0 ** float(found.x))


def _loss(predictions: Predictions[Blend], how: Normalization) -> float:
    """Mean over requests of the mean over targets of -log of the members' mean share."""
    requests, scores = predictions.requests, predictions.scores
    number = np.diff(requests.target_offsets)
    asker = np.repeat(np.arange(len(requests)), number)
    share: NDArray[np.float64] = np.zeros(len(asker))
    for part in scores.values():
        own = normalize(part, how)[asker, requests.target]
        share += np.where(np.isfinite(own), own, 0.0) / len(scores)
    return float(-(np.log(np.maximum(share, _LEAST)) / number[asker]).sum() / len(requests))


def _every_nth(predictions: Predictions[Blend]) -> Predictions[Blend]:
    """Few enough requests, evenly over users and their time."""
    size, width = next(iter(predictions.scores.values())).shape
    most = max(_CELLS // (width * len(predictions.scores)), _FEWEST)
    if size <= most:
        return predictions
    ordered = np.argsort(predictions.requests.row, kind="stable")
    return predictions.take(ordered[np.linspace(0, size - 1, most).astype(np.int64)])
