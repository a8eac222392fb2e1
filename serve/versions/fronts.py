"""What the fronts of a service say that they follow: a version ends when none sends to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penchant.serve.versions.follower import Following
    from penchant.serve.versions.service import Live, Traffic

__all__ = ["FRONT", "ask_fronts", "await_fronts", "why_not_yet"]

#: Name of the Serve application that answers HTTP, and of its deployment.
FRONT = "front"

_ANSWER_S = 5.0
_ASK_EVERY_S = 0.2


def ask_fronts() -> Sequence[Following]:
    """What each replica of the front that takes requests goes by."""
    from ray import serve

    fronts = serve.get_deployment_handle(FRONT, FRONT)
    told: Sequence[Following] = fronts.broadcast("following").results(timeout_s=_ANSWER_S)
    return told


def await_fronts(
    traffic: Traffic,
    opened: Live,
    *,
    within_s: float,
    runs: Callable[[], bool],
    ask: Callable[[], Sequence[Following]] = ask_fronts,
) -> str | None:
    """Wait until every front sends its requests by this traffic, and none elsewhere.

    Args:
        traffic: what the file says.
        opened: a version that each front must have opened, a shadow too.
        within_s: how long at most.
        runs: whether the service does; no longer is it waited for.
        ask: what each front goes by.

    Returns:
        None when they all do; else why not.
    """
    until = time.monotonic() + within_s
    while True:
        try:
            why = why_not_yet(ask(), traffic, opened)
        except Exception as error:  # one has died, or stands still: Serve replaces it
            why = f"a front does not answer ({type(error).__name__}: {error})"
        if why is None or time.monotonic() >= until or not runs():
            return why
        time.sleep(_ASK_EVERY_S)


def why_not_yet(told: Sequence[Following], traffic: Traffic, opened: Live) -> str | None:
    """What keeps fronts from this traffic; None where nothing does."""
    if not told:
        return "no front answers"
    for front in told:
        if front.traffic == traffic and opened.app not in front.trouble:
            continue
        reasons = "; ".join(f"{name}: {why}" for name, why in front.trouble.items())
        return reasons or "a front has not looked yet, or is opening it"
    return None
