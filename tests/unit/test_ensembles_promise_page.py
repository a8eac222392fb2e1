"""What a page shows of promises: the reliability diagram, ECE, Brier, and coverage by week."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from penchant.ensembles.page import promise_charts, promise_tables
from penchant.ensembles.page.figures import MISSING
from penchant.ensembles.page.markdown import markdown
from penchant.ensembles.page.report import write_report
from penchant.ensembles.promises.reliability import reliability

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())


def around(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}


def report(**assurance: Any) -> dict[str, Any]:
    test = {"ndcg@10": around(0.3)}
    return {
        "schema": 1,
        "name": "small",
        "task": "next_item",
        "metric": "ndcg@10",
        "members": [{"id": "one", "kind": "personal", "window": {}, "test": test}],
        "ensembles": [],
        "assurance": {
            "calibrator": {"kind": "temperature", "temperature": 2.0},
            "log_loss": 6.0707,
            "reliability": None,
            "sets": [],
        }
        | assurance,
    }


def promised(size: int | None, level: float, weeks: list[float]) -> dict[str, Any]:
    mondays = ("2017-11-27", "2017-12-04", "2017-12-11")
    return {
        "size": size,
        "promised": level,
        "coverage": around(sum(weeks) / len(weeks)) if weeks else {"mean": None},
        "weeks": [
            {
                "monday": monday,
                "requests": 100,
                "coverage": around(week),
                "mean_size": size,
                "needed_size": size and size - round(100 * (week - level)),
            }
            for monday, week in zip(mondays, weeks, strict=False)
        ],
    }


@pytest.fixture
def lists() -> dict[str, Any]:
    sets = [promised(11, 0.8, [0.86, 0.79]), promised(29, 0.9, [0.93, 0.91])]
    return report(sets=sets, drift="Of 80% promised 82.5% was kept.")


@pytest.fixture
def answers() -> dict[str, Any]:
    """Said .25 four times (one yes), .75 four times (all yes): both are off by 0, and by .25."""
    chance = np.repeat([0.25, 0.75], 4)
    outcome = np.array([1, 0, 0, 0, 1, 1, 1, 1], dtype=np.float32)
    found = report(reliability=asdict(reliability(chance, outcome)))
    found["members"][0]["test"] = {"log_loss": around(0.3)}
    return found | {"task": "binary", "metric": "log_loss"}


def test_the_reports_keep_their_contract(lists, answers) -> None:
    for made in (lists, answers):
        jsonschema.Draft202012Validator(SCHEMA).validate(made)


def test_the_diagram_has_what_was_said_what_was_seen_and_the_counts(answers) -> None:
    chart = promise_charts.reliability(answers)
    assert chart is not None
    rows = next(rows for rows in chart.spec["datasets"].values() if "bar" in rows[0])
    assert [(row["said"], row["seen"], row["count"]) for row in rows] == [
        (0.25, 0.25, 4),
        (0.75, 1.0, 4),
    ]
    assert all(row["low"] <= row["seen"] <= row["high"] for row in rows)
    assert rows[0]["bar"] == rows[1]["bar"]  # as many requests
    assert "0.2500 said, 0.2500 seen; 0.7500 said, 1.0000 seen" in chart.label
    assert "ECE 0.1250, Brier score 0.1250" in chart.caption


def test_ece_and_brier_are_stated_with_the_bins(answers) -> None:
    """ECE (0 + .25) / 2; Brier (.5625 + 3 x .0625 + 4 x .0625) / 8."""
    found = {fact.name: fact.value for fact in promise_charts.facts(answers)}
    assert found == {
        "Calibrator": "temperature",
        "Log loss, calibrated": "6.0707",
        "ECE": "0.1250",
        "Brier score": "0.1250",
    }
    table = promise_tables.bins(answers)
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["0.2500", "0.2500", "4"],
        ["0.7500", "1.0000", "4"],
    ]


def test_lists_have_a_line_each_with_the_target_of_each_level(lists) -> None:
    chart = promise_charts.coverage(lists)
    assert chart is not None
    rows = next(rows for rows in chart.spec["datasets"].values() if len(rows) == 4)
    assert [(row["week"], row["level"], row["mean"]) for row in rows] == [
        ("27 Nov", "80% promised, first 11", 0.86),
        ("4 Dec", "80% promised, first 11", 0.79),
        ("27 Nov", "90% promised, first 29", 0.93),
        ("4 Dec", "90% promised, first 29", 0.91),
    ]
    assert chart.spec["layer"][0]["encoding"]["y"]["field"] == "promised"
    targets = next(rows for rows in chart.spec["datasets"].values() if len(rows) == 2)
    assert [row["promised"] for row in targets] == [0.8, 0.9]


def test_the_table_has_worst_and_best_week_and_a_next_item_task_no_diagram(lists) -> None:
    table = promise_tables.promises(lists)
    assert table is not None
    assert [cell.text for cell in table.rows[0]] == [
        "one of the first 11", "80.0%", "82.5%", "79.0% to 86.0%",
    ]  # fmt: skip
    assert promise_charts.reliability(lists) is None
    assert promise_tables.bins(lists) is None
    assert [fact.name for fact in promise_charts.facts(lists)] == [
        "Calibrator",
        "Log loss, calibrated",
    ]


def test_each_week_stands_with_the_list_that_would_have_been_enough(lists) -> None:
    table = promise_tables.weeks(lists)
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["27 Nov 2017", "100", "86.0%", "first 5", "93.0%", "first 26"],
        ["4 Dec 2017", "100", "79.0%", "first 12", "91.0%", "first 28"],
    ]
    lists["assurance"]["sets"][0]["weeks"][0]["needed_size"] = None
    table = promise_tables.weeks(lists)
    assert table is not None
    assert table.rows[0][3].text == "none"
    for week in lists["assurance"]["sets"][0]["weeks"]:
        del week["needed_size"]  # a report of an older Penchant
    assert promise_tables.weeks(lists) is None


def test_a_level_that_no_list_can_promise_says_so_and_has_no_line() -> None:
    made = report(sets=[promised(11, 0.8, [0.86, 0.79]), promised(None, 0.99, [])])
    table = promise_tables.promises(made)
    assert table is not None
    head = "too few requests of blend for any list"
    assert [cell.text for cell in table.rows[1]] == [head, "99.0%", MISSING, MISSING]
    chart = promise_charts.coverage(made)
    assert chart is not None
    assert "99%" not in chart.label


def test_one_week_makes_no_lines() -> None:
    assert promise_charts.coverage(report(sets=[promised(11, 0.8, [0.86])])) is None


def test_page_and_twin_show_both_and_nothing_where_nothing_was_promised(
    lists, answers, tmp_path: Path
) -> None:
    page = write_report(lists, tmp_path / "lists").read_text()
    assert 'id="chart-coverage"' in page
    assert 'id="caption-promises"' in page
    assert 'id="caption-promise-weeks"' in page
    assert page.count("Of 80% promised 82.5% was kept.") == 1
    assert {"## Promises", "## Promises by week", "## Drift of promises"} <= set(
        markdown(lists).splitlines()
    )
    page = write_report(answers, tmp_path / "answers").read_text()
    assert 'id="chart-reliability"' in page
    assert 'id="caption-bins"' in page
    assert "| 0.2500 | 0.2500" in markdown(answers)
    del lists["assurance"]
    assert "What can be promised?" not in write_report(lists, tmp_path / "none").read_text()
    assert promise_charts.facts(lists) == []
