"""The recommendation in plain language, with what it rests on."""

from __future__ import annotations

from penchant.ensembles.comparing.comparison import Candidate, Comparison
from penchant.platform.intervals import Interval
from penchant.platform.metrics import sign_of

__all__ = ["verdict"]

_UNSEEN = "on users of the blend block that fitted no weights"


def verdict(found: Comparison) -> str:
    """What to ship, over what it gains how much, and what all origins together say of that."""
    limited = found.budget.limited
    ship = f"Within {found.budget}, ship" if limited else "Ship"
    best = found.recommended
    if best is None:
        within = " within it" if limited else ""
        return (
            f"{ship} {found.alone} alone: {_UNSEEN}, no ensemble{within} was surely better."
            f"{_against(found)}"
        )
    over = f" over {found.alone}, the best single member within it" if limited else ""
    return (
        f"{ship} the ensemble {best.combiner} of {len(best.combination.shares)} members: {_UNSEEN} "
        f"it gained {_amount(best.gain_within)}{over}.{_for(found, best)}"
    )


def _for(found: Comparison, best: Candidate) -> str:
    if not found.earlier:
        return ""
    number = 1 + len(found.earlier)
    return f" Over such users of {number} origins it gained {_amount(found.over_origins(best))}."


def _against(found: Comparison) -> str:
    """The ensemble that came nearest, where several origins had a say."""
    if not found.earlier or not found.candidates:
        return ""
    sign = sign_of(found.metric)
    surest = [one for one in found.candidates if found.sure(one)] or found.candidates
    one = max(surest, key=lambda one: sign * found.over_origins(one).mean)
    told = f"{one.combiner}, gained {_amount(one.gain_within)} at the latest origin"
    doubt = "" if found.sure(one) else ", which is not sure"
    over = _amount(found.over_origins(one))
    also = "" if found.sure_over_origins(one) else ", which is not sure"
    return f" The nearest, {told}{doubt}, and {over} over {1 + len(found.earlier)} origins{also}."


def _amount(gain: Interval) -> str:
    return f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
