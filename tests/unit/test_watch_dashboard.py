"""The dashboard asks for metrics that exist, by labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from penchant.serve.watch.instruments import INSTRUMENTS, exported

FILE = Path(__file__).resolve().parents[2] / "deploy" / "grafana-dashboard.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
NAMES = {name: instrument for instrument in INSTRUMENTS for name in exported(instrument)}


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_and_label_of_a_query_is_one_of_ours(query: str) -> None:
    asked = re.findall(r"\bray_\w+", query)
    assert asked
    assert set(asked) <= set(NAMES)
    labels = {label for name in asked for label in (*NAMES[name].labels, "le")}
    for group in re.findall(r"by \(([^)]*)\)", query):
        assert {label.strip() for label in group.split(",")} <= labels
    for group in re.findall(r"\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", group)) <= labels


def test_every_metric_of_ours_is_shown() -> None:
    shown = {NAMES[name].name for query in QUERIES for name in re.findall(r"\bray_\w+", query)}
    assert shown == {instrument.name for instrument in INSTRUMENTS}


def test_it_can_be_imported_wherever_there_is_prometheus() -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"]) == ("datasource", "datasource")
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_no_two_panels_lie_on_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
