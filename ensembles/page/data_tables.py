"""Tables of a report that describe: blocks, data, what was refused, and the run's stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.ensembles.page import figures
from penchant.ensembles.page.tables import Cell, Column, Table, number
from penchant.platform.timeline import Block

__all__ = ["blocks", "quarantine", "spreads", "stages", "top_items"]

_JOBS = {
    Block.TRAIN: "fits the members",
    Block.SELECT: "stops training, picks the best single member",
    Block.BLEND: "fits the ensembles",
    Block.TEST: "is read once, for the figures of this page",
}


def blocks(report: Mapping[str, Any]) -> Table | None:
    """When each block starts and ends, what it is for, and how many requests it holds."""
    starts = report.get("blocks", {})
    if not starts:
        return None
    ends = dict(zip(starts, list(starts)[1:], strict=False))
    requests = report.get("requests", {})
    rows = [
        [
            Cell(text=str(block)),
            Cell(text=figures.day(starts[block])),
            Cell(text=figures.day(starts[ends[block]])),
            number(requests.get(block)),
            number(requests.get("users", {}).get(block)),
            Cell(text=job),
        ]
        for block, job in _JOBS.items()
        if block in ends
    ]
    heads = ("From", "Until before", "Requests", "Their users")
    columns = [Column(title="Block", numeric=False), *(Column(title=head) for head in heads)]
    columns.append(Column(title="Job", numeric=False))
    caption = "Blocks of the calendar, in UTC. Nothing later informs anything earlier."
    return Table(key="blocks", caption=caption, columns=columns, rows=rows)


def spreads(data: Mapping[str, Any]) -> Table | None:
    """Quantiles of the users' history lengths and of the gaps between their events."""
    known = {
        "history_events": "Events of a user",
        "gap_days": "Days between a user's visits",
    }
    found = {title: data[name] for name, title in known.items() if data.get(name)}
    heads = list(dict.fromkeys(head for spread in found.values() for head in spread))
    if not heads:
        return None
    rows = [
        [Cell(text=title), *(number(spread.get(head)) for head in heads)]
        for title, spread in found.items()
    ]
    columns = [Column(title="", numeric=False), *(Column(title=head) for head in heads)]
    caption = "How long histories are, and how often users come back (p05: 5% lie below)."
    return Table(key="spreads", caption=caption, columns=columns, rows=rows)


def top_items(data: Mapping[str, Any]) -> Table | None:
    """The items with most events; None without any."""
    items = data.get("top_items") or []
    if not items:
        return None
    largest = max(item["share"] for item in items) or 1.0
    rows = [
        [
            Cell(text=item.get("text") or item["item"]),
            Cell(text=figures.percent(item["share"]), share=item["share"] / largest),
        ]
        for item in items
    ]
    columns = [Column(title="Item", numeric=False), Column(title="Share of events")]
    return Table(key="top-items", caption="The most frequent items.", columns=columns, rows=rows)


def quarantine(data: Mapping[str, Any]) -> Table | None:
    """Where each row that was read has gone; None where the counts are not known."""
    found = data.get("quarantine") or {}
    if found.get("rows_read") is None:
        return None
    counts = {
        "Rows read": found["rows_read"],
        "Events kept": data.get("events"),
        "Merged into another row": found.get("merged"),
        "Quarantined": found.get("quarantined"),
    }
    counts |= {f"– {reason}": rows for reason, rows in (found.get("reasons") or {}).items()}
    rows = [[Cell(text=name), number(n)] for name, n in counts.items() if n is not None]
    columns = [Column(title="Rows", numeric=False), Column(title="Count")]
    caption = "What became of the rows that were read."
    return Table(key="quarantine", caption=caption, columns=columns, rows=rows)


def stages(report: Mapping[str, Any]) -> Table | None:
    """Seconds that each stage of the run took; None where they are not known."""
    seconds = report.get("seconds", {})
    rows = [
        [Cell(text=name.replace("_", " ")), Cell(text=figures.duration(value))]
        for name, value in seconds.items()
        if value is not None
    ]
    columns = [Column(title="Stage", numeric=False), Column(title="Time")]
    caption = "Time of each stage."
    return Table(key="stages", caption=caption, columns=columns, rows=rows) if rows else None
