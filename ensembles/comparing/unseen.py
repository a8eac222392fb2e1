"""What a combiner gains on users that its weights were not fitted on, within `blend`.

The users are split in halves; weights fitted on one half are judged on the other, and each user is
judged once. The halves hold half of the data each, so that the gain is a careful estimate of what
weights fitted on everyone gain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combiners.combiner import Combiner
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
    """

    def __init__(
        self, blend: Predictions[Blend], metric: str, best: str, resamples: int, seed: int
    ) -> None:
        self._blend, self._metric = blend, metric
        half = half_of(blend.requests)
        self._rows = [np.flatnonzero(half == fold) for fold in (0, 1)]
        self._halves = [blend.take(rows) for rows in self._rows if len(rows)]
        self._judge = Judge(blend.requests, None, metric, resamples, seed)
        self._single = _sheet(blend.scores[best], blend.requests, metric)

    def gain(self, combiner: Combiner) -> Interval:
        """Target metric of the combiner minus that of the best single member.

        Zero, with a p-value of 1, where all users are in one half: nothing can be said.
        """
        blend = self._blend
        if len(self._halves) < 2:
            return Interval(0.0, 0.0, 0.0, 1.0)
        combined = np.empty_like(next(iter(blend.scores.values())))
        for fit_on, asked, rows in zip(
            self._halves, self._halves[::-1], self._rows[::-1], strict=True
        ):
            combination = combiner.fit(fit_on, self._metric)
            combined[rows] = combination.merge(asked.scores, asked.facts)
        sheet = _sheet(combined, blend.requests, self._metric)
        return self._judge.target_difference(sheet, self._single)


def _sheet(scores: NDArray[np.float32], requests: Requests, metric: str) -> Sheet:
    """The target metric of each request; a shortlist's columns say nothing of repeats."""
    if requests.label is not None:
        return Sheet(binary_per_request(scores[:, 0], requests.label), odds=scores[:, 0])
    k = int(metric.partition("@")[2])
    return Sheet(ranking_metrics(target_ranks(scores, requests), requests, k))
