"""What some members bring: combinations that may use them against those that may not.

Dropping one member tells little where others can stand in for it: do language models, or five
variants of one network, bring anything together? So every combiner is fitted on `blend` twice, and
both results are judged on the same requests of `test`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.comparing.compare import make_judge
from penchant.ensembles.comparing.fitting import fittable, merged
from penchant.ensembles.comparing.judge import Sheet
from penchant.ensembles.comparing.reading import read_checked
from penchant.ensembles.comparing.segments import SegmentResult, judge_segments, segments_of
from penchant.ensembles.predictions import Blend, Predictions, Test
from penchant.platform.errors import ConfigError
from penchant.platform.intervals import Interval
from penchant.platform.prepared import Prepared
from penchant.platform.timeline import Block

__all__ = ["Brought", "members_named", "some_named", "what_they_bring"]


@dataclass(frozen=True, kw_only=True)
class Brought:
    """One combiner with and without some members, on `test`."""

    combiner: str
    share: float  # of the weight that they have
    without: dict[str, Interval]
    difference: dict[str, Interval]  # with minus without
    segments: list[SegmentResult]  # `single` is without; differences are with minus without

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "combiner": self.combiner,
            "share": self.share,
            "without": {name: value.to_json() for name, value in self.without.items()},
            "difference": {name: value.to_json() for name, value in self.difference.items()},
            "segments": [
                {
                    "by": part.by,
                    "name": part.name,
                    "users": part.users,
                    "requests": part.requests,
                    "without": part.single.to_json(),
                    "difference": part.differences[self.combiner].to_json(),
                }
                for part in self.segments
            ],
        }


def members_named(patterns: Sequence[str], member_ids: Sequence[str]) -> list[str]:
    """Members whose kind or id a pattern names, such as `text`, or `sequence-*-text-*`.

    Raises:
        ConfigError: a pattern names none.
    """
    found = set()
    for pattern in patterns:
        own = [name for name in member_ids if pattern == name.split("-")[0]]
        own += [name for name in member_ids if fnmatchcase(name, pattern)]
        if not own:
            raise ConfigError(
                f"{pattern} is none of the run's members: expected a kind, an id, or a pattern of "
                f"ids such as `text-*`, of {', '.join(sorted(member_ids))}."
            )
        found.update(own)
    return sorted(found)


def some_named(patterns: Sequence[str], member_ids: Sequence[str]) -> list[str]:
    """The same, where others have to be left.

    Raises:
        ConfigError: a pattern names none, or nothing would be left.
    """
    found = members_named(patterns, member_ids)
    if len(found) == len(member_ids):
        raise ConfigError(f"{', '.join(patterns)} are all members: expected to leave some.")
    return found


def what_they_bring(
    prepared: Prepared, member_ids: list[str], some: Sequence[str], tell: Callable[[str], None]
) -> list[Brought]:
    """Every combiner of the experiment with all members, and without some of them.

    Raises:
        DataError: a member's predictions are missing, torn or cannot be compared, or it has learned
            from a block that it is used on.
    """
    requests, settings = prepared.experiment.requests, prepared.experiment.ensemble
    everything: Predictions[Blend]
    everything, notes = read_checked(prepared, Block.BLEND, member_ids)
    cost_ms = {name: prepared.run.member_facts(name)["score_ms"] for name in member_ids}
    blend, combiners = fittable(everything, settings, requests.metric, cost_ms, tell)
    del everything
    scores = {name: part for name, part in blend.scores.items() if name not in some}
    rest = replace(blend, scores=scores)
    test: Predictions[Test]
    test, more = read_checked(prepared, Block.TEST, member_ids)
    for note in dict.fromkeys([*notes, *more]):
        tell(note)
    normal = test.normalized(blend.normalization)
    judge = make_judge(prepared, test.requests)

    def judged(combination: Combination) -> Sheet:
        return judge.sheet(merged(combination, test, normal))

    segments = segments_of(prepared.log, judge.requests, prepared.blocks.select_ms)
    found = []
    for combiner in combiners:
        tell(f"{combiner.name}, with and without")
        whole = combiner.fit(blend, requests.metric)
        with_them = judged(whole)
        without = judged(combiner.fit(rest, requests.metric))
        found.append(
            Brought(
                combiner=combiner.name,
                share=sum(whole.shares.get(name, 0.0) for name in some),
                without=judge.table(without),
                difference=judge.differences(with_them, without),
                segments=judge_segments(
                    judge, segments, requests.metric, without, {combiner.name: with_them}
                ),
            )
        )
    return found
