"""What follows from the windows: fine, worth a look, or time to fit again, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penchant.ensembles.page.figures import interval
from penchant.platform.intervals import Interval
from penchant.platform.metrics import sign_of
from penchant.serve.watch.drift import LEVELS, Level, Psi, unbroken_since
from penchant.serve.watch.monitor import ENOUGH, Watched, Window
from penchant.serve.watch.reference import Reference

__all__ = ["Finding", "findings", "worst"]

#: Share of degraded answers that is worth a look.
_DEGRADED = 0.05
#: Users whose outcomes an interval needs: that of one, drawn again and again, has no width.
_ENOUGH_USERS = 10
#: Figures that tell quality, the first that a window has.
_JUDGED_BY = ("auc", "ndcg@10")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something to tell."""

    level: Level
    text: str


def findings(watched: Watched) -> list[Finding]:
    """What there is to tell of the version that answered last as the primary, worst first."""
    last = max(
        (window for window in watched.windows if window.role == "primary"),
        key=lambda window: window.last_ms,  # in a week of a deploy there are two
        default=None,
    )
    if last is None:
        return [Finding(level="fine", text="fine: no version has answered as the primary yet")]
    own = [
        window
        for window in watched.windows
        if (window.version, window.role) == (last.version, last.role) and window.answers >= ENOUGH
    ]
    if not own:
        text = f"fine: no week of version {last.version} has the {ENOUGH} answers to judge by"
        return [Finding(level="fine", text=text)]
    latest, reference = own[-1], watched.references.get(last.version)
    found = [*_scores_moved(own), *_members_apart(own), *_degraded(latest)]
    quality = _quality(own, reference)
    found += [*(quality or []), *_calibration(own)]
    found.sort(key=lambda finding: -LEVELS.index(finding.level))
    return found or [Finding(level="fine", text=_fine(latest, judged=quality is not None))]


def worst(found: Sequence[Finding]) -> Level:
    """The worst level."""
    return max((finding.level for finding in found), key=LEVELS.index)


def _scores_moved(own: list[Window]) -> list[Finding]:
    at, moved = _drifted(own, lambda window: window.psi)
    if moved is None:
        return []
    word = "refit" if moved.level == "act" else "look"
    text = (
        f"{word}: scores have moved, PSI {moved.value:.2f}, {_since(own, at)} "
        f"(chance alone stays below {moved.noise:.2f})"
    )
    return [Finding(level=moved.level, text=text)]


def _members_apart(own: list[Window]) -> list[Finding]:
    at, moved = _drifted(own, lambda window: window.disagreement_psi)
    if moved is None:
        return []
    first = next(window.disagreement for window in own if window.disagreement is not None)
    text = (
        f"look: members agree otherwise than in the first week, {_since(own, at)}: disagreement "
        f"{own[-1].disagreement:.2f}, was {first:.2f} (PSI {moved.value:.2f})"
    )
    return [Finding(level="look", text=text)]


def _degraded(latest: Window) -> list[Finding]:
    if latest.degraded <= _DEGRADED:
        return []
    text = f"look: {latest.degraded:.0%} of the answers of the last week lacked a member"
    return [Finding(level="look", text=text)]


def _quality(own: list[Window], reference: Reference | None) -> list[Finding] | None:
    """The latest interval lies wholly on the bad side of the test's, or of the first week's.

    None where there is nothing to compare.
    """
    for metric in _JUDGED_BY:
        known = [(window, value) for window in own if (value := _figure(window, metric))]
        if not known:
            continue
        latest, now = known[-1]
        where, before = f"in the week of {known[0][0].week}", known[0][1]
        # Only a yes or no is asked in service as it was in test: a list shapes what is chosen.
        on_test = None if reference is None else interval(reference.metrics, metric)
        if metric == "auc" and on_test is not None:
            where, before = "on test", on_test
        elif len(known) == 1:
            return None
        worse = now.high < before.low if sign_of(metric) > 0 else now.low > before.high
        if not worse:
            return []
        text = (
            f"refit: {metric} {_shown(now)} in the week of {latest.week}, {_shown(before)} {where}"
        )
        return [Finding(level="act", text=text)]
    return None


def _calibration(own: list[Window]) -> list[Finding]:
    known = [value for window in own if (value := _figure(window, "calibration_slope"))]
    if not known or known[-1].low <= 1 <= known[-1].high:
        return []
    how = "too sure" if known[-1].high < 1 else "too timid"
    text = f"look: probabilities are {how}, calibration slope {_shown(known[-1])}, expected 1"
    return [Finding(level="look", text=text)]


def _fine(latest: Window, *, judged: bool) -> str:
    known = {
        "scores": latest.psi is not None,
        "members": latest.disagreement_psi is not None,
        "quality": judged,
    }
    same = [name for name, compared in known.items() if compared]
    others = [name for name, compared in known.items() if not compared]
    told = f"{_listed(same)} as before" if same else "there is nothing to compare with yet"
    return f"fine: {told}" + (f"; not known: {_listed(others)}" if same and others else "")


def _drifted(own: list[Window], of: Callable[[Window], Psi | None]) -> tuple[int, Psi | None]:
    """Where the drift of the latest window began, and how large it is; None where there is none."""
    latest = of(own[-1])
    if latest is None or latest.level == "fine":
        return 0, None
    levels: list[Level] = [found.level if (found := of(w)) else "fine" for w in own]
    return unbroken_since(levels), latest


def _since(own: list[Window], at: int) -> str:
    return f"since the week of {own[at].week}"


def _figure(window: Window, metric: str) -> Interval | None:
    """None where it is of too few requests or users for anything to follow."""
    judged = window.judged
    if judged is None or judged.requests < ENOUGH or judged.users < _ENOUGH_USERS:
        return None
    return judged.quality.get(metric)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _shown(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
