"""What blend says of models that are not ours: the best of them, and what they are together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.combiners.cascade_fit import CascadeCurve
from penchant.ensembles.combiners.combiner import quality
from penchant.ensembles.combiners.combiners import budget_of
from penchant.ensembles.comparing.choice import Cost, Option
from penchant.ensembles.comparing.fitting import Fitted, fit_all, fittable
from penchant.ensembles.comparing.foreign_terms import Terms
from penchant.ensembles.comparing.options import make_options, way_options
from penchant.ensembles.comparing.savings import cascade_curve
from penchant.ensembles.comparing.unseen import UnseenUsers
from penchant.ensembles.normalize import Normalization
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.metrics import sign_of

__all__ = ["OnBlend", "fit_on_blend"]


@dataclass(frozen=True, kw_only=True)
class OnBlend:
    """All that blend says of foreign models."""

    best_single: str
    budget: Budget
    rival: str
    values: Mapping[str, float]  # target metric of each model
    normalization: Normalization
    each: list[Fitted]
    chances: Mapping[str, float]
    options: list[Option]
    curve: CascadeCurve | None


def fit_on_blend(
    blend: Predictions[Blend], metric: str, terms: Terms, tell: Callable[[str], None]
) -> OnBlend:
    """Fit every combiner, and say what models and combinations are worth here.

    Raises:
        ConfigError: no combiner suits the task, or no model fits the limits.
    """
    settings, cost_ms, sign = terms.settings, terms.cost_ms, sign_of(metric)
    found = {name: quality(part, blend.requests, metric) for name, part in blend.scores.items()}
    best = max(found, key=lambda name: found[name])
    budget = budget_of(settings, cost_ms)
    rival = max(budget.alone(list(found)), key=lambda name: found[name])
    short, chosen = fittable(blend, settings, metric, cost_ms, tell)
    if len(short.scores) < 2:  # there is nothing to combine
        chosen = []
    unseen = UnseenUsers(short, metric, best, settings.bootstrap, settings.seed, rival)
    fitted = list(fit_all(chosen, short, metric, unseen))
    values = {name: sign * value for name, value in found.items()}
    options = []
    if cost_ms is not None:
        costs = {name: Cost(score_ms=cost_ms[name]) for name in found}
        options = make_options(costs, fitted, values, best)
        options += way_options(costs, fitted, short, metric, unseen)
    return OnBlend(
        best_single=best,
        budget=budget,
        rival=rival,
        values=values,
        normalization=short.normalization,
        each=fitted,
        chances=unseen.chances(),
        options=options,
        curve=cascade_curve(chosen, short, metric),
    )
