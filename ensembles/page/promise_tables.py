"""Tables of what can be promised: lists with their coverage, probabilities by bins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.ensembles.page import figures
from penchant.ensembles.page.figures import interval, percent, quality
from penchant.ensembles.page.tables import Cell, Column, Table, number, quality_cell

__all__ = ["bins", "promises", "weeks"]


def promises(report: Mapping[str, Any]) -> Table | None:
    """How often lists held one of the items that were chosen, against what was promised."""
    sets = report.get("assurance", {}).get("sets", [])
    if not sets:
        return None
    rows = []
    for one in sets:
        weeks = [week["coverage"]["mean"] for week in one["weeks"]]
        span = f"{percent(min(weeks))} to {percent(max(weeks))}" if weeks else figures.MISSING
        held = interval(one, "coverage")
        kept = Cell()
        if held is not None:
            edges = f"{percent(held.low)} to {percent(held.high)}"
            kept = Cell(text=percent(held.mean), note=edges, order=held.mean)
        rows.append(
            [
                _list(one["size"]),
                Cell(text=percent(one["promised"])),
                kept,
                Cell(text=span),
            ]
        )
    columns = [Column(title="Is chosen", numeric=False), Column(title="Promised")]
    columns += [Column(title="Kept on test"), Column(title="Worst to best week")]
    caption = (
        "What may be promised of the recommended result: the length of the list was fitted on the "
        "blend block, how often the promise was kept is told by the test block."
    )
    return Table(key="promises", caption=caption, columns=columns, rows=rows)


def weeks(report: Mapping[str, Any]) -> Table | None:
    """Each week of test: how often each list held, and the list that would have been enough."""
    sets = [one for one in report.get("assurance", {}).get("sets", []) if one["weeks"]]
    if not sets or any("needed_size" not in week for one in sets for week in one["weeks"]):
        return None
    rows = [
        [
            Cell(text=figures.day(same[0]["monday"]), order=same[0]["monday"]),
            number(same[0]["requests"]),
            *(cell for week in same for cell in _week(week)),
        ]
        for same in zip(*(one["weeks"] for one in sets), strict=True)
    ]
    columns = [Column(title="Week of", numeric=False), Column(title="Requests")]
    for one in sets:
        level = f"{100 * one['promised']:g}%"
        columns += [Column(title=f"Kept by the first {one['size']}, {level} promised")]
        columns += [Column(title=f"List that would have kept {level}")]
    caption = (
        "How often each list held one of the chosen items, week by week of the test block, and the "
        "length that would have been just enough that week, in hindsight."
    )
    return Table(key="promise-weeks", caption=caption, columns=columns, rows=rows)


def _week(week: Mapping[str, Any]) -> tuple[Cell, Cell]:
    held, size = interval(week, "coverage"), week["needed_size"]
    if held is None:
        return Cell(), Cell()
    needed = Cell(text="none") if size is None else Cell(text=f"first {size}", order=size)
    edges = f"{percent(held.low)} to {percent(held.high)}"
    return Cell(text=percent(held.mean), note=edges, order=held.mean), needed


def _list(size: int | None) -> Cell:
    if size is None:
        return Cell(text="too few requests of blend for any list")
    return Cell(text=f"one of the first {size}", order=size)


def bins(report: Mapping[str, Any]) -> Table | None:
    """What was said and what was seen, bin by bin; None where the task has no yes and no."""
    known = report.get("assurance", {}).get("reliability")
    if not known or not known["bins"]:
        return None
    rows = [
        [
            Cell(text=quality(one["mean"]), order=one["mean"]),
            quality_cell(interval(one, "share")),
            number(one["count"]),
        ]
        for one in known["bins"]
    ]
    columns = [Column(title="Said"), Column(title="Seen"), Column(title="Requests")]
    caption = (
        "Calibrated probabilities of the recommended result on the test block, in bins of about "
        "as many requests, and the share of yes among them with its 95% interval. "
        f"ECE {quality(known['ece_equal_count'])} ({quality(known['ece_equal_width'])} in bins of "
        f"one width), Brier score {quality(known['brier']['score'])}, of "
        f"{figures.count(sum(one['count'] for one in known['bins']))} requests."
    )
    return Table(key="bins", caption=caption, columns=columns, rows=rows)
