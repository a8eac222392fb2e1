"""Conformal sets: "these items hold the next purchase, with 90%", and whether that was true.

Split conformal prediction (Vovk, Gammerman and Shafer 2005; Angelopoulos and Bates 2021): how odd
did the true answers look on `blend`? A set takes every item that looks less odd than all but 10%
of them. The promise holds on average where new requests are exchangeable with those of `blend`.
Two things are against that: time passes between `blend` and `test`, and requests of one user are
alike. So coverage is measured on `test`, week by week, and shown beside the promise.

Oddness is the rank, so that everybody gets as many items. A basket has many answers. `some`
promises at least one of them, `each` a given one, whichever it is: the share of a basket's items
that are in the set, which is conformal risk control of that share (Angelopoulos et al., ICLR 2024),
and with one answer a request plain split conformal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from penchant.ensembles.combiners.combiner import refuse_other_blocks
from penchant.ensembles.predictions import Blend, Predictions
from penchant.ensembles.promises.reliability import wilson
from penchant.platform.errors import DataError
from penchant.platform.intervals import Interval
from penchant.platform.requests import Requests
from penchant.platform.timeline import DAY_MS

__all__ = ["Coverage", "Promise", "TopSet", "Week", "fit_top_set", "measure_coverage"]

Promise = Literal["some", "each"]
_CHUNK = 256  # requests whose targets are compared with the catalogue at once
_MONDAY = 3  # 1970 began on a Thursday


class TopSet(BaseModel):
    """The best `size` items; None where so few requests cannot promise less than everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    promise: Promise
    level: float = Field(gt=0, lt=1)  # how often the promise is to be kept
    size: int | None = Field(ge=1)

    def inside(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which candidates are in each request's set, shape (R, C).

        Items that tie across the edge are all left out: any `size` items that are shown hold the
        set.
        """
        asked, width = np.isfinite(scores), scores.shape[1]
        if self.size is None or self.size >= width:
            return asked
        first_out = np.partition(scores, width - self.size - 1, axis=1)[:, width - self.size - 1]
        return np.asarray(asked & (scores > first_out[:, None]))


@dataclass(frozen=True, slots=True)
class Week:
    """One calendar week; its interval takes requests as independent."""

    monday: str  # ISO date, UTC
    requests: int
    coverage: Interval
    mean_size: float
    needed_size: int | None  # that would have kept the promise that week; None: no list would


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How often the promise was kept."""

    promised: float
    requests: int
    coverage: Interval
    mean_size: float
    weeks: list[Week]


def fit_top_set(
    scores: NDArray[np.float32], blend: Predictions[Blend], level: float, promise: Promise
) -> TopSet:
    """The least number of items that keeps the promise on `blend`.

    Args:
        scores: the ensemble's scores, shape (R, C).
        blend: which requests were asked, and that they are those of `blend`.

    Raises:
        TypeError: the predictions are of another block.
        DataError: the requests have no targets.
    """
    refuse_other_blocks(blend)
    enough = (len(blend.requests) + 1) * level  # with the surplus of a finite sample
    bound = _bound(_places(scores, blend.requests), blend.requests, enough, promise)
    size = None if math.isinf(bound) else int(bound)
    return TopSet(promise=promise, level=level, size=size)


def measure_coverage(fitted: TopSet, scores: NDArray[np.float32], requests: Requests) -> Coverage:
    """How often the promise was kept, in all and in each calendar week (UTC, from Monday).

    Args:
        scores: the ensemble's scores, shape (R, C).
    """
    inside = fitted.inside(scores)
    size = inside.sum(axis=1)
    places = _places(scores, requests)
    asker = _asker(requests)
    found = np.bincount(asker, weights=inside[asker, requests.target], minlength=len(requests))
    kept = (found > 0).astype(np.float64)
    if fitted.promise == "each":
        kept = found / np.maximum(np.diff(requests.target_offsets), 1)
    day = requests.time_ms // DAY_MS
    monday = day - (day + _MONDAY) % 7
    weeks = []
    for start in np.unique(monday):
        those = monday == start
        asked = requests.take(np.flatnonzero(those))
        enough = len(asked) * fitted.level
        needed = _bound(places[those[asker]], asked, enough, fitted.promise)
        weeks.append(
            Week(
                datetime.fromtimestamp(int(start) * DAY_MS / 1000, UTC).date().isoformat(),
                int(those.sum()),
                wilson(float(kept[those].sum()), int(those.sum())),
                float(size[those].mean()),
                None if math.isinf(needed) else int(needed),
            )
        )
    return Coverage(
        promised=fitted.level,
        requests=len(requests),
        coverage=wilson(float(kept.sum()), len(requests)),
        mean_size=float(size.mean()),
        weeks=weeks,
    )


def _bound(
    oddness: NDArray[np.float64], requests: Requests, enough: float, promise: Promise
) -> float:
    """The smallest oddness that so many requests reach, counted in shares of their targets.

    With one target a request it is the `ceil(enough)`-th smallest.

    Args:
        oddness: of each target, shape (P,); infinite where a target cannot be reached.
        enough: requests that have to be covered.
    """
    asker, number = _asker(requests), np.diff(requests.target_offsets)
    if not len(number) or number.min() < 1:
        raise DataError(
            "conformal sets hold targets, got requests without any: expected `next_item` requests "
            "with at least one target each."
        )
    weight = 1 / number[asker]
    if promise == "some":
        oddness = np.minimum.reduceat(oddness, requests.target_offsets[:-1])
        weight = np.ones(len(requests))
    order = np.argsort(oddness, kind="stable")
    # sums of thirds fall short of whole numbers by rounding
    covered = np.cumsum(weight[order]) >= enough - 1e-9
    return float(oddness[order][np.argmax(covered)]) if covered.any() else math.inf


def _places(scores: NDArray[np.float32], requests: Requests) -> NDArray[np.float64]:
    """Rank of each target, shape (P,), behind all that tie with it; infinite if not asked for."""
    asker = _asker(requests)
    places = np.empty(len(asker), dtype=np.float64)
    for begin in range(0, len(asker), _CHUNK):
        inside = slice(begin, begin + _CHUNK)
        rows = scores[asker[inside]]
        own = scores[asker[inside], requests.target[inside]]
        places[inside] = np.count_nonzero(rows >= own[:, None], axis=1)
        places[inside][~np.isfinite(own)] = np.inf
    return places


def _asker(requests: Requests) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
