"""`report.md`: the verdict and the tables of the comparison, for a note or a pull request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from penchant.ensembles.page import (
    ceiling_table,
    cold_table,
    comparison_tables,
    figures,
    promise_tables,
    tables,
)
from penchant.ensembles.page.cascade_chart import savings_words
from penchant.ensembles.page.tables import Cell, Table

__all__ = ["markdown"]

_MEMBER_COLUMNS = ("Member", "Repeat", "Explore", "Kind", "Window", "Size", "Training", "Scoring")
_MORE: Mapping[str, Callable[[Mapping[str, Any]], Table | None]] = {
    "Quality and cost": comparison_tables.prices,
    "Segments": comparison_tables.segments,
    "Cold start": cold_table.cold_start,
    "Without each member": comparison_tables.ablation,
    "Recall ceiling": ceiling_table.ceilings,
    "Earlier origins": comparison_tables.origins,
    "Promises": promise_tables.promises,
    "Promises by week": promise_tables.weeks,
    "Reliability": promise_tables.bins,
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown; texts are escaped, so that names of items or runs stay texts."""
    metric = figures.metric_title(report["metric"])
    parts = [f"# {_escaped(report['name'])}"]
    parts += [_escaped(text) for text in (report.get("verdict"), figures.evidence(report)) if text]
    parts += _section("Members", tables.members(report), (metric, *_MEMBER_COLUMNS))
    parts += _section("Ensembles", tables.ensembles(report))
    for title, found in _MORE.items():
        parts += _section(title, found(report))
    if drift := report.get("assurance", {}).get("drift"):
        parts += ["## Drift of promises", _escaped(drift)]
    if words := savings_words(report):
        parts += ["## Cascades", _escaped(words)]
    if notes := report.get("notes"):
        parts += ["## Left out, or odd", "\n".join(f"- {_escaped(note)}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def _section(title: str, table: Table | None, wanted: Sequence[str] | None = None) -> list[str]:
    """A head, a table and its caption; nothing where there is no table."""
    if table is None:
        return []
    every = [column.title for column in table.columns]
    return [f"## {title}", _table(table, wanted or every), _escaped(table.caption)]


def _table(table: Table, wanted: Sequence[str]) -> str:
    """A pipe table of the wanted columns that are there."""
    kept = [at for at, column in enumerate(table.columns) if column.title in wanted]
    heads = [table.columns[at] for at in kept]
    lines = [
        _line(_escaped(head.title) for head in heads),
        _line("---:" if head.numeric else "---" for head in heads),
        *(_line(_cell(row[at]) for at in kept) for row in table.rows),
    ]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    note = f" ({_escaped(cell.note)})" if cell.note else ""
    return f"**{text}** {_escaped(cell.badge)}{note}" if cell.badge else text + note


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
