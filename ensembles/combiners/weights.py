"""`weights`: non-negative weights that make what was chosen most likely.

`next_item`: a request's candidates are alternatives, of which the targets were chosen with
probability softmax(sum of weight x score): the conditional logit of McFadden (1974), the listwise
loss of Cao et al., "Learning to rank" (ICML 2007), with each request's loss the mean over its
targets. `binary`: the labels' log loss with the weighted sum of log-odds, without a bias.

Non-negative because members are all meant to be right: a negative weight fits an error that two
members share on `blend` (Breiman, "Stacked regressions", 1996). Only the weights' proportions are
kept, with a sum of 1: the scale that fits best is a matter of calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.average import best_members
from penchant.ensembles.combiners.combiner import BOTH_TASKS, refuse_other_blocks
from penchant.ensembles.combiners.fusion import leaders
from penchant.ensembles.predictions import Blend, Predictions

__all__ = ["ListwiseLoss", "LogisticLoss", "WeightsCombiner"]

_LEAST = 1e-3  # share below which a member costs more to serve than it says
_VALUES = 2**25  # scores that are fitted on at most: a quarter of a GiB
_AT_ONCE = 2**13  # alternatives whose scores stay in the cache while they are used twice


class _Loss(Protocol):
    def __call__(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The loss and its gradient."""
        ...


@dataclass(frozen=True)
class WeightsCombiner:
    """Weights by the likelihood of what was chosen; the best member alone where none helps.

    Attributes:
        depth: alternatives are what some member has among its first `depth`, less than a
            shortlist keeps. A target that none has there says nothing: it was put on the shortlist
            because it is a target, and would teach that.
    """

    depth: int = 20

    @property
    def name(self) -> str:
        return "weights"

    @property
    def tasks(self) -> frozenset[str]:
        return BOTH_TASKS

    def fit(self, predictions: Predictions[Blend], metric: str) -> Linear:
        refuse_other_blocks(predictions)
        names = sorted(predictions.scores)
        found = np.zeros(len(names))
        if len(names) > 1 and (loss := _loss(predictions, names, self.depth)) is not None:
            found = _minimum(loss, len(names))
        shares = found / found.sum() if found.sum() > 0 else found
        kept = {
            name: float(share) for name, share in zip(names, shares, strict=True) if share >= _LEAST
        }
        if not kept:
            kept = {best_members(predictions, metric, 1)[0]: 1.0}
        whole = sum(kept.values())
        weights = {name: share / whole for name, share in kept.items()}
        return Linear(normalization=predictions.normalization, weights=weights)


class ListwiseLoss:
    """Mean over requests of the mean over targets of -log softmax(X w).

    Args:
        x: scores of all alternatives, request after request, shape (N, M).
        starts: first row of each request, shape (R,).
        chosen: share of the request's targets that each alternative is, shape (N,), sum R.
    """

    def __init__(
        self, x: NDArray[np.float64], starts: NDArray[np.int64], chosen: NDArray[np.float64]
    ) -> None:
        edges = np.append(starts, len(x))
        first = np.flatnonzero(np.diff(starts // _AT_ONCE, prepend=-1))  # requests of each part
        self._parts = [
            (x[edges[begin] : edges[end]], starts[begin:end] - starts[begin])
            for begin, end in pairwise([*first.tolist(), len(starts)])
        ]
        self._number = len(starts)
        self._seen = x.T @ chosen / self._number

    def __call__(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        loss, gradient = 0.0, np.zeros_like(self._seen)
        for x, starts in self._parts:
            counts = np.diff(starts, append=len(x))
            sums = x @ weights
            highest = np.maximum.reduceat(sums, starts)
            powers = np.exp(sums - np.repeat(highest, counts))
            whole = np.add.reduceat(powers, starts)
            powers /= np.repeat(whole, counts)
            loss += float((highest + np.log(whole)).sum())
            gradient += powers @ x
        loss = loss / self._number - float(self._seen @ weights)
        return loss, gradient / self._number - self._seen


class LogisticLoss:
    """Mean log loss of labels where X w are the log-odds.

    Args:
        x: log-odds of the members, shape (R, M).
        label: 0 or 1, shape (R,).
    """

    def __init__(self, x: NDArray[np.float64], label: NDArray[np.float32]) -> None:
        self._x, self._label = x, label.astype(np.float64)

    def __call__(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = self._x @ weights
        loss = float((np.logaddexp(0.0, odds) - self._label * odds).mean())
        return loss, self._x.T @ (special.expit(odds) - self._label) / len(odds)


def _minimum(loss: _Loss, size: int) -> NDArray[np.float64]:
    """Weights at or above zero at which the convex loss is least, shape (M,)."""
    found = optimize.minimize(
        loss,
        np.full(size, 1 / size),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * size,
        options={"maxiter": 200, "ftol": 1e-10, "gtol": 1e-7},
    )
    return np.asarray(found.x, dtype=np.float64)


def _loss(predictions: Predictions[Blend], names: list[str], depth: int) -> _Loss | None:
    """What to minimise; None where no request has anything to learn from."""
    scores, requests = predictions.scores, predictions.requests
    if requests.label is not None:
        x = np.column_stack([scores[name][:, 0] for name in names]).astype(np.float64)
        return LogisticLoss(x, requests.label)
    known = np.zeros(scores[names[0]].shape, dtype=bool)
    for part in scores.values():
        known |= leaders(part, depth)
    for part in scores.values():
        known &= np.isfinite(part)
    asker = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    found = known[asker, requests.target]
    number = np.bincount(asker[found], minlength=len(requests))
    chosen = np.zeros(known.shape, dtype=np.float32)
    chosen[asker[found], requests.target[found]] = 1 / number[asker[found]]
    rows = _few_enough(known, np.flatnonzero(number), requests.row, len(names))
    if not len(rows):
        return None
    row, column = np.nonzero(known[rows])
    at = rows[row], column
    x = np.empty((len(row), len(names)))
    for place, name in enumerate(names):
        x[:, place] = scores[name][at]
    starts = np.searchsorted(row, np.arange(len(rows)))
    return ListwiseLoss(x, starts, chosen[at].astype(np.float64))


def _few_enough(
    known: NDArray[np.bool_], rows: NDArray[np.int64], identity: NDArray[np.int64], members: int
) -> NDArray[np.int64]:
    """These requests, or every n-th of them where all would take too much memory."""
    values = int(np.count_nonzero(known[rows])) * members
    ordered = rows[np.argsort(identity[rows], kind="stable")]
    return ordered[:: max(-(-values // _VALUES), 1)]
