"""Cold start: what every member and every combination is worth on what training did not know.

Items and users without an event in training are cold, the others warm. A ranking is judged by the
target metric and by Recall@50, which asks whether a cold item is found at all: among 10 places it
hardly ever is. Of items only the targets of that kind count, ranked among all candidates; a target
that has no score is a miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.comparing.judge import Judge, Sheet
from penchant.ensembles.comparing.segments import FEW_USERS, Segment
from penchant.platform.intervals import Interval
from penchant.platform.metrics import ranking_metrics

__all__ = ["ColdStart", "judge_cold_start"]

_RECALL = 50  # candidates among which a target counts as found
Metrics = Mapping[str, Interval]


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """One kind of items or users; without requests every figure is NaN."""

    by: str  # items or users
    name: str  # cold or warm
    users: int
    requests: int
    targets: int  # of `binary` requests as many as requests
    members: Mapping[str, Metrics]
    combinations: Mapping[str, Metrics]

    @property
    def few(self) -> bool:
        """Whether there are too few users to say anything."""
        return self.users < FEW_USERS

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "by": self.by,
            "name": self.name,
            "users": self.users,
            "requests": self.requests,
            "targets": self.targets,
            "few_users": self.few,
            "members": _each(self.members),
            "ensembles": _each(self.combinations),
        }


def judge_cold_start(
    judge: Judge,
    parts: Sequence[Segment],
    metric: str,
    members: Mapping[str, Sheet],
    combinations: Mapping[str, Sheet],
) -> list[ColdStart]:
    """The figures of each part, empty parts too; nothing is ranked again.

    Args:
        judge: of all the block's requests; its resamples are used for every part.
        parts: from `cold_parts`.
        members: what each member's scores were worth.
        combinations: the same of each combination.
    """
    sheets = [*members.values(), *combinations.values()]
    found = []
    for part in parts:
        figures = _figures(judge, part, metric, sheets)
        found.append(
            ColdStart(
                by=part.by,
                name=part.name,
                users=len(np.unique(judge.requests.user[part.requests])),
                requests=len(part.requests),
                targets=_targets(judge, part),
                members=dict(zip(members, figures, strict=False)),
                combinations=dict(zip(combinations, figures[len(members) :], strict=True)),
            )
        )
    return found


def _figures(judge: Judge, part: Segment, metric: str, sheets: Sequence[Sheet]) -> list[Metrics]:
    """The part's metrics of each sheet; the means of all of them are drawn at once."""
    if metric not in sheets[0].values:  # an AUC is no mean
        return [{metric: judge.target(sheet, part.requests)} for sheet in sheets]
    tables = [_values(judge, sheet, part, metric) for sheet in sheets]
    names = list(tables[0])
    columns = np.stack([table[name] for table in tables for name in names], axis=1)
    means = judge.resampler.take(part.requests).means(columns[part.requests])
    return [
        dict(zip(names, means[at : at + len(names)], strict=True))
        for at in range(0, len(means), len(names))
    ]


def _values(
    judge: Judge, sheet: Sheet, part: Segment, metric: str
) -> dict[str, NDArray[np.float64]]:
    """The metrics of each request, shape (R,), by the targets that count in this part."""
    if sheet.ranks is None:  # yes and no: items are told apart by the candidate
        return {metric: sheet.values[metric]}
    found: dict[str, NDArray[np.float64]] = {}
    for name in (metric, f"recall@{_RECALL}"):
        if part.targets is None and name in sheet.values:
            found[name] = sheet.values[name]
        else:
            k = int(name.partition("@")[2])
            found[name] = ranking_metrics(sheet.ranks, judge.requests, k, part.targets)[name]
    return found


def _each(found: Mapping[str, Metrics]) -> dict[str, dict[str, Any]]:
    return {
        name: {metric: value.to_json() for metric, value in metrics.items()}
        for name, metrics in found.items()
    }


def _targets(judge: Judge, part: Segment) -> int:
    if judge.requests.label is not None:
        return len(part.requests)
    if part.targets is not None:
        return int(part.targets.sum())
    return int(np.diff(judge.requests.target_offsets)[part.requests].sum())
