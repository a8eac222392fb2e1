"""How an endpoint is to be loaded: by whom, how much, for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass

from penchant.platform.errors import ConfigError

__all__ = ["LoadPlan"]

_MAX_CONNECTIONS = 512  # of a process: many systems allow it no more than 1,024 open files


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """A load, closed or open.

    Closed: `concurrency` callers, each of whom sends the next request as soon as it has an answer.
    It finds how much an endpoint can do. Open: requests arrive `rate` times a second, whether or
    not earlier ones were answered, as users' requests do. It finds how long users wait: latency
    counts from the moment at which a request should have been sent, so that a server which falls
    behind cannot hide it by slowing its callers down.

    Raises:
        ConfigError: not exactly one of the two is given, or a number makes no sense.
    """

    path: str  # such as /v1/recommend
    rate: float | None = None  # requests per second
    concurrency: int | None = None
    duration_s: float = 30.0  # what is measured, after the warm-up
    warmup_s: float = 3.0
    timeout_s: float = 15.0  # a request without an answer by then has failed
    deadline_ms: int | None = None  # told to the endpoint as X-Deadline-Ms; None: its own
    key: str | None = None  # API key
    processes: int = 1  # that send; one is good for a few thousand requests per second
    seed: int = 0  # of the gaps between arrivals

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.concurrency is None):
            raise ConfigError(
                f"a load has rate {self.rate} and concurrency {self.concurrency}, expected exactly "
                "one: --rate sends so many requests a second, --concurrency keeps so many callers "
                "busy."
            )
        for name in ("rate", "concurrency", "duration_s", "timeout_s", "deadline_ms", "processes"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise ConfigError(f"{name} of a load is {value}, expected a positive number.")
        if not 0 <= self.warmup_s < math.inf:
            raise ConfigError(f"warmup_s of a load is {self.warmup_s}, expected 0 or more.")
        if self.concurrency is not None and self.concurrency < self.processes:
            raise ConfigError(
                f"{self.processes} processes cannot share {self.concurrency} callers: expected at "
                "least one caller for each. Lower --processes."
            )

    @property
    def total_s(self) -> float:
        """Warm-up and measured time."""
        return self.warmup_s + self.duration_s

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        found = {"content-type": "application/json"}
        if self.deadline_ms is not None:
            found["x-deadline-ms"] = str(self.deadline_ms)
        if self.key is not None:
            found["authorization"] = f"Bearer {self.key}"
        return found

    def callers(self, process: int) -> int:
        """Callers of one of the processes; they share them as evenly as they can."""
        if self.concurrency is None:
            return 0
        share, left = divmod(self.concurrency, self.processes)
        return share + (process < left)

    def connections(self, process: int) -> int:
        """Connections that one of the processes may have open."""
        return min(self.callers(process) or _MAX_CONNECTIONS, _MAX_CONNECTIONS)
