"""`Stacked`: a weighted mean of members that boosted trees correct.

Wolpert, "Stacked generalization" (Neural Networks 1992). The trees look at each candidate's score
and rank with every member, at how much members disagree, and at the facts of the request.

Only candidates that some member ranks within its `DEPTH` are corrected; the others keep their
order below. A rank counts ties at their worst and ends at `DEPTH + 1`, so that it is the same on
the whole catalogue and on any shortlist that holds more than `DEPTH` candidates of each member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.normalize import Normalization

if TYPE_CHECKING:
    import lightgbm

__all__ = ["DEPTH", "Candidates", "Stacked", "candidates", "placed"]

#: Length of each member's list. `compare` has to keep more candidates than this.
DEPTH = 40
_CHUNK = 500  # requests whose features are held at once

Scores = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Candidates:
    """K (request, candidate) pairs that some member ranks within its `DEPTH`, in order."""

    row: NDArray[np.int64]  # (K,)
    column: NDArray[np.int64]  # (K,)
    features: NDArray[np.float32]  # (K, 2 * members + 3 + facts)


class Stacked(BaseModel):
    """Weights, trees over them, and how much each member counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["stacked"] = "stacked"
    normalization: Normalization
    counts: dict[str, float] = Field(min_length=1)  # share of each member, in the trees' order
    base: dict[str, float] = Field(min_length=1)  # weights of the mean that is corrected
    steepness: float = Field(default=1.0, gt=0)  # the mean times this is on the trees' scale
    num_facts: int = Field(ge=0)
    trees: str = ""  # LightGBM's own text; empty where no tree helped on users held out

    @model_validator(mode="after")
    def _fits_together(self) -> Stacked:
        if not self.base.keys() <= self.counts.keys():
            raise ValueError("`base` weighs members that `counts` has not")
        expected = 2 * len(self.counts) + 3 + self.num_facts
        if self.trees and (found := self._booster.num_feature()) != expected:
            raise ValueError(f"the trees read {found} features, expected {expected}")
        return self

    @property
    def shares(self) -> Mapping[str, float]:
        """Half by the weights of the mean, half by how often the trees look at a member."""
        return self.counts

    @property
    def needs_facts(self) -> bool:
        """Whether the trees were fitted with facts."""
        return self.num_facts > 0

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        import lightgbm  # here, since replicas of other ensembles start sooner without

        return lightgbm.Booster(model_str=self.trees)

    def merge(self, parts: Scores, facts: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Corrected means, shape (R, C).

        Args:
            parts: normalised scores, (R, C) each.
            facts: shape (R, F).

        Raises:
            TypeError: the trees were fitted with facts, and there are none.
        """
        base = self.start(parts)
        if not self.trees:
            return base
        if self.num_facts and facts is None:
            raise TypeError(f"the trees read {self.num_facts} facts of each request, got none")
        merged = np.empty_like(base)
        for begin in range(0, len(base), _CHUNK):
            rows = slice(begin, begin + _CHUNK)
            some = {name: part[rows] for name, part in parts.items()}
            known = facts[rows] if facts is not None and self.num_facts else None
            pairs = candidates(some, base[rows], known, list(self.counts))
            correction = self._booster.predict(pairs.features, raw_score=True, num_threads=1)
            merged[rows] = placed(base[rows], pairs, np.asarray(correction))
        return merged

    def start(self, parts: Scores) -> NDArray[np.float32]:
        """Where trees start: the weighted mean; a plain one where none of its members answered."""
        weights = {name: weight for name, weight in self.base.items() if name in parts}
        if not weights:
            weights = {name: 1.0 for name in self.counts if name in parts}
        mean = Linear(normalization=self.normalization, weights=weights).merge(parts, None)
        return mean * np.float32(self.steepness)


def candidates(
    parts: Scores,
    base: NDArray[np.float32],
    facts: NDArray[np.float32] | None,
    members: Sequence[str],
) -> Candidates:
    """The pairs that trees correct, with their features.

    A member that is missing is taken to score and rank as those that are there do on average: the
    trees have never seen a gap, and would read it as a score of zero and the best of ranks.

    Args:
        parts: normalised scores of the members that are there, (R, C) each.
        base: where the trees start, (R, C).
        facts: shape (R, F), or None.
        members: all that the features are made of, in their order.
    """
    edges = {name: _best(parts[name]) for name in members if name in parts}
    wanted = np.zeros(base.shape, dtype=np.bool_)
    for name, edge in edges.items():
        outside = edge[:, -1:] if edge.shape[1] > DEPTH else np.float32(-np.inf)
        wanted |= parts[name] > outside
    row, column = np.nonzero(wanted)
    scores = {name: parts[name][row, column] for name in edges}
    ranks = {name: _ranks(edges[name], row, scores[name]) for name in edges}
    mean_score, spread = _mean_and_spread(scores)
    mean_rank, _ = _mean_and_spread(ranks)
    columns = [scores.get(name, mean_score) for name in members]
    columns += [ranks.get(name, mean_rank) for name in members]
    columns += [base[row, column], mean_score, spread]
    if facts is not None:
        columns += list(facts[row].T)
    return Candidates(row, column, np.stack(columns, axis=1).astype(np.float32))


def placed(
    base: NDArray[np.float32], pairs: Candidates, correction: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Scores corrected at the pairs; what is no pair keeps its order below them. Shape (R, C)."""
    corrected = (base[pairs.row, pairs.column] + correction).astype(np.float32)
    floor = np.full((len(base), 1), np.inf, dtype=np.float32)
    np.minimum.at(floor[:, 0], pairs.row, corrected)
    asked = np.isfinite(base)
    value = np.where(asked, base, 0)
    below = floor - 2 + value / (1 + np.abs(value))  # -3 to -1 from the lowest, in order
    merged = np.where(asked & np.isfinite(floor), below, base)
    merged[pairs.row, pairs.column] = corrected
    return merged.astype(np.float32)


def _best(part: NDArray[np.float32]) -> NDArray[np.float32]:
    """The best `DEPTH + 1` scores of each request, falling; fewer where there are no more."""
    width = part.shape[1]
    kept = min(DEPTH + 1, width)
    best = np.sort(np.partition(part, width - kept, axis=1)[:, -kept:], axis=1)
    return best[:, ::-1]


def _mean_and_spread(
    columns: Mapping[str, NDArray[np.float32]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation over members, (K,) each."""
    table = np.stack(list(columns.values()))
    return table.mean(axis=0), table.std(axis=0)


def _ranks(
    edge: NDArray[np.float32], row: NDArray[np.int64], score: NDArray[np.float32]
) -> NDArray[np.float32]:
    """How many are at least as good, itself included: 1 to `DEPTH + 1`. Shape (K,)."""
    ranks: NDArray[np.float32] = (edge[row] >= score[:, None]).sum(axis=1, dtype=np.float32)
    return ranks
