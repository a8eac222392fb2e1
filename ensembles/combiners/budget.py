"""`Budget`: what a combination may take at most, and which members that leaves.

Three limits: the time of the slowest member, for an endpoint that asks all members at once; the
number of members; and `cost`, the measured milliseconds that all members take for one request.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from penchant.platform.errors import ConfigError

__all__ = ["Budget"]

_ROUNDING = 1e-9  # of a sum: members that fit in one order have to fit in another


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a combination; None: any.

    Attributes:
        max_latency_ms: of the slowest member; of a cascade, of its stages one after the other.
        max_members: different members.
        max_cost_ms: sum over members.
        score_ms: measured time of every member to score a request; empty where nobody knows it.
    """

    max_latency_ms: float | None = None
    max_members: int | None = None
    max_cost_ms: float | None = None
    score_ms: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        timed = self.max_latency_ms is not None or self.max_cost_ms is not None
        if timed and not self.score_ms:
            raise ConfigError(
                f"a limit of {self} needs the time that each member takes, got none. Leave the "
                "limit out."
            )

    def __str__(self) -> str:
        parts = [
            *([f"{self.max_latency_ms:g} ms"] if self.max_latency_ms is not None else []),
            *([f"{self.max_members} member(s)"] if self.max_members is not None else []),
            *([f"a cost of {self.max_cost_ms:g} ms"] if self.max_cost_ms is not None else []),
        ]
        return " and ".join(parts)

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return bool(str(self))

    def to_json(self) -> dict[str, float]:
        """The limits that there are, by the names of the arguments."""
        limits = {
            "max_latency_ms": self.max_latency_ms,
            "max_members": self.max_members,
            "max_cost_ms": self.max_cost_ms,
        }
        return {name: limit for name, limit in limits.items() if limit is not None}

    def fits(self, *, latency_ms: float, members: int, cost_ms: float) -> bool:
        """Whether something that takes so much is within all limits."""
        return (
            (self.max_members is None or members <= self.max_members)
            and (self.max_latency_ms is None or latency_ms <= self.max_latency_ms)
            and (self.max_cost_ms is None or cost_ms <= self.max_cost_ms * (1 + _ROUNDING))
        )

    def admits(self, used: Collection[str], name: str) -> bool:
        """Whether these members and one more are within it; one that is in already is."""
        names = {*used, name}
        times = [self.score_ms.get(one, 0.0) for one in names]
        return name in used or self.fits(
            latency_ms=max(times), members=len(names), cost_ms=sum(times)
        )

    def first(self, names: Sequence[str], most: int | None = None) -> list[str]:
        """Members in their order, without those that would pass a limit.

        Args:
            most: so many at most.

        Raises:
            ConfigError: none is within it.
        """
        kept: list[str] = []
        for name in names:
            if (most is None or len(kept) < most) and self.admits(kept, name):
                kept.append(name)
        return self._some(kept, names)

    def alone(self, names: Sequence[str]) -> list[str]:
        """Members that are within it by themselves.

        Raises:
            ConfigError: none is.
        """
        return self._some([name for name in names if self.admits((), name)], names)

    def _some(self, kept: list[str], names: Sequence[str]) -> list[str]:
        if kept:
            return kept
        fastest = min(names, key=lambda name: (self.score_ms[name], name))
        raise ConfigError(
            f"no member fits {self}: the fastest, {fastest}, takes "
            f"{self.score_ms[fastest]:.3g} ms. Raise the limit."
        )
