"""What a cascade saves: the share of the gain that is kept, over the share of the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from penchant.ensembles.page.charts import Chart
from penchant.ensembles.page.figures import metric_words, percent, signed
from penchant.ensembles.page.plots import ACCENT, INK, MUTED, over, spec
from penchant.platform.metrics import LOWER_IS_BETTER

__all__ = ["savings", "savings_words"]

#: What was hoped for: this share of the gain at this share of the time.
KEPT, TIME = 0.95, 0.5
_MEASURED = "measured on the blend block, where it was fitted"


def savings_words(report: Mapping[str, Any]) -> str:
    """Whether 95% of the gain is kept at half of the time; empty where no cascade was compared."""
    found = report.get("cascade")
    if not found:
        return ""
    points = found["points"]
    if len(points) == 1 and points[0]["members"] == 1:
        return "Greedy selection takes one member: a cascade has nothing to leave out."
    if not _gains(report):
        return (
            "Greedy selection gains nothing over its cheapest member on the blend block: a cascade "
            "has no gain to keep."
        )
    within = [point["kept"] for point in points if point["time_share"] <= TIME]
    enough = [point["time_share"] for point in points if point["kept"] >= KEPT]
    reached = "is" if max(within, default=0.0) >= KEPT else "is not"
    half = f"half of the time keeps {percent(max(within))}" if within else "none takes so little"
    whole = f", and {percent(KEPT)} takes {percent(min(enough))} of it" if enough else ""
    return (
        f"{percent(KEPT)} of the gain at {percent(TIME)} of the time {reached} reached: {half}"
        f"{whole} ({_MEASURED}).{_on_test(report)}"
    ).replace(".0%", "%")


def _on_test(report: Mapping[str, Any]) -> str:
    """What the cheapest cascade that keeps 95% on blend does on test, or the best of all."""
    points = report["cascade"]["points"]
    one = next((point for point in points if point["kept"] >= KEPT), points[-1])
    if "test" not in one:
        return ""
    gain = report["cascade"]["base_gain_on_test"]
    found, time = one["test"], percent(one["test"]["time_share"])
    if not _is_gain(gain, report["metric"]):
        return " On the test block greedy selection gains nothing that could be kept."
    of = f"{signed(gain)} {metric_words(report['metric'])}"
    return (
        f" On the test block that cascade keeps {percent(found['kept'])} of the gain, {of}, at "
        f"{time} of the time."
    )


def savings(report: Mapping[str, Any]) -> Chart | None:
    """The curve, with a mark at 95% and half; None where there is no gain or but one point."""
    points = report.get("cascade", {}).get("points", [])
    if len(points) < 2 or not _gains(report):
        return None
    tested = []
    if _is_gain(report["cascade"].get("base_gain_on_test"), report["metric"]):
        tested = [point["test"] for point in points if "test" in point]
    open_circles = (
        "Open circles are the same cascades on the test block, with the gain that there is to keep "
        "there. "
    )
    return Chart(
        key="chart-cascade",
        caption="Cascades, in which cheap members answer first and the others only where those "
        "are not sure: the share of the gain of greedy selection over its cheapest member that is "
        f"kept, against the share of its measured time, {_MEASURED}. "
        f"{open_circles if tested else ''}The cross marks {percent(KEPT)} at "
        f"{percent(TIME)}.".replace(".0%", "%"),
        label=f"Line of the share of the gain by the share of the time. {savings_words(report)}",
        spec=_curve(points, tested),
    )


def _gains(report: Mapping[str, Any]) -> bool:
    return _is_gain(report["cascade"]["base_gain"], report["metric"])


def _is_gain(gain: float | None, metric: str) -> bool:
    return bool(gain) and ((gain or 0.0) < 0) == (metric in LOWER_IS_BETTER)


def _curve(points: list[dict[str, Any]], tested: list[dict[str, Any]]) -> dict[str, Any]:
    x = alt.X(
        "time_share:Q",
        title="share of the time of greedy selection",
        scale=alt.Scale(domain=[0, 1], nice=False, padding=8),
        axis=alt.Axis(format="%", tickCount=5, grid=False),
    )
    y = alt.Y(
        "kept:Q",
        title="share of its gain",
        scale=alt.Scale(zero=True, nice=True),
        axis=alt.Axis(format="%", tickCount=5),
    )
    base = over(points).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("kept:Q", format=".1%"),
            alt.Tooltip("time_share:Q", format=".1%"),
            alt.Tooltip("work_ms:Q", format=".3g"),
            alt.Tooltip("quality:Q", format=".4f"),
            "members:Q",
        ],
    )
    on_test = [over(tested).encode(x=x, y=y).mark_point(size=30, color=ACCENT, opacity=0.7)]
    goal = over([{"time_share": TIME, "kept": KEPT}]).encode(x=x, y=y)
    level = over([{"kept": KEPT}]).encode(y=y)
    return spec(
        level.mark_rule(color=MUTED, strokeDash=[3, 3], opacity=0.55),
        base.mark_line(interpolate="step-after", color=ACCENT, strokeWidth=2),
        base.mark_point(filled=True, size=30, color=ACCENT, opacity=0.9),
        *(on_test if tested else []),
        goal.mark_point(shape="cross", filled=True, size=120, color=INK, opacity=1),
        height=200,
    )
