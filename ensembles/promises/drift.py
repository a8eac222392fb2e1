"""Whether lists kept their promise while time went on, in words: where not, in which weeks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from penchant.ensembles.promises.conformal import Coverage, Week

__all__ = ["drift"]

_POINTS = 0.02  # coverage this near to what was promised is as promised


def drift(found: Iterable[Coverage]) -> str:
    """Words on each promise; empty where nothing was promised."""
    return " ".join(_told(one) for one in found)


def _told(found: Coverage) -> str:
    """What was kept over all of test, and the weeks that were further off."""
    off = found.coverage.mean - found.promised
    whole = "within 2 points" if _near(off) else f"{abs(off) * 100:.1f} points {_side(off)}"
    parts = [
        f"in {_named(weeks)} more than 2 points {side}"
        for side in ("over", "under")
        if (weeks := [week for week in found.weeks if _far(week, found.promised) == side])
    ]
    told = ", ".join(parts) or "in no week more than 2 points off"
    kept = f"{found.promised * 100:g}% was promised and {found.coverage.mean:.1%} kept"
    return f"{kept} on test: {whole}, {told}."


def _far(week: Week, promised: float) -> str | None:
    """`over` or `under`; None for a week as promised."""
    off = week.coverage.mean - promised
    return None if _near(off) else _side(off)


def _near(off: float) -> bool:
    return round(abs(off), 9) <= _POINTS  # .82 - .8 is a little more than .02


def _side(off: float) -> str:
    return "over" if off > 0 else "under"


def _named(weeks: Sequence[Week]) -> str:
    days = [date.fromisoformat(week.monday) for week in weeks]
    names = [f"{day.day} {day:%b}" for day in days]
    *first, last = names
    return f"the weeks of {', '.join(first)} and {last}" if first else f"the week of {last}"
