"""Where a two-layer stack should split blend, by users or by time, and what its first layer is.

    python benchmarks/two_layers.py RUN            # a minute or two
    python benchmarks/two_layers.py RUN --quick    # fewer resamples, without boosted trees

`layers` fits its first layer (greedy selection, mean, weights) on half of blend's users and its
second, greedy selection among those, on the other half. Beside it: the second layer on a later
slice of time, and a first layer with the gate and the boosted stack. Every one is fitted on half
of blend's users and judged on the other half, and fitted on all of blend and judged on test;
differences are to `layers`, paired by request, with 95% intervals by user. Needs a run of
`next_item`. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared.facts import facts

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.average import MeanCombiner
from penchant.ensembles.combiners.combiner import Combiner
from penchant.ensembles.combiners.gate import GateCombiner
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.combiners.layers import LayersCombiner
from penchant.ensembles.combiners.stack import StackCombiner
from penchant.ensembles.combiners.weights import WeightsCombiner
from penchant.ensembles.comparing.fitting import fittable
from penchant.ensembles.comparing.reading import read_checked
from penchant.ensembles.comparing.unseen import half_of
from penchant.ensembles.normalize import normalize
from penchant.ensembles.predictions import Predictions
from penchant.ensembles.standing import finished_members
from penchant.platform.intervals import Interval, Resampler
from penchant.platform.metrics import ranking_metrics, target_ranks
from penchant.platform.prepared import open_prepared
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block

LINEAR: tuple[Combiner, ...] = (GreedyCombiner(), MeanCombiner(), WeightsCombiner())


@dataclass(frozen=True)
class Layered:
    """Combinations of members, and how they are mixed on one scale."""

    first: Mapping[str, Combination]
    second: Linear

    def merge(
        self, parts: Mapping[str, NDArray[np.float32]], about: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        made = outputs({name: self.first[name] for name in self.second.weights}, parts, about)
        return self.second.merge(made, None)


@dataclass(frozen=True)
class Layers:
    """Two layers; `until` is the share of blend's time for the first, None: half of the users."""

    first: Sequence[Combiner]
    until: float | None

    def fit(self, blend: Predictions[Any], metric: str) -> Layered:
        if self.until is None:
            later = blend.requests.user // 2 % 2 == 1
        else:
            later = blend.requests.time_ms > np.quantile(blend.requests.time_ms, self.until)
        below, rest = (blend.take(np.flatnonzero(part)) for part in (~later, later))
        first = {one.name: one.fit(below, metric) for one in self.first}
        made = replace(rest, scores=outputs(first, rest.scores, rest.facts), facts=None)
        return Layered(first, GreedyCombiner().fit(made, metric))


def outputs(
    first: Mapping[str, Combination],
    parts: Mapping[str, NDArray[np.float32]],
    about: NDArray[np.float32] | None,
) -> dict[str, NDArray[np.float32]]:
    return {name: normalize(one.merge(parts, about), "zscore") for name, one in first.items()}


def values(scores: NDArray[np.float32], of: Predictions[Any], metric: str) -> NDArray[np.float64]:
    ranks = target_ranks(scores, of.requests)
    return ranking_metrics(ranks, of.requests, int(metric.partition("@")[2]))[metric]


def on_unseen_users(how: Any, blend: Predictions[Any], metric: str) -> NDArray[np.float64]:
    found = np.empty(len(blend.requests))
    half = half_of(blend.requests)
    for fold in (0, 1):
        fit_on, rows = np.flatnonzero(half == fold), np.flatnonzero(half != fold)
        asked = blend.take(rows)
        made = how.fit(blend.take(fit_on), metric)
        found[rows] = values(made.merge(asked.scores, asked.facts), asked, metric)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Two-layer stacks: splits and first layers.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer resamples, no boosted trees")
    options = parser.parse_args()
    prepared = open_prepared(RunDirectory(options.run))
    metric, members = prepared.experiment.requests.metric, finished_members(options.run)
    read, _ = read_checked(prepared, Block.BLEND, members)
    blend, _ = fittable(read, prepared.experiment.ensemble, metric, None, lambda _: None)
    test, _ = read_checked(prepared, Block.TEST, members)
    test = test.normalized(blend.normalization)
    tried: dict[str, Any] = {
        "layers": LayersCombiner(),
        "later half": Layers(LINEAR, 0.5),
        "later third": Layers(LINEAR, 2 / 3),
        "users, and gate": Layers((*LINEAR, GateCombiner()), None),
        "later half, and gate": Layers((*LINEAR, GateCombiner()), 0.5),
        "greedy": GreedyCombiner(),
        "weights": WeightsCombiner(),
    }
    if not options.quick:
        whole = (*LINEAR, GateCombiner(), StackCombiner())
        tried["users, gate and stack"] = Layers(whole, None)
        tried["later half, gate and stack"] = Layers(whole, 0.5)
    draws = 1000 if options.quick else 10_000
    users = {part: Resampler(part_of.requests.user, draws, 0) for part, part_of in
             (("unseen users", blend), ("test", test))}  # fmt: skip
    base: dict[str, NDArray[np.float64]] = {}
    rows = []
    print(f"{len(members)} members, {len(blend.requests)} requests in blend, {metric}")
    for name, how in tried.items():
        made = how.fit(blend, metric)
        own = {
            "unseen users": on_unseen_users(how, blend, metric),
            "test": values(made.merge(test.scores, test.facts), test, metric),
        }
        base = base or own
        found = {part: users[part].difference(own[part], base[part]) for part in own}
        told = "  ".join(f"{part} {own[part].mean():.4f} {_edges(found[part])}" for part in own)
        print(f"{name:<28}{told}", flush=True)
        rows.append({"name": name} | {part: one.to_json() for part, one in found.items()})
    print(json.dumps({"benchmark": "two_layers", "differences": rows, **facts("numpy")}))


def _edges(value: Interval) -> str:
    return f"{value.mean:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


if __name__ == "__main__":
    main()
