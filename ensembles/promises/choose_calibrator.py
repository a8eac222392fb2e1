"""Which kind of calibrator: the one that is best on users that it was not fitted on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from penchant.ensembles.combiners.combiner import refuse_other_blocks
from penchant.ensembles.predictions import Blend, Predictions
from penchant.ensembles.promises.calibrate import (
    KINDS,
    Calibrator,
    Identity,
    Kind,
    calibration_loss,
    fit_kind,
    task_of,
)
from penchant.platform.requests import Requests

__all__ = ["best_calibrator"]

_FOLDS = 5
_TRIED = 1_000  # requests of many candidates each that kinds are compared on
#: Scores of rankings that kinds are compared on, and that one is fitted on, at most: each is raised
#: to a power some thirty times a fit, and of a catalogue of 68,509 items that took ten minutes.
_TRIED_SCORES, _FITTED_SCORES = 1 << 24, 1 << 25


def best_calibrator(scores: NDArray[np.float32], blend: Predictions[Blend]) -> Calibrator:
    """The kind with the least log loss on users that it was not fitted on, fitted on all.

    Of rankings the kinds are compared on a thousand requests, evenly spaced, or on fewer where a
    catalogue is large: one number that scores are divided by needs no more.
    Where no kind can be tried on other users, such as with one user or one user's few yes, scores
    are taken as they are.

    Args:
        scores: the ensemble's merged scores, shape (R, C).

    Raises:
        TypeError: the predictions are of another block.
    """
    refuse_other_blocks(blend)
    every = scores, blend.requests
    scores, requests = _spaced(*every, min(_TRIED, _TRIED_SCORES // scores.shape[1]))
    folds = _folds(scores, requests)
    if not folds:
        return Identity()

    def held_out(kind: Kind) -> float:
        total = 0.0
        for fit_on, asked in folds:
            fitted = fit_kind(scores[fit_on], requests.take(fit_on), kind)
            loss = calibration_loss(fitted, scores[asked], requests.take(asked))
            total += loss * len(asked)
        return total

    kind = min(KINDS[task_of(requests)], key=held_out)
    return fit_kind(*_spaced(*every, _FITTED_SCORES // scores.shape[1]), kind)


def _spaced(
    scores: NDArray[np.float32], requests: Requests, most: int
) -> tuple[NDArray[np.float32], Requests]:
    """So many requests of a ranking at most, evenly spaced; of yes and no all."""
    if requests.label is not None or len(requests) <= most:
        return scores, requests
    chosen = np.linspace(0, len(requests) - 1, max(most, 1)).astype(np.int64)
    return scores[chosen], requests.take(chosen)


def _folds(
    scores: NDArray[np.float32], requests: Requests
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Requests to fit on and those of other users, as far as both say something.

    None where an answer is not among any of the others: to deny it would look best.
    """
    users = len(np.unique(requests.user))
    if users < 2:
        return []
    if requests.label is None:
        request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
        told = request[np.isfinite(scores[request, requests.target])]
        sides = [np.isin(np.arange(len(requests)), told)]
    else:
        asked = np.isfinite(scores[:, 0])
        sides = [asked & (requests.label > 0), asked & (requests.label == 0)]
    folds = [
        (fit_on, others)
        for fit_on, others in GroupKFold(min(_FOLDS, users)).split(scores, groups=requests.user)
        if all(side[fit_on].any() for side in sides) and np.any(sides, axis=0)[others].any()
    ]
    judged = np.concatenate([others for _, others in folds] or [np.zeros(0, dtype=np.int64)])
    return folds if all(side[judged].any() for side in sides) else []
