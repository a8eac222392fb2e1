"""Tables of a comparison: segments of test, members dropped one by one, earlier origins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from penchant.ensembles.page import figures
from penchant.ensembles.page.figures import direction, interval, metric_title, metric_words, shown
from penchant.ensembles.page.tables import (
    Cell,
    Column,
    Table,
    difference_cell,
    number,
    quality_cell,
)

__all__ = ["ablation", "origins", "prices", "segments"]

_TITLES = {
    ("users", "cold"): "Users new since the members were fitted",
    ("users", "warm"): "Users known to the members",
    ("users", "new"): "Users who were not asked in blend",
    ("users", "asked before"): "Users who were asked in blend, too",
    ("items", "cold"): "Items new since the members were fitted",
    ("items", "warm"): "Items known to the members",
    ("recency", "no event"): "No event before",
}
_HEADS = {"history": "History", "recency": "Last event", "week": "Week of"}


def segments(report: Mapping[str, Any]) -> Table | None:
    """For each segment the best single member, one ensemble, and their difference."""
    metric, name = report["metric"], shown(report)
    found = report.get("segments", [])
    if not found or name is None:
        return None
    rows = [
        [
            Cell(text=_title(segment), note="few users" if segment["few_users"] else ""),
            number(segment["users"]),
            number(segment["requests"]),
            quality_cell(interval({metric: segment["best_single"]}, metric)),
            quality_cell(interval(segment["ensembles"], name)),
            difference_cell(interval(segment["differences"], name)),
        ]
        for segment in found
    ]
    columns = [Column(title="Segment", numeric=False), Column(title="Users")]
    columns += [Column(title="Requests"), Column(title="Best single member")]
    columns += [Column(title=name), Column(title="Difference")]
    caption = (
        f"{metric_title(metric)}{direction(metric)} on parts of the test block, with 95% "
        "intervals. History and last event in thirds. Of items, only the targets of that kind "
        "count. Fewer than 50 users are few: their intervals are not to be trusted. Of so many "
        "differences one in twenty looks sure by chance."
    )
    return Table(key="segments", caption=caption, columns=columns, rows=rows)


def prices(report: Mapping[str, Any]) -> Table | None:
    """What the options that are worth choosing from cost; None where costs are not known."""
    metric, options = report["metric"], {o["name"]: o for o in report.get("options", [])}
    numbers = figures.numbered_options(report)
    rows = []
    for name, at in numbers.items():
        option = options[name]
        quality = interval({metric: {"mean": option["quality"]}}, metric)
        rows.append(
            [
                Cell(text=f"{at}. {name}", note="" if option["pareto"] else "beaten at its price"),
                quality_cell(quality, bare=True),
                difference_cell(interval({metric: option.get("gain")}, metric)),
                Cell(text=f"{option['work_ms']:.3g} ms", order=option["work_ms"]),
                Cell(text=f"{option['latency_ms']:.3g} ms", order=option["latency_ms"]),
                number(option["members"]),
                number(option["params"]),
            ]
        )
    if len(rows) < 2:
        return None
    columns = [Column(title="Option", numeric=False), Column(title=metric_title(metric))]
    columns += [Column(title="Gain"), Column(title="All members"), Column(title="Slowest member")]
    columns += [Column(title="Members"), Column(title="Parameters")]
    within = " that fits the budget" if report.get("budget") else ""
    caption = (
        f"{metric_title(metric)}{direction(metric)} on the blend block, the gain over the best "
        f"single member{within} there with its 95% interval, and the time to score one request: of "
        "all members one after the other, and of the slowest where all are asked at once. What is "
        "called greedy of 3 is what greedy selection had with three members on its way; it is no "
        "artefact, and a limit of three members fits anew and may find others."
    )
    return Table(key="prices", caption=caption, columns=columns, rows=rows)


def ablation(report: Mapping[str, Any]) -> Table | None:
    """What an ensemble loses without each of its members; None where none was dropped."""
    found = report.get("ablation", [])
    if not found:
        return None
    metric = report["metric"]
    rows = [
        [
            Cell(text=part["id"]),
            Cell(text=f"{part['weight']:.3f}", order=part["weight"]),
            difference_cell(interval({metric: part["change"]}, metric)),
        ]
        for one in found
        for part in one["members"]
    ]
    how = {
        "refit": "fitted again without the member",
        "left out": "with the member's weight given to the others",
    }
    told = "; ".join(f"{one['ensemble']}, {how[one['how']]}" for one in found)
    columns = [Column(title="Without member", numeric=False), Column(title="Its weight")]
    columns.append(Column(title=f"Change in {metric_words(metric)}"))
    caption = f"What is lost without each member, on the test block: {told}{direction(metric)}."
    return Table(key="ablation", caption=caption, columns=columns, rows=rows)


def origins(report: Mapping[str, Any]) -> Table | None:
    """The same comparison at earlier cut-offs; None where it was made once."""
    found, metric = report.get("origins", []), report["metric"]
    together = report.get("over_origins", {}).get("gains", {})
    named = (*(origin["differences"] for origin in found), together)
    names = list(dict.fromkeys(name for differences in named for name in differences))
    if not found:
        return None
    rows = [
        [
            Cell(text=figures.day(origin["test_from"])),
            Cell(text=origin["best_single"]),
            Cell(text=origin["recommended"]),
            *(difference_cell(interval(origin["differences"], name)) for name in names),
        ]
        for origin in found
    ]
    if together:
        every = [_over_origins(together.get(name), metric) for name in names]
        title = f"All {report['over_origins']['origins']} together, with this one"
        rows.append([Cell(text=title), Cell(), Cell(), *every])
    if any("unseen_users" in gain for gain in together.values()):
        gains = [interval(together.get(name), "unseen_users") for name in names]
        title = "All together, on users of blend that fitted no weights"
        rows.append([Cell(text=title), Cell(), Cell(), *(difference_cell(gain) for gain in gains)])
    columns = [Column(title="Test from", numeric=False), Column(title="Best single", numeric=False)]
    columns += [Column(title="Recommended", numeric=False)]
    columns += [Column(title=name) for name in names]
    caption = (
        f"The comparison repeated at earlier cut-offs: difference in {metric_words(metric)}"
        f"{direction(metric)} to the best single member of that time, on its own test block."
    )
    if together:
        caption += f" What is shipped is decided on blend. {report['over_origins']['method']}"
    return Table(key="origins", caption=caption, columns=columns, rows=rows)


def _over_origins(found: Mapping[str, Any] | None, metric: str) -> Cell:
    """A difference over all origins, and in how many of them it was on the good side."""
    value = interval({metric: (found or {}).get("gain")}, metric)
    if found is None or value is None:
        return Cell()
    cell = difference_cell(value)
    told = f"better in {found['better']} of {found['origins']}"
    return replace(cell, note=f"{cell.note}; {told}")


def _title(segment: Mapping[str, Any]) -> str:
    by, name = segment["by"], segment["name"]
    if (by, name) in _TITLES:
        return _TITLES[by, name]
    if by == "week":
        return f"Week of {figures.day(name)}"
    tail = " ago" if by == "recency" else ""
    return f"{_HEADS[by]}: {name}{tail}"
