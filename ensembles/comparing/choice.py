"""What a combination costs, and which are worth their price.

Quality is that of `blend`, for combinations on users that their weights were not fitted on. Two
prices: `latency_ms`, the slowest member, for an endpoint that asks all members at once, as ours
does (of a cascade, which is asked stage by stage, the sum of each stage's slowest); and `work_ms`,
the sum over members, which is what is paid for a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penchant.platform.intervals import Interval

__all__ = ["Cost", "Option", "pareto"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured cost of a member: time to score one request alone, and its size."""

    score_ms: float
    params: int | None = None  # None: nobody knows


@dataclass(frozen=True, kw_only=True)
class Option:
    """A member or a combination that could be shipped."""

    name: str
    members: int
    quality: float  # target metric on `blend`
    gain: Interval | None = None  # over the best member that fits, on unseen users; None: a member
    latency_ms: float
    work_ms: float
    params: int | None

    @classmethod
    def of(
        cls,
        name: str,
        used: Sequence[str],
        costs: Mapping[str, Cost],
        quality: float,
        *,
        gain: Interval | None = None,
        stages: Sequence[Sequence[str]] | None = None,
        work_ms: float | None = None,
    ) -> Option:
        """An option of these members.

        Args:
            stages: members that are asked together, stage after stage; None: all at once.
            work_ms: what a request costs where not every member is asked; None: their sum.
        """
        parts = [costs[member] for member in used]
        sizes = [part.params for part in parts if part.params is not None]
        together = [used] if stages is None else stages
        return cls(
            name=name,
            members=len(parts),
            quality=quality,
            gain=gain,
            latency_ms=sum(max(costs[name].score_ms for name in stage) for stage in together),
            work_ms=sum(part.score_ms for part in parts) if work_ms is None else work_ms,
            params=sum(sizes) if len(sizes) == len(parts) else None,
        )


def pareto(options: Sequence[Option], *, low_is_good: bool) -> list[Option]:
    """Options that no other beats in quality at no more work, cheapest first.

    Of options that are equal in both, the first stands for all.
    """
    front: list[Option] = []
    ordered = sorted(options, key=lambda o: (o.work_ms, _loss(o, low_is_good), o.members))
    for option in ordered:
        if not front or _loss(option, low_is_good) < _loss(front[-1], low_is_good):
            front.append(option)
    return front


def _loss(option: Option, low_is_good: bool) -> float:
    return option.quality if low_is_good else -option.quality
