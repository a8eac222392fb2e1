"""What share of its gain greedy selection keeps at what share of its time, as a cascade tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.cascade_answers import Answers
from penchant.ensembles.combiners.cascade_fit import CascadeCombiner, CascadeCurve, kept
from penchant.ensembles.combiners.combiner import Combiner, quality
from penchant.ensembles.predictions import Blend, Predictions, Test
from penchant.platform.metrics import sign_of

__all__ = ["Savings", "cascade_curve", "try_curve"]


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What one cascade of the curve does on `test`, with the thresholds that blend has fitted."""

    cost_ms: float  # by the share of requests that come to each stage there
    value: float  # target metric; larger is better, also for losses
    kept: float  # share of the base's gain there


@dataclass(frozen=True, kw_only=True)
class Savings:
    """The curve where it was fitted, and on `test`."""

    curve: CascadeCurve
    test_gain: float  # of the base over `curve.single` on `test`; larger is better
    tried: list[Tried]  # for each point of the curve

    def to_json(self, metric: str) -> dict[str, Any]:
        """`cascade` of `report.json`. Figures have the metric's own sign."""
        sign, whole_ms = sign_of(metric), self.curve.base_ms

        def figures(cost_ms: float, value: float, share: float) -> dict[str, Any]:
            time_share = cost_ms / whole_ms if whole_ms > 0 else 1.0
            shown = {"work_ms": cost_ms, "time_share": time_share}
            return shown | {"quality": sign * value, "kept": share}

        return {
            "base_gain": sign * self.curve.base_gain,
            "base_gain_on_test": sign * self.test_gain,
            "base_ms": whole_ms,
            "points": [
                {
                    "members": len(point.cascade.cost_ms),
                    **figures(point.cost_ms, point.value, point.kept),
                    "test": figures(tried.cost_ms, tried.value, tried.kept),
                }
                for point, tried in zip(self.curve.points, self.tried, strict=True)
            ],
        }


def cascade_curve(
    combiners: Sequence[Combiner], blend: Predictions[Blend], metric: str
) -> CascadeCurve | None:
    """The curve of the cascade among these; None where there is none.

    Args:
        blend: the predictions that everything was fitted on.
    """
    for combiner in combiners:
        if isinstance(combiner, CascadeCombiner):
            return combiner.curve(blend, metric)
    return None


def try_curve(curve: CascadeCurve, test: Predictions[Test], metric: str) -> Savings:
    """Every cascade of the curve on `test`.

    Args:
        test: normalised as the cascades expect it.
    """
    cascades = [point.cascade for point in curve.points]
    mixes = {tuple(stage.weights.items()): stage.weights for c in cascades for stage in c.stages}
    made = [Linear(normalization=curve.base.normalization, weights=w) for w in mixes.values()]
    answers = Answers(made, test, metric)
    alone = quality(test.scores[curve.single], test.requests, metric)
    gain = quality(curve.base.merge(test.scores, None), test.requests, metric) - alone
    tried = []
    for cascade in cascades:
        value, reached = answers.of(cascade)
        share = kept(value - alone, gain)
        tried.append(Tried(cost_ms=cascade.expected_cost_ms(reached), value=value, kept=share))
    return Savings(curve=curve, test_gain=gain, tried=tried)
