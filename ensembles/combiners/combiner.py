"""What a combiner is: predictions on `blend` in, a combination out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.binary import auc, binary_per_request
from penchant.platform.metrics import quick_metric, sign_of
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

__all__ = ["BOTH_TASKS", "Combiner", "quality", "refuse_other_blocks"]


#: Of a combiner that needs no order among candidates.
BOTH_TASKS = frozenset({"next_item", "binary"})


class Combiner(Protocol):
    """Learns how to combine members; those that do not help are left out."""

    @property
    def name(self) -> str:
        """The combiner's name in reports."""
        ...

    @property
    def tasks(self) -> frozenset[str]:
        """Which of `next_item` and `binary` it can combine."""
        ...

    def fit(self, predictions: Predictions[Blend], metric: str) -> Combination:
        """Learn from scores that were made comparable before.

        Args:
            predictions: scores on `blend`, normalised as `predictions.normalization` says.
            metric: what to be good at.
        """
        ...


def refuse_other_blocks(predictions: Predictions[Blend]) -> None:
    """Blocks keep to their job: ensembles are fitted on `blend` alone.

    Raises:
        TypeError: the predictions are of another block.
    """
    if predictions.block is not Block.BLEND:
        raise TypeError(
            f"an ensemble is fitted on predictions of `blend`, got those of `{predictions.block}`: "
            "`select` has picked the members and `test` is read once"
        )


def quality(scores: NDArray[np.float32], requests: Requests, metric: str) -> float:
    """One figure for scores of shape (R, C), larger is better also for losses."""
    if requests.label is None:
        return quick_metric(scores, requests, metric)
    if metric == "auc":
        return auc(scores[:, 0], requests.label)
    value = float(binary_per_request(scores[:, 0], requests.label)[metric].mean())
    return sign_of(metric) * value
