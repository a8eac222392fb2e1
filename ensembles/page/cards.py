"""A card for each member: its recipe in words, quality, weights, costs, and how it learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penchant.ensembles.page import charts, figures
from penchant.ensembles.page.charts import Chart
from penchant.ensembles.page.figures import interval, metric_title, percent
from penchant.ensembles.page.tables import Fact
from penchant.platform.metrics import LOWER_IS_BETTER

__all__ = ["Card", "cards", "recipe_words"]

_KINDS = {
    "popularity": "Counts what all users choose",
    "personal": "Counts what the user chose before; what all choose breaks ties",
    "item_item": "A linear model of what users have beside an item",
    "boosted": "Boosted trees over habits: recency, frequency, intervals, item features",
    "sequence": "A transformer over the history, with a copy head",
    "text": "A language model that reads the history as text, fine-tuned on requests",
    "foreign": "A model from elsewhere",
    "zero_shot": "A language model that is asked directly, without training",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What there is to know of one member."""

    name: str
    badge: str
    recipe: str
    facts: Sequence[Fact]
    curve: Chart | None


def cards(report: Mapping[str, Any]) -> list[Card]:
    """A card each member, best on `test` first."""
    metric, curves = report["metric"], charts.learning_curves(report)
    sign = 1 if metric in LOWER_IS_BETTER else -1

    def place(member: Mapping[str, Any]) -> float:
        value = interval(member.get("test"), metric)
        return float("inf") if value is None else sign * value.mean

    return [
        Card(
            name=member["id"],
            badge=_badge(report, member["id"]),
            recipe=recipe_words(member),
            facts=list(_facts(report, member)),
            curve=curves.get(member["id"]),
        )
        for member in sorted(report.get("members", []), key=place)
    ]


def recipe_words(member: Mapping[str, Any]) -> str:
    """What a member is, on how much history, and where its settings differ from the defaults.

    >>> recipe_words({"kind": "popularity", "window": {"days": 30.0}})
    'Counts what all users choose, on the last 30 days.'
    """
    what = _KINDS.get(member["kind"], member["kind"])
    if member.get("size"):
        width, _, layers = member["size"].removeprefix("d").partition("x")
        what += f", {width} wide and {layers} layer{'' if layers == '1' else 's'} deep"
    settings = dict(_flat(member.get("recipe", {})))
    for told in ("size dim", "size layers"):
        settings.pop(told, None)
    said = ", ".join(f"{name} {value}" for name, value in settings.items())
    if member["kind"] != "foreign":
        what += f", on {_window(member['window'])}"
    return f"{what}." + (f" Set: {said}." if said else "")


def _window(window: Mapping[str, Any]) -> str:
    days, events, fade = (window.get(n) for n in ("days", "events", "half_life_days"))
    limits = [f"{days:g} days"] if days else []
    limits += [f"{figures.count(events)} events"] if events else []
    text = f"the last {', at most '.join(limits)}" if limits else "all of the history"
    return text + (f", where an event counts half after {fade:g} days" if fade else "")


def _flat(settings: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, str]]:
    """Names and values in words; a setting inside another has both names."""
    for name, value in settings.items():
        title = f"{head} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, title)
        elif isinstance(value, list):
            yield title, " / ".join(map(str, value)) or "none"
        elif isinstance(value, bool) or value is None:
            yield title, "on" if value else "off"
        else:
            yield title, f"{value:g}" if isinstance(value, float) else str(value)


def _badge(report: Mapping[str, Any], name: str) -> str:
    if name == report.get("recommended"):
        return "recommended"
    return "best single" if name == report.get("best_single") else ""


def _facts(report: Mapping[str, Any], member: Mapping[str, Any]) -> Iterator[Fact]:
    metric = report["metric"]
    if (value := interval(member.get("test"), metric)) is not None:
        title = f"{metric_title(metric)} on test"
        yield Fact(name=title, value=figures.quality(value.mean), note=figures.span(value))
    weighted = [e for e in report.get("ensembles", []) if e.get("weights")]
    shares = {e["name"]: e["weights"].get(member["id"], 0.0) for e in weighted}
    if weighted:
        used = [f"{name} {percent(share)}" for name, share in shares.items() if share]
        yield Fact(name="Weight in ensembles", value=", ".join(used) or "none")
    costs = {
        "Training": (member.get("train_s"), figures.duration),
        "Scoring a request": (member.get("score_ms"), lambda ms: f"{ms:.3g} ms"),
        "Parameters": (member.get("params"), figures.count),
    }
    for name, (cost, words) in costs.items():
        if cost is not None:
            yield Fact(name=name, value=words(cost))
