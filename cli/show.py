"""Results as tables: on a terminal in colour, elsewhere as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from penchant.ensembles.page.figures import MISSING, chance, evidence, interval, probability
from penchant.platform.metrics import sign_of

if TYPE_CHECKING:  # it brings all combiners, and a description of data needs none
    from penchant.ensembles.comparing.without import Brought

__all__ = ["show_brought", "show_description", "show_report"]

_PLAIN_WIDTH = 150


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PLAIN_WIDTH)
    return console


def show_report(report: Mapping[str, Any], directory: Path) -> None:
    """Members, combinations and the verdict."""
    console = _console()
    metric = report["metric"]
    members = Table("member", metric, *_splits(report), "train s", "parameters", "score ms")
    members.title = f"members on test ({report['requests']['test']} requests), best on select first"
    for member in report["members"]:
        test = member["test"]
        mark = " *" if member["id"] == report["best_single"] else ""
        members.add_row(
            member["id"] + mark,
            _interval(test, metric),
            *(_interval(test, f"{metric}/{split}").split(" ")[0] for split in _splits(report)),
            f"{member['train_s']:.1f}",
            f"{member['params']:,}",
            f"{member['score_ms']:.1f}",
        )
    console.print(members)
    if report["ensembles"]:
        heads = ("ensemble", metric, "difference to the best single *", "p", "Holm p", "members")
        ensembles = Table(*heads)
        for ensemble in report["ensembles"]:
            difference = ensemble["difference_to_best_single"]
            ensembles.add_row(
                ensemble["name"],
                _interval(ensemble["test"], metric),
                _interval(difference, metric, sign="+"),
                _chance(chance(ensemble, metric)),
                _chance(ensemble.get("holm_p")),
                ", ".join(f"{name} {weight:.2f}" for name, weight in ensemble["weights"].items()),
            )
        console.print(ensembles)
    console.print(f"{report['verdict']} {evidence(report)}".strip(), soft_wrap=True)
    console.print(f"\nreport: {directory / 'report' / 'report.html'}", soft_wrap=True)
    console.print(f"serve:  penchant serve run {directory}", soft_wrap=True)


def _splits(report: Mapping[str, Any]) -> tuple[str, ...]:
    return ("repeat", "explore") if report["task"] == "next_item" else ()


def _chance(p: float | None) -> str:
    return MISSING if p is None else probability(p)


def _interval(metrics: Mapping[str, Any], name: str, sign: str = "") -> str:
    value = interval(metrics, name)
    if value is None:
        return MISSING
    return f"{value.mean:{sign}.4f} [{value.low:{sign}.4f}, {value.high:{sign}.4f}]"


def show_brought(some: Sequence[str], metric: str, found: Sequence[Brought], chosen: str) -> None:
    """What members bring to each combination, and for whom to the one that was chosen."""
    console = _console()
    first = {name: value.to_json() for name, value in found[0].difference.items()}
    splits = [s for s in ("repeat", "explore") if interval(first, f"{metric}/{s}") is not None]
    table = Table("combiner", "their share", "without", "with minus without", "p", *splits)
    table.title = f"{metric} on test, with and without {len(some)} members"
    for one in found:
        values = {name: value.to_json() for name, value in one.difference.items()}
        table.add_row(
            one.combiner,
            f"{one.share:.2f}",
            _interval({name: value.to_json() for name, value in one.without.items()}, metric),
            _interval(values, metric, sign="+"),
            _chance(one.difference[metric].p),
            *(_interval(values, f"{metric}/{split}", sign="+") for split in splits),
        )
    console.print(table)
    shown = next((one for one in found if one.combiner == chosen), None)
    why = "which the run recommends"
    if shown is None:
        shown = max(found, key=lambda one: sign_of(metric) * _with(one, metric))
        why = "the best of them on test; the run recommends one member alone"
    parts = Table("segment", "users", "without", "with minus without")
    parts.title = f"{shown.combiner}, {metric}: {why}"
    for part in shown.segments:
        differences = {metric: part.differences[shown.combiner].to_json()}
        parts.add_row(
            f"{part.by}: {part.name}{' (few)' if part.few else ''}",
            f"{part.users:,}",
            _interval({metric: part.single.to_json()}, metric),
            _interval(differences, metric, sign="+"),
        )
    console.print(parts)
    console.print(f"left out: {', '.join(some)}", soft_wrap=True)


def _with(one: Brought, metric: str) -> float:
    return one.without[metric].mean + one.difference[metric].mean


def show_description(facts: Mapping[str, Any]) -> None:
    """What an event log holds."""
    console = _console()
    table = Table("events", "", show_header=False)
    for name in ("users", "items", "events", "groups"):
        if facts.get(name) is not None:
            table.add_row(name, f"{facts[name]:,}")
    table.add_row("from", str(facts["first"]))
    table.add_row("to", str(facts["last"]))
    table.add_row("repeat share", f"{facts['repeat_share']:.1%}")
    for name, label in (("history_events", "events a user"), ("gap_days", "days between groups")):
        if facts.get(name):
            shown = ", ".join(f"{key} {value:,.4g}" for key, value in facts[name].items())
            table.add_row(label, shown)
    table.add_row("items without text", f"{facts['items_without_text']:,}")
    for name, value in facts["quarantine"].items():
        table.add_row(
            name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)
        )
    console.print(table)
    top = Table("top items", "events", "share")
    for item in facts["top_items"][:10]:
        events = item.get("events")
        top.add_row(
            item["text"] or item["item"],
            "" if events is None else f"{events:,}",
            f"{item['share']:.2%}",
        )
    console.print(top)
