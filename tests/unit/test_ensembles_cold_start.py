"""Cold start: every member on cold and warm items and users, and how the report shows it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from penchant.ensembles.comparing.cold_start import ColdStart, judge_cold_start
from penchant.ensembles.comparing.judge import Judge
from penchant.ensembles.comparing.segments import cold_parts
from penchant.ensembles.page.cold_table import cold_start
from penchant.ensembles.page.figures import MISSING
from penchant.ensembles.page.markdown import markdown
from penchant.ensembles.page.report import write_report
from penchant.platform import config
from penchant.platform.requests import all_requests
from penchant.platform.timeline import DAY_MS
from penchant.trainers.score import seen_items

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
START_MS = int(datetime(2017, 1, 2, tzinfo=UTC).timestamp() * 1000)
CUT_OFF = START_MS + 2 * DAY_MS
ITEMS = 70


@pytest.fixture
def found(make_log) -> dict[tuple[str, str], ColdStart]:
    """User 0 has a basket of items 0 (warm) and 1 (cold), user 1, who is new, one of item 1.

    `low` puts item 0 first and item 1 sixtieth, `high` item 1 thirtieth; `blind` never scores it.
    """
    rows = [
        (0, START_MS, 0, "a"),
        (0, CUT_OFF, 0, "b"),
        (0, CUT_OFF, 1, "b"),
        (1, CUT_OFF + DAY_MS, 1, "c"),
    ]
    log = make_log(rows, ITEMS)
    requests = all_requests(log, config.Requests(unit="group"), CUT_OFF, 2**62)
    judge = Judge(requests, seen_items(log, requests), "ndcg@10", 50, seed=0)

    def scored(place: float) -> np.ndarray:
        scores = np.tile(-np.arange(ITEMS, dtype=np.float32), (2, 1))
        scores[:, 1] = place
        return scores

    members = {"low": scored(-60.5), "blind": scored(-np.inf)}
    results = judge_cold_start(
        judge,
        cold_parts(log, requests, CUT_OFF),
        "ndcg@10",
        {name: judge.sheet(scores) for name, scores in members.items()},
        {"high": judge.sheet(scored(-30.5))},
    )
    return {(one.by, one.name): one for one in results}


def means(part: ColdStart, metric: str) -> dict[str, float]:
    every = {**part.members, **part.combinations}
    return {name: table[metric].mean for name, table in every.items()}


def test_a_cold_item_beyond_ten_places_is_told_by_recall_at_50(found) -> None:
    cold = found["items", "cold"]
    assert (cold.users, cold.requests, cold.targets) == (2, 2, 2)
    assert means(cold, "recall@50") == {"low": 0.0, "blind": 0.0, "high": 1.0}
    assert means(cold, "ndcg@10") == {"low": 0.0, "blind": 0.0, "high": 0.0}
    warm = found["items", "warm"]
    assert (warm.requests, warm.targets) == (1, 1)
    assert means(warm, "ndcg@10") == {"low": 1.0, "blind": 1.0, "high": 1.0}


def test_users_are_judged_by_all_their_targets(found) -> None:
    """Of user 0's two targets the first place is found: 1 / (1 + 1 / log2(3)) of a perfect list."""
    warm = found["users", "warm"]
    assert (warm.requests, warm.targets) == (1, 2)
    assert warm.members["low"]["ndcg@10"].mean == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert means(warm, "recall@50") == {"low": 0.5, "blind": 0.5, "high": 1.0}
    assert means(found["users", "cold"], "recall@50") == {"low": 0.0, "blind": 0.0, "high": 1.0}


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_answers_are_judged_by_the_target_metric_as_by_the_judge_itself(world, metric) -> None:
    here = world("binary")
    requests = all_requests(here.log, here.spec, here.until_ms, 2**62)
    judge = Judge(requests, None, metric, 50, seed=0)
    draw = np.random.default_rng(0)
    sheets = {
        name: judge.sheet(draw.normal(size=(len(requests), 1)).astype(np.float32))
        for name in ("one", "two")
    }
    parts = cold_parts(here.log, requests, here.until_ms)
    found = judge_cold_start(judge, parts, metric, sheets, {})
    assert [(one.by, one.name) for one in found] == [(one.by, one.name) for one in parts]
    for part, one in zip(parts, found, strict=True):
        for name, sheet in sheets.items():
            expected = judge.target(sheet, part.requests).to_json()
            assert one.members[name][metric].to_json() == pytest.approx(expected, nan_ok=True)


def test_parts_without_requests_are_kept_and_have_no_figure(make_log) -> None:
    log = make_log([(0, START_MS, 0), (0, CUT_OFF, 0)], 3)
    requests = all_requests(log, config.Requests(unit="event"), CUT_OFF, 2**62)
    judge = Judge(requests, seen_items(log, requests), "recall@50", 50, seed=0)
    sheet = judge.sheet(np.zeros((1, 3), dtype=np.float32))
    parts = cold_parts(log, requests, CUT_OFF)
    found = judge_cold_start(judge, parts, "recall@50", {"one": sheet}, {})
    told = {(one.by, one.name): one.to_json() for one in found}
    assert [told[by, "cold"]["requests"] for by in ("users", "items")] == [0, 0]
    assert told["items", "cold"]["members"]["one"]["recall@50"]["mean"] is None
    assert told["items", "warm"]["members"]["one"]["recall@50"]["mean"] == 1.0


@pytest.fixture
def report() -> dict[str, Any]:
    def part(by: str, name: str, requests: int, mean: float | None) -> dict[str, Any]:
        value = {"mean": mean, "low": mean, "high": mean}
        table = {"ndcg@10": value, "recall@50": value}
        return {
            "by": by,
            "name": name,
            "users": requests,
            "requests": requests,
            "targets": 3 * requests,
            "few_users": requests < 50,
            "members": {"one": table},
            "ensembles": {"mean": table},
        }

    test = {"ndcg@10": {"mean": 0.3}}
    return {
        "schema": 1,
        "name": "small",
        "task": "next_item",
        "metric": "ndcg@10",
        "members": [{"id": "one", "kind": "personal", "window": {}, "test": test}],
        "ensembles": [{"name": "mean", "combiner": "mean", "test": test}],
        "best_single": "one",
        "cold_start": [
            part("users", "warm", 1000, 0.3),
            part("users", "cold", 0, None),
            part("items", "warm", 900, 0.35),
            part("items", "cold", 40, 0.05),
        ],
    }


def test_the_table_has_a_row_each_and_tells_counts_and_what_is_empty(report) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    table = cold_start(report)
    assert table is not None
    heads = [column.title for column in table.columns]
    assert heads[1:5] == [
        "Cold items: NDCG@10", "Cold items: Recall@50",
        "Warm items: NDCG@10", "Warm items: Recall@50",
    ]  # fmt: skip
    assert [row[0].text for row in table.rows] == ["mean", "one"]
    assert table.rows[1][0].badge == "best single"
    assert [cell.text for cell in table.rows[1][1:]] == [
        "0.0500", "0.0500", "0.3500", "0.3500", MISSING, MISSING, "0.3000", "0.3000",
    ]  # fmt: skip
    assert "Cold users: none asked" in table.caption
    assert "Cold items: 120 targets in 40 requests of 40 users, too few" in table.caption


def test_page_and_twin_show_it_and_nothing_where_it_was_not_judged(report, tmp_path) -> None:
    assert 'id="caption-cold-start"' in write_report(report, tmp_path / "with").read_text()
    assert "## Cold start" in markdown(report)
    del report["cold_start"]
    assert "cold-start" not in write_report(report, tmp_path / "without").read_text()
    assert cold_start(report) is None
