"""`cascade`: which members first, and how sure is sure enough.

Members of a base combination are ordered by what they cost, and by what they cost for the weight
that they have. The first few of either order are a stage that could answer, with weights fitted
for it alone. All cascades of up to three stages are tried, with thresholds at every twentieth of
the requests (every fifth with three). That is quick: how well each stage would answer each
request, and how sure it would be, is computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.cascade import Cascade, Signal, Stage, certainty
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.combiner import quality, refuse_other_blocks
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.binary import auc, binary_per_request
from penchant.platform.errors import ConfigError
from penchant.platform.metrics import ranking_metrics, sign_of, target_ranks

__all__ = ["CascadeCombiner", "CascadePoint"]

#: Of the requests that a stage answers, how many go on; by the number of stages before the last.
_SHARES = {1: np.arange(1, 20) / 20, 2: np.arange(1, 5) / 5}
_ROUNDING = 1e-12  # sums of equal terms in another order count as equal


@dataclass(frozen=True, kw_only=True)
class CascadePoint:
    """One cascade, and what it keeps at which cost, measured where it was fitted."""

    cascade: Cascade
    cost_ms: float  # expected, a request
    value: float  # target metric; larger is better, also for losses
    kept: float  # share of the base's gain over the best single of the cheapest stage


@dataclass(frozen=True)
class CascadeCombiner:
    """The cheapest cascade that keeps `keep` of the gain of `base`.

    Args:
        cost_ms: score time of every member, milliseconds a request.
        keep: share of the gain over the best single member of the cheapest stage.
        base: picks and weighs members.
    """

    cost_ms: Mapping[str, float]
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
        _check_costs(predictions, self.cost_ms)
        mixes = self._mixes(predictions, metric)
        single = max(
            quality(predictions.scores[name], predictions.requests, metric)
            for name in mixes[0].weights
        )
        trials = _Trials(mixes, predictions, metric, self.cost_ms)
        gain = quality(mixes[-1].merge(predictions.scores, None), predictions.requests, metric)
        gain -= single
        points: list[CascadePoint] = []
        for trial in sorted(trials.all(), key=lambda trial: (trial.cost_ms, -trial.value)):
            if not points or trial.value > points[-1].value + _ROUNDING:
                # a base that gains nothing loses nothing either
                kept = (trial.value - single) / gain if gain > 0 else 1.0
                cascade = trials.cascade(trial)
                cost = cascade.expected_cost_ms()
                points.append(
                    CascadePoint(cascade=cascade, cost_ms=cost, value=trial.value, kept=kept)
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
        sets = {frozenset(order[:n]) for order in orders for n in range(1, len(order))}
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


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """The first stages of cascades, and what they leave to others."""

    stages: list[tuple[int, float | None, float]]
    known: frozenset[str]  # members that were asked
    going: NDArray[np.bool_]  # (R,), requests that go on
    found: NDArray[np.float64]  # (R,), what was reached on the others; 0 on those
    reached: float = 1.0  # share of requests that go on
    cost_ms: float = 0.0

    @property
    def following(self) -> int:
        """The first mix that may come next."""
        return self.stages[-1][0] + 1 if self.stages else 0


class _Trials:
    """Every cascade over some mixes, judged request by request."""

    def __init__(
        self,
        mixes: list[Linear],
        predictions: Predictions[Blend],
        metric: str,
        cost_ms: Mapping[str, float],
    ) -> None:
        self._mixes, self._cost_ms, self._metric = mixes, cost_ms, metric
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
        size = len(self._requests)
        nobody = _Begun(
            stages=[], known=frozenset(), going=np.ones(size, bool), found=np.zeros(size)
        )
        yield from self._ended(nobody, "margin")
        for signal in self._sure:
            for early, steps in _SHARES.items():
                for begun in self._longer(nobody, signal, early, steps):
                    yield from self._ended(begun, signal)

    def cascade(self, trial: _Trial) -> Cascade:
        """The cascade that was tried."""
        stages = [
            Stage(weights=self._mixes[place].weights, least_certainty=least, reached=reached)
            for place, least, reached in trial.stages
        ]
        names = dict.fromkeys(name for stage in stages for name in stage.weights)
        return Cascade(
            normalization=self._normalization,
            signal=trial.signal,
            k=self._k,
            stages=stages,
            cost_ms={name: self._cost_ms[name] for name in names},
        )

    def _longer(
        self, begun: _Begun, signal: Signal, stages: int, steps: NDArray[np.float64]
    ) -> Iterator[_Begun]:
        """All ways to go on for so many stages, but those where too many tie for anybody to."""
        if not stages:
            yield begun
            return
        for place in range(begun.following, len(self._mixes)):
            cost = self._cost_of(place, begun)
            if cost is None:
                continue
            sure = self._sure[signal][place]
            for least in np.quantile(sure[begun.going], steps).tolist():
                going = begun.going & (sure < least)
                if going.any():
                    longer = _Begun(
                        stages=[*begun.stages, (place, least, begun.reached)],
                        known=begun.known | self._mixes[place].weights.keys(),
                        going=going,
                        found=np.where(begun.going & ~going, self._values[place], begun.found),
                        reached=float(going.mean()),
                        cost_ms=cost,
                    )
                    yield from self._longer(longer, signal, stages - 1, steps)

    def _ended(self, begun: _Begun, signal: Signal) -> Iterator[_Trial]:
        """All ways to answer the requests that go on."""
        first = begun.following
        for place, value in enumerate(self._completed(begun), first):
            cost = self._cost_of(place, begun)
            if cost is not None:
                yield _Trial(cost, value, signal, [*begun.stages, (place, None, begun.reached)])

    def _cost_of(self, place: int, begun: _Begun) -> float | None:
        """The cost so far with one mix more; None where that asks nobody new."""
        own = [name for name in self._mixes[place].weights if name not in begun.known]
        return (
            begun.cost_ms + begun.reached * sum(self._cost_ms[name] for name in own)
            if own
            else None
        )

    def _completed(self, begun: _Begun) -> list[float]:
        """The target metric where each of the mixes that may follow answers what goes on."""
        values, label = self._values[begun.following :], self._requests.label
        if label is not None and self._metric == "auc":
            wholes = (np.where(begun.going, own, begun.found) for own in values)
            return [auc(whole.astype(np.float32), label) for whole in wholes]
        sums = begun.found.sum() + values @ begun.going.astype(np.float64)
        return (sums / len(begun.going)).tolist()


def _check_costs(predictions: Predictions[Blend], cost_ms: Mapping[str, float]) -> None:
    missing = sorted(set(predictions.scores) - set(cost_ms))
    if missing:
        raise ConfigError(
            f"a cascade orders members by their score time, got none of {', '.join(missing)}: "
            "expected `score_ms` in each member's metrics.json. Score them again."
        )
