"""The combiners that an experiment names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from penchant.ensembles.combiners.average import MeanCombiner, MedianCombiner
from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.combiners.cascade_fit import CascadeCombiner
from penchant.ensembles.combiners.combiner import Combiner
from penchant.ensembles.combiners.fusion import RankMeanCombiner, ReciprocalRankCombiner
from penchant.ensembles.combiners.gate import GateCombiner
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.combiners.layers import LayersCombiner
from penchant.ensembles.combiners.stack import StackCombiner
from penchant.ensembles.combiners.weights import WeightsCombiner
from penchant.ensembles.combiners.within import WithinBudget
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform import config

__all__ = ["MIN_POSITIVES", "budget_of", "can_fit_weights", "make_combiners", "only_mean"]

#: Fewer labels of a kind than this cannot fit weights: 43 chose the wrong member in our own study.
MIN_POSITIVES = 200


def budget_of(settings: config.Ensemble, cost_ms: Mapping[str, float] | None) -> Budget:
    """The limits that the experiment sets, with members' times where one is of time.

    Raises:
        ConfigError: there is a limit of time, and nobody has measured it.
    """
    timed = settings.max_latency_ms is not None or settings.max_cost_ms is not None
    return Budget(
        max_latency_ms=settings.max_latency_ms,
        max_members=settings.max_members,
        max_cost_ms=settings.max_cost_ms,
        score_ms=(cost_ms or {}) if timed else {},  # what is equal is fitted once
    )


def make_combiners(
    settings: config.Ensemble, task: str, cost_ms: Mapping[str, float] | None
) -> list[Combiner]:
    """In the order of the experiment, those that the task has, each within its budget.

    Averages and greedy selection pick their members within it, a cascade is built on that, and the
    others combine what greedy selection within it has found. Bags are of greedy selection alone:
    gate and cascade select many times, and are built on one selection from all members.

    Args:
        task: `next_item` or `binary`; a place among others means nothing where there are none.
        cost_ms: score time of each member; a cascade is left out where nobody has measured it.
    """
    budget = budget_of(settings, cost_ms)
    plain = GreedyCombiner(
        max_rounds=settings.max_rounds, start=settings.sorted_start, budget=budget
    )
    free: list[Combiner] = [
        WeightsCombiner(),
        LayersCombiner(),
        GateCombiner(base=replace(plain, budget=Budget())),
        StackCombiner(),
    ]
    made: list[Combiner] = [
        MeanCombiner(budget=budget),
        MedianCombiner(budget=budget),
        RankMeanCombiner(budget=budget),
        ReciprocalRankCombiner(budget=budget),
        replace(plain, bags=settings.bags),
        *([WithinBudget(one, plain) for one in free] if budget.limited else free),
    ]
    if cost_ms is not None:
        made.append(CascadeCombiner(cost_ms, base=plain))
    known = {combiner.name: combiner for combiner in made}
    wanted = [known[name] for name in dict.fromkeys(settings.combiners) if name in known]
    return [combiner for combiner in wanted if task in combiner.tasks]


def can_fit_weights(blend: Predictions[Blend]) -> bool:
    """Whether there is enough to fit weights on: of a binary task, enough labels of each kind."""
    label = blend.requests.label
    return label is None or bool(min(label.sum(), (1 - label).sum()) >= MIN_POSITIVES)


def only_mean(combiners: list[Combiner]) -> list[Combiner]:
    """What is left where no weights can be fitted."""
    return [combiner for combiner in combiners if combiner.name == "mean"] or [MeanCombiner()]
