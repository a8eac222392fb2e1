"""The report's charts: what each shows, in data and in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from penchant.ensembles.page import plots
from penchant.ensembles.page.figures import (
    direction,
    interval,
    is_gain,
    metric_title,
    metric_words,
    moment,
    percent,
    quality,
    shown,
    signed,
)
from penchant.ensembles.page.plots import ForestRow
from penchant.platform.metrics import LOWER_IS_BETTER
from penchant.platform.timeline import Block, Window

__all__ = [
    "Chart",
    "contribution_grid",
    "differences",
    "events_a_week",
    "learning_curves",
    "member_qualities",
    "search_grid",
]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart, its caption, and what it shows in words for those who cannot see it."""

    key: str  # id of its element in the page
    caption: str
    label: str
    spec: dict[str, Any]


def differences(report: Mapping[str, Any]) -> Chart | None:
    """Forest plot of each ensemble's difference to the best single member; None without any."""
    metric = report["metric"]
    rows = []
    for ensemble in report.get("ensembles", []):
        value = interval(ensemble.get("difference_to_best_single"), metric)
        if value is not None:
            tone = {True: "gain", False: "loss", None: "open"}[is_gain(value, metric)]
            rows.append(
                ForestRow(name=ensemble["name"], text=signed(value.mean), tone=tone, value=value)
            )
    if not rows:
        return None
    return Chart(
        key="chart-differences",
        caption=f"Difference in {metric_words(metric)}{direction(metric)} to the best single "
        "member on the test block, with its 95% interval. A line that crosses zero proves no "
        "difference.",
        label="Forest plot of the differences: " + _words(rows),
        spec=plots.forest(rows, 0.0, f"difference in {metric_words(metric)}"),
    )


def member_qualities(report: Mapping[str, Any]) -> Chart | None:
    """Forest plot of every member's quality on `test`, best first; None without any."""
    metric = report["metric"]
    rows = []
    for member in report.get("members", []):
        value = interval(member.get("test"), metric)
        if value is not None:
            tone = "gain" if member["id"] == report.get("best_single") else "open"
            text = quality(value.mean)
            rows.append(ForestRow(name=member["id"], text=text, tone=tone, value=value))
    if not rows:
        return None
    rows.sort(key=lambda row: row.value.mean, reverse=metric not in LOWER_IS_BETTER)
    best = next((row.value.mean for row in rows if row.tone == "gain"), None)
    return Chart(
        key="chart-members",
        caption=f"{metric_title(metric)} of each member on the test block, with its 95% interval. "
        "The dashed line marks the best single member.",
        label="Forest plot of the members: " + _words(rows),
        spec=plots.forest(rows, best, metric_words(metric)),
    )


def search_grid(report: Mapping[str, Any]) -> Chart | None:
    """Heat map, window x size, of the sequence members; None where fewer than two were scored.

    Reads `test` where every one of them has it, else `select`. A cell that several members share
    shows the best of them.
    """
    metric = report["metric"]
    sized = [member for member in report.get("members", []) if member.get("size")]
    on_test = all(interval(member.get("test"), metric) for member in sized)
    block = Block.TEST if on_test else Block.SELECT
    cells: dict[tuple[str, str], list[float]] = {}
    for member in sorted(sized, key=lambda member: _window_order(member["window"])):
        value = interval(member.get(block), metric)
        if value is not None:
            window = Window.model_validate(member["window"]).label
            cells.setdefault((window, member["size"]), []).append(value.mean)
    if sum(map(len, cells.values())) < 2:
        return None
    low_is_good = metric in LOWER_IS_BETTER
    best = {cell: (min if low_is_good else max)(values) for cell, values in cells.items()}
    rows = [{"window": w, "size": s, "value": value} for (w, s), value in best.items()]
    windows = list(dict.fromkeys(window for window, _ in best))
    sizes = sorted({size for _, size in best}, key=_natural)
    shared = " Where members share a cell, the best is shown." if len(rows) < len(sized) else ""
    return Chart(
        key="chart-search",
        caption=f"{metric_title(metric)} of the sequence members on the {block} block, by window "
        "of history (rows; all: everything before the request) and model size (columns: width x "
        f"layers). Darker is better.{shared}",
        label="Heat map of window by size: "
        + "; ".join(f"{w}, {s}: {quality(value)}" for (w, s), value in best.items()),
        spec=plots.heat_map(rows, windows, sizes, low_is_good=low_is_good),
    )


