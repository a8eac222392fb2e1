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


def best_calibrator(scores: NDArray[np.float32], blend: Predictions[Blend]) -> Calibrator:
    """The kind with the least log loss on users that it was not fitted on, fitted on all.

    Of rankings the kinds are compared on a thousand requests, evenly spaced: one number that
    scores are divided by needs no more, and each request is an exponential of every candidate.
    Where no kind can be tried on other users, such as with one user or one user's few yes, scores
    are taken as they are.

    Args:
        scores: the ensemble's merged scores, shape (R, C).

    Raises:
        TypeError: the predictions are of another block.
    """
    refuse_other_blocks(blend)
    requests, every = blend.requests, scores
    if requests.label is None and len(requests) > _TRIED:
        spaced = np.linspace(0, len(requests) - 1, _TRIED).astype(np.int64)
        scores, requests = scores[spaced], requests.take(spaced)
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
    return fit_kind(every, blend.requests, kind)


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
