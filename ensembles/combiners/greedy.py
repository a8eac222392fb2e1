"""`greedy`: ensemble selection with replacement, on the target metric itself.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models" (ICML
2004): start from the best single member, add again and again the member that helps the average
most, and keep the best average met on the way. A member that is added twice weighs twice. Sorted
initialisation and bagging are from the same paper and from Caruana, Munson and Niculescu-Mizil,
"Getting the most out of ensemble selection" (ICDM 2006). Ties go as in AutoGluon's
`EnsembleSelection`: values are compared to six decimals, and of equals one that is in already is
taken; where AutoGluon then draws, the first by name is taken, so that nothing hangs on an order.
With `patience` as large as `max_rounds` the weights are AutoGluon's; with less, what it might still
find after so many rounds without a gain is not looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.combiners.combiner import BOTH_TASKS, quality, refuse_other_blocks
from penchant.ensembles.combiners.ranking_search import RankingSearch
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.requests import Requests

__all__ = ["GreedyCombiner", "alone"]

_SEED = 0  # of the bags


@dataclass(frozen=True)
class GreedyCombiner:
    """At most `max_rounds` additions; ends after `patience` rounds without gain.

    Attributes:
        start: so many best members are added first, whatever they do to the average.
        bags: selections, each from another random half of the members, whose weights are averaged;
            1 is one selection from all of them. With more, the best member may be left out.
        sample: requests that members are tried on. Where there are more, every n-th decides what
            is added, and all of them where to stop (AutoGluon's `subsample_size`).
        budget: members that would pass one of its limits are not candidates for the next addition.
            Of bags, the heaviest members that are within it together are kept.
    """

    max_rounds: int = 50
    patience: int = 5
    start: int = 1
    bags: int = 1
    sample: int = 5000
    budget: Budget = Budget()

    @property
    def name(self) -> str:
        return "greedy"

    @property
    def tasks(self) -> frozenset[str]:
        return BOTH_TASKS

    def fit(self, predictions: Predictions[Blend], metric: str) -> Linear:
        return self._found(predictions, metric)[-1]

    def path(self, predictions: Predictions[Blend], metric: str) -> list[Linear]:
        """The best averages on the way while 1, 2, 3, .. members were in; the last is `fit`'s.

        Of bags, which have ways of their own, there is only the last.
        """
        return list(self._found(predictions, metric))

    def _found(self, predictions: Predictions[Blend], metric: str) -> list[Linear]:
        refuse_other_blocks(predictions)
        key = (self, metric)  # gate and cascade begin with what `greedy` has found
        if key not in predictions.fitted:
            predictions.fitted[key] = self._fit(predictions, metric)
        found: list[Linear] = predictions.fitted[key]
        return found

    def _fit(self, predictions: Predictions[Blend], metric: str) -> list[Linear]:
        scores, requests = predictions.scores, predictions.requests
        single = alone(scores, requests, metric)
        bags = self._drawn(self.budget.alone(sorted(scores)))
        weights = dict.fromkeys(sorted(scores), 0.0)
        tried = _every_nth(predictions, self.sample)
        for names in bags:
            whole = _search({name: scores[name] for name in names}, requests, metric)
            search = whole
            if tried is not predictions:
                few = {name: tried.scores[name] for name in names}
                search = _search(few, tried.requests, metric)
            steps = self._select({name: single[name] for name in names}, search, whole)
            if len(bags) == 1:
                return [
                    Linear(normalization=predictions.normalization, weights=_even(chosen))
                    for chosen in _prefixes(steps)
                ]
            for name, weight in _even(_best(steps)).items():
                weights[name] += weight / len(bags)
        used = {name: weight for name, weight in weights.items() if weight}
        if self.budget.limited:
            kept = self.budget.first(sorted(used, key=lambda name: (-used[name], name)))
            used = {name: used[name] / sum(used[one] for one in kept) for name in kept}
        return [Linear(normalization=predictions.normalization, weights=used)]

    def _drawn(self, names: list[str]) -> list[list[str]]:
        """The members of each bag."""
        if self.bags == 1:
            return [names]
        random, half = np.random.default_rng(_SEED), (len(names) + 1) // 2
        return [
            sorted(random.choice(names, half, replace=False).tolist()) for _ in range(self.bags)
        ]

    def _select(
        self, single: Mapping[str, float], search: Search, whole: Search
    ) -> list[tuple[str, float]]:
        """Members as they were added, and what the average was worth then.

        Args:
            single: quality of each member alone.
            search: tells what to add.
            whole: tells where to stop; `search` itself where it knows all requests.
        """
        digits = 6 if max(map(abs, single.values())) > 1e-4 else 15
        ranked = sorted(single, key=lambda name: -round(single[name], digits))
        first = self.budget.first(ranked, self.start)
        free = not self.budget.limited
        chosen: list[str] = []
        steps: list[tuple[str, float]] = []
        while len(chosen) < self.max_rounds:
            if len(chosen) < len(first):
                possible = [first[len(chosen)]]
            elif len(chosen) - len(_best(steps)) >= self.patience:
                break
            else:
                possible = [name for name in single if free or self.budget.admits(chosen, name)]
            found = search.values(possible) if chosen else single
            values = {name: round(found[name], digits) for name in possible}
            picked = max(possible, key=lambda name: (values[name], name in chosen))
            value = values[picked]
            if search is not whole:
                value = round(whole.values([picked])[picked], digits)
                whole.add(picked)
            search.add(picked)
            chosen.append(picked)
            steps.append((picked, value))
        return steps


def _best(steps: Sequence[tuple[str, float]]) -> list[str]:
    """The members of the first of the best averages on the way, as often as they are in."""
    values = [value for _, value in steps]
    return [name for name, _ in steps[: values.index(max(values)) + 1]]


def _prefixes(steps: Sequence[tuple[str, float]]) -> list[list[str]]:
    """The best while at most 1, 2, 3, .. members were in, up to the best of all."""
    whole = _best(steps)
    added = [at for at, name in enumerate(whole) if name not in whole[:at]]  # a member's first time
    return [_best(steps[:end]) for end in added[1:]] + [whole]


def _even(chosen: Sequence[str]) -> dict[str, float]:
    """Weights by how often a member is in, in the order of names."""
    return {name: count / len(chosen) for name, count in sorted(Counter(chosen).items())}


def _every_nth(predictions: Predictions[Blend], most: int) -> Predictions[Blend]:
    """At most so many requests, evenly over users and their time, whatever the order."""
    number = len(predictions.requests)
    if number <= most:
        return predictions
    ordered = np.argsort(predictions.requests.row, kind="stable")
    return predictions.take(ordered[np.linspace(0, number - 1, most).astype(np.int64)])


def alone(
    scores: Mapping[str, NDArray[np.float32]], requests: Requests, metric: str
) -> dict[str, float]:
    """Quality of each member alone, larger is better also for losses."""
    return _search(scores, requests, metric).values(list(scores))


def _search(scores: Mapping[str, NDArray[np.float32]], requests: Requests, metric: str) -> Search:
    if requests.label is None:
        return RankingSearch(scores, requests, metric)
    return _BinarySearch(scores, requests, metric)


class Search(Protocol):
    """A sum of members, and how good the mean would be with one more."""

    def values(self, names: Sequence[str]) -> dict[str, float]:
        """Quality of the mean of those that were added and each of `names`."""
        ...

    def add(self, name: str) -> None:
        """Add a member to the sum."""
        ...


class _BinarySearch:
    """One candidate a request: every mean is judged as it is."""

    def __init__(
        self, scores: Mapping[str, NDArray[np.float32]], requests: Requests, metric: str
    ) -> None:
        self._scores, self._requests, self._metric = scores, requests, metric
        self._total = np.zeros_like(next(iter(scores.values())))
        self._size = 0

    def values(self, names: Sequence[str]) -> dict[str, float]:
        share = np.float32(self._size + 1)  # the mean, not the sum: losses read its scale
        return {
            name: quality((self._total + self._scores[name]) / share, self._requests, self._metric)
            for name in names
        }

    def add(self, name: str) -> None:
        self._total = self._total + self._scores[name]
        self._size += 1
