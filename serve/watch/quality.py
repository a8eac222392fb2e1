"""How good answers were, once it is known what came of them; intervals by user."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from penchant.ensembles.promises.reliability import calibration_error
from penchant.platform.auc import auc_interval
from penchant.platform.intervals import Interval, Resampler, summary

__all__ = ["binary_quality", "calibration_slope", "ranking_quality"]

_RESAMPLES = 200
_SEED = 0
_BINS = 10
_SMALLEST = 1e-12
_K = 10
_STEPS = 25


def binary_quality(
    score: NDArray[np.float64],
    probability: NDArray[np.float64],
    label: NDArray[np.float32],
    user: NDArray[np.int32],
) -> dict[str, Interval]:
    """AUC, log loss, calibration error and calibration slope; what does not exist is NaN.

    Args:
        score: shape (R,), the higher the likelier a yes.
        probability: shape (R,), of a yes.
        label: shape (R,), 0 or 1.
        user: shape (R,); requests of one user are drawn together.
    """
    resampler = Resampler(user, _RESAMPLES, _SEED)
    right = np.where(label > 0.5, probability, 1 - probability)

    def ece(rows: NDArray[np.int64]) -> float:
        return calibration_error(probability[rows], label[rows], _BINS, "equal-count")

    def slope(rows: NDArray[np.int64]) -> float:
        return calibration_slope(probability[rows], label[rows])

    return {
        "auc": auc_interval(score.astype(np.float32), label, resampler),
        "log_loss": resampler.mean(-np.log(np.maximum(right, _SMALLEST))),
        "ece": _resampled(ece, resampler, centred=True),
        "calibration_slope": _resampled(slope, resampler, centred=False),
    }


def calibration_slope(probability: NDArray[np.float64], label: NDArray[np.float32]) -> float:
    """Slope of the labels' log-odds over those that were said (Cox 1958); 1 is right.

    Below 1 probabilities are too sure, above 1 too timid. NaN where it has no finite value, such
    as with labels of one kind.

    Args:
        probability: shape (R,).
        label: shape (R,), 0 or 1.
    """
    odds = special.logit(np.clip(probability, _SMALLEST, 1 - _SMALLEST))
    x = np.stack([np.ones_like(odds), odds], axis=1)
    found = np.zeros(2)
    for _ in range(_STEPS):
        chance = special.expit(x @ found)
        curve = (x * (chance * (1 - chance))[:, None]).T @ x
        try:
            step = np.linalg.solve(curve, x.T @ (label - chance))
        except np.linalg.LinAlgError:
            return float("nan")
        found = found + np.clip(step, -2.0, 2.0)  # a full step from far away overshoots
        if np.abs(step).max() < 1e-8:
            return float(found[1])
    return float("nan")


def ranking_quality(
    rank: NDArray[np.int64], request: NDArray[np.int64], user: NDArray[np.int32]
) -> dict[str, Interval]:
    """Hit rate and NDCG at 10 of what was shown.

    An item that was chosen but not shown counts as missed.

    Args:
        rank: place in its answer of each of P chosen items, from 1; 0 where it was not shown.
        request: request of each chosen item, in [0, R), every request at least once; shape (P,).
        user: of each request, shape (R,).
    """
    resampler = Resampler(user, _RESAMPLES, _SEED)
    shown = (rank > 0) & (rank <= _K)
    gain = np.where(shown, 1 / np.log2(1 + np.maximum(rank, 1)), 0.0)
    size = len(user)
    number = np.bincount(request, minlength=size)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, _K + 2)))])
    hit = np.bincount(request, weights=shown, minlength=size) > 0
    ndcg = np.bincount(request, weights=gain, minlength=size) / ideal[np.minimum(number, _K)]
    means = resampler.means(np.stack([hit.astype(np.float64), ndcg], axis=1))
    return dict(zip((f"hr@{_K}", f"ndcg@{_K}"), means, strict=True))


def _resampled(
    figure: Callable[[NDArray[np.int64]], float], resampler: Resampler, *, centred: bool
) -> Interval:
    """A figure that is no mean, with its interval.

    Args:
        figure: of the rows at these positions.
        centred: a calibration error grows in every resample, since drawing adds noise; the
            resamples are then moved to where the figure is.
    """
    user = resampler.user
    whole = figure(np.arange(len(user)))
    rows = np.arange(len(user))
    drawn = np.array(
        [
            figure(np.repeat(rows, counts[user])) if counts[user].any() else np.nan
            for batch in resampler.batches()
            for counts in batch
        ]
    )
    if centred and np.isfinite(drawn).any():
        drawn = np.maximum(drawn - (np.nanmean(drawn) - whole), 0.0)
    return summary(whole, drawn, with_p=False)