def contribution_grid(report: Mapping[str, Any]) -> Chart | None:
    """Heat map, window x size, of the weight that sequence members have in one ensemble.

    It is the recommended one or, where a single member is recommended, the one that came nearest
    to beating it. None where fewer than two sequence members or no weights are known.
    """
    name = shown(report)
    weights = {e["name"]: e.get("weights", {}) for e in report["ensembles"]}.get(name or "", {})
    sized = [member for member in report.get("members", []) if member.get("size")]
    if len(sized) < 2 or not weights:
        return None
    cells: dict[tuple[str, str], float] = {}
    for member in sorted(sized, key=lambda member: _window_order(member["window"])):
        cell = Window.model_validate(member["window"]).label, member["size"]
        cells[cell] = cells.get(cell, 0.0) + weights.get(member["id"], 0.0)
    rows = [{"window": w, "size": s, "value": value} for (w, s), value in cells.items()]
    windows = list(dict.fromkeys(window for window, _ in cells))
    sizes = sorted({size for _, size in cells}, key=_natural)
    total = percent(sum(cells.values()) / sum(weights.values()))
    whose = "recommended" if report.get("recommended") == name else "the nearest to a gain on test"
    shared = " Members that share a cell are added up." if len(cells) < len(sized) else ""
    return Chart(
        key="chart-contribution",
        caption=f"What they contribute: the share of weight in the ensemble {name} ({whose}), by "
        f"the same rows and columns. All sequence members together have {total}, the others the "
        f"rest.{shared}",
        label="Heat map of the share of weight, window by size: "
        + "; ".join(f"{w}, {s}: {percent(value)}" for (w, s), value in cells.items()),
        spec=plots.heat_map(rows, windows, sizes, low_is_good=False, form=".1%"),
    )


def learning_curves(report: Mapping[str, Any]) -> dict[str, Chart]:
    """Loss by epoch on `train` and `select`: a small chart by id of each member with a history."""
    curves = {
        member["id"]: _losses(member["history"])
        for member in report.get("members", [])
        if member.get("history")
    }
    losses = [row["loss"] for rows in curves.values() for row in rows]
    if not losses:
        return {}
    scale = (min(losses), max(losses))  # the same for all, so that heights can be compared
    return {
        name: _curve(name, rows, f"chart-curve-{at}", scale)
        for at, (name, rows) in enumerate(curves.items())
        if rows
    }


def events_a_week(report: Mapping[str, Any]) -> Chart | None:
    """Bars of events a week, coloured by block, with the blocks' borders; None without weeks."""
    weeks = report.get("data", {}).get("per_week")
    if not weeks:
        return None
    edges = [(name, moment(at)) for name, at in report.get("blocks", {}).items()]
    rows = []
    for week in weeks:
        start = moment(week["start"])
        block = next((name for name, at in reversed(edges) if at <= start), str(Block.TRAIN))
        block = "after" if block == "end" else block
        span = {"start": _milliseconds(start), "end": _milliseconds(start + timedelta(days=7))}
        rows.append(span | {"events": week["events"], "block": block})
    borders = [{"at": _milliseconds(at)} for name, at in edges if name != Block.TRAIN]
    numbers = [week["events"] for week in weeks]
    return Chart(
        key="chart-weeks",
        caption="Events a week. Lines mark where select, blend and test begin and where test "
        "ends; a week has the colour of the block that it starts in. "
        "The first and the last week may be partial.",
        label=f"Bar chart of {len(weeks)} weeks with {min(numbers):,} to {max(numbers):,} events.",
        spec=plots.weeks(rows, borders),
    )


def _losses(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch["epoch"], "block": str(block), "loss": epoch[f"{block}_loss"]}
        for epoch in history
        for block in (Block.TRAIN, Block.SELECT)
        if epoch.get(f"{block}_loss") is not None
    ]


def _curve(name: str, rows: list[dict[str, Any]], key: str, scale: tuple[float, float]) -> Chart:
    select = [row for row in rows if row["block"] == Block.SELECT]
    lowest = min(select, key=lambda row: float(row["loss"]), default=None)
    words = "select was not scored"
    if lowest is not None:
        words = f"select is lowest, {lowest['loss']:.4f}, in epoch {lowest['epoch']}"
    return Chart(
        key=key,
        caption="Loss by epoch",
        label=f"Loss by epoch of {name}: {words}.",
        spec=plots.curve(rows, lowest, scale),
    )


def _words(rows: Sequence[ForestRow]) -> str:
    return "; ".join(
        f"{row.name} {quality(row.value.mean)} ({quality(row.value.low)} to "
        f"{quality(row.value.high)})"
        for row in rows
    )


def _window_order(window: Mapping[str, Any]) -> tuple[float, ...]:
    names = ("days", "events", "half_life_days")
    return tuple(float(window.get(name) or "inf") for name in names)


def _natural(size: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", size)]


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
