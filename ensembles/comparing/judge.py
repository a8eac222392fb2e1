"""How good scores are on a block, with intervals, and how sure a difference is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.platform.auc import auc_interval, auc_shares
from penchant.platform.binary import binary_per_request
from penchant.platform.found_yes import yes_metrics
from penchant.platform.intervals import Interval, Resampler
from penchant.platform.metrics import per_request, split_ranks
from penchant.platform.requests import Requests
from penchant.platform.significance import family_sign_flip_p, sign_flip_p
from penchant.platform.within import within_interval

__all__ = ["Judge", "Sheet"]

_AUC = "auc"
_WITHIN = "auc_within"  # among those who were asked about one item
_FLIPS = 10_000  # of the permutation test; its p-values are in steps of 0.0001


@dataclass(frozen=True)
class Sheet:
    """What scores were worth on each of R requests, so that they need not be ranked again."""

    values: Mapping[str, NDArray[np.float64]]  # metric -> (R,); AUC is no mean and not here
    odds: NDArray[np.float32] | None = None  # (R,), of a `binary` task
    ranks: NDArray[np.float64] | None = None  # (P,), of targets among all candidates; a ranking's

    def take(self, chosen: NDArray[np.int64]) -> Sheet:
        """The requests at these positions; ranks of their targets are left behind."""
        return Sheet(
            values={name: column[chosen] for name, column in self.values.items()},
            odds=None if self.odds is None else self.odds[chosen],
        )


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
        self.requests = requests
        self._seen, self._metric, self._seed = seen, metric, seed
        self._k = int(metric.partition("@")[2] or 10)
        self.resampler = Resampler(requests.user, resamples, seed)

    def sheet(self, scores: NDArray[np.float32]) -> Sheet:
        """Every metric of each request, from scores of shape (R, C)."""
        label = self.requests.label
        if label is not None:
            return Sheet(binary_per_request(scores[:, 0], label), odds=scores[:, 0])
        if self._seen is None:
            raise TypeError("a ranking is judged with the items that each user had before")
        overall, within = split_ranks(scores, self.requests, self._seen)
        return Sheet(per_request(overall, within, self.requests, self._k), ranks=overall)

    def table(self, sheet: Sheet) -> dict[str, Interval]:
        """Every metric with its interval by user."""
        names = list(sheet.values)
        columns = np.stack([sheet.values[name] for name in names], axis=1)
        found = dict(zip(names, self.resampler.means(columns), strict=True))
        return self._ratios(sheet, None) | found

    def differences(self, sheet: Sheet, other: Sheet) -> dict[str, Interval]:
        """Every metric of one sheet minus that of another, paired by request."""
        names = list(sheet.values)
        columns = np.stack([sheet.values[name] - other.values[name] for name in names], axis=1)
        found = dict(zip(names, self.resampler.differences(columns), strict=True))
        return self._ratios(sheet, other) | found

    def _ratios(self, sheet: Sheet, other: Sheet | None) -> dict[str, Interval]:
        """What is no mean over requests, or its differences; nothing of a ranking.

        AUC over all requests and within items; precision, recall and F1.
        """
        asked = self.requests
        if sheet.odds is None or asked.label is None or asked.candidate is None:
            return {}
        theirs = None if other is None else other.odds
        return {
            _AUC: auc_interval(sheet.odds, asked.label, self.resampler, theirs),
            _WITHIN: within_interval(
                sheet.odds, asked.label, asked.candidate, self.resampler, theirs
            ),
            **yes_metrics(sheet.odds, asked.label, self.resampler, theirs),
        }

    def target(self, sheet: Sheet, chosen: NDArray[np.int64] | None = None) -> Interval:
        """The target metric with its interval, on all requests or on some."""
        return self._target(sheet, None, chosen)

    def target_difference(
        self, sheet: Sheet, other: Sheet, chosen: NDArray[np.int64] | None = None
    ) -> Interval:
        """The paired difference of the target metric, on all requests or on some."""
        return self._target(sheet, other, chosen)

    def permutation_p(self, sheets: Sequence[Sheet], other: Sheet) -> list[float]:
        """P-value of each sheet's target metric against another's: flips of users' differences."""
        return sign_flip_p(self._paired(sheets, other), self.resampler.user, _FLIPS, self._seed)

    def family_p(self, sheets: Sequence[Sheet], other: Sheet) -> list[float]:
        """The same, corrected for the number of sheets by the largest difference of each flip."""
        found = self._paired(sheets, other)
        return family_sign_flip_p(found, self.resampler.user, _FLIPS, self._seed)

    def _paired(self, sheets: Sequence[Sheet], other: Sheet) -> NDArray[np.float64]:
        """What each request adds to the difference of each sheet, shape (R, F)."""
        if self._metric == _AUC:
            columns = [self._auc_shares(sheet, other) for sheet in sheets]
        else:
            name = self._metric
            columns = [sheet.values[name] - other.values[name] for sheet in sheets]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self.requests), 0))

    def _auc_shares(self, sheet: Sheet, other: Sheet) -> NDArray[np.float64]:
        odds, theirs, label = _binary(sheet, other, self.requests)
        return auc_shares(odds, theirs, label)

    def _target(
        self, sheet: Sheet, other: Sheet | None, chosen: NDArray[np.int64] | None
    ) -> Interval:
        asked, resampler = self.requests, self.resampler
        if chosen is not None:
            resampler, sheet = resampler.take(chosen), sheet.take(chosen)
            other = None if other is None else other.take(chosen)
        if self._metric == _AUC:
            odds, theirs, label = _binary(sheet, other, asked)
            label = label if chosen is None else label[chosen]
            return auc_interval(odds, label, resampler, None if other is None else theirs)
        values = sheet.values[self._metric]
        if other is None:
            return resampler.mean(values)
        return resampler.difference(values, other.values[self._metric])


def _binary(
    sheet: Sheet, other: Sheet | None, requests: Requests
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Log-odds, those to compare with, and labels."""
    theirs = sheet.odds if other is None else other.odds
    if sheet.odds is None or theirs is None or requests.label is None:
        raise TypeError("AUC is a metric of `binary` requests, got a ranking")
    return sheet.odds, theirs, requests.label
