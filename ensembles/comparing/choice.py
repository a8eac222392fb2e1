"""What a combination costs, and which are worth their price.

Quality is that of `blend`, for combinations on users that their weights were not fitted on. Two
prices: `latency_ms`, the slowest member, for an endpoint that asks all members at once, as ours
does; and `work_ms`, the sum over members, which is what is paid for a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penchant.platform.errors import ConfigError
from penchant.platform.intervals import Interval

__all__ = ["Cost", "Option", "choose", "pareto"]


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
    gain: Interval | None = None  # over the best single member, on unseen users; None: a member
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
        work_ms: float | None = None,
    ) -> Option:
        """An option of these members.

        Args:
            work_ms: what a request costs where not every member is asked; None: their sum.
        """
        parts = [costs[member] for member in used]
        return cls(
            name=name,
            members=len(parts),
            quality=quality,
            select=select,
            gain=gain,
            latency_ms=max(part.score_ms for part in parts),
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


def choose(
    options: Sequence[Option],
    *,
    low_is_good: bool,
    max_latency_ms: float | None = None,
    max_members: int | None = None,
) -> Option:
    """The best option within a budget: a combination only where its gain is sure.

    Of the single members that fit, `select` names the best. A combination that fits is taken where
    what it is sure to reach on `blend`, the near edge of its interval, is above that member.
    Without limits this is what `Comparison.recommended` says.

    Args:
        max_latency_ms: of the slowest member; None: any.
        max_members: None: any number.

    Raises:
        ConfigError: nothing fits.
    """
    fitting = [
        option
        for option in options
        if (max_latency_ms is None or option.latency_ms <= max_latency_ms)
        and (max_members is None or option.members <= max_members)
    ]
    if not fitting:
        fastest = min(options, key=lambda option: option.latency_ms)
        raise ConfigError(
            f"no member or combination fits --max-latency-ms {max_latency_ms} and --max-members "
            f"{max_members}: the fastest, {fastest.name}, takes {fastest.latency_ms:.3g} ms with "
            f"{fastest.members} member(s). Raise the budget."
        )
    sign = -1 if low_is_good else 1
    singles = {option: option.select for option in fitting if option.select is not None}
    alone = max(singles, key=lambda option: sign * singles[option], default=None)
    base = float("-inf") if alone is None else sign * alone.quality
    sure = [o for o in fitting if o.gain is not None and _worst(o, o.gain, sign) > base]
    best = max(sure, key=lambda option: sign * option.quality, default=alone)
    return best or max(fitting, key=lambda option: sign * option.quality)


def _worst(option: Option, gain: Interval, sign: int) -> float:
    """The quality, larger is better, that a combination is sure to reach."""
    edge = min(sign * gain.low, sign * gain.high)
    return sign * (option.quality - gain.mean) + edge


def _loss(option: Option, low_is_good: bool) -> float:
    return option.quality if low_is_good else -option.quality
