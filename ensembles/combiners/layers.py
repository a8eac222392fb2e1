"""`layers`: combinations of combinations.

The first layer (mean, greedy selection, likelihood weights) is fitted on one half of blend's
users, and greedy selection combines what it gives on the other half, so that a first layer that
learnt its half by heart is found out (Wolpert, "Stacked generalization", 1992). All of them are
weighted means of the same scores, so the whole is one too: the weights are multiplied out, and
nothing is lost or served twice.

A second layer on a later slice of blend, in place of other users, and the gate in the first layer
were no better on the demo (`benchmarks/two_layers.py`, docs/lab-notes.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.average import MeanCombiner
from penchant.ensembles.combiners.combiner import BOTH_TASKS, refuse_other_blocks
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.combiners.weights import WeightsCombiner
from penchant.ensembles.predictions import Blend, Predictions

__all__ = ["LayersCombiner", "multiplied_out"]

_SAMPLE = GreedyCombiner().sample // 2  # each layer has half the users


@dataclass(frozen=True)
class LayersCombiner:
    """Greedy selection among mean, greedy and weights, each half of the users for one layer.

    Users are dealt by pairs of numbers (0, 1 | 2, 3 | ..): `compare` deals them one by one to
    measure the gain on unseen users, and what it holds back would be a whole half. With the users
    of one half only there is nothing to check a first layer on, and greedy selection is left.
    """

    @property
    def name(self) -> str:
        return "layers"

    @property
    def tasks(self) -> frozenset[str]:
        return BOTH_TASKS

    def fit(self, predictions: Predictions[Blend], metric: str) -> Linear:
        refuse_other_blocks(predictions)
        half = predictions.requests.user // 2 % 2
        learnt, checked = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
        if not len(learnt) or not len(checked):
            return GreedyCombiner().fit(predictions, metric)
        below = predictions.take(learnt)
        first = {
            combiner.name: combiner.fit(below, metric)
            for combiner in (GreedyCombiner(sample=_SAMPLE), MeanCombiner(), WeightsCombiner())
        }
        del below
        outputs = {name: c.merge(predictions.scores, None)[checked] for name, c in first.items()}
        others = replace(
            predictions,
            requests=predictions.requests.take(checked),
            scores=outputs,
            facts=None,
        )
        return multiplied_out(GreedyCombiner(sample=_SAMPLE).fit(others, metric), first)


def multiplied_out(second: Linear, first: dict[str, Linear]) -> Linear:
    """One weighted mean that gives what `second` gives over the outputs of `first`.

    Args:
        second: weights of the first layer's combinations, by name.
        first: weights of members; their normalisation is the one of the result.
    """
    weights: dict[str, float] = {}
    for name, share in second.weights.items():
        for member, weight in first[name].weights.items():
            weights[member] = weights.get(member, 0.0) + share * weight
    return Linear(normalization=second.normalization, weights=weights)
