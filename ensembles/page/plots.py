"""How the report's charts look: Vega-Lite specifications from plain rows.

Every plot is fluid (`width: container`); names stand above their interval, not beside it, so that
long member ids stay readable on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from penchant.platform.intervals import Interval

__all__ = [
    "ACCENT",
    "CONFIG",
    "INK",
    "MUTED",
    "SLATE",
    "ForestRow",
    "curve",
    "forest",
    "heat_map",
    "over",
    "spec",
    "weeks",
]

INK, MUTED, LINE = "#1c2430", "#5a6472", "#d5d9df"
ACCENT, BAD, SLATE = "#0a6c74", "#a8431f", "#6b7686"
_TONES = {"gain": ACCENT, "loss": BAD, "open": SLATE}
_BLOCKS = {
    "train": "#c3c9d2",
    "select": "#8fb8bb",
    "blend": "#3f9097",
    "test": "#0a4f55",
    "after": "#e6cdb4",
}

#: Looks shared by all charts; the page hands them to the renderer once.
CONFIG: dict[str, Any] = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    "background": "transparent",
    "padding": {"left": 0, "right": 4, "top": 4, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "gridColor": "#e9ebee",
        "domainColor": LINE,
        "tickColor": LINE,
    },
    "legend": {"labelColor": INK, "labelFontSize": 12},
    "text": {"color": INK, "fontSize": 12},
}


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One line of a forest plot."""

    name: str
    text: str  # stands at the right end
    tone: str  # gain, loss or open
    value: Interval

    def to_json(self) -> dict[str, Any]:
        """The plot's data row."""
        shown = {"name": self.name, "text": self.text, "tone": self.tone}
        return shown | {name: getattr(self.value, name) for name in ("mean", "low", "high")}


def forest(rows: Sequence[ForestRow], reference: float | None, title: str) -> dict[str, Any]:
    """Intervals one below the other, with a dashed vertical line at the reference."""
    base = over([row.to_json() for row in rows]).encode(
        y=alt.Y("name:N", sort=None, axis=None),
        color=alt.Color(
            "tone:N",
            scale=alt.Scale(domain=list(_TONES), range=list(_TONES.values())),
            legend=None,
        ),
        tooltip=["name:N", "mean:Q", "low:Q", "high:Q"],
    )
    x = alt.X(
        "low:Q",
        title=title,
        scale=alt.Scale(zero=False, nice=True, range=[0, {"expr": "width - 60"}]),
        axis=alt.Axis(tickCount=5, format="~g"),
    )
    names = base.encode(x=alt.value(0), text="name:N", color=alt.value(INK))
    texts = base.encode(x=alt.value("width"), text="text:N", color=alt.value(MUTED))
    layers = [
        base.mark_rule(strokeWidth=2.5, yOffset=7).encode(x=x, x2="high:Q"),
        base.mark_point(filled=True, size=64, opacity=1, yOffset=7).encode(x="mean:Q"),
        names.mark_text(align="left", dy=-8),
        texts.mark_text(align="right", dy=-8, fontSize=11),
    ]
    if reference is not None:
        line = over([{"at": reference}]).encode(x="at:Q")
        layers.insert(0, line.mark_rule(color=INK, strokeDash=[3, 3], opacity=0.55))
    return spec(*layers, height=38 * len(rows))


