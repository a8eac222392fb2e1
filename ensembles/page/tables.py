"""Tables of a report that compare: ensembles, their weights, members."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from penchant.ensembles.page import figures
from penchant.ensembles.page.figures import MISSING, direction, interval, metric_title, metric_words
from penchant.platform.intervals import Interval
from penchant.platform.metrics import LOWER_IS_BETTER
from penchant.platform.timeline import Window

__all__ = [
    "Cell",
    "Column",
    "Fact",
    "Table",
    "difference_cell",
    "ensembles",
    "members",
    "number",
    "quality_cell",
    "weights",
]

_SLICES = ("repeat", "explore")  # first, in this order; other slices follow


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's head."""

    title: str
    numeric: bool = True


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: what it shows, and by what it is sorted."""

    text: str = MISSING
    note: str = ""  # smaller, after the text
    badge: str = ""
    order: float | str | None = None
    share: float | None = None  # in [0, 1], drawn as a bar behind the text


@dataclass(frozen=True, kw_only=True)
class Table:
    """A caption, columns, and rows of as many cells; the first cell names its row."""

    key: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A key figure: what it is, its value, and what to know about it."""

    name: str
    value: str
    note: str = ""


def ensembles(report: Mapping[str, Any]) -> Table | None:
    """The best single member, then each ensemble against it; None without ensembles."""
    metric, best = report["metric"], report.get("best_single")
    rows = []
    for member in report.get("members", []):
        if member["id"] == best:
            badge = "recommended" if best == report.get("recommended") else ""
            test, blend = (interval(member.get(block), metric) for block in ("test", "blend"))
            gap = test.mean - blend.mean if test and blend else None
            row = [Cell(text=best, note="best single member", badge=badge), quality_cell(test)]
            row += [Cell(), Cell(), Cell(), quality_cell(blend, bare=True)]
            rows.append([*row, _optional(gap, figures.signed), Cell(), number(1), Cell()])
    for ensemble in report.get("ensembles", []):
        badge = "recommended" if ensemble["name"] == report.get("recommended") else ""
        used = [weight for weight in ensemble.get("weights", {}).values() if weight]
        gain = interval(ensemble.get("difference_to_best_single"), metric)
        rows.append(
            [
                Cell(text=ensemble["name"], badge=badge),
                quality_cell(interval(ensemble.get("test"), metric)),
                difference_cell(gain),
                _optional(figures.chance(ensemble, metric), figures.probability),
                _optional(ensemble.get("holm_p"), figures.probability),
                quality_cell(interval(ensemble.get("blend"), metric), bare=True),
                _optional(ensemble.get("gap_blend_to_test"), figures.signed),
                _after_refit(ensemble, metric),
                number(len(used) or None),
                Cell(text=ensemble["combiner"]),
            ]
        )
    if not report.get("ensembles"):
        return None
    title = metric_title(metric)
    columns = [
        Column(title="Ensemble", numeric=False),
        Column(title=f"{title} on test"),
        Column(title="Difference to best single"),
        Column(title="p"),
        Column(title="Holm p"),
        Column(title=f"{title} on blend"),
        Column(title="Blend to test"),
        Column(title="After refit"),
        Column(title="Members"),
        Column(title="Combiner", numeric=False),
    ]
    caption = (
        f"{title}{direction(metric)} with 95% intervals. Ensembles are fitted on blend: one that "
        "fares much worse from blend to test than the best single member had luck there. That "
        "member was picked on select. Holm p is p corrected for the number of ensembles."
    )
    return _without_empty(Table(key="ensembles", caption=caption, columns=columns, rows=rows))


def _after_refit(ensemble: Mapping[str, Any], metric: str) -> Cell:
    """The figure with refitted members, and what that changed."""
    refit = ensemble.get("refit", {})
    value, change = interval(refit.get("test"), metric), interval(refit.get("change"), metric)
    if value is None or change is None:
        return Cell()
    return Cell(
        text=figures.quality(value.mean), order=value.mean, note=figures.signed(change.mean)
    )


