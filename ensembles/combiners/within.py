"""A combiner within a budget: it combines the members that greedy selection within it has found."""

from __future__ import annotations

from dataclasses import dataclass, replace

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combiners.combiner import Combiner
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.predictions import Blend, Predictions

__all__ = ["WithinBudget"]


@dataclass(frozen=True)
class WithinBudget:
    """Gives a combiner that knows of no limits only members that are within them together.

    Args:
        combiner: what combines them.
        finder: greedy selection with the budget.
    """

    combiner: Combiner
    finder: GreedyCombiner

    @property
    def name(self) -> str:
        return self.combiner.name

    @property
    def tasks(self) -> frozenset[str]:
        return self.combiner.tasks

    def fit(self, predictions: Predictions[Blend], metric: str) -> Combination:
        found = self.finder.fit(predictions, metric).weights
        scores = {name: part for name, part in predictions.scores.items() if name in found}
        return self.combiner.fit(replace(predictions, scores=scores), metric)
