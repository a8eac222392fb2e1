"""`gate`: greedy selection for segments of requests, drawn towards that for all of them.

A member that reads the last basket well is worth more where that was yesterday, and one that knows
what everybody buys is worth more where little is known of the user. A segment has few requests to
learn that from, so its weights are mixed with the weights for all; how much of its own a segment
gets is decided on users that the weights were not fitted on: nothing, if that is best.

Segments are always of history length and days since the last event: what tells members apart
first. To let each gate choose among splits by the same rule would cost a gate for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.gated import Gated, Split, segment_of
from penchant.ensembles.combiners.average import best_members
from penchant.ensembles.combiners.combiner import BOTH_TASKS, quality, refuse_other_blocks
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.facts import FACTS
from penchant.ensembles.predictions import Blend, Predictions

__all__ = ["GateCombiner"]

#: Parts by history length and by time since the last event: 3 x 2 segments.
_PARTS = {"history_events": 3, "days_since_last": 2}
#: Share of a segment's own weights that is tried.
_TRIED = (0.0, 0.25, 0.5, 0.75, 1.0)
_FOLDS = 2
#: Members of a segment beside those with a weight for all; the others would only be noise.
_BEST = 5
#: Segments with fewer requests take the weights for all.
_FEWEST = 100


@dataclass(frozen=True)
class GateCombiner:
    """Greedy selection for each of up to six segments.

    Attributes:
        base: selects the members.
    """

    base: GreedyCombiner = field(default_factory=GreedyCombiner)

    @property
    def name(self) -> str:
        return "gate"

    @property
    def tasks(self) -> frozenset[str]:
        return BOTH_TASKS

    def fit(self, predictions: Predictions[Blend], metric: str) -> Gated:
        refuse_other_blocks(predictions)
        splits = [] if predictions.facts is None else _splits(predictions.facts)
        fitted = _fit(predictions, splits, metric, self.base)
        alone = len(fitted.weights) < 2
        own = 0.0 if alone else _own_share(predictions, splits, metric, self.base)
        return _mixed(fitted, own)


@dataclass(frozen=True)
class _Fitted:
    """Weights for all requests and for each segment alone."""

    bare: Gated  # the weights of segments alone
    overall: Mapping[str, float]

    @property
    def weights(self) -> list[dict[str, float]]:
        return self.bare.weights


def _splits(facts: NDArray[np.float32]) -> list[Split]:
    """Edges at quantiles of the facts; equal ones are one."""
    splits = []
    for fact, parts in _PARTS.items():
        values = facts[:, FACTS.index(fact)]
        values = values[~np.isnan(values)]
        shares = np.arange(1, parts) / parts
        edges = np.unique(np.quantile(values, shares)) if len(values) else np.zeros(0)
        splits.append(Split.model_validate({"fact": fact, "edges": edges.tolist()}))
    return splits


def _fit(
    predictions: Predictions[Blend], splits: list[Split], metric: str, base: GreedyCombiner
) -> _Fitted:
    overall = base.fit(predictions, metric).weights
    count = int(np.prod([len(split.edges) + 1 for split in splits], dtype=int))
    segment = np.zeros(len(predictions.requests), dtype=np.int64)
    if predictions.facts is not None:
        segment = segment_of(splits, predictions.facts)
    weights, sizes = [], []
    for at in range(count):
        inside = np.flatnonzero(segment == at)
        enough = count > 1 and len(inside) >= _FEWEST
        own = _of_segment(predictions.take(inside), overall, metric, base) if enough else overall
        weights.append(dict(own))
        sizes.append((len(inside) + 1) / (len(segment) + count))  # none is without
    bare = Gated(
        normalization=predictions.normalization, splits=splits, weights=weights, sizes=sizes
    )
    return _Fitted(bare, overall)


def _of_segment(
    segment: Predictions[Blend], overall: Mapping[str, float], metric: str, base: GreedyCombiner
) -> Mapping[str, float]:
    """Weights for one segment, of the members that help all or are among its best."""
    best = best_members(segment, metric, _BEST)
    scores = {name: segment.scores[name] for name in dict.fromkeys([*overall, *best])}
    return base.fit(replace(segment, scores=scores), metric).weights


def _mixed(fitted: _Fitted, own: float) -> Gated:
    """Each segment's weights, `own` parts of its own and the rest of those for all."""
    if not own:
        one = {"splits": [], "weights": [dict(fitted.overall)], "sizes": [1.0]}
        return Gated.model_validate(fitted.bare.model_dump() | one)
    mixed = []
    for weights in fitted.weights:
        names = dict.fromkeys([*fitted.overall, *weights])
        both = {
            name: own * weights.get(name, 0.0) + (1 - own) * fitted.overall.get(name, 0.0)
            for name in names
        }
        mixed.append({name: weight for name, weight in both.items() if weight > 0})
    return Gated.model_validate(fitted.bare.model_dump() | {"weights": mixed})


def _own_share(
    predictions: Predictions[Blend], splits: list[Split], metric: str, base: GreedyCombiner
) -> float:
    """The share of their own weights that is best for users who fitted none of them."""
    _, user = np.unique(predictions.requests.user, return_inverse=True)
    scores = [np.empty_like(next(iter(predictions.scores.values()))) for _ in _TRIED]
    for fold in range(_FOLDS):
        fit_on, asked = np.flatnonzero(user % _FOLDS != fold), np.flatnonzero(user % _FOLDS == fold)
        if not len(fit_on) or not len(asked):
            return 0.0
        fitted = _fit(predictions.take(fit_on), splits, metric, base)
        unseen = predictions.take(asked)
        for at, own in enumerate(_TRIED):
            scores[at][asked] = _mixed(fitted, own).merge(unseen.scores, unseen.facts)
    values = [quality(part, predictions.requests, metric) for part in scores]
    return _TRIED[int(np.argmax(values))]  # the first, so the least, of equals
