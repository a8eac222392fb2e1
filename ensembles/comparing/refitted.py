"""What a refit changes: the same weights over members fitted up to the start of `test`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from penchant.ensembles.combinations.combination import Combination, combine
from penchant.ensembles.comparing.compare import make_judge
from penchant.ensembles.predictions import Predictions, Test, read_predictions
from penchant.platform.prepared import Prepared
from penchant.platform.timeline import Block
from penchant.trainers.refit import REFIT

__all__ = ["judge_refits"]


def judge_refits(
    prepared: Prepared, combinations: Mapping[str, Combination], refit_ids: Sequence[str]
) -> Mapping[str, dict[str, Any]]:
    """For each combination whose members were all refitted, by its name: `test` and `change`.

    `change` is the metric with refitted members minus that with the members as they were first
    fitted, paired by request. Weights are those of `blend` in both.
    """
    members = [name.removesuffix(REFIT) for name in refit_ids]
    made = {
        name: combination
        for name, combination in combinations.items()
        if set(combination.shares) <= set(members)
    }
    if not made:
        return {}
    judge = make_judge(prepared, prepared.requests[Block.TEST])
    first: Predictions[Test] = read_predictions(prepared, Block.TEST, members)
    newer: Predictions[Test] = read_predictions(prepared, Block.TEST, list(refit_ids))
    newer = replace(
        newer, scores={name.removesuffix(REFIT): part for name, part in newer.scores.items()}
    )
    found = {}
    for name, combination in made.items():
        before, after = (
            judge.sheet(combine(combination, test.scores, test.facts)) for test in (first, newer)
        )
        found[name] = {
            "test": {metric: value.to_json() for metric, value in judge.table(after).items()},
            "change": {
                metric: value.to_json()
                for metric, value in judge.differences(after, before).items()
            },
        }
    return found
