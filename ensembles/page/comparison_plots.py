"""How the charts of a comparison look: prices, likeness, weeks. Specifications from plain rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from penchant.ensembles.page.plots import ACCENT, INK, MUTED, SLATE, over, spec

__all__ = ["matrix", "prices", "week_lines"]

_KINDS = {"ensemble": ACCENT, "member": SLATE}


def prices(
    rows: list[dict[str, Any]], front: list[dict[str, Any]], words: str, *, low_is_good: bool
) -> dict[str, Any]:
    """Points of `quality` over `work_ms` by `kind`, numbered where `number` is set, and the front.

    Numbers, not names: the best are close to one another, and names would cover each other. The
    axis of time is logarithmic: members differ by factors of a thousand.
    """
    x = alt.X(
        "work_ms:Q",
        title="milliseconds to score one request",
        scale=alt.Scale(type="log", nice=False, padding=24),
        axis=alt.Axis(format="~g", grid=False, tickCount=6, labelOverlap=True),
    )
    y = alt.Y(
        "quality:Q",
        title=words,
        scale=alt.Scale(zero=False, nice=True, reverse=low_is_good, padding=12),
        axis=alt.Axis(tickCount=5, format="~g"),
    )
    points = over(rows).encode(
        x=x,
        y=y,
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=list(_KINDS), range=list(_KINDS.values())),
            legend=alt.Legend(orient="top", title=None, symbolType="circle"),
        ),
        tooltip=[
            "name:N",
            alt.Tooltip("quality:Q", format=".4f"),
            alt.Tooltip("work_ms:Q", format=".3g", title="work, ms"),
            alt.Tooltip("latency_ms:Q", format=".3g", title="slowest member, ms"),
            "members:Q",
        ],
    )
    line = over(front).encode(x=x, y=y)
    numbers = over([row for row in rows if row["number"]]).encode(x=x, y=y, text="number:N")
    return spec(
        line.mark_line(interpolate="step-after", color=ACCENT, opacity=0.5, strokeDash=[4, 3]),
        points.mark_point(filled=True, size=70, opacity=0.9),
        numbers.transform_filter("datum.pareto").mark_text(dy=-12, color=INK),
        numbers.transform_filter("!datum.pareto").mark_text(dy=14, color=INK),
        height=300,
    )


def matrix(rows: list[dict[str, Any]], names: Sequence[str], *, numbers: bool) -> dict[str, Any]:
    """Cells of `one`, `other` and `value`, darker where members are more alike.

    Rows have names with a number in front, columns that number alone, so that long ids leave room.
    """
    values = [row["value"] for row in rows if row["value"] is not None and row["at"] != row["one"]]
    low, high = min(values, default=0.0), max(values, default=1.0)
    spare = 0.0 if high > low else 0.5
    base = over(rows).encode(
        x=alt.X(
            "at:O",
            sort=list(range(1, len(names) + 1)),
            title=None,
            axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False),
        ),
        y=alt.Y(
            "one:N",
            sort=list(names),
            title=None,
            axis=alt.Axis(ticks=False, domain=False, labelLimit=210),
        ),
    )
    colors = alt.Scale(
        domain=[low - spare, high + spare],
        range=["#eef4f4", "#0a5c63"],
        interpolate="lab",
        clamp=True,
    )
    cells = base.mark_rect(stroke="white", strokeWidth=1.5).encode(
        color=alt.Color("value:Q", scale=colors, legend=None),
        tooltip=["one:N", "other:N", alt.Tooltip("value:Q", format=".2f")],
    )
    layers = [cells]
    if numbers:
        shown = base.mark_text(fontSize=11).encode(
            text=alt.Text("value:Q", format=".2f"),
            color=alt.condition(
                f"datum.value > {(low + high) / 2}", alt.value("white"), alt.value(INK)
            ),
        )
        layers.append(shown)
    return spec(*layers, height=24 * len(names))


def week_lines(rows: list[dict[str, Any]], words: str) -> dict[str, Any]:
    """Difference by `week`: the ensemble of `shown` with its interval, the others as thin lines."""
    x = alt.X(
        "week:O",
        sort=None,
        title=None,
        scale=alt.Scale(type="point", padding=0.3),
        axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False),
    )
    y = alt.Y("mean:Q", title=words, axis=alt.Axis(tickCount=5, format="~g"))
    signed = [alt.Tooltip(f"{name}:Q", format="+.4f") for name in ("mean", "low", "high")]
    tips: list[str | alt.Tooltip] = ["name:N", "week:O", *signed, "users:Q", "requests:Q"]
    shown = over([row for row in rows if row["shown"]]).encode(x=x, tooltip=tips)
    others = over([row for row in rows if not row["shown"]]).encode(x=x, y=y, tooltip=tips)
    zero = over([{"at": 0.0}]).encode(y="at:Q")
    layers = [
        zero.mark_rule(color=INK, strokeDash=[3, 3], opacity=0.55),
        others.encode(detail="name:N").mark_line(color=MUTED, opacity=0.35, strokeWidth=1.2),
        shown.mark_rule(color=ACCENT, strokeWidth=2.5, opacity=0.45).encode(y="low:Q", y2="high:Q"),
        shown.mark_line(color=ACCENT, strokeWidth=2).encode(y=y),
        shown.mark_point(filled=True, size=56, opacity=1, color=ACCENT).encode(y=y),
    ]
    return spec(*layers, height=200)
