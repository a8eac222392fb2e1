"""A run's report: `report.json` for scripts, `report.md` for notes, and one page, `report.html`.

The page needs no network: it holds its charts as Vega-Lite specifications and, once, the program
that draws them. All that a reader must know stands in plain HTML too, so that it is there without
JavaScript. Texts of items are untrusted: the template escapes everything, and the page's content
security policy runs only the scripts that this module wrote and fetches nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert

from penchant.ensembles.page import (
    cascade_chart,
    ceiling_table,
    charts,
    cold_table,
    comparison_charts,
    comparison_tables,
    data_tables,
    figures,
    promise_charts,
    promise_tables,
    tables,
)
from penchant.ensembles.page.cards import Card, cards
from penchant.ensembles.page.curves import Steps, training_curves
from penchant.ensembles.page.markdown import markdown
from penchant.ensembles.page.plots import CONFIG
from penchant.ensembles.page.tables import Fact

__all__ = ["write_report"]

_TEMPLATE = Path(__file__).with_name("report.html.j2")
#: Cards that stand open; those of the other members wait behind a click.
_OPEN = 6


def write_report(report: Mapping[str, Any], directory: Path, steps: Steps | None = None) -> Path:
    """Write `report.json`, `report.md` and `report.html`, each at once or not at all.

    Args:
        report: the contract of `docs/report.schema.json`. Of its optional parts, a part that is
            absent is left out of the page; a figure that is not a finite number becomes null.
        directory: where to write; it is made if needed.
        steps: what was tracked of trainings, for the page alone.

    Returns:
        The path of the page.
    """
    directory.mkdir(parents=True, exist_ok=True)
    finite: dict[str, Any] = _finite(report)
    text = json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    _replace(directory / "report.json", text)
    _replace(directory / "report.md", markdown(finite))
    page = directory / "report.html"
    _replace(page, _page(finite, text, steps or {}))
    return page


def _page(report: Mapping[str, Any], text: str, steps: Steps) -> str:
    told: list[Card] = cards(report)
    training = training_curves(steps)
    single = {
        "differences": charts.differences(report),
        "prices": comparison_charts.prices(report),
        "likeness": comparison_charts.likeness(report),
        "test_weeks": comparison_charts.weeks(report),
        "search": charts.search_grid(report),
        "contribution": charts.contribution_grid(report),
        "cascade": cascade_chart.savings(report),
        "reliability": promise_charts.reliability(report),
        "coverage": promise_charts.coverage(report),
        "members": charts.member_qualities(report),
        "weeks": charts.events_a_week(report),
    }
    drawn = [*single.values(), *(card.curve for card in told)]
    shown = [chart for chart in drawn if chart is not None]
    shown += training.charts if training is not None else []
    data = report.get("data", {})
    loader = jinja2.FileSystemLoader(_TEMPLATE.parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE.name).render(
        name=report["name"],
        task=report["task"].replace("_", " "),
        created=figures.day(report["created"]) if report.get("created") else "",
        verdict=report.get("verdict", ""),
        evidence=figures.evidence(report),
        facts=_facts(report),
        charts=single,
        cards=told[:_OPEN],
        more_cards=told[_OPEN:],
        cards_have_curves=any(card.curve for card in told),
        notes=report.get("notes", []),
        cascade=cascade_chart.savings_words(report),
        training=training,
        plots={"config": CONFIG, "specs": {chart.key: chart.spec for chart in shown}},
        bundle=_bundle() if shown else "",
        # Known only once the report is: no text inside the report can have guessed it.
        nonce=hashlib.sha256(text.encode()).hexdigest()[:32],
        ensembles=tables.ensembles(report),
        weights=tables.weights(report),
        ablation=comparison_tables.ablation(report),
        segments=comparison_tables.segments(report),
        ceilings=ceiling_table.ceilings(report),
        cold_start=cold_table.cold_start(report),
        prices=comparison_tables.prices(report),
        origins=comparison_tables.origins(report),
        promises=promise_tables.promises(report),
        promise_weeks=promise_tables.weeks(report),
        drift=report.get("assurance", {}).get("drift", ""),
        bins=promise_tables.bins(report),
        promise_facts=promise_charts.facts(report),
        members=tables.members(report),
        blocks=data_tables.blocks(report),
        data_facts=_data_facts(data),
        data_tables=[
            table
            for table in (
                data_tables.spreads(data),
                data_tables.top_items(data),
                data_tables.quarantine(data),
            )
            if table is not None
        ],
        stages=data_tables.stages(report),
        origin=_origin(report),
    )


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed of the version that altair writes, as one script."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _facts(report: Mapping[str, Any]) -> list[Fact]:
    facts = _quality_facts(report)
    if report.get("members"):
        first = [member for member in report["members"] if "@" not in member["id"]]  # no refits
        number, best = figures.count(len(first)), report.get("best_single")
        note = f"best single: {best}" if best else ""
        facts.append(Fact(name="Members", value=number, note=note))
    if (asked := report.get("requests", {}).get("test")) is not None:
        facts.append(Fact(name="Test requests", value=figures.count(asked)))
    if report.get("seconds"):
        total = sum(value for value in report["seconds"].values() if value)
        memory = report.get("peak_memory_mb")
        note = f"peak memory {figures.count(round(memory))} MB" if memory else ""
        facts.append(Fact(name="Time of the run", value=figures.duration(total), note=note))
    return facts


def _quality_facts(report: Mapping[str, Any]) -> list[Fact]:
    metric, name = report["metric"], report.get("recommended")
    named = {member["id"]: member for member in report.get("members", [])}
    named |= {ensemble["name"]: ensemble for ensemble in report.get("ensembles", [])}
    chosen = named.get(name, {})
    facts = []
    if (value := figures.interval(chosen.get("test"), metric)) is not None:
        title, edges = figures.metric_title(metric), figures.span(value)
        note = f"95% interval {edges}" if edges else ""
        facts.append(Fact(name=f"{title} of {name}", value=figures.quality(value.mean), note=note))
    gain = figures.interval(chosen.get("difference_to_best_single"), metric)
    if gain is not None:
        note = f"95% interval {figures.signed(gain.low)} to {figures.signed(gain.high)}"
        title = "Difference to best single"
        facts.append(Fact(name=title, value=figures.signed(gain.mean), note=note))
    return facts


def _data_facts(data: Mapping[str, Any]) -> list[Fact]:
    unused = data.get("items_never_chosen")
    notes = {"items": f"{figures.count(unused)} never chosen" if unused else ""}
    names = ("users", "items", "events", "groups" if data.get("has_groups") else "events")
    facts = [
        Fact(name=name.capitalize(), value=figures.count(data[name]), note=notes.get(name, ""))
        for name in dict.fromkeys(names)
        if data.get(name) is not None
    ]
    if data.get("first") and data.get("last"):
        days = (figures.moment(data["last"]) - figures.moment(data["first"])).days
        note = f"{figures.day(data['first'])} to {figures.day(data['last'])}"
        facts.append(Fact(name="Span", value=f"{figures.count(days)} days", note=note))
    if data.get("repeat_share") is not None:
        share = figures.percent(data["repeat_share"])
        facts.append(
            Fact(name="Repeats", value=share, note="events with an item that the user had")
        )
    types = data.get("types") or {}
    for name, number in types.items() if len(types) > 1 else ():
        facts.append(Fact(name=f"Type: {name}", value=figures.count(number), note="events"))
    return facts


def _origin(report: Mapping[str, Any]) -> list[Fact]:
    """What the figures were made with, for those who want to make them again."""
    versions = [f"{name} {version}" for name, version in report.get("versions", {}).items()]
    machine = [
        f"{name.replace('_', ' ')} {value}" for name, value in report.get("machine", {}).items()
    ]
    facts = {
        "Data fingerprint": report.get("data", {}).get("fingerprint") or "",
        "Machine": ", ".join(machine),
        "Versions": ", ".join(versions),
        "Made": report.get("created") or "",
    }
    return [Fact(name=name, value=value) for name, value in facts.items() if value]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _replace(path: Path, text: str) -> None:
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
