"""How promises look: said against seen, and coverage week by week. Specifications from rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from penchant.ensembles.page.plots import ACCENT, INK, SLATE, over, spec

__all__ = ["coverage_lines", "diagram"]

_LEVELS = (SLATE, ACCENT, "#c2571a")
_FOOT = 0.18  # share of the height that the bars of counts take at most


def diagram(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Points of `seen` over `said` with `low` to `high`, and a bar of each `count` at the foot."""
    top = max(0.05, *(max(row["said"], row["high"]) for row in rows))
    most = max(row["count"] for row in rows)
    rows = [row | {"bar": _FOOT * top * row["count"] / most} for row in rows]
    scale = alt.Scale(domain=[0, min(1.0, 1.04 * top)], nice=False)
    x = alt.X("said:Q", title="probability that was said", scale=scale, axis=_axis(grid=False))
    y = alt.Y("seen:Q", title="share of yes that was seen", scale=scale, axis=_axis(grid=True))
    base = over(rows).encode(
        x=x,
        tooltip=[
            *(alt.Tooltip(f"{name}:Q", format=".4f") for name in ("said", "seen", "low", "high")),
            alt.Tooltip("count:Q", format=","),
        ],
    )
    true = over([{"said": 0.0, "seen": 0.0}, {"said": top, "seen": top}]).encode(x=x, y=y)
    return spec(
        base.mark_bar(color=SLATE, opacity=0.25, size=9).encode(y=alt.Y("bar:Q", scale=scale)),
        true.mark_line(color=INK, strokeDash=[3, 3], strokeWidth=1, opacity=0.55),
        base.mark_rule(color=ACCENT, strokeWidth=2.5, opacity=0.45).encode(y="low:Q", y2="high:Q"),
        base.mark_line(color=ACCENT, strokeWidth=2).encode(y=y),
        base.mark_point(filled=True, size=56, opacity=1, color=ACCENT).encode(y=y),
        height=300,
    )


def coverage_lines(rows: list[dict[str, Any]], levels: Sequence[str]) -> dict[str, Any]:
    """Coverage by `week`, a line each `level` with intervals, dashed where it was `promised`."""
    x = alt.X(
        "week:O",
        sort=None,
        title=None,
        scale=alt.Scale(type="point", padding=0.3),
        axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False),
    )
    y = alt.Y(
        "mean:Q",
        title="promise kept",
        scale=alt.Scale(zero=False, nice=True),
        axis=alt.Axis(tickCount=5, format="%"),
    )
    color = alt.Color(
        "level:N",
        scale=alt.Scale(domain=list(levels), range=[_LEVELS[i % 3] for i in range(len(levels))]),
        legend=alt.Legend(
            orient="top", title=None, symbolType="circle", symbolOpacity=1, labelLimit=320
        ),
    )
    percents = [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("mean", "low", "high")]
    base = over(rows).encode(
        x=x, color=color, tooltip=["level:N", "week:O", *percents, alt.Tooltip("requests:Q")]
    )
    promised = over(list({row["level"]: row for row in rows}.values()))
    target = promised.encode(y="promised:Q", color=color)
    return spec(
        target.mark_rule(strokeDash=[4, 3], strokeWidth=1.5),
        base.mark_rule(strokeWidth=2.5, opacity=0.4).encode(y="low:Q", y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=y),
        base.mark_point(filled=True, size=56, opacity=1).encode(y=y),
        height=240,
    )


def _axis(*, grid: bool) -> alt.Axis:
    return alt.Axis(tickCount=5, format="~g", grid=grid)
