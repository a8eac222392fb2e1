"""What can be promised: the charts and figures of probabilities and of lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.ensembles.page import figures, promise_plots
from penchant.ensembles.page.charts import Chart
from penchant.ensembles.page.figures import interval, percent, quality
from penchant.ensembles.page.tables import Fact

__all__ = ["coverage", "facts", "reliability"]

_CALIBRATORS = {
    "identity": "none was needed: scores are taken as they are",
    "temperature": "scores divided by one number",
    "platt": "a sigmoid of the score",
    "isotonic": "a rising function of the score, step by step",
}


def facts(report: Mapping[str, Any]) -> list[Fact]:
    """How true the probabilities were on test, in numbers; empty where nothing was promised."""
    found = report.get("assurance")
    if not found:
        return []
    kind = found["calibrator"]["kind"]
    made = [Fact(name="Calibrator", value=kind, note=_CALIBRATORS.get(kind, ""))]
    if (loss := found.get("log_loss")) is not None:
        note = "of the calibrated probabilities on test; lower is better"
        made.append(Fact(name="Log loss, calibrated", value=quality(loss), note=note))
    if (known := found.get("reliability")) is not None:
        width = quality(known["ece_equal_width"])
        note = f"mean distance of said and seen; {width} in bins of one width"
        made += [
            Fact(name="ECE", value=quality(known["ece_equal_count"]), note=note),
            Fact(name="Brier score", value=quality(known["brier"]["score"]), note=_brier(known)),
        ]
    return made


def reliability(report: Mapping[str, Any]) -> Chart | None:
    """Reliability diagram of a binary task; None for others."""
    known = report.get("assurance", {}).get("reliability")
    rows = []
    for one in known["bins"] if known else []:
        share = interval(one, "share")
        if share is not None:
            seen = {"seen": share.mean, "low": share.low, "high": share.high}
            rows.append({"said": one["mean"], "count": one["count"]} | seen)
    if not known or not rows:
        return None
    words = "; ".join(f"{quality(row['said'])} said, {quality(row['seen'])} seen" for row in rows)
    total, most = sum(row["count"] for row in rows), max(row["count"] for row in rows)
    return Chart(
        key="chart-reliability",
        caption="Reliability of the calibrated probabilities on the test block: of the requests "
        "of which about so much was said, the share that was a yes, with 95% intervals. On the "
        f"dashed line the two are equal. ECE {quality(known['ece_equal_count'])}, Brier score "
        f"{quality(known['brier']['score'])}. Bars at the foot are how many of the "
        f"{figures.count(total)} requests each point stands for, at most {figures.count(most)}.",
        label=f"Reliability diagram: {words}.",
        spec=promise_plots.diagram(rows),
    )


def coverage(report: Mapping[str, Any]) -> Chart | None:
    """How often each list's promise was kept, week by week; None for fewer than two weeks."""
    rows, levels = [], []
    for one in report.get("assurance", {}).get("sets", []):
        if one["size"] is None:  # a level that no list can promise
            continue
        level = f"{percent(one['promised'])} promised, first {one['size']}".replace(".0%", "%")
        levels.append(level)
        for week in one["weeks"]:
            held = interval(week, "coverage")
            if held is not None:
                start = figures.day(week["monday"]).rpartition(" ")[0]
                edges = {"mean": held.mean, "low": held.low, "high": held.high}
                named = {"week": start, "level": level, "promised": one["promised"]}
                rows.append(named | edges | {"requests": week["requests"]})
    if len({row["week"] for row in rows}) < 2:
        return None
    words = [
        f"{level}: " + ", ".join(percent(row["mean"]) for row in rows if row["level"] == level)
        for level in levels
    ]
    return Chart(
        key="chart-coverage",
        caption="How often one of the first items was chosen in each week of test, with 95% "
        "intervals that take requests as independent, against what was promised (dashed). The "
        "first and the last week may be partial.",
        label=f"Lines of the promises kept week by week. {'; '.join(words)}.",
        spec=promise_plots.coverage_lines(rows, levels),
    )


def _brier(known: Mapping[str, Any]) -> str:
    parts = known["brier"]
    return (
        f"{quality(parts['reliability'])} distance of said and seen − "
        f"{quality(parts['resolution'])} told apart + {quality(parts['uncertainty'])} of the "
        "answers alone"
    )
