"""The table of recall ceilings: what members' candidates and lists hold of what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.ensembles.page.figures import percent
from penchant.ensembles.page.tables import Cell, Column, Table, number

__all__ = ["ceilings"]


def ceilings(report: Mapping[str, Any]) -> Table | None:
    """A row a block; None for yes and no, where nothing has to be found."""
    found = report.get("ceilings", [])
    if not found:
        return None
    rows = [
        [
            Cell(text=one["block"]),
            number(one["requests"]),
            _share(one["answerable"]),
            number(one["targets"]),
            _share(one["scored"]),
            _share(one["listed"]),
        ]
        for one in found
    ]
    k = found[0]["k"]
    columns = [Column(title="Block", numeric=False), Column(title="Requests")]
    columns += [Column(title="With a target among the candidates"), Column(title="Targets")]
    columns += [Column(title="Scored"), Column(title=f"In the first {k} of some member")]
    caption = (
        f"What can be found at most: targets that have a score, and targets among the first {k} of "
        "some member. What is on no member's list, an ensemble finds only where several members "
        "rank it just below."
    )
    return Table(key="ceilings", caption=caption, columns=columns, rows=rows)


def _share(value: float) -> Cell:
    return Cell(text=percent(value), order=value)
