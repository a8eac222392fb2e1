"""How well each of some mixes would answer each request, and how sure of that it would be.

Computed once, so that any cascade over these mixes is judged without merging scores again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.cascade import Cascade, Signal, certainty
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.predictions import Predictions
from penchant.platform.binary import auc, binary_per_request
from penchant.platform.metrics import ranking_metrics, sign_of, target_ranks

__all__ = ["Answers"]


class Answers:
    """M mixes on R requests.

    Args:
        mixes: what may answer.
        predictions: normalised as the mixes expect it.
        metric: the target metric.

    Attributes:
        k: length of the list whose answer has to be sure.
        sure: for each signal and mix how sure it is, shape (R,) each.
    """

    def __init__(self, mixes: Sequence[Linear], predictions: Predictions[Any], metric: str) -> None:
        self.k = int(metric.partition("@")[2] or 1)
        self.sure: dict[Signal, list[NDArray[np.float64]]] = {s: [] for s in get_args(Signal)}
        self._requests, self._metric = predictions.requests, metric
        values = []
        for mix in mixes:
            merged = mix.merge(predictions.scores, None)
            values.append(self._per_request(merged))
            for signal, known in self.sure.items():
                known.append(certainty(merged, signal, self.k))
        self._values = np.stack(values)
        self._place = {_key(mix.weights): place for place, mix in enumerate(mixes)}

    def __len__(self) -> int:
        """Requests, R."""
        return len(self._requests)

    def value(self, answers: NDArray[np.int64]) -> float:
        """The target metric where each request is answered by this mix, shape (R,); more is better.

        AUC is one of all requests together.
        """
        found = self._values[answers, np.arange(len(answers))]
        label = self._requests.label
        if label is not None and self._metric == "auc":
            return auc(found.astype(np.float32), label)
        return float(found.mean())

    def of(self, cascade: Cascade) -> tuple[float, list[float]]:
        """What a cascade over these mixes is worth here, and the share that comes to each stage."""
        answers = np.zeros(len(self), dtype=np.int64)
        going, reached = np.ones(len(self), dtype=bool), []
        for stage in cascade.stages:
            place = self._place[_key(stage.weights)]
            reached.append(float(going.mean()))
            answers[going] = place
            if stage.least_certainty is not None:
                going = going & (self.sure[cascade.signal][place] < stage.least_certainty)
        return self.value(answers), reached

    def _per_request(self, merged: NDArray[np.float32]) -> NDArray[np.float64]:
        """The target metric of each request, larger is better; for AUC the scores themselves."""
        label, metric = self._requests.label, self._metric
        if label is None:
            ranks = target_ranks(merged, self._requests)
            return ranking_metrics(ranks, self._requests, self.k)[metric]
        if metric == "auc":
            return merged[:, 0].astype(np.float64)
        values = binary_per_request(merged[:, 0], label)[metric]
        return sign_of(metric) * values


def _key(weights: dict[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(weights.items()))
