"""`cascade`: which members first, and how sure is sure enough.

Members of a base combination are ordered by what they cost, and by what they cost for the weight
that they have. The first few of either order (up to four, then twice as many each time) are a stage
that could answer, with weights fitted for it alone. All cascades of up to three stages are tried,
with thresholds at every twentieth of the requests (every fifth with three). That is quick: how well
each stage would answer each request, and how sure it would be, is computed once.

Within a budget the base is fitted within its latency and members, and cascades whose stages, one
after the other, may take longer are not tried: the base alone, asked at once, always is within it.
A limit of cost is one of the expected cost, so that a dear member that is seldom asked may be in:
the base is fitted without it, and of the cascades that fit the best is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product

import numpy as np

from penchant.ensembles.combinations.cascade import Cascade, Signal, Stage
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.combiners.cascade_answers import Answers
from penchant.ensembles.combiners.combiner import quality, refuse_other_blocks
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.errors import ConfigError

__all__ = ["CascadeCombiner", "CascadeCurve", "CascadePoint", "kept"]

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
    kept: float  # share of the base's gain


@dataclass(frozen=True, kw_only=True)
class CascadeCurve:
    """Cascades that no cheaper one equals, cheapest first; the last is the best of all."""

    points: list[CascadePoint]
    base: Linear  # that everything is measured by
    base_ms: float  # what it costs, a request
    base_gain: float  # over `single`; larger is better, also for losses
    single: str  # the best member of the cheapest stage


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
        limit = self.base.budget
        points = [
            point
            for point in self.curve(predictions, metric).points
            if limit.fits(latency_ms=0.0, members=0, cost_ms=point.cost_ms)
        ]
        return next((p for p in points if p.kept >= self.keep), points[-1]).cascade

    def curve(self, predictions: Predictions[Blend], metric: str) -> CascadeCurve:
        """What is kept at which cost, within the limits of latency and members.

        Raises:
            TypeError: the predictions are of another block.
            ConfigError: a member has no cost, or none is within the budget.
        """
        refuse_other_blocks(predictions)
        key = (self, metric)  # what is fitted here is shown as a curve later
        if key not in predictions.fitted:
            predictions.fitted[key] = self._curve(predictions, metric)
        found: CascadeCurve = predictions.fitted[key]
        return found

    def _curve(self, predictions: Predictions[Blend], metric: str) -> CascadeCurve:
        _check_costs(predictions, self.cost_ms)
        mixes = self._mixes(predictions, metric)
        alone = {
            name: quality(predictions.scores[name], predictions.requests, metric)
            for name in sorted(mixes[0].weights)
        }
        single = max(alone, key=lambda name: alone[name])
        trials = _Trials(mixes, predictions, metric, self.cost_ms, self.base.budget)
        whole = mixes[-1].merge(predictions.scores, None)
        gain = quality(whole, predictions.requests, metric) - alone[single]
        points: list[CascadePoint] = []
        for trial in sorted(trials.all(), key=lambda trial: (trial.cost_ms, -trial.value)):
            if not points or trial.value > points[-1].value:
                cascade = trials.cascade(trial)
                points.append(
                    CascadePoint(
                        cascade=cascade,
                        cost_ms=cascade.expected_cost_ms(),
                        value=trial.value,
                        kept=kept(trial.value - alone[single], gain),
                    )
                )
        return CascadeCurve(
            points=points,
            base=mixes[-1],
            base_ms=sum(self.cost_ms[name] for name in mixes[-1].weights),
            base_gain=gain,
            single=single,
        )

    def _mixes(self, predictions: Predictions[Blend], metric: str) -> list[Linear]:
        """Weights of each set of members that could answer, cheapest set first.

        Weights are fitted for each set by itself: what is left of the base's, where its heaviest
        member is missing, is no good mix of the others.
        """
        dear = replace(self.base, budget=replace(self.base.budget, max_cost_ms=None))
        whole = dear.fit(predictions, metric)

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
            mix = dear.fit(replace(predictions, scores=scores), metric)
            mixes.setdefault(tuple(sorted(mix.weights.items())), mix)
        if self.base.budget.max_cost_ms is not None:  # one at least fits, asked of every request
            mix = self.base.fit(predictions, metric)
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
        self._mixes, self._cost_ms = mixes, cost_ms
        self._budget, self._normalization = budget, predictions.normalization
        self._answers = Answers(mixes, predictions, metric)

    def all(self) -> Iterator[_Trial]:
        """Every cascade, single mixes first."""
        for place in range(len(self._mixes)):
            yield from self._judged((place,), (), "margin")
        for signal in self._answers.sure:
            for early, steps in _SHARES.items():
                for places in combinations(range(len(self._mixes)), early + 1):
                    if all(self._asked(places)) and self._fits(places):
                        for shares in product(steps, repeat=early):
                            yield from self._judged(places, shares, signal)

    def _fits(self, places: Sequence[int]) -> bool:
        """Whether a request that no stage but the last is sure of is answered within the limits.

        What it costs is another matter: that limit is one of the mean over requests.
        """
        stages = self._asked(places)
        slowest = sum(max(self._cost_ms[name] for name in own) for own in stages)
        return self._budget.fits(latency_ms=slowest, members=sum(map(len, stages)), cost_ms=0.0)

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
            k=self._answers.k,
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
        answers = np.empty(len(self._answers), dtype=np.int64)
        going = np.ones(len(answers), dtype=bool)
        stages, cost = [], 0.0
        for place, share, own in zip(places, (*shares, None), self._asked(places), strict=True):
            answers[going] = place
            reached, least = float(going.mean()), None
            cost += reached * sum(self._cost_ms[name] for name in own)
            if share is not None:
                sure = self._answers.sure[signal][place]
                least = float(np.quantile(sure[going], share))
                going = going & (sure < least)
                if not going.any():
                    return
            stages.append((place, least, reached))
        yield _Trial(cost, self._answers.value(answers), signal, stages)


def kept(gain: float, base_gain: float) -> float:
    """Share of the base's gain; a base that gains nothing loses nothing either."""
    return gain / base_gain if base_gain > 0 else 1.0


def _check_costs(predictions: Predictions[Blend], cost_ms: Mapping[str, float]) -> None:
    missing = sorted(set(predictions.scores) - set(cost_ms))
    if missing:
        raise ConfigError(
            f"a cascade orders members by their score time, got none of {', '.join(missing)}: "
            "expected `score_ms` in each member's metrics.json. Score them again."
        )
