"""`greedy`: ensemble selection with replacement, on the target metric itself.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models" (ICML
2004): start from the best single member, add again and again the member that helps the average
most, and keep the best average met on the way. A member that is added twice weighs twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from penchant.ensembles.combiner import quality, refuse_other_blocks
from penchant.ensembles.linear import Linear
from penchant.ensembles.predictions import Blend, Predictions

__all__ = ["GreedyCombiner"]


@dataclass(frozen=True)
class GreedyCombiner:
    """At most `max_rounds` additions; ends after `patience` rounds without gain."""

    max_rounds: int = 50
    patience: int = 5

    @property
    def name(self) -> str:
        return "greedy"

    def fit(self, predictions: Predictions[Blend], metric: str) -> Linear:
        refuse_other_blocks(predictions)
        scores, requests = predictions.scores, predictions.requests
        total = None
        chosen: list[str] = []
        best_value, best_length = float("-inf"), 0
        while len(chosen) < self.max_rounds and len(chosen) - best_length < self.patience:
            size = np.float32(len(chosen) + 1)  # the mean, not the sum: losses read its scale
            values = {
                name: quality(part if total is None else (total + part) / size, requests, metric)
                for name, part in scores.items()
            }
            picked = max(values, key=lambda name: values[name])  # the first of equals
            chosen.append(picked)
            total = scores[picked].copy() if total is None else total + scores[picked]
            if values[picked] > best_value:
                best_value, best_length = values[picked], len(chosen)
        counts = Counter(chosen[:best_length])
        weights = {name: number / best_length for name, number in counts.items()}
        return Linear(normalization=predictions.normalization, weights=weights)
