"""What a combination costs, and which are worth their price.

Quality is that of `blend`, for combinations on users that their weights were not fitted on. Two
prices: `latency_ms`, the slowest member, for an endpoint that asks all members at once, as ours
does (of a cascade, which is asked stage by stage, the sum of each stage's slowest); and `work_ms`,
the sum over members, which is what is paid for a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penchant.ensembles.combiners.budget import Budget
from penchant.platform.errors import ConfigError
from penchant.platform.intervals import Interval

__all__ = ["Cost", "Option", "best_alone", "choose", "pareto"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured cost of a member: time to score one request alone, and its size."""

    score_ms: float
    params: int


@dataclass(frozen=True, kw_only=True)
class Option:
    """A member or a combination that could be shipped."""

    name: str
    members: int
    quality: float  # target metric on `blend`
    select: float | None = None  # target metric there; None: a combination
    gain: Interval | None = None  # over the best member that fits, on unseen users; None: a member
    latency_ms: float
    work_ms: float
    params: int

    @classmethod
    def of(
        cls,
        name: str,
        used: Sequence[str],
        costs: Mapping[str, Cost],
        quality: float,
        *,
        select: float | None = None,
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
        together = [used] if stages is None else stages
        return cls(
            name=name,
            members=len(parts),
            quality=quality,
            select=select,
            gain=gain,
            latency_ms=sum(max(costs[name].score_ms for name in stage) for stage in together),
            work_ms=sum(part.score_ms for part in parts) if work_ms is None else work_ms,
            params=sum(part.params for part in parts),
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


def best_alone(
    options: Sequence[Option], *, low_is_good: bool, budget: Budget | None = None
) -> Option:
    """Of the single members within a budget, the one that `select` names the best.

    Raises:
        ConfigError: none is within it.
    """
    sign = -1 if low_is_good else 1
    singles = {option: option.select for option in options if option.select is not None}
    fitting = [option for option in singles if _fits(option, budget)]
    if not fitting:
        fastest = min(options, key=lambda option: option.latency_ms)
        raise ConfigError(
            f"no member fits {budget}: the fastest, {fastest.name}, takes "
            f"{fastest.latency_ms:.3g} ms. Raise the limit."
        )
    return max(fitting, key=lambda option: sign * (singles[option] or 0.0))


def choose(options: Sequence[Option], *, low_is_good: bool, budget: Budget | None = None) -> Option:
    """The best option within a budget: a combination only where its gain is sure.

    Of the single members that fit, `select` names the best. A combination that fits is taken where
    the interval of its paired gain over that member lies on the good side of zero, and of several
    the one that is best. Without limits this is what `Comparison.recommended` says.

    Args:
        options: gains are over the best single member that fits the budget.

    Raises:
        ConfigError: nothing fits.
    """
    alone = best_alone(options, low_is_good=low_is_good, budget=budget)
    sign = -1 if low_is_good else 1
    sure = [
        option
        for option in options
        if option.gain is not None
        and min(sign * option.gain.low, sign * option.gain.high) > 0
        and _fits(option, budget)
    ]
    return max(sure, key=lambda option: sign * option.quality, default=alone)


def _fits(option: Option, budget: Budget | None) -> bool:
    return budget is None or budget.fits(
        latency_ms=option.latency_ms, members=option.members, cost_ms=option.work_ms
    )


def _loss(option: Option, low_is_good: bool) -> float:
    return option.quality if low_is_good else -option.quality
