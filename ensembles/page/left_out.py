"""Why a member is not in an ensemble, as far as the report tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.page import figures
from penchant.ensembles.page.combiner_words import EVEN, LEFT_OUT, OFFERED, WITHIN
from penchant.platform.metrics import sign_of

__all__ = ["budget_of", "why_left_out"]

_DIGITS = 12  # of quality: those that agree so far are equal, and names decide


def budget_of(report: Mapping[str, Any]) -> Budget:
    """The limits of a report, with the times of its members."""
    times = {member["id"]: member.get("score_ms") or 0.0 for member in report["members"]}
    return Budget(**report.get("budget", {}), score_ms=times)


def why_left_out(
    report: Mapping[str, Any], ensemble: Mapping[str, Any], name: str, twin: str
) -> str:
    """The end of a sentence.

    Args:
        twin: says which member of the ensemble this one nearly repeats; empty where it repeats
            none.
    """
    combiner, weights = ensemble["combiner"], ensemble.get("weights", {})
    budget = budget_of(report)
    alone = budget
    if combiner == "cascade":  # what is rarely asked may cost more than a request may on average
        alone = replace(budget, max_cost_ms=None)
    if not alone.admits((), name):
        return f"by itself it takes {budget.score_ms[name]:.3g} ms, more than the budget ({alone})"
    if combiner in EVEN:
        return _not_among_the_best(report, name, weights, budget)
    if twin:
        return f"{twin}, which is in"
    why = LEFT_OUT.get(combiner, "on blend it got no weight")
    if budget.limited:
        why = WITHIN.get(combiner, why)
        if combiner in OFFERED:
            why = f"greedy selection within the budget has not offered it, or {why}"
    return _behind(report, name) + why


def _not_among_the_best(
    report: Mapping[str, Any], name: str, weights: Mapping[str, float], budget: Budget
) -> str:
    """Why the best few on `blend` are without a member; its place there, if that is known."""
    metric, taken = report["metric"], len(weights)
    found = {m["id"]: figures.interval(m.get("blend"), metric) for m in report["members"]}
    values = {
        one: round(sign_of(metric) * value.mean, _DIGITS)
        for one, value in found.items()
        if value is not None and budget.admits((), one)
    }
    if name not in values:
        return f"it is not among the {taken} best on blend"
    ranked = sorted(values, key=lambda one: (-values[one], one))
    before = ranked[: ranked.index(name)]
    place = f"number {len(before) + 1} on blend"
    if budget.limited:
        place += f" of the {len(ranked)} that fit the budget alone"
    if not budget.admits([one for one in before if one in weights], name):
        return f"it is {place}, but does not fit beside the better ones"
    together = " that fit it together" if budget.limited else ""
    equal = any(values.get(one) == values[name] for one in weights)
    names = "; of equals the first by name" if equal else ""
    return f"it is {place}, where the best {taken}{together} are taken{names}"


def _behind(report: Mapping[str, Any], name: str) -> str:
    """How far a member is behind the best single one on `select`; empty where it is not known."""
    named = {member["id"]: member.get("select") for member in report["members"]}
    metric = report["metric"]
    own = figures.interval(named.get(name), metric)
    best = figures.interval(named.get(report.get("best_single")), metric)
    if own is None or best is None or not best.mean or own.mean == best.mean:
        return ""
    share = figures.percent(abs(own.mean - best.mean) / abs(best.mean))
    return f"on select it is {share} behind the best single member, and "
