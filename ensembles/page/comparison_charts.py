"""The charts of a comparison: what quality costs, how alike members are, week by week."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.ensembles.page import comparison_plots, figures
from penchant.ensembles.page.charts import Chart
from penchant.ensembles.page.figures import direction, interval, metric_title, metric_words, shown
from penchant.platform.metrics import LOWER_IS_BETTER

__all__ = ["likeness", "prices", "weeks"]

_NUMBERED = 8  # members up to which the heat map has room for numbers


def prices(report: Mapping[str, Any]) -> Chart | None:
    """Quality against time to score, with the Pareto front; None where costs are not known."""
    metric = report["metric"]
    numbers = figures.numbered_options(report)
    timed = [o for o in report.get("options", []) if o["work_ms"] and o["quality"] is not None]
    if len(timed) < 2:
        return None
    named = {ensemble["name"] for ensemble in report.get("ensembles", [])}
    rows = [
        {
            **{name: part for name, part in option.items() if name != "gain"},
            "kind": "ensemble" if option["name"] in named or option["members"] > 1 else "member",
            "number": numbers.get(option["name"]),
        }
        for option in timed
    ]
    front = sorted((row for row in rows if row["pareto"]), key=lambda row: row["work_ms"])
    words = "; ".join(
        f"{row['name']} {figures.quality(row['quality'])} in {row['work_ms']:.3g} ms"
        for row in front
    )
    return Chart(
        key="chart-prices",
        caption=f"{metric_title(metric)}{direction(metric)} on the blend block against the time to "
        "score one request, members one after the other. Ensembles stand where they were on users "
        "that their weights were not fitted on. The dashed line joins what nothing else beats at "
        "the same price or less. Numbers are those of the table.",
        label=f"Scatter plot of quality and time. Best at their price: {words}.",
        spec=comparison_plots.prices(
            rows, front, metric_words(metric), low_is_good=metric in LOWER_IS_BETTER
        ),
    )


def likeness(report: Mapping[str, Any]) -> Chart | None:
    """Heat map, member x member; None for fewer than two."""
    found = report.get("diversity") or {}
    members = found.get("members", [])
    table = found.get("overlap") or found.get("correlation")
    if len(members) < 2 or not table:
        return None
    names = [f"{name}  {at}" for at, name in enumerate(members, 1)]
    rows = [
        {"one": names[i], "at": j + 1, "other": members[j], "value": table[i][j]}
        for i in range(len(members))
        for j in range(len(members))
        if i != j
    ]
    known = [row for row in rows if row["value"] is not None]
    if not known:
        return None
    if found.get("overlap"):
        told = f"Share of their top {found['k']} that two members have in common, on the test block"
    else:
        told = "Rank correlation of two members' scores on the test block"
    least = min(known, key=lambda row: row["value"])
    most = max(known, key=lambda row: row["value"])
    return Chart(
        key="chart-likeness",
        caption=f"{told}. Darker is more alike: members that say the same cannot help one another. "
        "Columns have the numbers of the rows.",
        label=f"Heat map of likeness: least alike {_pair(least)}; most alike {_pair(most)}.",
        spec=comparison_plots.matrix(rows, names, numbers=len(members) <= _NUMBERED),
    )


def weeks(report: Mapping[str, Any]) -> Chart | None:
    """Difference to the best single member, week by week of test; None for fewer than two weeks."""
    metric, name = report["metric"], shown(report)
    rows = []
    for segment in report.get("segments", []):
        if segment["by"] != "week":
            continue
        start = figures.day(segment["name"]).rpartition(" ")[0]
        counts = {"users": segment["users"], "requests": segment["requests"]}
        for ensemble in segment["differences"]:
            value = interval(segment["differences"], ensemble)
            if value is not None:
                edges = {"mean": value.mean, "low": value.low, "high": value.high}
                row = {"week": start, "name": ensemble, "shown": ensemble == name}
                rows.append(row | edges | counts)
    drawn = [row for row in rows if row["shown"]]
    if len(drawn) < 2:
        return None
    words = "; ".join(f"{figures.signed(row['mean'])}" for row in drawn)
    others = " Thin lines are the other ensembles." if len(rows) > len(drawn) else ""
    return Chart(
        key="chart-test-weeks",
        caption=f"Difference in {metric_words(metric)}{direction(metric)} of {name} to the best "
        f"single member in each week of test, with 95% intervals.{others} The first and the last "
        "week may be partial.",
        label=f"Line of weekly differences of {name}: {words}.",
        spec=comparison_plots.week_lines(rows, f"difference in {metric_words(metric)}"),
    )


def _pair(row: Mapping[str, Any]) -> str:
    return f"{row['one'].rpartition('  ')[0]} and {row['other']} ({row['value']:.2f})"
