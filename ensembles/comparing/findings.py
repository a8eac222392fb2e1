"""What a comparison found beyond the figures of members and combinations, as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.comparing.ablation import Ablation
from penchant.ensembles.comparing.choice import Option, pareto
from penchant.ensembles.comparing.comparison import Candidate, Comparison
from penchant.ensembles.comparing.diversity import Diversity
from penchant.ensembles.comparing.segments import SegmentResult
from penchant.platform.intervals import Interval
from penchant.platform.metrics import LOWER_IS_BETTER

__all__ = ["ensemble_json", "findings"]


def findings(comparison: Comparison) -> dict[str, Any]:
    """The optional parts of `report.json` that a comparison fills; only those there are."""
    front = pareto(comparison.options, low_is_good=comparison.metric in LOWER_IS_BETTER)
    found: dict[str, Any] = {
        "notes": list(comparison.notes),
        "budget": comparison.budget.to_json(),
        "options": [_option(option, option in front) for option in comparison.options],
        "segments": [_segment(result) for result in comparison.segments],
        "ceilings": [one.to_json() for one in comparison.ceilings],
        "cold_start": [part.to_json() for part in comparison.cold_start],
        "ablation": [_ablation(one) for one in comparison.ablation],
    }
    if comparison.cascade is not None:
        found["cascade"] = comparison.cascade.to_json(comparison.metric)
    if comparison.diversity is not None:
        found["diversity"] = _diversity(comparison.diversity)
    return {name: part for name, part in found.items() if part}


def ensemble_json(metric: str, candidate: Candidate) -> dict[str, Any]:
    """One of `ensembles` of `report.json`."""
    made: dict[str, Any] = {
        "name": candidate.combiner,
        "combiner": candidate.combiner,
        "weights": dict(candidate.combination.shares),
        "blend": {
            metric: {"mean": candidate.blend},
            "gain_on_unseen_users": candidate.blend_gain.to_json(),
        },
        "test": _each(candidate.test),
        "difference_to_best_single": _each(candidate.difference),
    }
    if metric in candidate.test:
        made["gap_blend_to_test"] = candidate.test[metric].mean - candidate.blend
    chances = {
        "gain_p": candidate.gain_p,
        "permutation_p": candidate.permutation_p,
        "holm_p": candidate.holm_p,
    }
    return made | {name: p for name, p in chances.items() if p is not None}


def _option(option: Option, on_front: bool) -> dict[str, Any]:
    made = {
        "name": option.name,
        "members": option.members,
        "quality": option.quality,
        "latency_ms": option.latency_ms,
        "work_ms": option.work_ms,
        "params": option.params,
        "pareto": on_front,
    }
    return made if option.gain is None else made | {"gain": option.gain.to_json()}


def _segment(result: SegmentResult) -> dict[str, Any]:
    return {
        "by": result.by,
        "name": result.name,
        "users": result.users,
        "requests": result.requests,
        "few_users": result.few,
        "best_single": result.single.to_json(),
        "ensembles": _each(result.combinations),
        "differences": _each(result.differences),
    }


def _ablation(one: Ablation) -> dict[str, Any]:
    return {
        "ensemble": one.combination,
        "how": one.how,
        "members": [
            {"id": part.member, "weight": part.share, "change": part.change.to_json()}
            for part in one.members
        ],
    }


def _diversity(found: Diversity) -> dict[str, Any]:
    made: dict[str, Any] = {"members": found.members, "correlation": _matrix(found.correlation)}
    if found.overlap is not None:
        made |= {"k": found.k, "overlap": _matrix(found.overlap)}
    return made


def _each(values: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    return {name: value.to_json() for name, value in values.items()}


def _matrix(values: NDArray[np.float64]) -> list[list[float | None]]:
    return [[round(v, 4) if math.isfinite(v) else None for v in row] for row in values.tolist()]
