"""`rank_mean` and `reciprocal_rank`: members are merged by the places that they give.

Reciprocal-rank fusion is of Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms
Condorcet and individual rank learning methods" (SIGIR 2009), with their k = 60; Bruch, Gai and
Ingber, "An analysis of fusion functions for hybrid retrieval" (TOIS 2023), find that k should be
tuned.

Places are counted within each member's first `depth`, and everything further down shares the place
after them. So they are the same on a shortlist that holds more than `depth` of each member's best
as on the whole catalogue, and how members' scores were normalised does not matter. Ties stand at
their mean; a tie that passes `depth` is further down as a whole. Candidates that no member has
among its first `depth` all tie: what is judged among a few candidates far down, such as items new
to the user, is hardly ordered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from penchant.ensembles.combinations.even import EvenShares
from penchant.ensembles.combiners.average import best_members
from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.errors import ConfigError

__all__ = [
    "RankMean",
    "RankMeanCombiner",
    "ReciprocalRank",
    "ReciprocalRankCombiner",
    "first_places",
    "leaders",
]

#: Places that count: fewer than a shortlist keeps of each member (`Predictions.shortlist`).
DEPTH = 50


class _Fusion(EvenShares):
    depth: int = Field(ge=1)

    def merge(
        self, parts: Mapping[str, NDArray[np.float32]], facts: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Mean worth of a candidate's places, shape (R, C).

        Args:
            parts: scores of the members that answered, (R, C) each; what is -inf for one is -inf.
            facts: not looked at.
        """
        present = [parts[name] for name in self.members if name in parts]
        total = np.zeros(present[0].shape, dtype=np.float32)
        for part in present:
            worth = self._worth(first_places(part, self.depth)) / np.float32(len(present))
            total += np.where(np.isneginf(part), -np.inf, worth)
        return total

    def _worth(self, places: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError


class RankMean(_Fusion):
    """The mean place: 1 for the first, falling evenly to 0 for what is not among the first."""

    kind: Literal["rank_mean"] = "rank_mean"

    def _worth(self, places: NDArray[np.float32]) -> NDArray[np.float32]:
        return 1 - (places - 1) / np.float32(self.depth)


class ReciprocalRank(_Fusion):
    """The mean of 1 / (k + place); the smaller k, the more the very first places count."""

    kind: Literal["reciprocal_rank"] = "reciprocal_rank"
    k: float = Field(gt=0)

    def _worth(self, places: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(np.reciprocal(np.float32(self.k) + places), dtype=np.float32)


@dataclass(frozen=True)
class RankMeanCombiner:
    """The mean place given by the `top` members by quality on `blend`."""

    top: int = 5
    depth: int = DEPTH
    budget: Budget = Budget()

    @property
    def name(self) -> str:
        return "rank_mean"

    @property
    def tasks(self) -> frozenset[str]:
        return frozenset({"next_item"})

    def fit(self, predictions: Predictions[Blend], metric: str) -> RankMean:
        members = _ranked_members(predictions, metric, self.top, self.budget)
        how = predictions.normalization
        return RankMean(normalization=how, members=members, depth=self.depth)


@dataclass(frozen=True)
class ReciprocalRankCombiner:
    """Reciprocal-rank fusion of the `top` members by quality on `blend`."""

    top: int = 5
    depth: int = DEPTH
    k: float = 60.0
    budget: Budget = Budget()

    @property
    def name(self) -> str:
        return "reciprocal_rank"

    @property
    def tasks(self) -> frozenset[str]:
        return frozenset({"next_item"})

    def fit(self, predictions: Predictions[Blend], metric: str) -> ReciprocalRank:
        members = _ranked_members(predictions, metric, self.top, self.budget)
        how = predictions.normalization
        return ReciprocalRank(normalization=how, members=members, depth=self.depth, k=self.k)


def leaders(scores: NDArray[np.float32], depth: int) -> NDArray[np.bool_]:
    """Candidates among the first `depth` of each request, without ties that pass it.

    Args:
        scores: of one member, shape (R, C).
    """
    width = scores.shape[1]
    if width <= depth:
        return np.isfinite(scores)
    after = np.partition(scores, width - depth - 1, axis=1)[:, width - depth - 1]
    return scores > after[:, None]


def first_places(scores: NDArray[np.float32], depth: int) -> NDArray[np.float32]:
    """Place of each candidate among the first `depth`, from 1; `depth` + 1 further down.

    Args:
        scores: of one member, shape (R, C); -inf takes no place.
    """
    places = np.full(scores.shape, depth + 1, dtype=np.float32)
    chosen = leaders(scores, depth)
    row, column = np.nonzero(chosen)
    if not len(row):
        return places
    # All that is chosen in a row stands before everything else: ranks within it are the places.
    counts = np.count_nonzero(chosen, axis=1)
    at = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    short = np.full((len(scores), int(counts.max())), np.inf, dtype=np.float32)
    short[row, at] = -scores[row, column]
    from scipy import stats  # here, as in normalize

    places[row, column] = stats.rankdata(short, method="average", axis=1)[row, at]
    return places


def _ranked_members(
    predictions: Predictions[Blend], metric: str, top: int, budget: Budget
) -> tuple[str, ...]:
    if predictions.requests.label is not None:
        raise ConfigError(
            "ensemble.combiners: rank_mean and reciprocal_rank order the candidates of a request, "
            "got `binary` requests of one candidate each. Leave them out."
        )
    return tuple(best_members(predictions, metric, top, budget))
