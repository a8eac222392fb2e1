"""What the front tells those who watch, and how it chooses which version answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from penchant.serve.answering.desk import Desk
    from penchant.serve.answering.panel import Verdict
    from penchant.serve.gate.gate import Refusal
    from penchant.serve.wire.schema import Answer

__all__ = ["Desks", "Observer", "Role", "Seen"]

#: The part that a version plays: it answers most requests, or a share of them, or sees copies.
Role = Literal["primary", "canary", "shadow"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An answer, as those who watch see it. It holds no history."""

    path: str  # such as /v1/score
    role: Role
    answer: Answer
    verdict: Verdict
    columns: NDArray[np.int32] | None  # of the verdict's one row, for each result; None: row i
    user: str | None  # id of the user, where the request named one: watchers keep only its hash
    caller: str | None  # name of the API key
    latency_ms: float
    whole: bool = False  # the best of all that the ensemble ranks, as on the test block
    traceparent: str | None = None  # of the request, as it came (W3C Trace Context)


class Observer(Protocol):
    """Whoever counts, keeps or traces answers. No call may block or raise."""

    def answered(self, seen: Seen) -> None:
        """A request, or the copy of one, has its answer."""
        ...

    def refused(self, refusal: Refusal) -> None:
        """A request was answered with an error."""
        ...

    def passed(self, path: str, status: int, latency_ms: float) -> None:
        """A request that asks no member was answered."""
        ...


class Desks(Protocol):
    """The versions that are live."""

    def choose(self, sticky: str | None) -> tuple[Role, Desk]:
        """Who answers: the same for the same sticky text while traffic is split the same way.

        None asks for the primary version.

        Raises:
            LookupError: no version is ready.
        """
        ...

    def mirror(self, ask: Callable[[Desk], Awaitable[None]]) -> None:
        """Put a copy of a request to the shadow version, if there is one, and do not wait."""
        ...
