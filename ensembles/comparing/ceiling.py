"""The recall ceiling of a block: how much of what was chosen members could find at all.

No combination finds a target that is no candidate or has no score. One that only puts members'
lists together finds none that is on no list.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from penchant.ensembles.predictions import B, Predictions
from penchant.platform.metrics import quick_ranks

__all__ = ["Ceiling", "recall_ceiling"]


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What a block's candidates and members' lists hold; shares are of its targets."""

    block: str
    requests: int  # that were asked
    answerable: float  # share of the requests with a target among their candidates
    targets: int
    scored: float  # share that has a score: of every member, since all score the same candidates
    k: int
    listed: float  # share among the first k of some member

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def recall_ceiling(predictions: Predictions[B], metric: str, asked: int) -> list[Ceiling]:
    """The block's ceiling; none of a `binary` task, which asks for one candidate.

    Args:
        predictions: members' scores of the requests that have a target.
        metric: whose k is the length of the lists.
        asked: requests of the block, those without a target too.
    """
    requests = predictions.requests
    if requests.label is not None:
        return []
    k = int(metric.partition("@")[2])
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    scored = np.zeros(len(request), dtype=bool)
    listed = np.zeros_like(scored)
    for scores in predictions.scores.values():
        scored |= np.isfinite(scores[request, requests.target])
        listed |= quick_ranks(scores, requests, k) <= k
    return [
        Ceiling(
            block=str(predictions.block),
            requests=asked,
            answerable=len(requests) / asked,
            targets=len(request),
            scored=float(scored.mean()),
            k=k,
            listed=float(listed.mean()),
        )
    ]
