"""What became of each request: times and outcomes, from which every figure is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["BROKEN", "TIMEOUT", "UNCONNECTED", "Samples", "Taken", "outcome_name"]

#: Outcomes beside the HTTP status codes.
TIMEOUT, UNCONNECTED, BROKEN = 1, 2, 3
_NAMES = {TIMEOUT: "timeout", UNCONNECTED: "connection", BROKEN: "broken answer"}


def outcome_name(outcome: int) -> str:
    """An outcome in words: a status code, or what kept the answer away."""
    return _NAMES.get(outcome, str(outcome))


@dataclass(frozen=True, kw_only=True)
class Samples:
    """N requests. Times are seconds since the load began."""

    due_s: NDArray[np.float64]  # (N,), when it should have been sent
    sent_s: NDArray[np.float64]  # (N,), when it was
    done_s: NDArray[np.float64]  # (N,), when its answer was whole, or it had failed
    outcome: NDArray[np.int16]  # (N,), a status code or one of the outcomes above
    degraded: NDArray[np.bool_]  # (N,), the answer said that members were missing

    def take(self, chosen: NDArray[np.bool_]) -> Samples:
        """Those that are marked."""
        return Samples(
            due_s=self.due_s[chosen],
            sent_s=self.sent_s[chosen],
            done_s=self.done_s[chosen],
            outcome=self.outcome[chosen],
            degraded=self.degraded[chosen],
        )

    @classmethod
    def join(cls, parts: Sequence[Samples]) -> Samples:
        """All of several, at least one."""
        return cls(
            due_s=np.concatenate([part.due_s for part in parts]),
            sent_s=np.concatenate([part.sent_s for part in parts]),
            done_s=np.concatenate([part.done_s for part in parts]),
            outcome=np.concatenate([part.outcome for part in parts]),
            degraded=np.concatenate([part.degraded for part in parts]),
        )


@dataclass
class Taken:
    """Samples while they are taken."""

    rows: list[tuple[float, float, float, int, bool]] = field(default_factory=list)
    sent: int = 0
    failed: int = 0

    def add(self, due_s: float, sent_s: float, done_s: float, outcome: int, degraded: bool) -> None:
        """One more request has its outcome."""
        self.rows.append((due_s, sent_s, done_s, outcome, degraded))
        self.failed += outcome != 200

    def samples(self) -> Samples:
        """All of them."""
        columns = list(zip(*self.rows, strict=True)) or [(), (), (), (), ()]
        return Samples(
            due_s=np.array(columns[0], dtype=np.float64),
            sent_s=np.array(columns[1], dtype=np.float64),
            done_s=np.array(columns[2], dtype=np.float64),
            outcome=np.array(columns[3], dtype=np.int16),
            degraded=np.array(columns[4], dtype=np.bool_),
        )
