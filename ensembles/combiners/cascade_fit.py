"""`cascade`: which members first, and how sure is sure enough.

Members of a base combination are ordered by what they cost, and by what they cost for the weight
that they have. The first few of either order (up to four, then twice as many each time) are a stage
that could answer, with weights fitted for it alone. All cascades of up to three stages are tried,
with thresholds at every twentieth of the requests (every fifth with three). That is quick: how well
each stage would answer each request, and how sure it would be, is computed once.

Within a budget the base is fitted within it, and cascades whose stages, one after the other, may
take longer than its latency are not tried: the base alone, asked at once, always is within it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.cascade import Cascade, Signal, Stage, certainty
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.combiners.combiner import quality, refuse_other_blocks
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.binary import auc, binary_per_request
from penchant.platform.errors import ConfigError
from penchant.platform.metrics import ranking_metrics, sign_of, target_ranks

__all__ = ["CascadeCombiner", "CascadePoint"]

#: Of the requests that a stage answers, how many go on; by the number of stages before the last.
_SHARES = {1: np.arange(1, 20) / 20, 2: np.arange(1, 5) / 5}
#: Members of a stage before the last; with 30 members, to try all sizes would take minutes.
_SIZES = (1, 2, 3, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class CascadePoint:
    """One cascade, and what it keeps at which cost, measured where it was fitted."""

    cascade: Cascade
    cost_ms: float  # expected, a request
    value: float  # target metric; larger is better, also for losses
    kept: float  # share of the base's gain over the best single of the cheapest stage
    base_gain: float  # that gain; larger is better, also for losses
    base_ms: float  # what the base costs, a request


@dataclass(frozen=True)
class CascadeCombiner:
    """The cheapest cascade that keeps `keep` of the gain of `base`.

    Args:
        cost_ms: score time of every member, milliseconds a request.
        keep: share of the gain over the best single member of the cheapest stage.
        base: picks and weighs members, within its budget.
    """

    cost_ms: Mapping[str, float] = field(hash=False)
    keep: float = 0.95
    base: GreedyCombiner = field(default_factory=GreedyCombiner)

    @property
    def name(self) -> str:
        return "cascade"

    @property
    def tasks(self) -> frozenset[str]:
        return self.base.tasks

    def fit(self, predictions: Predictions[Blend], metric: str) -> Cascade:
        points = self.curve(predictions, metric)
        return next((p for p in points if p.kept >= self.keep), points[-1]).cascade

    def curve(self, predictions: Predictions[Blend], metric: str) -> list[CascadePoint]:
        """Cascades that no cheaper one equals, cheapest first; the last is the best of all.

        Raises:
            TypeError: the predictions are of another block.
            ConfigError: a member has no cost.
        """
        refuse_other_blocks(predictions)
        key = (self, metric)  # what is fitted here is shown as a curve later
        if key not in predictions.fitted:
            predictions.fitted[key] = self._curve(predictions, metric)
        found: list[CascadePoint] = predictions.fitted[key]
        return found

    def _curve(self, predictions: Predictions[Blend], metric: str) -> list[CascadePoint]:
        _check_costs(predictions, self.cost_ms)
        mixes = self._mixes(predictions, metric)
        single = max(
            quality(predictions.scores[name], predictions.requests, metric)
            for name in mixes[0].weights
        )
        trials = _Trials(mixes, predictions, metric, self.cost_ms, self.base.budget)
        gain = quality(mixes[-1].merge(predictions.scores, None), predictions.requests, metric)
        gain -= single
        whole_ms = sum(self.cost_ms[name] for name in mixes[-1].weights)
        points: list[CascadePoint] = []
        for trial in sorted(trials.all(), key=lambda trial: (trial.cost_ms, -trial.value)):
            if not points or trial.value > points[-1].value:
                # a base that gains nothing loses nothing either
                kept = (trial.value - single) / gain if gain > 0 else 1.0
                cascade = trials.cascade(trial)
                cost = cascade.expected_cost_ms()
                points.append(
                    CascadePoint(
                        cascade=cascade,
                        cost_ms=cost,
                        value=trial.value,
                        kept=kept,
                        base_gain=gain,
                        base_ms=whole_ms,
                    )
                )
        return points

    def _mixes(self, predictions: Predictions[Blend], metric: str) -> list[Linear]:
        """Weights of each set of members that could answer, cheapest set first.

        Weights are fitted for each set by itself: what is left of the base's, where its heaviest
        member is missing, is no good mix of the others.
        """
        whole = self.base.fit(predictions, metric)

        def cost(names: Iterable[str]) -> float:
            return sum(self.cost_ms[name] for name in sorted(names))

        orders = (
            sorted(whole.weights, key=lambda name: (self.cost_ms[name], name)),
            sorted(whole.weights, key=lambda name: (cost([name]) / whole.weights[name], name)),
        )
        sizes = [n for n in _SIZES if n < len(whole.weights)]
        sets = {frozenset(order[:n]) for order in orders for n in sizes}
        mixes: dict[tuple[tuple[str, float], ...], Linear] = {}
        for names in sorted(sets, key=sorted):
            scores = {name: part for name, part in predictions.scores.items() if name in names}
            mix = self.base.fit(replace(predictions, scores=scores), metric)
            mixes.setdefault(tuple(sorted(mix.weights.items())), mix)
        cheapest_first = sorted(mixes.values(), key=lambda m: (cost(m.weights), sorted(m.weights)))
        return [*cheapest_first, whole]


@dataclass(frozen=True, slots=True)
class _Trial:
    cost_ms: float
    value: float
    signal: Signal
    stages: list[tuple[int, float | None, float]]  # mix, least certainty, share that comes so far


class _Trials:
    """Every cascade over some mixes, judged request by request."""

    def __init__(
        self,
        mixes: list[Linear],
        predictions: Predictions[Blend],
        metric: str,
        cost_ms: Mapping[str, float],
        budget: Budget,
    ) -> None:
        self._mixes, self._cost_ms, self._metric = mixes, cost_ms, metric
        self._max_latency_ms = budget.max_latency_ms
        self._requests, self._normalization = predictions.requests, predictions.normalization
        self._k = int(metric.partition("@")[2] or 1)
        self._sure: dict[Signal, list[NDArray[np.float64]]] = {s: [] for s in get_args(Signal)}
        values = []
        for mix in mixes:
            merged = mix.merge(predictions.scores, None)
            values.append(self._per_request(merged))
            for signal, known in self._sure.items():
                known.append(certainty(merged, signal, self._k))
        self._values = np.stack(values)

    def _per_request(self, merged: NDArray[np.float32]) -> NDArray[np.float64]:
        """The target metric of each request, larger is better; for AUC the scores themselves."""
        label, metric = self._requests.label, self._metric
        if label is None:
            ranks = target_ranks(merged, self._requests)
            return ranking_metrics(ranks, self._requests, self._k)[metric]
        if metric == "auc":
            return merged[:, 0].astype(np.float64)
        values = binary_per_request(merged[:, 0], label)[metric]
        return sign_of(metric) * values

    def all(self) -> Iterator[_Trial]:
        """Every cascade, single mixes first."""
        for place in range(len(self._mixes)):
            yield from self._judged((place,), (), "margin")
        for signal in self._sure:
            for early, steps in _SHARES.items():
                for places in combinations(range(len(self._mixes)), early + 1):
                    if all(self._asked(places)) and self._in_time(places):
                        for shares in product(steps, repeat=early):
                            yield from self._judged(places, shares, signal)

    def _in_time(self, places: Sequence[int]) -> bool:
        """Whether a request that no stage but the last is sure of is answered in time."""
        if self._max_latency_ms is None:
            return True
        slowest = (max(self._cost_ms[name] for name in own) for own in self._asked(places))
        return sum(slowest) <= self._max_latency_ms

    def cascade(self, trial: _Trial) -> Cascade:
        """The cascade that was tried."""
        stages = [
            Stage(weights=self._mixes[place].weights, least_certainty=least, reached=reached)
            for place, least, reached in trial.stages
        ]
        names = self._asked([place for place, _, _ in trial.stages])
        return Cascade(
            normalization=self._normalization,
            signal=trial.signal,
            k=self._k,
            stages=stages,
            cost_ms={name: self._cost_ms[name] for own in names for name in own},
        )

    def _asked(self, places: Sequence[int]) -> list[list[str]]:
        """Members that each stage asks and no stage before it did."""
        known: set[str] = set()
        found = []
        for place in places:
            found.append([name for name in self._mixes[place].weights if name not in known])
            known.update(found[-1])
        return found

    def _judged(
        self, places: tuple[int, ...], shares: tuple[float, ...], signal: Signal
    ) -> Iterator[_Trial]:
        """One cascade, or none where too many requests tie for anybody to go on."""
        answers = np.empty(len(self._requests), dtype=np.int64)
        going = np.ones(len(answers), dtype=bool)
        stages, cost = [], 0.0
        for place, share, own in zip(places, (*shares, None), self._asked(places), strict=True):
            answers[going] = place
            reached, least = float(going.mean()), None
            cost += reached * sum(self._cost_ms[name] for name in own)
            if share is not None:
                sure = self._sure[signal][place]
                least = float(np.quantile(sure[going], share))
                going = going & (sure < least)
                if not going.any():
                    return
            stages.append((place, least, reached))
        yield _Trial(cost, self._value(answers), signal, stages)

    def _value(self, answers: NDArray[np.int64]) -> float:
        """The target metric where each request is answered by this mix, shape (R,)."""
        found = self._values[answers, np.arange(len(answers))]
        label = self._requests.label
        if label is not None and self._metric == "auc":
            return auc(found.astype(np.float32), label)
        return float(found.mean())


def _check_costs(predictions: Predictions[Blend], cost_ms: Mapping[str, float]) -> None:
    missing = sorted(set(predictions.scores) - set(cost_ms))
    if missing:
        raise ConfigError(
            f"a cascade orders members by their score time, got none of {', '.join(missing)}: "
            "expected `score_ms` in each member's metrics.json. Score them again."
        )
