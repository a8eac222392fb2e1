"""`report.md`: the verdict and two tables, for a note or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penchant.ensembles.page import figures, tables
from penchant.ensembles.page.tables import Cell, Table

__all__ = ["markdown"]

_MEMBER_COLUMNS = ("Member", "Repeat", "Explore", "Kind", "Window", "Size", "Training", "Scoring")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown; texts are escaped, so that names of items or runs stay texts."""
    metric = figures.metric_title(report["metric"])
    parts = [f"# {_escaped(report['name'])}"]
    parts += [_escaped(text) for text in (report.get("verdict"), figures.evidence(report)) if text]
    members = tables.members(report)
    if members is not None:
        wanted = [metric, *_MEMBER_COLUMNS]
        parts += ["## Members", _table(members, wanted), _escaped(members.caption)]
    ensembles = tables.ensembles(report)
    if ensembles is not None:
        every = [column.title for column in ensembles.columns]
        parts += ["## Ensembles", _table(ensembles, every), _escaped(ensembles.caption)]
    return "\n\n".join(parts) + "\n"


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
