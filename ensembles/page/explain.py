"""Why each member is in or out of each ensemble, in plain language, from report.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.ensembles.page import figures
from penchant.ensembles.page.combiner_words import HOW
from penchant.ensembles.page.left_out import budget_of, why_left_out
from penchant.platform.intervals import Interval
from penchant.platform.metrics import sign_of
from penchant.trainers.refit import REFIT

__all__ = ["NEAR_DUPLICATE", "explain"]

#: Members that agree this much have little to tell one another.
NEAR_DUPLICATE = 0.9


def explain(report: Mapping[str, Any]) -> str:
    """A text of a paragraph an ensemble and a line a member.

    Args:
        report: the contract of `docs/report.schema.json`; its `ablation` and `diversity` are used
            where they are there.
    """
    members = [member for member in report["members"] if not member["id"].endswith(REFIT)]
    refits = len(report["members"]) - len(members)
    words = figures.metric_words(report["metric"])
    lower = figures.direction(report["metric"])
    parts = [f"{report['name']}: why members are in or out, by {words}{lower}"]
    if report.get("verdict"):
        parts.append(report["verdict"])
    if (budget := budget_of(report)).limited:
        parts.append(f"Everything was fitted within {budget}.")
    if not report["ensembles"]:
        parts.append("No ensemble was compared, so no member is in one.")
    parts += [_ensemble(report, ensemble, members) for ensemble in report["ensembles"]]
    if refits:
        parts.append(
            f"{refits} refitted member(s) ({REFIT}) are for serving: they have learned from blend, "
            "so that no weight can be fitted on them."
        )
    return "\n\n".join(parts) + "\n"


def _ensemble(
    report: Mapping[str, Any], ensemble: Mapping[str, Any], members: list[Mapping[str, Any]]
) -> str:
    weights: Mapping[str, float] = ensemble.get("weights", {})
    chosen = " (recommended)" if report.get("recommended") == ensemble["name"] else ""
    head = f"{ensemble['name']}{chosen}: {len(weights)} of {len(members)} members."
    difference = figures.interval(ensemble.get("difference_to_best_single"), report["metric"])
    if difference is not None:
        best = report.get("best_single")
        known = {
            True: "a proven gain",
            False: "a proven loss",
            None: "which proves no difference",
        }[figures.is_gain(difference, report["metric"])]
        head += f" To the best single member, {best}, it is {_change(difference)} on test, {known}."
    lines = [head, *filter(None, [HOW.get(ensemble["combiner"])])]
    standing = _standing(report["metric"], members)
    inside = sorted(weights, key=lambda name: (-weights[name], name))
    lines += [_inside(report, ensemble, name, standing.get(name, "")) for name in inside]
    outside = [name for name in standing if name not in weights]
    lines += [_outside(report, ensemble, name, standing[name]) for name in outside]
    return "\n".join(lines)


def _inside(
    report: Mapping[str, Any], ensemble: Mapping[str, Any], name: str, standing: str
) -> str:
    text = f"  in   {name}: counts for {figures.percent(ensemble['weights'][name])}. {standing}"
    dropped = _dropped(report, ensemble["name"]).get(name)
    effect = figures.interval(dropped, "change")
    if effect is not None:
        meaning = {
            True: "the ensemble is better without it",
            False: "it is needed",
            None: "which proves no use of it",
        }[figures.is_gain(effect, report["metric"])]
        text += f" Without it the ensemble changes by {_change(effect)} on test: {meaning}."
    if twin := _twin(report, name, ensemble["weights"]):
        text += f" {twin}, which is in too: they share one place."
    return text.rstrip()


def _outside(
    report: Mapping[str, Any], ensemble: Mapping[str, Any], name: str, standing: str
) -> str:
    twin = _twin(report, name, ensemble.get("weights", {}))
    why = why_left_out(report, ensemble, name, twin)
    return f"  out  {name}: {standing} {why[0].upper()}{why[1:]}.".replace(":  ", ": ")


def _standing(metric: str, members: list[Mapping[str, Any]]) -> dict[str, str]:
    """A sentence on each member's own quality, the best on `select` first."""
    sign = -sign_of(metric)
    select = {m["id"]: figures.interval(m.get("select"), metric) for m in members}
    known = {name: value.mean for name, value in select.items() if value is not None}
    ranked = sorted(known, key=lambda name: sign * known[name])
    places = {name: 1 + place for place, name in enumerate(ranked)}
    sentences = {}
    for member in sorted(members, key=lambda m: places.get(m["id"], len(members))):
        name, parts = member["id"], []
        if name in places:
            place = f"number {places[name]} of {len(known)} on select"
            parts.append(f"{place} ({figures.quality(known[name])})")
        for block in ("blend", "test"):
            if (value := figures.interval(member.get(block), metric)) is not None:
                parts.append(f"{figures.quality(value.mean)} on {block}")
        sentences[name] = f"Alone it is {', '.join(parts)}." if parts else ""
    return sentences


def _dropped(report: Mapping[str, Any], ensemble: str) -> dict[str, Mapping[str, Any]]:
    """What is known of an ensemble without each of its members."""
    return {
        dropped["id"]: dropped
        for ablation in report.get("ablation", [])
        if ablation["ensemble"] == ensemble
        for dropped in ablation["members"]
    }


def _twin(report: Mapping[str, Any], name: str, weights: Mapping[str, float]) -> str:
    """Which member of an ensemble this one nearly repeats; empty where it repeats none."""
    known: Mapping[str, Any] = report.get("diversity", {})
    names = known.get("members", [])
    table = known.get("overlap") or known.get("correlation")
    if name not in names or not table:
        return ""
    alike = dict(zip(names, table[names.index(name)], strict=True))
    others = {other: alike.get(other) or 0.0 for other in weights if other != name}
    nearest = max(others, key=lambda other: others[other], default=None)
    if nearest is None or others[nearest] < NEAR_DUPLICATE:
        return ""
    if known.get("overlap"):
        share = figures.percent(others[nearest])
        return f"Its top {known['k']} is nearly that of {nearest} ({share} in common)"
    return f"It ranks nearly as {nearest} does (correlation {others[nearest]:.2f})"


def _change(value: Interval) -> str:
    edges = f"{figures.signed(value.low)} to {figures.signed(value.high)}"
    return f"{figures.signed(value.mean)} ({edges})"