def weights(report: Mapping[str, Any]) -> Table | None:
    """Weight of each used member (rows) in each weighted ensemble (columns); None without any."""
    weighted = [e for e in report.get("ensembles", []) if any(e.get("weights", {}).values())]
    used = dict.fromkeys(
        name for ensemble in weighted for name, weight in ensemble["weights"].items() if weight
    )
    if not used:
        return None
    rows = [
        [Cell(text=name), *(_weight(ensemble["weights"].get(name)) for ensemble in weighted)]
        for name in used
    ]
    columns = [Column(title="Member", numeric=False)]
    columns += [Column(title=ensemble["name"]) for ensemble in weighted]
    caption = "What each ensemble is made of: the weights of its members."
    return Table(key="weights", caption=caption, columns=columns, rows=rows, sortable=True)


def members(report: Mapping[str, Any]) -> Table | None:
    """Every member: quality, its slices, and what it costs; None without members."""
    found = report.get("members", [])
    metric = report["metric"]
    names = dict.fromkeys(name for member in found for name in member.get("test", {}))
    slices = [name for name in names if name.startswith(f"{metric}/")]
    slices.sort(key=lambda name: _SLICES.index(p) if (p := _slice(name)) in _SLICES else 99)
    others = [name for name in names if "/" not in name and name != metric]
    rows = []
    for member in sorted(found, key=lambda member: _rank(member, metric)):
        badge = "best single" if member["id"] == report.get("best_single") else ""
        window = Window.model_validate(member["window"])
        rows.append(
            [
                Cell(text=member["id"], badge=badge, order=member["id"]),
                quality_cell(interval(member.get("test"), metric)),
                *(quality_cell(interval(member.get("test"), name)) for name in slices),
                Cell(text=member["kind"], order=member["kind"]),
                Cell(
                    text=window.label if member["window"] else MISSING,
                    order=window.days or window.events or float("inf"),
                ),
                Cell(text=member.get("size") or MISSING, order=member.get("size")),
                _optional(member.get("train_s"), figures.duration),
                number(member.get("params")),
                _optional(member.get("score_ms"), lambda value: f"{value:.3g} ms"),
                *(quality_cell(interval(member.get("test"), name), bare=True) for name in others),
            ]
        )
    if not rows:
        return None
    columns = [Column(title="Member", numeric=False), Column(title=metric_title(metric))]
    columns += [Column(title=_slice(name).capitalize()) for name in slices]
    columns += [Column(title=name, numeric=False) for name in ("Kind", "Window", "Size")]
    columns += [Column(title=name) for name in ("Training", "Parameters", "Scoring")]
    columns += [Column(title=metric_title(name)) for name in others]
    told = "; repeat counts items that the user had before, explore only new ones"
    caption = (
        f"Members on the test block, {metric_words(metric)}{direction(metric)} with its 95% "
        f"interval{told if slices else ''}. Scoring is the time for one request."
    )
    return Table(key="members", caption=caption, columns=columns, rows=rows, sortable=True)


def number(value: float | None) -> Cell:
    """A number of things; the sign for a missing figure where it is None."""
    return Cell() if value is None else Cell(text=figures.count(value), order=value)


def quality_cell(value: Interval | None, *, bare: bool = False) -> Cell:
    """A metric with its interval, or without it."""
    if value is None:
        return Cell()
    note = "" if bare else figures.span(value)
    return Cell(text=figures.quality(value.mean), note=note, order=value.mean)


def difference_cell(value: Interval | None) -> Cell:
    """A difference with its sign and its interval."""
    if value is None:
        return Cell()
    edges = f"{figures.signed(value.low)} to {figures.signed(value.high)}"
    return Cell(text=figures.signed(value.mean), note=edges, order=value.mean)


def _without_empty(table: Table) -> Table:
    """The table without p-values, gaps and refits that no row has."""
    kept = [
        at
        for at, column in enumerate(table.columns)
        if column.title not in ("Holm p", "Blend to test", "After refit")
        or any(row[at].text != MISSING for row in table.rows)
    ]
    rows = [[row[at] for at in kept] for row in table.rows]
    return replace(table, columns=[table.columns[at] for at in kept], rows=rows)


def _weight(value: float | None) -> Cell:
    if not value:
        return Cell()
    return Cell(text=f"{value:.3f}", order=value, share=min(max(value, 0.0), 1.0))


def _rank(member: Mapping[str, Any], metric: str) -> float:
    value = interval(member.get("test"), metric)
    if value is None:
        return float("inf")
    return value.mean if metric in LOWER_IS_BETTER else -value.mean


def _slice(metric: str) -> str:
    return metric.partition("/")[2]


def _optional(value: float | None, text: Callable[[float], str]) -> Cell:
    return Cell() if value is None else Cell(text=text(value), order=value)
