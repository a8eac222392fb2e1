"""The table of cold start: every member and ensemble on what training knew and did not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.ensembles.page import figures
from penchant.ensembles.page.figures import direction, interval, metric_title
from penchant.ensembles.page.tables import Cell, Column, Table, quality_cell

__all__ = ["cold_start"]


def cold_start(report: Mapping[str, Any]) -> Table | None:
    """A row an ensemble and a member, columns of cold and warm items and users."""
    parts = sorted(report.get("cold_start", []), key=lambda part: (part["by"], part["name"]))
    if not parts:
        return None
    members = [m["id"] for m in report["members"] if m["id"] in parts[0]["members"]]
    metric = report["metric"]
    asked = [(part, name) for part in parts for name in _metrics(parts, metric)]
    rows = [
        [
            _name(report, name),
            *(quality_cell(interval(part[kind][name], figure)) for part, figure in asked),
        ]
        for kind, names in (("ensembles", parts[0]["ensembles"]), ("members", members))
        for name in names
    ]
    columns = [Column(title="Ensemble or member", numeric=False)]
    columns += [Column(title=f"{_title(part)}: {metric_title(name)}") for part, name in asked]
    ranking = report["task"] == "next_item"
    rule = (
        "Of items only the targets of that kind count, ranked among all candidates; a target that "
        "is not scored is a miss. "
        if ranking
        else ""
    )
    caption = (
        "Warm items and users had an event before the members' cut-off, cold ones had none. Test "
        f"block, with 95% intervals by user{direction(metric)}. {rule}"
        f"{'. '.join(_counts(part, ranking) for part in parts)}."
    )
    return Table(key="cold-start", caption=caption, columns=columns, rows=rows, sortable=True)


def _metrics(parts: list[Mapping[str, Any]], metric: str) -> list[str]:
    """The target metric, then the other ones."""
    known = (table for part in parts for table in part["members"].values())
    return list(dict.fromkeys([metric, *(name for table in known for name in table)]))


def _name(report: Mapping[str, Any], name: str) -> Cell:
    best = "best single" if name == report.get("best_single") else ""
    badge = "recommended" if name == report.get("recommended") else best
    return Cell(text=name, badge=badge, order=name)


def _title(part: Mapping[str, Any]) -> str:
    return f"{part['name'].capitalize()} {part['by']}"


def _counts(part: Mapping[str, Any], ranking: bool) -> str:
    title = _title(part)
    if not part["requests"]:
        return f"{title}: none was asked for" if part["by"] == "items" else f"{title}: none asked"
    requests, users = figures.count(part["requests"]), figures.count(part["users"])
    targets = f"{figures.count(part['targets'])} targets in " if ranking else ""
    few = ", too few to trust the intervals" if part["few_users"] else ""
    return f"{title}: {targets}{requests} requests of {users} users{few}"
