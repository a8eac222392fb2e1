"""What can be promised of combinations: calibrator and sets from `blend`, tried on `test`.

For `next_item` a set is a promise in words that a shop can use: "one of these k items is in the
next basket, nine times of ten" (split conformal prediction, see `conformal.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.combination import Combination, combine
from penchant.ensembles.comparing.fitting import merged
from penchant.ensembles.predictions import Blend, Predictions, Test, read_predictions
from penchant.ensembles.promises.calibrate import Calibrator, calibration_loss
from penchant.ensembles.promises.choose_calibrator import best_calibrator
from penchant.ensembles.promises.conformal import Coverage, TopSet, fit_top_set, measure_coverage
from penchant.ensembles.promises.drift import drift
from penchant.ensembles.promises.reliability import Reliability, reliability
from penchant.platform.prepared import Prepared
from penchant.platform.timeline import Block

__all__ = ["Assurance", "Kept", "Promised", "assure", "promise"]

LEVELS = (0.8, 0.9)


@dataclass(frozen=True, kw_only=True)
class Promised:
    """What `blend` lets one promise."""

    calibrator: Calibrator
    lists: Sequence[TopSet]  # the shortest that keeps each level; `next_item` only

    def to_json(self) -> dict[str, Any]:
        """For the card of an artefact."""
        return {
            "calibrator": self.calibrator.model_dump(mode="json"),
            "sets": [{"size": kept.size, "promised": kept.level} for kept in self.lists],
        }


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The shortest list that keeps a level on `blend`, and how often it did on `test`."""

    size: int | None  # None: so few requests of `blend` can promise this level of no list
    coverage: Coverage | None  # None where there is no list


@dataclass(frozen=True, kw_only=True)
class Assurance:
    """A calibrator, how true its probabilities were on `test`, and the sets with their coverage."""

    calibrator: Calibrator
    log_loss: float  # of the calibrated probabilities on `test`
    reliability: Reliability | None  # `binary` only
    sets: Mapping[float, Kept]  # by level; `next_item` only

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "calibrator": self.calibrator.model_dump(mode="json"),
            "log_loss": self.log_loss,
            "reliability": None if self.reliability is None else asdict(self.reliability),
            "sets": [_set(level, kept) for level, kept in self.sets.items()],
            "drift": drift(kept.coverage for kept in self.sets.values() if kept.coverage),
        }


def promise(prepared: Prepared, combinations: Mapping[str, Combination]) -> dict[str, Promised]:
    """What `blend` lets one promise of each; all candidates count, so no shortlist is used.

    The weights were fitted on `blend` too, by a handful of numbers: the calibrator is flattered
    by that as little as they are. What holds is what `test` says.
    """
    members = {name for combination in combinations.values() for name in combination.shares}
    blend: Predictions[Blend] = read_predictions(prepared, Block.BLEND, sorted(members))
    binary = blend.requests.label is not None
    hows = {one.normalization for one in combinations.values() if len(one.shares) > 1}
    normal = {how: blend.normalized(how) for how in hows}
    found = {}
    for name, combination in combinations.items():
        scores = merged(combination, blend, normal.get(combination.normalization, blend))
        found[name] = Promised(
            calibrator=best_calibrator(scores, blend),
            lists=[] if binary else [fit_top_set(scores, blend, at, "some") for at in LEVELS],
        )
    return found


def assure(prepared: Prepared, combination: Combination, promised: Promised) -> Assurance:
    """Try on `test` what `blend` promised of a combination."""
    members = list(combination.shares)
    test: Predictions[Test] = read_predictions(prepared, Block.TEST, members)
    scores = combine(combination, test.scores, test.facts)
    return Assurance(
        calibrator=promised.calibrator,
        log_loss=calibration_loss(promised.calibrator, scores, test.requests),
        reliability=_reliability(promised.calibrator, scores, test),
        sets={found.level: _kept(found, scores, test) for found in promised.lists},
    )


def _kept(found: TopSet, scores: NDArray[np.float32], test: Predictions[Test]) -> Kept:
    if found.size is None:
        return Kept(size=None, coverage=None)
    return Kept(size=found.size, coverage=measure_coverage(found, scores, test.requests))


def _reliability(
    calibrator: Calibrator, scores: NDArray[np.float32], test: Predictions[Test]
) -> Reliability | None:
    if test.requests.label is None:
        return None
    return reliability(calibrator.probabilities(scores)[:, 0], test.requests.label)


def _set(level: float, kept: Kept) -> dict[str, Any]:
    """A level that cannot be promised has a size and a coverage of null, and no weeks."""
    if kept.coverage is None:
        nothing = {"mean": None, "low": None, "high": None}
        return {"size": None, "promised": level, "coverage": nothing, "weeks": []}
    return {"size": kept.size, **asdict(kept.coverage)}