def heat_map(
    rows: list[dict[str, Any]],
    windows: list[str],
    sizes: list[str],
    *,
    low_is_good: bool,
    form: str = ".4f",
) -> dict[str, Any]:
    """Cells of `window`, `size` and `value`, darker where better, with their numbers.

    Args:
        form: how a value is written, in d3's language.
    """
    values = [row["value"] for row in rows]
    low, high = min(values), max(values)
    spare = 0.0 if high > low else 0.5  # all cells equal: one colour in the middle of the scale
    base = over(rows).encode(
        x=alt.X(
            "size:N",
            sort=sizes,
            title=None,
            axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False),
        ),
        y=alt.Y(
            "window:N",
            sort=windows,
            title=None,
            axis=alt.Axis(ticks=False, domain=False),
        ),
    )
    colors = alt.Scale(
        domain=[low - spare, high + spare],
        range=["#e6f0f0", "#0a5c63"][:: -1 if low_is_good else 1],
        interpolate="lab",
    )
    cells = base.mark_rect(stroke="white", strokeWidth=3).encode(
        color=alt.Color("value:Q", scale=colors, legend=None),
        tooltip=["window:N", "size:N", alt.Tooltip("value:Q", format=form)],
    )
    dark = f"datum.value {'<' if low_is_good else '>'} {(low + high) / 2}"
    numbers = base.mark_text(fontSize=13).encode(
        text=alt.Text("value:Q", format=form),
        color=alt.condition(dark, alt.value("white"), alt.value(INK)),
    )
    return spec(cells, numbers, height=46 * len(windows))


def curve(
    rows: list[dict[str, Any]], marked: dict[str, Any] | None, span: tuple[float, float]
) -> dict[str, Any]:
    """Lines of `loss` by `epoch`, one each `block`, with a ring around the marked row."""
    at = sorted({row["epoch"] for row in rows})  # no tick between epochs
    epochs = alt.Axis(values=at, format="d", grid=False, labelFlush=False, labelOverlap=True)
    base = over(rows).encode(
        x=alt.X("epoch:Q", title="epoch", axis=epochs),
        y=alt.Y(
            "loss:Q",
            title=None,
            scale=alt.Scale(domain=list(span), zero=False, nice=True),
            axis=alt.Axis(tickCount=4),
        ),
        color=alt.Color(
            "block:N",
            scale=alt.Scale(domain=["train", "select"], range=["#8a94a3", ACCENT]),
            legend=None,
        ),
        tooltip=["epoch:Q", "block:N", alt.Tooltip("loss:Q", format=".4f")],
    )
    layers = [base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=20))]
    if marked is not None:
        ring = over([marked]).encode(x="epoch:Q", y="loss:Q")
        layers.append(ring.mark_point(size=110, color=ACCENT, opacity=1))
    return spec(*layers, height=130)


def weeks(rows: list[dict[str, Any]], borders: list[dict[str, Any]]) -> dict[str, Any]:
    """Bars of `events` from `start` to `end` by `block`, with lines `at` the blocks' borders.

    Times are milliseconds since 1970; the axis is in UTC, wherever the reader is.
    """
    blocks = [name for name in _BLOCKS if any(row["block"] == name for row in rows)]
    scale = alt.Scale(type="utc")
    bars = over(rows).encode(
        x=alt.X("start:T", scale=scale, title=None, axis=alt.Axis(grid=False, tickCount=6)),
        x2="end:T",
        y=alt.Y("events:Q", title="events a week", axis=alt.Axis(tickCount=4, format=",.0f")),
        y2=alt.datum(0),
        color=alt.Color(
            "block:N",
            scale=alt.Scale(domain=blocks, range=[_BLOCKS[name] for name in blocks]),
            legend=alt.Legend(orient="top", title=None, symbolType="square"),
        ),
        tooltip=[
            alt.Tooltip("start:T", format="%d %b %Y", title="week of"),
            alt.Tooltip("events:Q", format=","),
            "block:N",
        ],
    )
    lines = over(borders).encode(x=alt.X("at:T", scale=scale))
    layers = [bars.mark_rect(stroke="white", strokeWidth=0.5)]
    if borders:
        layers.append(lines.mark_rule(color=INK, strokeWidth=1))
    return spec(*layers, height=200)


def over(values: list[dict[str, Any]]) -> alt.Chart:
    """A chart of these rows, which travel inside the page."""
    return alt.Chart(alt.InlineData(values=values))


def spec(*layers: alt.Chart, height: int) -> dict[str, Any]:
    """The specification of layers one over the other, as wide as the page allows."""
    chart = alt.layer(*layers).properties(width="container", height=height)
    found: dict[str, Any] = chart.to_dict()
    found.pop("config", None)  # altair's default looks; ours are in CONFIG
    return found
