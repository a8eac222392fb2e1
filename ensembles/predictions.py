"""Predictions of members on one block, and whose job that block is.

`Predictions` carries its block in its type. A combiner takes `Predictions[Blend]`, so a program
that fits an ensemble on the block that picked its members does not pass the type checker, and is
refused when it runs all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.facts import request_facts
from penchant.ensembles.normalize import Normalization, normalize
from penchant.platform.prepared import Prepared
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

__all__ = [
    "B",
    "Blend",
    "Predictions",
    "Select",
    "Test",
    "read_predictions",
    "shortlist_length",
]

#: Candidates of each member that combinations are fitted on, for each place that a metric looks at.
#: Targets are on every shortlist, but not all that an average may put above them: with one for each
#: place recall@50 of five unlike members' mean was .22 instead of .17, with six it was right.
_EACH = 6
_TRIED, _HARDLY = 100, 0.8  # requests, and the share of candidates that is no shortlist

Select = Literal[Block.SELECT]
Blend = Literal[Block.BLEND]
Test = Literal[Block.TEST]
B = TypeVar("B", bound=Block)


@dataclass(frozen=True, kw_only=True)
class Predictions(Generic[B]):
    """Scores of M members on the R requests of a block, C candidates each."""

    block: B
    requests: Requests
    scores: Mapping[str, NDArray[np.float32]]  # member id -> (R, C)
    normalization: Normalization = "none"  # what has been done to the scores
    facts: NDArray[np.float32] | None = None  # (R, F), see facts.py
    #: What was fitted on exactly these, so that nobody fits it again.
    fitted: dict[object, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def take(self, chosen: NDArray[np.int64]) -> Predictions[B]:
        """The requests at these positions; of neighbours in order nothing is copied."""
        run = len(chosen) > 0 and bool((np.diff(chosen) == 1).all())
        part = slice(chosen[0], chosen[-1] + 1) if run else chosen
        return replace(
            self,
            requests=self.requests.take(chosen),
            scores={name: scores[part] for name, scores in self.scores.items()},
            facts=None if self.facts is None else self.facts[part],
        )

    def shortlist(self, top: int) -> Predictions[B]:
        """Only candidates that some member ranks among its `top`, and the targets.

        A weighted sum can put no other candidate above one that every member ranks in its top:
        for a metric at k well below `top`, combinations score as they do on everything, at a
        tenth of the cost. Columns are renumbered for each request; shorter rows end in -inf. Where
        many members leave hardly anything out, nothing is.
        """
        size, width = next(iter(self.scores.values())).shape
        if self.requests.candidate is not None or top >= width:
            return self
        if self._wanted(top, slice(_TRIED)).mean() > _HARDLY:
            return self
        wanted = self._wanted(top, slice(None))
        asker = np.repeat(np.arange(size), np.diff(self.requests.target_offsets))
        wanted[asker, self.requests.target] = True
        place = np.cumsum(wanted, axis=1, dtype=np.int32) - 1
        row, column = np.nonzero(wanted)
        scores = {}
        for name, part in self.scores.items():
            short = np.full((size, int(place.max()) + 1), -np.inf, dtype=np.float32)
            short[row, place[row, column]] = part[row, column]
            scores[name] = short
        requests = replace(self.requests, target=place[asker, self.requests.target])
        return replace(self, requests=requests, scores=scores)

    def _wanted(self, top: int, rows: slice) -> NDArray[np.bool_]:
        """Candidates that some member ranks among its `top`, shape (r, C)."""
        parts = [part[rows] for part in self.scores.values()]
        wanted = np.zeros_like(parts[0], dtype=bool)
        for part in parts:
            best = np.argpartition(part, part.shape[1] - top, axis=1)[:, -top:]
            np.put_along_axis(wanted, best, True, axis=1)
        return wanted

    def normalized(self, how: Normalization) -> Predictions[B]:
        """Every member's scores made comparable."""
        scores = {name: normalize(part, how) for name, part in self.scores.items()}
        return replace(self, scores=scores, normalization=how)


def shortlist_length(metric: str) -> int:
    """How many of each member's candidates decide what combinations are worth by a metric at k.

    Those of ten places at least: weights and trees are fitted on more than the metric looks at.
    """
    return _EACH * max(int(metric.partition("@")[2] or 0), 10)


def read_predictions(prepared: Prepared, block: B, member_ids: list[str]) -> Predictions[B]:
    """Scores of these members from the store, and what is known of each request.

    Raises:
        DataError: a member's scores are missing or torn; it is named, never guessed.
    """
    requests = prepared.requests[cast(Block, block)]
    scores = {
        name: prepared.run.read_predictions(cast(Block, block), name, requests.row)
        for name in member_ids
    }
    return Predictions(
        block=block,
        requests=requests,
        scores=scores,
        facts=request_facts(prepared.log, requests),
    )
