"""How good scores are on a block, with intervals, and how sure a difference is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from penchant.platform.binary import binary_interval
from penchant.platform.intervals import Interval, Resampler
from penchant.platform.metrics import per_request
from penchant.platform.requests import Requests

__all__ = ["Judge"]

_BINARY = ("auc", "log_loss", "brier", "accuracy")


class Judge:
    """Judges scores on R requests, with the same resamples of users for all of them.

    Args:
        requests: what was asked.
        seen: items each user had before, shape (R, V); only `next_item` needs it.
        metric: the target metric; its `k` is used for all.
        resamples: bootstrap draws.
        seed: of the draws.
    """

    def __init__(
        self,
        requests: Requests,
        seen: NDArray[np.bool_] | None,
        metric: str,
        resamples: int,
        seed: int,
    ) -> None:
        self._requests, self._seen = requests, seen
        self._k = int(metric.partition("@")[2] or 10)
        self._resampler = Resampler(requests.user, resamples, seed)

    def table(self, scores: NDArray[np.float32]) -> dict[str, Interval]:
        """Every metric with its interval by user."""
        label = self._requests.label
        if label is None:
            return {name: self._resampler.mean(v) for name, v in self._values(scores).items()}
        return {
            name: binary_interval(name, scores[:, 0], label, self._resampler) for name in _BINARY
        }

    def differences(
        self, scores: NDArray[np.float32], others: NDArray[np.float32]
    ) -> dict[str, Interval]:
        """Every metric of `scores` minus that of `others`, paired by request."""
        label = self._requests.label
        if label is None:
            mine, theirs = self._values(scores), self._values(others)
            return {name: self._resampler.difference(mine[name], theirs[name]) for name in mine}
        return {
            name: binary_interval(name, scores[:, 0], label, self._resampler, others[:, 0])
            for name in _BINARY
        }

    def _values(self, scores: NDArray[np.float32]) -> Mapping[str, NDArray[np.float64]]:
        """Ranking metrics of each request, each of shape (R,)."""
        if self._seen is None:
            raise TypeError("a ranking is judged with the items that each user had before")
        return per_request(scores, self._requests, self._seen, self._k)
