"""The combiners that an experiment names."""

from __future__ import annotations

from collections.abc import Mapping

from penchant.ensembles.combiners.average import MeanCombiner, MedianCombiner
from penchant.ensembles.combiners.cascade_fit import CascadeCombiner
from penchant.ensembles.combiners.combiner import Combiner
from penchant.ensembles.combiners.fusion import RankMeanCombiner, ReciprocalRankCombiner
from penchant.ensembles.combiners.gate import GateCombiner
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.combiners.layers import LayersCombiner
from penchant.ensembles.combiners.stack import StackCombiner
from penchant.ensembles.combiners.weights import WeightsCombiner
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform import config

__all__ = ["MIN_POSITIVES", "can_fit_weights", "make_combiners", "only_mean"]

#: Fewer labels of a kind than this cannot fit weights: 43 chose the wrong member in our own study.
MIN_POSITIVES = 200


def make_combiners(
    settings: config.Ensemble, task: str, cost_ms: Mapping[str, float] | None
) -> list[Combiner]:
    """In the order of the experiment, those that the task has.

    Args:
        task: `next_item` or `binary`; a place among others means nothing where there are none.
        cost_ms: score time of each member; a cascade is left out where nobody has measured it.
    """
    greedy = GreedyCombiner(max_rounds=settings.max_rounds)
    known: dict[str, Combiner] = {
        "mean": MeanCombiner(),
        "median": MedianCombiner(),
        "rank_mean": RankMeanCombiner(),
        "reciprocal_rank": ReciprocalRankCombiner(),
        "greedy": greedy,
        "weights": WeightsCombiner(),
        "layers": LayersCombiner(),
        "gate": GateCombiner(base=greedy),
        "stack": StackCombiner(),
    }
    if cost_ms is not None:
        known["cascade"] = CascadeCombiner(cost_ms, base=greedy)
    made = [known[name] for name in settings.combiners if name in known]
    return [combiner for combiner in made if task in combiner.tasks]


def can_fit_weights(blend: Predictions[Blend]) -> bool:
    """Whether there is enough to fit weights on: of a binary task, enough labels of each kind."""
    label = blend.requests.label
    return label is None or bool(min(label.sum(), (1 - label).sum()) >= MIN_POSITIVES)


def only_mean(combiners: list[Combiner]) -> list[Combiner]:
    """What is left where no weights can be fitted."""
    return [combiner for combiner in combiners if combiner.name == "mean"] or [MeanCombiner()]
