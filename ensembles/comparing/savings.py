"""What share of its gain greedy selection keeps at what share of its time, as a cascade tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penchant.ensembles.combiners.cascade_fit import CascadeCombiner, CascadePoint
from penchant.ensembles.combiners.combiner import Combiner
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.metrics import sign_of

__all__ = ["cascade_curve", "savings"]


def cascade_curve(
    combiners: Sequence[Combiner], blend: Predictions[Blend], metric: str
) -> list[CascadePoint]:
    """The curve of the cascade among these; empty where there is none.

    Args:
        blend: the predictions that everything was fitted on.
    """
    for combiner in combiners:
        if isinstance(combiner, CascadeCombiner):
            return combiner.curve(blend, metric)
    return []


def savings(points: Sequence[CascadePoint], metric: str) -> dict[str, Any]:
    """`cascade` of `report.json`; empty without a curve. Figures have the metric's own sign."""
    if not points:
        return {}
    sign = sign_of(metric)
    return {
        "base_gain": sign * points[0].base_gain,
        "base_ms": points[0].base_ms,
        "points": [
            {
                "members": len(point.cascade.cost_ms),
                "work_ms": point.cost_ms,
                "time_share": point.cost_ms / point.base_ms if point.base_ms > 0 else 1.0,
                "quality": sign * point.value,
                "kept": point.kept,
            }
            for point in points
        ],
    }
