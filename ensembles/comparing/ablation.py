"""What a combination loses without each of its members.

Two questions, told apart by `how`. `refit`: had the member never been made, how good would the
combination be that is fitted without it? `left out`: the weights stay as they are and the member
does not answer. Combinations that are a weighted mean are refitted, as that takes seconds; of the
others, and of very many predictions, the member is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.combiner import Combiner
from penchant.ensembles.comparing.fitting import merged
from penchant.ensembles.comparing.judge import Judge, Sheet
from penchant.ensembles.predictions import Blend, Predictions, Test
from penchant.platform.intervals import Interval

__all__ = ["Ablation", "Dropped", "ablate"]

_CELLS = 100_000_000  # scores up to which a combiner is fitted again for every member
_MOST = 20  # members, largest shares first: the tail of a long list changes nothing

How = Literal["refit", "left out"]


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A member, and what is lost without it."""

    member: str
    share: float
    change: Interval  # target metric without the member minus with it, on `test`


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A combination without each of its members in turn, largest share first."""

    combination: str
    how: How
    members: list[Dropped]


def ablate(
    combiner: Combiner,
    combination: Combination,
    blend: Predictions[Blend],
    test: Predictions[Test],
    metric: str,
    judge: Judge,
    whole: Sheet,
) -> Ablation | None:
    """Drop one member after the other; None where the combination is of one member.

    Args:
        combiner: what made the combination.
        blend: what it was fitted on.
        test: scores of all members, not normalised.
        judge: of the test block.
        whole: what the combination was worth on the test block.
    """
    shares = sorted(combination.shares.items(), key=lambda pair: -pair[1])[:_MOST]
    if len(combination.shares) < 2:
        return None
    cells = sum(part.size for part in blend.scores.values())
    how: How = "refit" if isinstance(combination, Linear) and cells <= _CELLS else "left out"
    asked = test.scores if how == "refit" else {n: test.scores[n] for n in combination.shares}
    normal = replace(test, scores=asked).normalized(combination.normalization)  # once for all
    dropped = []
    for member, share in shares:
        if how == "refit":
            rest = replace(blend, scores=_without(blend.scores, member))
            scores = merged(combiner.fit(rest, metric), test, normal)
        else:
            scores = combination.merge(_without(normal.scores, member), test.facts)
        change = judge.target_difference(judge.sheet(scores), whole)
        dropped.append(Dropped(member=member, share=share, change=change))
    return Ablation(combination=combiner.name, how=how, members=dropped)


def _without(
    scores: Mapping[str, NDArray[np.float32]], member: str
) -> dict[str, NDArray[np.float32]]:
    return {name: part for name, part in scores.items() if name != member}
