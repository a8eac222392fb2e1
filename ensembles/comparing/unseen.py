"""What a combiner gains on users that its weights were not fitted on, within `blend`.

The users are split in halves; weights fitted on one half are judged on the other, and each user is
judged once. The halves hold half of the data each, so that the gain is a careful estimate of what
weights fitted on everyone gain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combiners.combiner import Combiner, quality
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.comparing.judge import Judge, Sheet
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.binary import binary_per_request
from penchant.platform.intervals import Interval
from penchant.platform.metrics import ranking_metrics, target_ranks
from penchant.platform.requests import Requests

__all__ = ["UnseenUsers", "half_of"]


def half_of(requests: Requests) -> NDArray[np.int32]:
    """In which half of the users each request is: 0 or 1."""
    return requests.user % 2


class UnseenUsers:
    """Judges combiners on `blend`, with the same halves and resamples for all of them.

    Args:
        blend: scores of all members, normalised. Where the halves are one after the other, they
            take no memory of their own.
        metric: the target metric.
        best: the best single member, which gains are over.
        resamples: bootstrap draws.
        seed: of the draws.
        rival: the best single member within a budget; None: `best`.
    """

    def __init__(
        self,
        blend: Predictions[Blend],
        metric: str,
        best: str,
        resamples: int,
        seed: int,
        rival: str | None = None,
    ) -> None:
        self._blend, self._metric = blend, metric
        half = half_of(blend.requests)
        self._rows = [np.flatnonzero(half == fold) for fold in (0, 1)]
        self._halves = [blend.take(rows) for rows in self._rows if len(rows)]
        self._judge = Judge(blend.requests, None, metric, resamples, seed)
        self._single = _sheet(blend.scores[best], blend.requests, metric)
        self._rival = None
        if rival is not None and rival != best:
            self._rival = _sheet(blend.scores[rival], blend.requests, metric)
        self._sheets: dict[str, Sheet] = {}

    def gain(self, combiner: Combiner) -> tuple[Interval, Interval]:
        """Target metric of the combiner minus that of the best single member, and of the rival.

        Zero, with a p-value of 1, where all users are in one half: nothing can be said.
        """
        if len(self._halves) < 2:
            return Interval(0.0, 0.0, 0.0, 1.0), Interval(0.0, 0.0, 0.0, 1.0)
        made = [combiner.fit(half, self._metric) for half in self._halves]
        sheet = _sheet(self._judged(made), self._blend.requests, self._metric)
        self._sheets[combiner.name] = sheet
        gain = self._judge.target_difference(sheet, self._single)
        if self._rival is None:
            return gain, gain
        return gain, self._judge.target_difference(sheet, self._rival)

    def chances(self) -> dict[str, float]:
        """P-value of each gain over the rival so far, corrected for the number of combiners.

        Where all users are in one half nothing is sure.
        """
        judged, other = self._sheets, self._rival or self._single
        return dict(zip(judged, self._judge.family_p(list(judged.values()), other), strict=True))

    def way(self, greedy: GreedyCombiner) -> list[float]:
        """Target metric while 1, 2, 3, .. members were in; larger is better, also for losses.

        As long as the shorter of the two halves' ways; empty where all users are in one half.
        """
        if len(self._halves) < 2:
            return []
        ways = [greedy.path(half, self._metric) for half in self._halves]
        return [
            quality(self._judged(made), self._blend.requests, self._metric)
            for made in zip(*ways, strict=False)
        ]

    def _judged(self, made: Sequence[Combination]) -> NDArray[np.float32]:
        """Scores by what was fitted on each half, for the users of the other, shape (R, C)."""
        combined = np.empty_like(next(iter(self._blend.scores.values())))
        for combination, asked, rows in zip(
            made, self._halves[::-1], self._rows[::-1], strict=True
        ):
            combined[rows] = combination.merge(asked.scores, asked.facts)
        return combined


def _sheet(scores: NDArray[np.float32], requests: Requests, metric: str) -> Sheet:
    """The target metric of each request; a shortlist's columns say nothing of repeats."""
    if requests.label is not None:
        return Sheet(binary_per_request(scores[:, 0], requests.label), odds=scores[:, 0])
    k = int(metric.partition("@")[2])
    return Sheet(ranking_metrics(target_ranks(scores, requests), requests, k))
